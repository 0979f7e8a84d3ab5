"""Replay of recorded vectors, live captures and call counts: all agree, a wrong model and bad files do not pass."""

import gzip
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shared
from test_twins import used
from waiting import DEADLINE

import rmapfast as rf
from rmapfast import editions, pte
from rmapfast.cli import main
from rmapfast.flags import FolioFlag, PageFlag
from rmapfast.population import ARRAYS
from rmapfast.verify import (
    capture_lines,
    directory_lines,
    replay_captures,
    replay_counts,
    replay_directory,
    replay_sequences,
    vectors,
)
from rmapfast.verify.counts import TABLES, TOLERANCES

DATA = Path(__file__).resolve().parent / "data"
MGLRU = DATA.parent.parent / "validation" / "data" / "measured-mglru.toml"
SAMPLE = DATA / "conformance"
SHARED = shared.DATA
FILES = ("unmap_vectors.jsonl.gz", "batch_vectors.jsonl.gz", "referenced_vectors.jsonl.gz")
ENGINES = ("c", "reference")
# MADV_FREE of these pages was pending in a per-CPU batch when the capture was taken, which it cannot show.
PENDING = {"anon64k_partfree_pageout": [64, 65, 66, 67]}


def read(path):
    """Lines of a .jsonl.gz as objects."""
    with gzip.open(path, "rt", encoding="utf-8") as recorded:
        return [json.loads(line) for line in recorded]


def write(path, vectors):
    """Write vectors (objects, or bytes as they are) as .jsonl.gz."""
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in vectors]
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0))
    return path


def variants_of(vectors):
    """How often each variant occurs."""
    return Counter(variant for vector in vectors for variant in vector.get("variants", [vector.get("impl")]))


def assert_all_pass(path, engine, **options):
    report = rf.conformance(path, engine=engine, **options)
    assert not report.differences
    assert report.ok and not report.failed.total()
    assert report.passed == variants_of(read(path))
    return report


# The vectors


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FILES)
def test_sample(name, engine):
    done = []
    assert_all_pass(SAMPLE / name, engine, progress=done.append)
    assert done == list(range(1, len(read(SAMPLE / name)) + 1))


def test_sample_has_every_variant():
    found = Counter()
    for name in FILES:
        found += variants_of(read(SAMPLE / name))
    assert set(found) == {*editions.UNMAP_VECTORS, *editions.REFERENCED_VECTORS, "v7.1", "v6.14"}


@pytest.mark.shared
@pytest.mark.parametrize("name", FILES)
def test_sample_is_of_the_full_set(name):
    sample, full = read(SAMPLE / name), read(SHARED / "conformance" / name)
    lines = {json.dumps(vector) for vector in full}
    assert all(json.dumps(vector) in lines for vector in sample)

    def shown(vectors):
        return {
            ("class", vector.get("name", "").partition("/")[0]) for vector in vectors
        } | {
            ("size", vector["page_shift"], vector["ptrs_per_pte"]) for vector in vectors
        } | {("tag", tag) for vector in vectors for tag in vector.get("tags", [])}  # fmt: skip

    assert shown(sample) == shown(full)


@pytest.mark.shared
def test_sample_is_what_its_script_makes(tmp_path):
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import sample_conformance as s;"
        " s.main(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))"
    )
    arguments = [str(DATA), str(SHARED / "conformance"), str(tmp_path)]
    subprocess.run([sys.executable, "-B", "-c", code, *arguments], check=True, capture_output=True)
    for name in FILES:
        assert read(tmp_path / name) == read(SAMPLE / name)
        # mtime 0 and no file name, so that the bytes do not depend on when and where the sample is made
        assert (SAMPLE / name).read_bytes()[3:8] == b"\0\0\0\0\0"
    assert sum((SAMPLE / name).stat().st_size for name in FILES) < 150 << 10


@pytest.mark.shared
@pytest.mark.parametrize("name", FILES)
def test_full_set(name):
    assert_all_pass(SHARED / "conformance" / name, "c")


@pytest.mark.shared
@pytest.mark.parametrize("name", FILES)
def test_subset_on_the_reference(name, tmp_path):
    assert_all_pass(write(tmp_path / name, read(SHARED / "conformance" / name)[::10]), "reference")


def test_several_files_add_up():
    report = rf.conformance([SAMPLE / name for name in FILES])
    assert report.passed == sum((variants_of(read(SAMPLE / name)) for name in FILES), Counter())
    assert report.lines()[-1] == f"{report.passed.total()} passed, 0 failed"


# A replay can fail


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("variant", "wrong"),
    [("K5", "v7.0"), ("K4", "file-v5"), ("K1", "v6.16"), ("V73", "walker-jump"), ("V614", "per-page"), ("K0", "v7.3")],
)
def test_wrong_policy_fails(monkeypatch, engine, variant, wrong):
    monkeypatch.setitem(editions.UNMAP_VECTORS, variant, wrong)
    report = rf.conformance(SAMPLE / FILES[0], engine=engine)
    assert report.failed[variant] > 0 and not report.ok
    assert set(report.failed) == {variant}
    assert report.differences and all(f" {variant}: " in difference for difference in report.differences)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("variant", "wrong"), [("R72", "per-page"), ("R614", "v7.0")])
def test_wrong_reference_check_fails(monkeypatch, engine, variant, wrong):
    monkeypatch.setitem(editions.REFERENCED_VECTORS, variant, wrong)
    report = rf.conformance(SAMPLE / FILES[2], engine=engine)
    assert set(report.failed) == {variant}


def other(value):
    """A value of the same shape that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, dict):
        return {name: other(entry) for name, entry in value.items()}
    return [*value, [1, 1]] if value is not None else 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FILES)
def test_every_field_is_compared(name, engine, tmp_path):
    vectors = read(SAMPLE / name)
    fields = {field: vector for vector in reversed(vectors) for field in vector["expect"]}
    for field, vector in fields.items():
        expect = vector["expect"]
        value = expect[field]
        changed = expect | {field: other(value)}
        if field == "ptes_after":
            changed[field] = value[1:] if value else [[vector["vma"]["start_vpn"], "swap", 1, []]]
        elif field in ("merged_flags", "vm_flags"):
            changed[field] = [*value, "nonsense"]
        report = rf.conformance(write(tmp_path / name, [vector | {"expect": changed}]), engine=engine)
        assert report.failed == variants_of([vector]), field
        assert f"{field}: expected" in report.differences[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_entries_after_the_call_are_compared_bit_by_bit(engine, tmp_path):
    kinds = set()
    for vector in read(SAMPLE / FILES[0]):
        for at, entry in enumerate(vector["expect"]["ptes_after"]):
            vpn, kind, value, flags, *count = entry
            if kind in kinds or kind == "none":
                continue
            kinds.add(kind)
            wrong = [[vpn, "none", None, [], *count]]
            if kind != "marker_uffd_wp":
                wrong.append([vpn, kind, value + 1, flags, *count])
                wrong.append([vpn, kind, value, sorted({*flags} ^ {"soft_dirty"}), *count])
            for change in wrong:
                after = [*vector["expect"]["ptes_after"]]
                after[at] = change
                changed = vector | {"expect": vector["expect"] | {"ptes_after": after}}
                assert not rf.conformance(write(tmp_path / "v.jsonl.gz", [changed]), engine=engine).ok, change
    assert kinds >= {"present", "swap", "hwpoison", "marker_uffd_wp"}


def test_a_field_that_is_not_known_fails(tmp_path):
    vector = read(SAMPLE / FILES[0])[0]
    path = write(tmp_path / "v.jsonl.gz", [vector | {"expect": vector["expect"] | {"unheard_of": 0}}])
    assert not rf.conformance(path).ok


# Uniform folios


def uniform(population):
    """The same population without page arrays, or None if the folio's pages differ."""
    mapcounts, flags = population.page_mapcounts(0), population.page_flags
    uniform = population.copy()
    word = np.uint32(population.folio_flags[0] & ~np.uint32(FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS))
    if len(set(mapcounts.tolist())) > 1 or len(set(flags.tolist())) > 1 or int(flags[0]) not in (0, PageFlag.EXCLUSIVE):
        return None
    uniform.folio_flags[0] = word | (np.uint32(FolioFlag.EXCLUSIVE) if flags[0] else 0)
    uniform.page_mapcount[:] = -77
    uniform.page_flags[:] = 0xA5
    return uniform


def seen(population):
    """The state of a population of one folio, whether its page arrays are in use or not."""
    state = {name: used(population, name).tolist() for name in ARRAYS if name not in ("page_mapcount", "page_flags")}
    expanded = np.uint32(FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS | FolioFlag.EXCLUSIVE)
    state["folio_flags"] = int(population.folio_flags[0] & ~expanded)
    state["mapcounts"] = population.page_mapcounts(0).tolist()
    flags = int(population.folio_flags[0])
    if flags & FolioFlag.PAGE_FLAGS:
        state["flags"] = population.page_flags.tolist()
    else:
        state["flags"] = [PageFlag.EXCLUSIVE if flags & FolioFlag.EXCLUSIVE else 0] * len(population.page_flags)
    return state


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [FILES[0], FILES[2]])
def test_uniform_and_expanded_folios_agree(name, engine):
    """Without page arrays a folio comes to the recorded outcome too, and nothing reads what they hold."""
    replayed = 0
    for vector in read(SAMPLE / name):
        plain = uniform(vectors.VectorCase(vector).population)
        if plain is None:
            continue
        replayed += 1
        case = vectors.VectorCase(vector)
        for variant in vector["variants"]:
            known = editions.UNMAP_VECTORS if "ttu" in vector else editions.REFERENCED_VECTORS
            policy, after = rf.policy.get(known[variant]), []
            for population in (case.population.copy(), plain.copy()):
                calls = vectors.ENGINES[engine]
                if "ttu" in vector:
                    options = {"ttu": vector["ttu"], "guard": vector["guard"]}
                    call = calls.try_to_unmap_one(population, 0, 0, policy=policy, arch=case.arch, **options)
                else:
                    call = calls.folio_referenced_one(population, 0, 0, policy=policy, arch=case.arch)
                after.append((seen(population), call.ret, dict(call.events), list(map(tuple, call.trace))))
            assert after[0] == after[1], (vector["id"], variant)
    assert replayed > 20


# Captures and counts of real kernels


@pytest.mark.parametrize(
    "directory",
    [
        pytest.param(DATA / "captures", id="vendored"),
        pytest.param(SHARED / "captures" / "live", marks=pytest.mark.shared, id="live"),
        pytest.param(SHARED / "captures" / "vm", marks=pytest.mark.shared, id="vm"),
        pytest.param(SHARED / "captures" / "arch", marks=pytest.mark.shared, id="arch"),
    ],
)
def test_live_pairs(directory):
    cases = replay_captures(directory)
    names = {re.sub(r"(\.p\d+)?\.before\.npz$", "", path.name) for path in directory.glob("*.before.npz")}
    assert {case.name for case in cases} == names and len(cases) == len(names)
    for case in cases:
        assert sum(case.real.values()) == sum(case.model.values()) == case.pages
        assert case.differences == len(PENDING.get(case.name, [])), case
        assert case.agrees is (case.name not in PENDING)


def test_live_pairs_do_something():
    """Most pairs lose pages, so that agreeing is more than leaving everything as it was."""
    changed = [case for case in replay_captures(DATA / "captures") if case.model != {"mapped": case.pages}]
    assert len(changed) >= 12
    assert any("marker" in case.model for case in changed)


@pytest.mark.parametrize(("name", "pages"), PENDING.items())
def test_documented_difference(name, pages):
    """Exactly these pages differ: the capture shows them swapbacked, and the kernel discarded them as lazyfree."""
    before, after = (rf.Population.load(DATA / "captures" / f"{name}.{side}.npz") for side in ("before", "after"))
    model = rf.reclaim(before, 0, policy="v6.18", entry="pageout", swap=False).after
    mapped, real, start = (pte.kind(population.ptes) == 7 for population in (model, after, before))
    assert np.flatnonzero(mapped != real).tolist() == pages
    assert start[pages].all() and mapped[pages].all() and not real[pages].any()
    owner = np.searchsorted(np.sort(before.folio_pfn), pte.pfn(before.ptes[pages]), side="right") - 1
    owners = np.argsort(before.folio_pfn)[owner]
    assert np.all(before.folio_flags[owners] & FolioFlag.SWAPBACKED)
    assert np.all(before.folio_order[owners] == 0)


def test_live_pair_can_fail(tmp_path):
    """The after capture of a case that reclaimed everything, replaced by its before capture."""
    name = "file64k_nonepte_pageout"
    capture = (DATA / "captures" / f"{name}.before.npz").read_bytes()
    for side in ("before", "after"):
        (tmp_path / f"{name}.{side}.npz").write_bytes(capture)
    (case,) = replay_captures(tmp_path)
    assert not case.agrees and case.differences > 0
    assert capture_lines([case])[-1] == "0 passed, 1 failed"


def test_live_errors(tmp_path):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        replay_captures(tmp_path)
    capture = (DATA / "captures" / "file64k_cow_memcg.before.npz").read_bytes()
    (tmp_path / "half.before.npz").write_bytes(capture)
    with pytest.raises(ValueError, match=r"half\.after\.npz"):
        replay_captures(tmp_path)


# Cases whose captures do not show what decided: docs/model.md, section 8, says what.
CANNOT_KNOW = {"x612-ref_swap_memcg_o4"}


@pytest.mark.parametrize("engine", ["c", "general", "reference"])
@pytest.mark.parametrize(
    ("directory", "least"),
    [
        pytest.param(DATA / "captures" / "splits", 16, id="vendored"),
        pytest.param(SHARED / "captures" / "splits", 274, marks=pytest.mark.shared, id="splits"),
    ],
)
def test_recorded_cases(directory, least, engine):
    """Page states, orders and counters of every case with actions; all of them take part."""
    recorded, named = replay_directory(directory, engine)
    assert len(recorded) >= least and not named
    assert {case.name for case in recorded if not case.agrees} <= CANNOT_KNOW
    assert {case.policy for case in recorded if case.name.startswith("x70")} == {"v7.0.12"}
    failed = sum(not case.agrees for case in recorded)
    assert directory_lines(recorded, named)[-1] == f"{len(recorded) - failed} passed, {failed} failed"


@pytest.fixture
def changed_case(tmp_path):
    """Copy one recorded case with changes to what cases.json says of it; return what differs then."""

    def replay(name, **changes):
        document = json.loads((DATA / "captures" / "splits" / "cases.json").read_text())
        (case,) = (case for case in document["cases"] if case["case"] == name)
        for file in case["files"]:
            (tmp_path / file).write_bytes((DATA / "captures" / "splits" / file).read_bytes())
        (tmp_path / "cases.json").write_text(json.dumps({"cases": [case | changes]}))
        recorded, _ = replay_directory(tmp_path)
        return " ".join(recorded[0].differences)

    return replay


def test_recorded_case_can_fail(changed_case):
    """A case that is changed in one place differs there."""
    assert changed_case("x72-noswap_o2") == ""
    assert "folio_splits 63, in the model 64" in changed_case("x72-noswap_o2", thp_stats={"16_split": 63})
    assert "pages_written 3, in the model 0" in changed_case("x72-noswap_o2", counters={"pswpout": 3})
    assert "after: orders of 256 pages" in changed_case("x72-noswap_o2", actions=[])
    assert "zero page" in changed_case("x72-noswap_o4_zero", not_visible={})
    assert "after: 15 pages" in changed_case("x72-free_rewrite_hole_o4", not_visible={})
    assert changed_case("x70-ref_swap_o4", not_visible={})


def test_recorded_case_without_setup_follows_its_actions(changed_case):
    assert changed_case("x72-slots3_o2", setup=None) == ""


def test_actions_share_one_swap_device(changed_case):
    """What the first call put into the three slots is there at the second."""
    document = json.loads((DATA / "captures" / "splits" / "cases.json").read_text())
    for name in ("x72-slots3_o2", "x612-slots3_o2"):
        (case,) = (case for case in document["cases"] if case["case"] == name)
        assert changed_case(name, actions=case["actions"] * 2) == ""


def test_references_last_until_the_end(changed_case, tmp_path):
    """A capture after a read does not show them; pages that belong to no folio are passed over."""
    document = json.loads((DATA / "captures" / "splits" / "cases.json").read_text())
    (case,) = (case for case in document["cases"] if case["case"] == "x70-ref_swap_o4")
    before = (DATA / "captures" / "splits" / "x70-ref_swap_o4.before.npz").read_bytes()
    (tmp_path / "x70-ref_swap_o4.mid.npz").write_bytes(before)
    read = [{"call": "read"}, {"call": "snapshot", "phase": "mid"}]
    assert changed_case("x70-ref_swap_o4", actions=[*read, *case["actions"]]) == ""
    assert changed_case("x72-frag_o4", not_visible={"zero_filled": {"a": [[1 << 20, 1 << 21]]}}) == ""


def test_owner_of_a_file(changed_case):
    """Who may write the file pages out its 64 pages, but not the two copies of a private map, which have no swap."""
    document = json.loads((DATA / "captures" / "splits" / "cases.json").read_text())
    (case,) = (case for case in document["cases"] if case["case"] == "x72-file_other_priv")
    for owner in ({"owner_uid": 1000}, {"mode": "0666"}):
        setup = [step | owner if step["call"] == "make_file" else step for step in case["setup"]]
        assert "after: 62 pages" in changed_case("x72-file_other_priv", setup=setup)


def test_damaged_cases(changed_case, tmp_path):
    for changes, message in (
        ({"actions": [{"call": "MADV_COLLAPSE"}]}, "unknown action 'MADV_COLLAPSE'"),
        ({"kernel": "seven"}, "case x72-noswap_o2: kernel release"),
        ({"not_visible": {"zero_filled": {"b": [[0, 1]]}}}, "no address of map b"),
        ({"actions": [{"call": "snapshot", "phase": "mid"}]}, r"x72-noswap_o2\.mid\.npz: missing"),
    ):
        with pytest.raises(ValueError, match=message):
            changed_case("x72-noswap_o2", **changes)
    (tmp_path / "cases.json").write_text("{")
    with pytest.raises(ValueError, match=r"cases\.json"):
        replay_directory(tmp_path)


def test_counts():
    found = replay_counts(DATA / "counts.toml")
    assert [count for count in found if not count.agrees] == []
    rows = tomllib.loads((DATA / "counts.toml").read_text())["counts"]
    assert {count.row for count in found} == set(rows)
    walks = {count.row: count for count in found if count.what == "pvmw"}
    for name, row in rows.items():
        if "pvmw" in row:
            assert walks[name].recorded == walks[name].model == row["pvmw"]
    flushes = {count.what: count.model for count in found if count.row == "arch_tlbbatch_flush_x86"}
    assert flushes == {"order_4 A": 448, "order_4 B": 448, "order_9 A": 26, "order_9 B": 26}


def test_counts_of_other_architectures():
    path = MGLRU.with_name("measured-arch.toml")
    found = replay_counts(path)
    assert [count for count in found if not count.agrees] == []
    document = tomllib.loads(path.read_text())
    assert {count.row for count in found} == {row for table in TABLES for row in document.get(table, {})}


@pytest.mark.parametrize("engine", ["c", "reference"])
def test_counts_of_whole_reclaims(engine):
    """MGLRU and the classic LRU of recorded kernels. What differs is what the recordings name as foreign."""
    found = replay_counts(MGLRU, engine)
    assert [count for count in found if not count.agrees] == []
    document = tomllib.loads(MGLRU.read_text())
    tables = {table: document[table] for table in TABLES if table in document}
    recorded = {table: {(row, what) for row in rows for what in rows[row]} for table, rows in tables.items()}
    assert len(found) == sum(map(len, recorded.values()))
    assert {(count.row, count.what) for count in found} == set.union(*recorded.values())
    foreign = [count for count in found if count.recorded != count.model]
    assert {count.note for count in foreign} <= set(TOLERANCES.values())
    # Nothing but removals at the exit of a shell is foreign where no entry is young, and nothing is swapped.
    assert {count.what for count in foreign if "young" not in count.row and "swap" not in count.row} <= {
        "rr",
        "nr",
        "stp",
    }


@pytest.mark.parametrize("engine", ["c", "reference"])
def test_sequences_of_isolations(engine):
    found = replay_sequences(MGLRU, engine)
    assert [one.row for one in found if not one.agrees] == []
    document = tomllib.loads(MGLRU.read_text())
    recorded = [len(rounds) for table in ("isolations", "classic_isolations") for rounds in document[table].values()]
    assert [len(one.recorded) for one in found] == recorded
    # One recorded sequence has the same isolations, but two of them in another pass.
    assert [one.row for one in found if not one.passes_agree] == ["x86_612_order_4_young"]


def test_a_wrong_isolation_is_found(tmp_path):
    path = tmp_path / "sequences.toml"
    lines = tomllib.loads(MGLRU.read_text())["isolations"]["x86_72_order_9"]
    for wrong in (lines[:-1], [*lines[:-1], lines[-1].replace("1,512,512", "2,512,512")], ["1 | 12: x"], 3):
        path.write_text(f"[isolations]\nx86_72_order_9 = {json.dumps(wrong)}\n")
        found = replay_sequences(path)
        assert [one.agrees for one in found] == [False]
    assert found[0].problem
    path.write_text(f"[isolations]\nx86_72_order_9 = {json.dumps(lines)}\nx86_72_order = []\n")
    assert [one.agrees for one in replay_sequences(path)] == [True, False]


@pytest.mark.shared
def test_lists_are_those_recorded():
    assert MGLRU.read_text() == (SHARED / "measured-mglru.toml").read_text()


@pytest.mark.shared
def test_counts_are_those_recorded():
    tables = [tomllib.loads(path.read_text())["counts"] for path in (DATA / "counts.toml", SHARED / "measured-vm.toml")]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("file", "row", "key", "change"),
    [
        ("counts.toml", "x86_72_order_4", "pvmw", 1),
        ("counts.toml", "x86_612_order_4", "pvmw", -1),
        ("counts.toml", "x86_73_order_4_uffd_wp", "rr", -3),
        ("counts.toml", "x86_72_order_9", "rr", 5),
        ("measured-mglru.toml", "x86_72_order_4", "sfl", 1),
        ("measured-mglru.toml", "x86_72_order_4_young", "fr", 5),
        ("measured-mglru.toml", "x86_72_order_4_young", "young_ptes", 1),
        ("measured-mglru.toml", "x86_612_order_0", "passes", -1),
    ],
)
def test_counts_can_fail(tmp_path, file, row, key, change):
    rows = tomllib.loads((MGLRU if file == MGLRU.name else DATA / file).read_text())["counts"]
    values = {name: value for name, value in rows[row].items() if not isinstance(value, dict)}
    values[key] += change
    path = tmp_path / "counts.toml"
    path.write_text(f"[counts]\n{row} = {{ {', '.join(f'{name} = {value}' for name, value in values.items())} }}\n")
    assert [count.what for count in replay_counts(path) if not count.agrees] == [key]


BAD_FILES = ["counts = ", "counts = 3", "[other]\na = 1", "\0"]


@pytest.mark.parametrize("text", BAD_FILES)
def test_bad_files_of_counts(tmp_path, capsys, text):
    path = tmp_path / "counts.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        replay_counts(path)
    assert_refused(capsys, ["conformance", "--counts", str(path)], str(path))


BAD_ROWS = [
    "x86_99_order_0 = { tuo = 1 }",
    "x86_72_order_0_loud = { tuo = 1, fr = 1, pvmw = 1, rr = 1 }",
    "x86_72_order_0 = 3",
    "x86_72_order_0 = { tuo = 1, fr = 1 }",
    'x86_72_order_0 = { tuo = "a", fr = 1, pvmw = 1, rr = 1 }',
    "x86_72_order_0 = { tuo = -1, fr = 1, pvmw = 1, rr = 1 }",
    "x86_72_order_99 = { tuo = 1, fr = 1, pvmw = 1, rr = 1 }",
    "x86_72_order_0 = { sfl = 1, what = 1 }",
    "arch_tlbbatch_flush_x86 = { order_4 = 3 }",
    "arch_tlbbatch_flush_x86 = { order_4 = { D = 3 } }",
]


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_row_that_cannot_be_read_fails_alone(tmp_path, capsys, row):
    path = tmp_path / "counts.toml"
    path.write_text(f"[counts]\n{row}\nx86_72_order_9 = {{ tuo = 26, fr = 53, pvmw = 79, rr = 29 }}\n")
    bad, *good = replay_counts(path)
    assert (bad.agrees, bad.what, [count.agrees for count in good]) == (False, "row", [True, True])
    assert main(["conformance", "--counts", str(path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert "cannot be read: " in out[1] and out[-1] == "2 passed, 1 failed"


# Bad vectors

UNMAP, BATCH, REFERENCED = (min(read(SAMPLE / name), key=lambda vector: len(json.dumps(vector))) for name in FILES)
# A folio of several pages, each mapped once and present.
LARGE = next(
    vector
    for vector in read(SAMPLE / FILES[0])
    if vector["folio"]["order"] == 4 and vector["folio"]["page_mapcounts"] == [[16, 1]] and not vector["absent_pmds"]
)


def changed(vector, path, value):
    """A deep copy with one value replaced, or removed if the value is ... (Ellipsis)."""
    copy = json.loads(json.dumps(vector))
    *above, last = path.split(".")
    target = copy
    for name in above:
        target = target[int(name) if isinstance(target, list) else name]
    if value is ...:
        del target[last]
    else:
        target[int(last) if isinstance(target, list) else last] = value
    return copy


START = LARGE["vma"]["start_vpn"]
FIRST = LARGE["ptes"][0]
BAD = {
    "not JSON": b"{",
    "not JSON but text": b"hello",
    "empty line": b"",
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "deep nesting": b"[" * 200_000,
    "deep object": b'{"a":' * 200_000,
    "an endless number": b'{"id": ' + b"9" * 10_000 + b"}",
    "an empty object": b"{}",
    "PTE runs overlap": changed(LARGE, "ptes", [FIRST, FIRST]),
    "PTEs descend": changed(LARGE, "ptes", [[START + 1, "present", 1, []], [START, "present", 1, []]]),
    "PTE below the tables": changed(LARGE, "ptes", [[0, "present", 1, []]]),
    "PTE beyond the tables": changed(LARGE, "ptes", [[1 << 40, "present", 1, []]]),
    "run of no entries": changed(LARGE, "ptes", [[START, "present", 1, [], 0]]),
    "run of -1 entries": changed(LARGE, "ptes", [[START, "present", 1, [], -1]]),
    "run beyond the tables": changed(LARGE, "ptes", [[START, "present", 1, [], 1 << 19]]),
    "run of 2^62 entries": changed(LARGE, "ptes", [[START, "present", 1, [], 1 << 62]]),
    "run of 2^64 entries": changed(LARGE, "ptes", [[START, "present", 1, [], 1 << 64]]),
    "values of a run overflow": changed(LARGE, "ptes", [[START, "present", (1 << 52) - 1, [], 2]]),
    "PFN of 2^52": changed(LARGE, "ptes", [[START, "present", 1 << 52, []]]),
    "PFN of -1": changed(LARGE, "ptes", [[START, "present", -1, []]]),
    "PFN is missing": changed(LARGE, "ptes", [[START, "present", None, []]]),
    "PFN is text": changed(LARGE, "ptes", [[START, "present", "1", []]]),
    "page is text": changed(LARGE, "ptes", [["1", "present", 1, []]]),
    "page is a fraction": changed(LARGE, "ptes", [[START + 0.5, "present", 1, []]]),
    "unknown kind": changed(LARGE, "ptes", [[START, "absent", 1, []]]),
    "unknown PTE flag": changed(LARGE, "ptes", [[START, "present", 1, ["wrte"]]]),
    "short entry": changed(LARGE, "ptes", [[START, "present", 1]]),
    "long entry": changed(LARGE, "ptes", [[START, "present", 1, [], 1, 1]]),
    "PTEs are no list": changed(LARGE, "ptes", 3),
    "unknown variant": changed(LARGE, "variants", ["K7"]),
    "variants are no list": changed(LARGE, "variants", 5),
    "reference check of an unmap variant": changed(REFERENCED, "variants", ["K0"]),
    "unknown implementation": changed(BATCH, "impl", "v5.0"),
    "implementation is a list": changed(BATCH, "impl", ["v7.1"]),
    "unknown TTU flag": changed(LARGE, "ttu", ["SYNCH"]),
    "unknown guard": changed(LARGE, "guard", "wall"),
    "unknown scan flag": changed(BATCH, "fpb", ["RESPECT_YOUNG"]),
    "unknown VMA flag": changed(LARGE, "vma.flags", ["LOOKED"]),
    "mapcounts of too few pages": changed(LARGE, "folio.page_mapcounts", [[15, 1]]),
    "mapcounts of too many pages": changed(LARGE, "folio.page_mapcounts", [[17, 1]]),
    "mapcounts do not add up": changed(LARGE, "folio.mapcount", 17),
    "mapcounts of 2^50 pages": changed(LARGE, "folio.page_mapcounts", [[1 << 50, 0], [16, 1]]),
    "mapcounts of -1 pages": changed(LARGE, "folio.page_mapcounts", [[-1, 1], [17, 1]]),
    "mapcounts below zero": changed(LARGE, "folio", LARGE["folio"] | {"page_mapcounts": [[16, -1]], "mapcount": -16}),
    "mapcounts beyond 32 bits": changed(
        LARGE, "folio", LARGE["folio"] | {"page_mapcounts": [[16, 1 << 40]], "mapcount": 16 << 40}
    ),
    "order of 14": changed(
        LARGE, "folio", LARGE["folio"] | {"order": 14, "page_mapcounts": [[1 << 14, 0]], "mapcount": 0}
    ),
    "order of -1": changed(LARGE, "folio.order", -1),
    "order of 2^30": changed(LARGE, "folio.order", 1 << 30),
    "order is a fraction": changed(LARGE, "folio.order", 4.0),
    "folio PFN of -1": changed(LARGE, "folio.pfn", -1),
    "folio PFN of 2^64": changed(LARGE, "folio.pfn", 1 << 64),
    "folio index of -1": changed(LARGE, "folio.index", -1),
    "references beyond 32 bits": changed(LARGE, "folio.refcount", 1 << 31),
    "exclusive page beyond the folio": changed(LARGE, "folio.exclusive_pages", [16]),
    "exclusive page of -1": changed(LARGE, "folio.exclusive_pages", [-1]),
    "poisoned page beyond the folio": changed(LARGE, "folio.hwpoison_pages", [1 << 40]),
    "poisoned page of -1": changed(LARGE, "folio.hwpoison_pages", [-1]),
    "failing page beyond the folio": changed(LARGE, "folio.swap_dup_fail_page", 16),
    "failing page of -1": changed(LARGE, "folio.swap_dup_fail_page", -1),
    "swap offset of -1": changed(LARGE, "folio.swap_offset", -1),
    "empty VMA": changed(LARGE, "vma.end_vpn", START),
    "VMA ends before it starts": changed(LARGE, "vma.end_vpn", START - 1),
    "huge VMA": changed(LARGE, "vma.end_vpn", START + (1 << 40)),
    "VMA of 2^64 pages": changed(LARGE, "vma.end_vpn", 1 << 64),
    "VMA starts at -1": changed(LARGE, "vma.start_vpn", -1),
    "VMA offset of -1": changed(LARGE, "vma.pgoff", -1),
    "VMA without the folio": changed(LARGE, "vma.pgoff", LARGE["vma"]["pgoff"] + (1 << 20)),
    "distant table": changed(LARGE, "tables", [0, 1 << 40]),
    "table of -1": changed(LARGE, "tables", [-1, *LARGE["tables"]]),
    "tables are no list": changed(LARGE, "tables", 4),
    "page size of 2^3": changed(LARGE, "page_shift", 3),
    "page size is text": changed(LARGE, "page_shift", "12"),
    "no entries per table": changed(LARGE, "ptrs_per_pte", 0),
    "-8 entries per table": changed(LARGE, "ptrs_per_pte", -8),
    "12 entries per table": changed(LARGE, "ptrs_per_pte", 12),
    "scan starts at -1": changed(BATCH, "start_vpn", -1),
    "scan starts in another table": changed(BATCH, "start_vpn", BATCH["start_vpn"] + BATCH["ptrs_per_pte"]),
    "scan of no entries": changed(BATCH, "max_nr", 0),
    "scan of -1 entries": changed(BATCH, "max_nr", -1),
    "contpte block of 3": changed(BATCH, "cont_ptes", 3),
    "contpte block of -16": changed(BATCH, "cont_ptes", -16),
    "scan of a negative table": changed(BATCH, "ptrs_per_pte", -64),
    "scan of a table of 2^40": changed(BATCH, "ptrs_per_pte", 1 << 40),
    "scan of another folio": changed(BATCH, "folio.pfn", 1),
    "scan of a folio of order 40": changed(BATCH, "folio.order", 40),
    "outcome is a list": changed(LARGE, "expect", []),
    "outcome with a run of 2^50": changed(LARGE, "expect.ptes_after", [[START, "none", None, [], 1 << 50]]),
    "outcome with 2^50 mapcounts": changed(LARGE, "expect.page_mapcounts", [[1 << 50, 0]]),
}  # fmt: skip
BAD |= {
    f"{what} without {field}": changed(vector, field, ...)
    for what, vector, fields in (
        (
            "unmap vector",
            LARGE,
            "id vma folio ptes tables absent_pmds guard variants expect page_shift ptrs_per_pte vma.flags vma.pgoff "
            "vma.anonymous folio.order folio.mapcount folio.exclusive_pages folio.swap_offset folio.refcount "
            "expect.ptes_after",
        ),
        ("batch vector", BATCH, "start_vpn max_nr fpb folio cont_ptes ptes expect"),
        ("reference vector", REFERENCED, "variants expect.vm_flags folio.pfn"),
    )
    for field in fields.split()
}  # fmt: skip
# These would take all memory if they were believed.
HUGE = {name for name in BAD if "2^50" in name or "2^40" in name or "2^30" in name}


def assert_refused(capsys, argv, *named):
    """Exit status 2, one line on stderr that names something, nothing on stdout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["rmapfast", *argv])
        try:
            status = main(argv)
        except SystemExit as stop:
            status = stop.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.endswith("\n") and err.count("\n") == 1 and err.startswith("rmapfast"), err
    assert all(name in err for name in named), err


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", [name for name in BAD if name not in HUGE])
def test_bad_vectors(tmp_path, capsys, what, engine):
    path = write(tmp_path / "bad.jsonl.gz", [UNMAP, BAD[what]])
    with pytest.raises(rf.VectorError, match=re.escape(f"{path}:2: ")):
        rf.conformance(path, engine=engine)
    assert_refused(capsys, ["conformance", "--engine", engine, str(path)], f"{path}:2: ")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", sorted(HUGE))
def test_vectors_that_claim_too_much(tmp_path, what, engine):
    """Refused before memory is taken: 1 GiB of address space and a minute are enough to say no."""
    path = write(tmp_path / "bad.jsonl.gz", [UNMAP, BAD[what]])
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        " from rmapfast.cli import main; sys.exit(main())"
    )
    argv = [sys.executable, "-c", code, "conformance", "--engine", engine, str(path)]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=DEADLINE, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and f"{path}:2: " in done.stderr


def test_bad_vector_after_good_ones_says_which(tmp_path, capsys):
    good = read(SAMPLE / FILES[1])[:20]
    path = write(tmp_path / "bad.jsonl.gz", [*good, b"{"])
    with pytest.raises(rf.VectorError, match=re.escape(f"{path}:21: not JSON")):
        rf.conformance(path)
    assert_refused(capsys, ["conformance", str(SAMPLE / FILES[1]), str(path)], f"{path}:21: ")
    assert_refused(capsys, ["conformance", "--json", str(SAMPLE / FILES[1]), str(path)], f"{path}:21: ")


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7, 0.999])
def test_truncated_file(tmp_path, capsys, keep):
    whole = (SAMPLE / FILES[0]).read_bytes()
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(rf.VectorError, match=re.escape(str(path)) + r".*(:|line )\d+"):
        rf.conformance(path)
    assert_refused(capsys, ["conformance", str(path)], str(path))


def test_flipped_bytes(tmp_path, capsys):
    """Whatever is flipped in the compressed data is noticed: by inflate, JSON, the vector's rules or the checksum."""
    whole = bytearray((SAMPLE / FILES[1]).read_bytes())
    rng = np.random.default_rng(1)
    path = tmp_path / "flipped.jsonl.gz"
    # From 10 on: the header's flags, time and name mean nothing. The last four bytes are the length.
    for at in [0, 1, 2, *rng.integers(10, len(whole), 60).tolist(), len(whole) - 8, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        with pytest.raises(rf.VectorError, match=re.escape(str(path))):
            rf.conformance(path)
        assert_refused(capsys, ["conformance", str(path)], str(path))


def test_not_gzip_and_not_there(tmp_path, capsys):
    path = tmp_path / "plain.jsonl.gz"
    path.write_text(json.dumps(UNMAP))
    with pytest.raises(rf.VectorError, match=re.escape(str(path))):
        rf.conformance(path)
    assert_refused(capsys, ["conformance", str(path)], str(path))
    path.write_bytes(gzip.compress(b"\xff\xfe\xfd\n"))
    with pytest.raises(rf.VectorError, match=re.escape(str(path))):
        rf.conformance(path)
    for empty in (b"", gzip.compress(b"")):
        path.write_bytes(empty)
        with pytest.raises(rf.VectorError, match="no vectors"):
            rf.conformance(path)
    assert_refused(capsys, ["conformance", str(tmp_path / "missing.jsonl.gz")], "missing.jsonl.gz")
    assert_refused(capsys, ["conformance", str(tmp_path)], str(tmp_path))
    assert_refused(capsys, ["conformance"], "FILE")
    with pytest.raises(ValueError, match="engine: expected one of c, reference, got 'rust'"):
        rf.conformance(SAMPLE / FILES[0], engine="rust")


def test_uncompressed_vectors(tmp_path):
    path = tmp_path / "plain.jsonl"
    path.write_text("".join(json.dumps(vector) + "\n" for vector in (UNMAP, BATCH, REFERENCED)))
    report = rf.conformance(path)
    assert report.ok and report.passed == variants_of([UNMAP, BATCH, REFERENCED])
