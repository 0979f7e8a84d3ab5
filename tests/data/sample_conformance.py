"""Make the vendored sample of the recorded conformance vectors.

    python sample_conformance.py SOURCE_DIR

reads the three ``*_vectors.jsonl.gz`` of SOURCE_DIR and writes ``conformance/`` beside this file. A case is kept whole
(all of its lines, as they are). Cases are taken by size, the smallest first, while they show something that none before
them shows: a name class, a page size, a tag, variants that share an outcome, a flag, a kind of entry, an outcome field
that is zero, or not, for a variant.
"""

import gzip
import json
import sys
from pathlib import Path

FILES = ("unmap_vectors.jsonl.gz", "batch_vectors.jsonl.gz", "referenced_vectors.jsonl.gz")


def entries(ptes, where):
    """Yield what the entries of a PTE list show."""
    for _, kind, _, flags, *_ in ptes:
        yield where, kind
        yield from ((where, kind, flag) for flag in flags)


def features(vector):
    """Yield everything that one line shows, as hashable values."""
    variants = vector.get("variants", [vector.get("impl")])
    name = vector.get("name", "")
    parts = name.split("/")
    yield "page size", vector["page_shift"], vector["ptrs_per_pte"]
    yield "class", *parts[:2]
    yield from (("tag", tag) for tag in vector.get("tags", []))
    yield from (("variant", variant) for variant in variants)
    yield "variants", tuple(variants)
    yield from entries(vector["ptes"], "input")
    yield from entries(vector["expect"].get("ptes_after", []), "output")
    yield "guard", vector.get("guard")
    yield from (("ttu", flag) for flag in vector.get("ttu", []))
    yield from (("vma", flag) for flag in vector.get("vma", {}).get("flags", []))
    yield "fpb", vector.get("impl"), vector.get("cont_ptes"), tuple(sorted(vector.get("fpb", [])))
    folio = vector["folio"]
    yield "folio", folio["order"]
    kind = folio.get("anon"), folio.get("swapbacked"), "UFFD_WP" in vector.get("vma", {}).get("flags", [])
    for field, value in vector["expect"].items():
        yield from (("outcome", variant, field, bool(value)) for variant in variants)
    if "ret" in vector["expect"]:
        yield "ret", kind, folio["order"] > 0, vector["expect"]["ret"]


def sample(path):
    """Return the lines of a file that are kept, in their order."""
    with gzip.open(path, "rt", encoding="utf-8") as recorded:
        lines = [(line, json.loads(line)) for line in recorded]
    cases = {}
    for line, vector in lines:
        cases.setdefault(vector["id"], []).append((line, vector))
    seen, kept = set(), set()
    for number in sorted(cases, key=lambda number: (sum(len(line) for line, _ in cases[number]), number)):
        shown = {feature for _, vector in cases[number] for feature in features(vector)}
        if not shown <= seen:
            seen |= shown
            kept.add(number)
    return [line for line, vector in lines if vector["id"] in kept]


def main(source, target):
    """Write the samples of the files in `source` to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        lines = sample(source / name)
        with open(target / name, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
            packed.write("".join(lines).encode())
        print(f"{name}: {len(lines)} lines, {(target / name).stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python sample_conformance.py SOURCE_DIR")
    main(Path(sys.argv[1]), Path(__file__).resolve().parent / "conformance")
