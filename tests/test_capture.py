"""Captures: what they show is what the population holds; damaged files are refused."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import shared
from hypothesis import given, settings
from hypothesis import strategies as st
from test_population import check_consistent, mapped_pages

import rmapfast as rf
from rmapfast import _core, pte
from rmapfast.captures.folios import visible_folios
from rmapfast.captures.format import Capture, CaptureError
from rmapfast.flags import FolioFlag, TableState, VmaFlag
from rmapfast.population import Population

HERE = Path(__file__).resolve().parent / "data" / "captures"
SHARED = shared.DATA / "captures"
SMALL = sorted(HERE.glob("*.npz"))

HEAD, TAIL, ANON, SWAPBACKED = 1 << 15, 1 << 16, 1 << 12, 1 << 14


def load(name, **options):
    return Population.load(HERE / f"{name}.npz", **options)


def check_against_capture(path):
    """Assert that PTEs, mapcounts and orders are those of the capture, page by page."""
    capture, population = Capture.load(path), Population.load(path)
    pagemap = capture.pagemap
    present = pagemap >> np.uint64(63) > 0
    assert np.count_nonzero(present) == capture.nr_present == capture.meta["npresent"]
    flags, count = np.zeros(len(pagemap), np.uint64), np.zeros(len(pagemap), np.uint64)
    flags[present], count[present] = capture.kpageflags, capture.kpagecount
    vpns = np.concatenate([np.zeros(0, int), *map(np.arange, capture.vma_start, capture.vma_end)])
    at = np.searchsorted(vpns, np.concatenate([[0], *map(np.arange, population.vma_start, population.vma_end)])[1:])
    pagemap, present, flags, count = (
        pagemap[at.astype(int)],
        present[at.astype(int)],
        flags[at.astype(int)],
        count[at.astype(int)],
    )
    assert np.array_equal(population.ptes & pte.PRESENT > 0, present)
    pfn = pagemap & np.uint64((1 << 55) - 1)
    assert np.array_equal(pte.pfn(population.ptes)[present], pfn[present])
    assert np.array_equal(
        population.ptes[present] & pte.UFFD_WP > 0, pagemap[present] >> np.uint64(57) & np.uint64(1) > 0
    )
    assert np.count_nonzero(population.ptes == pte.MARKER) == np.count_nonzero(
        pagemap & ~np.uint64(1 << 55) == 0x420000000000003F
    )
    slot, folio, page, *_ = mapped_pages(population)
    # Heads are first pages, tails are not; anything else is order 0.
    assert np.all(page[flags[slot] & HEAD > 0] == 0) and np.all(page[flags[slot] & TAIL > 0] > 0)
    compound = flags[slot] & (HEAD | TAIL) > 0
    assert np.array_equal(population.folio_order[folio] > 0, compound)
    for one in np.unique(folio)[:200]:
        mine = folio == one
        mapcounts = population.page_mapcounts(one)[page[mine]] + int(population.folio_entire_mapcount[one])
        assert np.array_equal(mapcounts, count[slot[mine]])
    # Every page of a folio whose order is certain is visible.
    if "partial" not in population.assumptions:
        assert len(np.unique(pfn[slot])) == population.nr_pages
    return population


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_small_captures(path):
    population = check_against_capture(path)
    if population.assumptions["external"].startswith("0 "):
        check_consistent(population)


@pytest.mark.shared
@pytest.mark.parametrize(
    "path",
    sorted(SHARED.glob("**/*.npz")) if shared.PRESENT else [SHARED],
    ids=lambda path: str(path.relative_to(SHARED)),
)
def test_all_captures(path):
    population = check_against_capture(path)
    assert "broken" not in population.assumptions
    if path.stem == "file10g_ra128":
        assert population.orders() == {0: 32, 2: 8, 4: 2, 5: 81917}
        assert population.nr_pages == len(population.ptes) == 2621440
    if path.stem == "wild_gcc_cc1_p0":
        assert np.count_nonzero(population.ptes & pte.SPECIAL) == 992


@pytest.mark.shared
def test_live_cases():
    for case in json.loads((SHARED / "live" / "cases.json").read_text())["cases"]:
        for phase in ("before", "after"):
            population = Population.load(SHARED / "live" / f"{case['case']}.{phase}.npz")
            want = case[phase]
            kinds = pte.kind(population.ptes)
            assert np.count_nonzero(kinds == 7) == want["present"]
            assert (
                np.count_nonzero(kinds == 1) == want["swap"] - want["marker"]
                and np.count_nonzero(kinds == 6) == want["marker"]
            )
            assert np.count_nonzero(kinds == 0) == want["none"]
            whole = {run: count for run, count in want["orders"].items() if "tailrun:" not in run}
            heads = sum(whole.values())
            assert heads % population.nr_folios == 0 if heads else not population.nr_folios
            if not any("tailrun:" in run for run in want["orders"]) and "twice" not in case["case"]:
                named = {int(run.split(":")[1]).bit_length() - 1: count for run, count in whole.items()}
                assert population.orders() == named


@pytest.mark.shared
def test_joined_processes():
    paths = [SHARED / f"fork_shared_p{number}.npz" for number in range(4)]
    population = Population.load(paths)
    check_consistent(population)
    assert population.assumptions["external"].startswith("0 ")
    per_page = population.folio_mapcount >> population.folio_order
    assert set(per_page) == {1, 4}
    assert np.sum((per_page == 4) << population.folio_order.astype(int)) == 16384
    assert len(population.rmap(0)) == 4
    alone = Population.load(paths[1])
    assert alone.assumptions["external"].startswith(f"{3 * 16384} ")
    assert np.all(alone.folio_mapcount == 4 << alone.folio_order.astype(int))


def test_fork_pair():
    both = Population.load([HERE / f"file64k_fork_memcg.p{number}.before.npz" for number in range(2)])
    check_consistent(both)
    assert both.orders() == {4: 16} and np.all(both.folio_mapcount == 32) and np.all(both.folio_refcount == 48)
    assert both.mm_rss[:, 0].tolist() == [256, 256] and [vma for vma, _ in both.rmap(3)] == [0, 1]
    one = load("file64k_fork_memcg.p0.before")
    assert np.all(one.folio_mapcount == 32) and one.assumptions["external"].startswith("256 ")


def test_holes_are_one_folio():
    for name in ("file64k_holes_memcg.before", "file64k_nonepte_pageout.before"):
        population = load(name)
        assert population.orders() == {4: 16} and "16 folios" in population.assumptions["partial"]
        assert population.page_mapcounts(0).tolist() == [1] * 4 + [0] * 4 + [1] * 8
    # 17 VMAs of one file: each folio lies in two.
    holes = load("file64k_holes_memcg.before")
    assert all(len(holes.rmap(folio)) == 2 for folio in range(16))


def test_cow_pages_are_folios_of_their_own():
    population = load("file64k_cow_memcg.before")
    assert population.orders() == {0: 16, 4: 16} and population.mm_rss.tolist() == [[240, 16, 0, 0]]
    anon = population.folio_flags & FolioFlag.ANON > 0
    assert np.array_equal(population.folio_order == 0, anon)
    assert np.all(population.folio_refcount[anon] == 1)
    # They were written: exclusive, writable, dirty. The file pages are not.
    slot, folio, *_ = mapped_pages(population)
    for flag in (pte.WRITE, pte.DIRTY):
        assert np.array_equal(population.ptes[slot] & flag > 0, anon[folio])


def test_pmd_leaves():
    population = load("file2m_pmdmapped_pageout.before")
    check_consistent(population)
    assert np.all(population.table_state == TableState.PMD_LEAF) and len(population.table_state) == 4
    assert np.all(population.folio_entire_mapcount == 1) and np.all(population.folio_mapcount == 1)
    assert np.all(population.folio_refcount == 513) and not np.any(population.folio_flags & FolioFlag.PAGE_MAPCOUNTS)
    assert np.all(population.page_mapcounts(0) == 0)
    events = rf.reclaim(population, entry="pageout", swap=False).events
    assert events["folios_freed"] == events["shrink_calls"] == 4 and events["folio_splits"] == 0


def test_pageout_agrees_with_the_kernel():
    # Mapped twice: the kernel left all. Straddling and holes: it split, and a file folio is not reclaimed then.
    for name, taken, split in (
        ("file64k_twice_pageout", 0, 0),
        ("file2m_straddle_pageout", 0, 4),
        ("file64k_nonepte_pageout", 0, 16),
        ("anon64k_lazyfree_pageout", 16, 0),
        ("file64k_mlocked_memcg", 0, 0),
    ):
        result = rf.reclaim(load(f"{name}.before"), entry="pageout", swap=False)
        assert (result.events["folios_scanned"], result.events["folio_splits"]) == (taken, split), name
        check_consistent(result.after)


def test_uffd_wp():
    population = load("arm72-file-o4-uffdwp.after")
    assert np.count_nonzero(population.ptes == pte.MARKER) == 13072
    assert population.vma_flags[0] & VmaFlag.UFFD_WP
    ignored = load("arm72-file-o4-uffdwp.before", uffd_wp="ignore")
    assert not np.any(ignored.ptes & pte.UFFD_WP) and not ignored.vma_flags[0] & VmaFlag.UFFD_WP
    # Bit 55 is set everywhere in this kernel's pagemap.
    assert np.all(load("x612-file-o4-uffdwp.before", soft_dirty="capture").ptes & pte.SOFT_DIRTY)
    assert not np.any(load("x612-file-o4-uffdwp.before").ptes & pte.SOFT_DIRTY)


def test_contpte():
    assert np.all(load("arm72-file-o4.before").ptes & pte.CONT)
    assert not np.any(load("arm72-file-o4.before", cont=False).ptes & pte.CONT)
    assert not np.any(load("arm72-file-o4.before", arch="x86-64").ptes & pte.CONT)
    assert not np.any(load("x612-file-o0.before", arch="arm64-4k").ptes & pte.CONT)
    assert np.any(load("arm72-file-o9-mis64k.before").ptes & pte.CONT)


def test_kinds():
    lazyfree = load("anon64k_lazyfree_pageout.before")
    assert lazyfree.describe()["kinds"] == {"lazyfree": 16}
    assert np.all(lazyfree.folio_flags & FolioFlag.EXCLUSIVE)
    assert np.all(lazyfree.ptes & pte.WRITE) and not np.any(lazyfree.ptes & pte.DIRTY)
    mlocked = load("file64k_mlocked_memcg.before")
    assert mlocked.vma_flags[0] & VmaFlag.LOCKED and not len(mlocked.lru_inactive) and not len(mlocked.lru_active)
    assert load("file64k_holes_memcg.after").nr_folios == 0


def test_options():
    assert not np.any(load("arm72-file-o4.before", young=False).ptes & pte.YOUNG)
    some = np.count_nonzero(load("arm72-file-o4.before", young=0.25, seed=1).ptes & pte.YOUNG)
    assert abs(some / 16384 - 0.25) < 0.02
    shuffled = load("x612-file-o0.before", lru="shuffled")
    assert not np.array_equal(shuffled.lru_inactive, np.sort(shuffled.lru_inactive))
    for name, value in (
        ("young", 2),
        ("young", "no"),
        ("lru", "random"),
        ("write", 3),
        ("dirty", "kpageflags"),
        ("cont", 1),
    ):
        with pytest.raises((ValueError, TypeError), match=name):
            load("x612-file-o0.before", **{name: value})
    with pytest.raises(ValueError, match="captures: "):
        Population.from_captures([])
    assert load("x612-file-o0.before").input_hash == Capture.load(HERE / "x612-file-o0.before.npz").input_hash


# Folios from heads and tails


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.floats(0, 1), st.randoms(use_true_random=False))
def test_folio_reconstruction(orders, visible, random):
    at, truth, pages = 0, [], {}
    for order in orders:
        at = (at + (1 << order) - 1) >> order << order
        truth.append((at, order))
        for page in range(1 << order):
            pages[at + page] = 0 if not order else TAIL if page else HEAD
        at += 1 << order
    seen = sorted(page for page in pages if random.random() <= visible)
    start = np.array(seen, np.int64)
    kf = np.array([pages[page] for page in seen], np.uint64)
    pfn, order, broken = visible_folios(start, np.ones(len(start), np.int64), kf, start + 1000)
    assert not broken
    found = set(zip(pfn.tolist(), order.tolist(), strict=True))
    if len(seen) == len(pages):
        assert found == set(truth)
    # Each folio found lies in one true folio and begins there if its head is visible; each visible page is in one.
    ends = [(low, low + (1 << size)) for low, size in truth]
    for low, size in found:
        assert any(begin <= low and low + (1 << size) <= end for begin, end in ends)
    covered = [page for low, size in found for page in range(low, low + (1 << size))]
    assert len(covered) == len(set(covered)) and set(seen) <= set(covered)
    for low, size in truth:
        if size and low in seen:
            assert any(low == begin for begin, _ in found)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.sampled_from([0, HEAD, TAIL])), max_size=30))
def test_contradictory_flags_never_overlap(runs):
    at, start, length, kf = 0, [], [], []
    for gap, size, flag in runs:
        start.append(at + gap)
        length.append(size)
        kf.append(flag)
        at += gap + size
    start, length = np.array(start, np.int64), np.array(length, np.int64)
    pfn, order, _ = visible_folios(start, length, np.array(kf, np.uint64), start + 10000)
    covered = np.concatenate([[0], *(low + np.arange(1 << size) for low, size in zip(pfn, order, strict=True))])[1:]
    assert len(np.unique(covered)) == len(covered)
    assert np.all(np.isin(np.concatenate([[], *map(np.arange, start, start + length)]), covered))
    assert np.all(pfn % (1 << order) == 0)


# Made and damaged files


def arrays_of(path):
    with np.load(path) as archive:
        return dict(archive.items())


def write(path, arrays, **meta):
    if meta:
        text = json.loads(arrays["meta"].tobytes())
        text.update(meta)
        arrays = arrays | {"meta": np.frombuffer(json.dumps(text).encode(), np.uint8)}
    np.savez_compressed(path, **arrays)
    return path


def words(*values):
    return np.array(values, np.uint64)


@pytest.fixture
def good():
    return arrays_of(HERE / "file64k_holes_memcg.before.npz")


def test_swap_entries(tmp_path, good):
    swap = 1 << 62 | 5 << 5 | 2
    entries = words(swap, 1 << 56 | swap + 32, 1 << 63 | 1 << 61 | 99, 1 << 58 | 1 << 62 | 31)
    text = json.loads(good["meta"].tobytes())["vma_text"][:1]
    arrays = good | {
        "vma_start": words(0x10000), "vma_end": words(0x14000), "vma_pgoff": words(0), "vma_ino": words(3),
        "pm_len": np.ones(4, np.uint32), "pm_dval": np.diff(entries, prepend=np.uint64(0)),
        "kf_len": np.ones(1, np.uint32), "kf_val": words(0), "kc_len": np.ones(1, np.uint32), "kc_val": words(1),
    }  # fmt: skip
    population = Population.load(write(tmp_path / "swap.npz", arrays, npages=4, npresent=1, vma_text=text))
    assert pte.kind(population.ptes).tolist() == [1, 1, 7, 0] and population.mm_rss.tolist() == [[1, 0, 2, 0]]
    offsets = pte.pfn(population.ptes[:2])
    assert int(offsets[0]) == 2 << 47 | 5 and offsets[1] == offsets[0] + np.uint64(1)
    assert population.ptes[1] & pte.EXCLUSIVE and not population.ptes[0] & pte.EXCLUSIVE
    assert "1 guard" in population.assumptions["markers"]


def test_hugetlb_and_vdso_are_left_out(tmp_path, good):
    text = json.loads(good["meta"].tobytes())["vma_text"]
    text[0]["flags"] += " ht"
    text[1]["name"] = "[vdso]"
    population = Population.load(write(tmp_path / "left.npz", good, vma_text=text))
    assert len(population.vma_start) == 15
    assert "1 hugetlb" in population.assumptions["hugetlb"] and "1 vdso" in population.assumptions["special_vmas"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("kf_val"), "kf_val, which is missing"),
        (lambda a: a.update(pm_len=a["pm_len"].astype(np.uint64)), "pm_len: expected 1-D uint32"),
        (lambda a: a.update(pm_dval=a["pm_dval"].astype(">u8")), "pm_dval: expected 1-D uint64"),
        (lambda a: a.update(kc_val=a["kc_val"].reshape(1, -1)), "kc_val: expected 1-D"),
        (lambda a: a.update(kc_val=np.array([1], object)), "kc_val"),
        (lambda a: a["pm_len"].__setitem__(3, 9), "pm_len: expected run lengths that sum to 192, got"),
        (lambda a: a["kf_len"].__setitem__(0, 0), "kf_len: expected run lengths above 0"),
        (lambda a: a["kc_len"].__setitem__(0, 2**32 - 1), "kc_len: expected run lengths that sum"),
        (lambda a: a.update(kf_len=a["kf_len"][:-1]), "kf_len: expected as many runs"),
        (lambda a: a["kc_val"].__setitem__(0, 2**40), "kc_val: expected mapcounts below"),
        (lambda a: a["vma_end"].__setitem__(0, a["vma_end"][1]), "without overlap"),
        (lambda a: a["vma_start"].__setitem__(2, a["vma_start"][0]), "without overlap"),
        (lambda a: a["vma_end"].__setitem__(4, a["vma_start"][4]), "end above start"),
        (lambda a: a["vma_end"].__setitem__(16, 2**64 - 4096), "expected npages"),
        (lambda a: a["vma_start"].__setitem__(0, a["vma_start"][0] + np.uint64(5)), "multiples of the 4096"),
        (lambda a: a.update(vma_ino=a["vma_ino"][1:]), "one entry per VMA"),
        (lambda a: a.update(pm_dval=a["pm_dval"] * 0 + words(1 << 63)[:1] * (np.arange(32) == 0)), "CAP_SYS_ADMIN"),
        (lambda a: a.update(huge_start=words(0x1000), huge_end=words(0x2000)), "each inside one VMA"),
        (lambda a: a.update(huge_start=a["vma_start"][:1], huge_end=a["vma_end"][:1]), "a page table's 512 pages"),
        (lambda a: a.update(huge_start=words(4096)), "as many starts as ends"),
        (lambda a: a.update(meta=np.frombuffer(b"\xff{", np.uint8)), "meta: expected UTF-8 JSON"),
        (lambda a: a.update(meta=np.frombuffer(b"[1]", np.uint8)), "meta: expected format"),
        (lambda a: a.update(vma_pgoff=a["vma_pgoff"] + words(1 << 60)), "page offsets below"),
    ],
)
def test_damaged_arrays(tmp_path, good, change, message):
    change(good)
    path = tmp_path / "bad.npz"
    np.savez(path, **good)
    with pytest.raises(CaptureError, match=message) as error:
        Population.load(path)
    assert "bad.npz" in str(error.value)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"format": "rle4"}, "expected format .*rle4"),
        ({"npages": 1 << 34}, "expected npages from 0"),
        ({"npages": 193}, "expected npages of the 192"),
        ({"npages": "192"}, "expected npages"),
        ({"npresent": 191}, "kf_len: expected run lengths that sum to 191"),
        ({"page_shift": 99}, "page_shift"),
        ({"page_shift": 16}, "multiples of the 65536"),
        ({"vma_text": []}, "vma_start: expected 0 elements at most, got"),
        ({"vma_text": [1]}, "vma_text"),
        ({"machine": "pdp11"}, "pdp11.*give arch"),
    ],
)
def test_damaged_meta(tmp_path, good, meta, message):
    with pytest.raises(CaptureError, match=message):
        Population.load(write(tmp_path / "bad.npz", good, **meta))


def test_truncated_and_foreign_files(tmp_path):
    data = (HERE / "file64k_holes_memcg.before.npz").read_bytes()
    path = tmp_path / "cut.npz"
    for size in (*range(0, len(data), 97), len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(CaptureError, match=r"cut\.npz"):
            Capture.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vma_start.npy", b"no array")
    with pytest.raises(CaptureError):
        Capture.load(path)
    with pytest.raises(FileNotFoundError):
        Capture.load(tmp_path / "none.npz")


def test_header_that_claims_too_much(tmp_path, good):
    path = tmp_path / "bomb.npz"
    np.savez(path, **good)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    old, new = b"(32,), }" + b" " * 12, b"(99999999999999,), }"
    assert old in members["pm_dval.npy"] and len(old) == len(new)
    members["pm_dval.npy"] = members["pm_dval.npy"].replace(old, new)
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    with pytest.raises(CaptureError, match=r"pm_dval: expected 192 elements at most, got 99999999999999"):
        Capture.load(path)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SMALL), st.data())
def test_any_change_is_refused_or_consistent(tmp_path_factory, path, data):
    """Change one number of a capture: an error of ours, or a population whose indices are all valid."""
    arrays = {key: array.copy() for key, array in arrays_of(path).items()}
    key = data.draw(st.sampled_from(sorted(key for key, array in arrays.items() if len(array) and key != "meta")))
    array = arrays[key]
    value = data.draw(
        st.integers(0, 2 ** (8 * array.itemsize) - 1)
        | st.integers(0, array.itemsize // 4 + 1).map(lambda bits: 1 << (15 * bits))
    )
    array[data.draw(st.integers(0, len(array) - 1))] = value
    target = tmp_path_factory.mktemp("change") / "changed.npz"
    np.savez(target, **arrays)
    try:
        population = Population.load(target)
    except CaptureError as error:
        assert "changed.npz" in str(error)
        return
    start = population.rmap_start.astype(np.int64)
    assert start[-1] == len(population.rmap_vma) and np.all(np.diff(start) >= 0)
    assert np.all(population.rmap_vma < len(population.vma_start))
    assert np.all(population.folio_order <= _core.MAX_ORDER) and np.all(population.folio_mapcount >= 0)
    assert np.all(population.folio_refcount >= population.folio_mapcount)
    if population.nr_folios:
        last = population.folio_page_base + (np.uint64(1) << population.folio_order.astype(np.uint64))
        assert last.max() <= len(population.page_mapcount)


@pytest.mark.shared
def test_contpte_blocks_of_a_capture_follow_from_its_kernel():
    """6.12 maps a file with 16K pages four entries at a time, and folds no block; 7.2 maps whole folios."""
    found = {}
    for kernel in ("7.2.13", "6.12.117", "6.17.0"):
        capture = Capture.load(SHARED / "arch" / "arm16k72-file-o7.before.npz")
        capture.meta["kernel"] = kernel
        population = Population.from_captures([capture])
        assert population.arch.name == "arm64-16k"
        found[kernel] = int(np.count_nonzero(population.ptes & pte.CONT))
    assert found == {"7.2.13": 4096, "6.12.117": 0, "6.17.0": 0}
