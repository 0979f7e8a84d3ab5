"""From captures to arrays: the tables of rmapfast.captures against loops that say what each column is."""

import json
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rmapfast.captures import reconstruct
from rmapfast.captures.format import PM_PRESENT
from rmapfast.support import printable, printable_json

numbers = st.integers(0, 2**32 - 1)
texts = st.text(max_size=8) | st.sampled_from(["\x1b[2J", "a\nb", "\u2028", "\\u0041", "\\", "r-xp", "\x7f"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def with_printable_texts(document):
    if isinstance(document, str):
        return printable(document)
    if isinstance(document, dict):
        return {printable(key): with_printable_texts(one) for key, one in document.items()}
    return [with_printable_texts(one) for one in document] if isinstance(document, list) else document


@settings(max_examples=300, deadline=None)
@given(documents, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_every_text_of_a_document_is_printable(document, ensure_ascii, indent):
    text = json.dumps(document, ensure_ascii=ensure_ascii, indent=indent)
    assert printable_json(text) == with_printable_texts(document)


@settings(max_examples=200, deadline=None)
@given(numbers, st.integers(0, 12))
def test_intervals_are_the_pages_that_pieces_show(seed, nr):
    rng = np.random.default_rng(seed)
    length, pfn = rng.integers(1, 9, nr), rng.integers(0, 30, nr)
    start, pgoff, vma = rng.integers(0, 90, 3), rng.integers(0, 90, 3), rng.integers(0, 3, nr)
    piece = {
        "mapped": rng.random(nr) < 0.8,
        "pm": pfn.astype(np.uint64) | PM_PRESENT,
        "len": length,
        "vma": vma,
        "vpn": start[vma] + rng.integers(0, 50, nr),
        "kf": rng.integers(0, 99, nr).astype(np.uint64),
        "page": rng.integers(0, 999, nr),
    }
    seen, interval = reconstruct._visible_intervals(piece, SimpleNamespace(start=start, pgoff=pgoff))
    pages = {}  # of each PFN: the rows that show it, the first one first, with the page of each that it is
    for row in np.flatnonzero(piece["mapped"]).tolist():
        for at in range(length[row]):
            pages.setdefault(int(pfn[row]) + at, []).append((row, at))
    first, end = interval["start"], interval["start"] + interval["length"]
    assert np.all(first[1:] >= end[:-1]) and np.all(interval["length"] > 0)
    assert [page for a, b in zip(first, end, strict=True) for page in range(a, b)] == sorted(pages)
    for number, page in enumerate(first.tolist()):
        row, at = pages[page][0]
        index = pgoff[vma[row]] + piece["vpn"][row] + at - start[vma[row]]
        wanted = {"kf": piece["kf"][row], "vma": vma[row], "page": piece["page"][row] + at, "index": index}
        assert {name: interval[name][number] for name in wanted} == wanted
    rows = sorted(zip(seen["piece"].tolist(), seen["interval"].tolist(), seen["index"].tolist(), strict=True))
    assert rows == sorted(
        (row, number, int(pgoff[vma[row]] + piece["vpn"][row] + at - start[vma[row]]))
        for number, page in enumerate(first.tolist())
        for row, at in pages[page]
    )


@settings(max_examples=200, deadline=None)
@given(numbers, st.integers(0, 8), st.integers(0, 20))
def test_the_rmap_holds_each_vma_of_the_file_that_covers_a_folio(seed, nr_vmas, nr):
    rng = np.random.default_rng(seed)
    nr = nr if nr_vmas else 0
    start = np.cumsum(rng.integers(10, 60, nr_vmas))
    vmas = SimpleNamespace(
        start=start,
        end=start + rng.integers(1, 10, nr_vmas),
        pgoff=rng.integers(0, 40, nr_vmas),
        mm=rng.integers(0, 2, nr_vmas),
        file=rng.integers(0, 3, nr_vmas),
        anon=rng.random(nr_vmas) < 0.3,
    )
    folios = {
        "index": rng.integers(0, 40, nr),
        "pages": 1 << rng.integers(0, 4, nr),
        "anon": rng.random(nr) < 0.3,
        "vma": rng.integers(0, max(nr_vmas, 1), nr),
    }
    told = rng.integers(0, max(nr, 1), (2, nr // 2))
    told[1] %= max(nr_vmas, 1)
    made = reconstruct._make_rmap(vmas, folios, (told[0], told[1]), SimpleNamespace())
    order = sorted(range(nr_vmas), key=lambda vma: (vmas.pgoff[vma], vmas.mm[vma], vmas.start[vma]))
    for folio in range(nr):
        first, last = folios["index"][folio], folios["index"][folio] + folios["pages"][folio]
        wanted = [
            vma
            for vma in order
            if first < vmas.pgoff[vma] + vmas.end[vma] - vmas.start[vma]
            and last > vmas.pgoff[vma]
            and (
                (folio, vma) in set(zip(*told.tolist(), strict=True))
                or (
                    not folios["anon"][folio]
                    and not vmas.anon[vma]
                    and vmas.file[vma] == vmas.file[folios["vma"][folio]]
                )
            )
        ]
        a, b = (int(made["rmap_start"][folio + step]) for step in (0, 1))
        assert made["rmap_vma"][a:b].tolist() == wanted
