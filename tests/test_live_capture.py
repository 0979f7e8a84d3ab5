"""Captures of processes that run on this machine: what they show is what was mapped; nothing is left behind."""

import ctypes
import io
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import DEADLINE, INTERRUPTIBLE, wait_for

import rmapfast as rf
from rmapfast import pte
from rmapfast.captures import process as reader
from rmapfast.captures.anonymise import anonymise_images
from rmapfast.captures.format import PM_PFN, PM_PRESENT, Capture, RunLengths, encode, runs
from rmapfast.captures.image import Image, Region, RunEncoder, Vma
from rmapfast.flags import FolioFlag, VmaFlag
from rmapfast.support import write_together
from rmapfast.verify import capture_lines, replay_captures

MIB, PAGE = 1 << 20, os.sysconf("SC_PAGE_SIZE")
DATA = Path(__file__).resolve().parent / "data" / "captures"


def _missing() -> str:
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    if os.geteuid():
        return "needs root"
    if not os.access("/proc/kpageflags", os.R_OK):
        return "needs /proc/kpageflags"
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(id(file) // PAGE * 8)
        if not int.from_bytes(file.read(8), "little") & int(PM_PFN):
            return "needs CAP_SYS_ADMIN to see page frame numbers"
    return "" if PAGE == 4096 else "needs pages of 4096 bytes"


live = pytest.mark.skipif(bool(_missing()), reason=_missing() or "-")

# Runs what its stdin says, line by line, and prints the value of `out` as JSON after each.
CHILD = """
import ctypes, fcntl, json, mmap, os, signal, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mlock.argtypes = libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
MIB, PAGE = 1 << 20, mmap.PAGESIZE
def new(size, path=None, shared=False, write=True, align=2 * MIB):
    fd = -1 if path is None else os.open(path, os.O_RDWR)
    hole = libc.mmap(None, size + align + PAGE, 0, 0x4022, -1, 0)
    at = (hole + PAGE + align - 1) // align * align
    flags = (1 if shared else 2) | 0x4010 | (0x20 if fd < 0 else 0)  # fixed, no reserve
    assert libc.mmap(at, size, 3 if write else 1, flags, fd, 0) == at
    if fd >= 0:
        os.close(fd)
    return at
def advise(at, size, advice):
    if libc.madvise(at, size, advice):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def touch(at, size, write=True, step=PAGE):
    for byte in range(at, at + size, step):
        one = ctypes.c_char.from_address(byte)
        if write:
            one.value = b"x"
        else:
            one.value
def write_protect(at, size, first, length):
    # userfaultfd(O_CLOEXEC | UFFD_USER_MODE_ONLY); UFFDIO_API with WP_UNPOPULATED, _REGISTER, _WRITEPROTECT
    fd = libc.syscall(323, 0o2000001) if os.uname().machine == "x86_64" else -1
    if fd < 0:
        return False
    try:
        fcntl.ioctl(fd, 0xC018AA3F, bytearray(struct.pack("3Q", 0xAA, 1 | 1 << 13, 0)))
        fcntl.ioctl(fd, 0xC020AA00, bytearray(struct.pack("4Q", at, size, 2, 0)))
        fcntl.ioctl(fd, 0xC018AA06, bytearray(struct.pack("3Q", first, length, 1)))
    except OSError:
        return False
    return True
for line in sys.stdin:
    out = None
    exec(line)
    print(json.dumps(out), flush=True)
"""


class Child:
    def __init__(self, **options):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )
        self.pid = self.process.pid
        self.do("pass")

    def do(self, code: str):
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the child died of {code}"
        return json.loads(line)

    def state(self) -> str:
        return state_of(self.pid)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def child():
    children = []

    def start(**options):
        children.append(Child(**options))
        return children[-1]

    yield start
    for one in children:
        one.end()


def run_python(*argv, preexec_fn=None):
    return subprocess.run(
        [sys.executable, *map(str, argv)],
        capture_output=True,
        text=True,
        preexec_fn=preexec_fn,
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(Path(rf.__file__).parents[1])},
    )


@pytest.fixture
def cli(tmp_path):
    """Run the command; it may fail only with one line, and leaves no file then."""

    def run(*argv, preexec_fn=None, status=2):
        before = sorted(os.listdir(tmp_path))
        done = run_python("-m", "rmapfast.cli", *argv, preexec_fn=preexec_fn)
        assert done.returncode == status, done.stderr
        if status:
            assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr
            assert "Traceback" not in done.stderr
            assert sorted(os.listdir(tmp_path)) == before
        return done.stderr if status else done.stdout

    return run


def cached_file(path: Path, size: int) -> Path:
    """A file in the page cache as readahead fills it: written back and dropped first, so that no buffer heads stay."""
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with open(path, "rb", buffering=0) as file:
        while file.read(MIB):
            pass
    return path


def vma_at(population, at: int) -> int:
    return int(np.flatnonzero(population.vma_start == at // PAGE)[0])


def ptes_at(population, at: int, size: int) -> np.ndarray:
    """PTEs of a range inside one VMA."""
    vma = int(np.searchsorted(population.vma_start, at // PAGE, side="right")) - 1
    first = int(population.vma_pte_base[vma]) + at // PAGE - int(population.vma_start[vma])
    assert at // PAGE + size // PAGE <= population.vma_end[vma]
    return population.ptes[first : first + size // PAGE]


def folios_at(population, at: int, size: int) -> np.ndarray:
    """Folio number of each present page of a range."""
    ptes = ptes_at(population, at, size)
    pfn = pte.pfn(ptes[ptes & pte.PRESENT > 0])
    rank = np.argsort(population.folio_pfn)
    number = rank[np.searchsorted(population.folio_pfn[rank], pfn, side="right") - 1]
    assert np.all(pfn < population.folio_pfn[number] + (np.uint64(1) << population.folio_order[number]))
    return number


def present(ptes: np.ndarray) -> int:
    return int(np.count_nonzero(ptes & pte.PRESENT))


def capture_range(pid: int, at: int, size: int, path: Path) -> Path:
    with reader.Process(pid, PAGE.bit_length() - 1) as process:
        path.write_bytes(process.read(ranges=[(at, size)]).encode())
    return path


# Run-length coding

entries = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from([0, int(PM_PRESENT), int(PM_PRESENT) | 1 << 56, 1 << 62 | 5, (1 << 64) - 1]),
        st.integers(0, 60),
    ),
    max_size=12,
)


def expanded(spec, counts_up=True) -> np.ndarray:
    """Runs of (length, bits, frame) as entries."""
    pieces = [
        np.uint64(bits | frame)
        + np.arange(length, dtype=np.uint64) * np.uint64(counts_up and bits >> 63 and bits != 2**64 - 1)
        for length, bits, frame in spec
    ]
    return np.concatenate([np.empty(0, np.uint64), *pieces])


@given(spec=entries, counts_up=st.booleans())
def test_runs_expand_to_the_entries(spec, counts_up):
    want = expanded(spec)
    length, value = runs(want, counts_up)
    assert np.all(length > 0) and length.sum() == len(want)
    step = value >> np.uint64(63) if counts_up else np.zeros(len(value), np.uint64)
    number = np.arange(len(want)) - np.repeat(np.cumsum(length) - length, length)
    with np.errstate(over="ignore"):
        assert np.array_equal(np.repeat(value, length) + np.repeat(step, length) * number.astype(np.uint64), want)


@settings(deadline=None)
@given(
    vmas=st.lists(
        st.tuples(
            st.integers(0, 300),  # pages before
            st.lists(
                st.tuples(st.integers(1, 40), st.sampled_from([0, 1, 3]), st.integers(1, 500)), min_size=1, max_size=8
            ),
        ),
        min_size=1,
        max_size=5,
    ),
    chunk=st.sampled_from([1, 7, 16, 1 << 20]),
    seed=st.integers(0, 9),
)
def test_load_of_encode_is_the_same(tmp_path_factory, vmas, chunk, seed):
    """Whatever the chunks in which a process is read: the entries come back, page by page."""
    tops = {0: 0, 1: int(PM_PRESENT), 3: int(PM_PRESENT) | 1 << 61}
    each, starts, ends, here = [], [], [], 16
    for gap, spec in vmas:
        each.append(expanded([(length, tops[kind], frame if kind else 0) for length, kind, frame in spec]))
        starts.append((here + gap) * PAGE)
        here += gap + len(each[-1])
        ends.append(here * PAGE)
    random = np.random.default_rng(seed)
    pm, kf, kc = RunEncoder(True), RunEncoder(False), RunEncoder(False)
    flags, counts = [], []
    for one in each:
        for first in range(0, len(one), chunk):
            part = one[first : first + chunk]
            nr = int(np.count_nonzero(part >> np.uint64(63)))
            flags.append(random.integers(0, 3, nr).astype(np.uint64))
            counts.append(random.integers(0, 2, nr).astype(np.uint64))
            pm.add(part)
            kf.add(flags[-1])
            kc.add(counts[-1])
    pages, flags, counts = np.concatenate(each), np.concatenate(flags), np.concatenate(counts)
    meta = {
        "format": "rle3",
        "page_shift": 12,
        "npages": len(pages),
        "npresent": len(flags),
        "vma_text": [{"perms": "rw-p", "name": "ä", "flags": "rd wr"}] * len(vmas),
    }
    path = tmp_path_factory.getbasetemp() / "encoded.npz"
    vma = {"start": starts, "end": ends, "pgoff": [0] * len(vmas), "inode": [0] * len(vmas)}
    path.write_bytes(encode(meta, vma=vma, huge=[], pm=pm.joined(), kf=kf.joined(), kc=kc.joined()))
    capture = Capture.load(path)
    assert np.array_equal(capture.pagemap, pages)
    assert np.array_equal(capture.kpageflags, flags) and np.array_equal(capture.kpagecount, counts)
    assert np.array_equal(capture.vma_start * PAGE, starts) and np.array_equal(capture.vma_end * PAGE, ends)
    assert capture.meta == meta


# Anonymising


def image(starts, pfns, large=False, **vma) -> Image:
    """An image of VMAs of 64 pages, each with all pages present from one PFN on."""
    vmas = [Vma(start * PAGE, (start + 64) * PAGE, 0, "fe:00", 7, "r--p", "secret.db", **vma) for start in starts]
    lengths = np.full(len(starts), 64)
    values = np.array(pfns, np.uint64) | PM_PRESENT
    ones = RunLengths(np.ones(1, np.int64) * 64 * len(starts), np.full(1, large << 15, np.uint64))
    return Image(vmas, [], RunLengths(lengths, values), ones, ones, 12, 0.0)


@given(st.lists(st.integers(0, 1 << 20), min_size=1, max_size=12), st.integers(0, 12), st.booleans())
def test_anonymised_frames_keep_neighbours_and_sharing_and_large_folios_their_alignment(pfns, cut, large):
    images = [image(range(0, 64 * len(part), 64), part, large) for part in (pfns[:cut], pfns[cut:]) if part]
    before = np.concatenate([one.pm.first & PM_PFN for one in images])[:, None] + np.arange(64, dtype=np.uint64)
    anonymise_images(images)
    after = np.concatenate([one.pm.first & PM_PFN for one in images])[:, None] + np.arange(64, dtype=np.uint64)
    before, after = before.astype(int), after.astype(int)
    if large:
        blocks = 1 << np.clip(np.frexp((before[:, 0] ^ before[:, -1]).astype(float))[1], 1, 13)
        assert np.array_equal(before[:, 0] % blocks, after[:, 0] % blocks)
    before, after = before.ravel(), after.ravel()
    assert len(np.unique(before)) == len(np.unique(after))
    pairs = np.unique(np.stack([before, after]), axis=1)
    assert len(pairs[0]) == len(np.unique(before))  # the same frame is the same one everywhere
    assert np.array_equal(np.diff(pairs[0]) == 1, np.diff(pairs[1]) == 1)
    assert len(set(after.tolist()) & {frame + 1 for frame in set(after.tolist())}) == np.sum(np.diff(pairs[0]) == 1)
    assert after.min() > 0


def test_anonymised_names_and_inodes():
    one, other = image([0, 64], [5000, 9000]), image([0], [5000])
    one.vmas[1].device = "00:01"
    one.vmas.append(Vma(1 << 30, (1 << 30) + PAGE, 0, "00:00", 0, "rw-p", "[anon:secret]"))
    one.vmas.append(Vma(2 << 30, (2 << 30) + PAGE, 0, "00:00", 0, "r-xp", "[vdso]"))
    other.vmas[0].inode = 8
    anonymise_images([one, other])
    # Files of two devices stay two although their inode was the same.
    assert [vma.inode for vma in one.vmas] == [2, 1, 0, 0] and other.vmas[0].inode == 3
    assert [vma.name for vma in one.vmas + other.vmas] == ["", "", "", "[vdso]", ""]
    assert b"secret" not in one.encode() + other.encode()


def test_anonymised_entries_that_are_not_present():
    one = image([0, 64, 128, 192], [5000] * 4)
    swap, migration, marker = 1 << 62 | 77 << 5 | 2, 1 << 62 | 77 << 5 | 26, 0x420000000000003F
    one.pm = one.pm._replace(first=np.array([int(PM_PRESENT) | 5000, swap, migration, marker], np.uint64))
    anonymise_images([one])
    # slots are counted from 1, and a migration entry holds a page frame number
    assert one.pm.first.tolist()[1:] == [1 << 62 | 1 << 5, 1 << 62 | 26, marker]


def test_random_order_of_frames():
    """Where a frame was before does not show in the order of the new ones."""
    pfns = list(range(0, 100 * 1000, 1000))
    orders = set()
    for _ in range(4):
        one = image(range(0, 6400, 64), pfns)
        anonymise_images([one])
        orders.add(tuple(np.argsort(one.pm.first).tolist()))
    assert len(orders) == 4


def test_what_an_anonymised_capture_keeps_of_addresses_and_offsets():
    """Lengths, adjacency, the place in a page table; of offsets what a file shares, and the place against a table."""
    base, page = 0x7F3A5B6C7000, PAGE
    bounds = [(0, 3), (3, 9), (10, 11), (600, 1300), (1 << 20, (1 << 20) + 5)]
    vmas = [Vma(base + a * page, base + b * page, (0x12345 + a) * (a != 3), "fe:00", 7, "r--p", "x") for a, b in bounds]
    vmas.append(Vma(1 << 45, (1 << 45) + 4 * page, (1 << 45) // page, "", 0, "rw-p", ""))
    nothing = RunLengths(np.array([sum(b - a for a, b in bounds) + 4]), np.zeros(1, np.uint64))
    none = RunLengths(np.empty(0, np.int64), np.empty(0, np.uint64))
    one = Image(vmas, [Region(base + 601 * page, base + 1113 * page)], nothing, none, none, 12, 3.5)
    before = [(vma.start, vma.end, vma.pgoff) for vma in vmas]
    anonymise_images([one])
    after = [(vma.start, vma.end, vma.pgoff) for vma in one.vmas]
    for (start, end, pgoff), (new, new_end, new_pgoff) in zip(before, after, strict=True):
        assert new_end - new == end - start and (new - start) % (512 * page) == 0
        assert (new_pgoff - pgoff) % 512 == 0
        assert new < 16 << 21 and new_pgoff < 16 << 9  # nothing is left of the high digits
    assert after[1][0] == after[0][1] and after[2][0] == after[1][1] + page
    assert all(new[2] // 512 != old[2] // 512 for new, old in zip(after, before, strict=True) if old[2])
    assert after[4][2] - after[2][2] < (1 << 20) and after[2][2] - after[0][2] == 10
    assert one.huge == [Region(after[3][0] + page, after[3][0] + 513 * page)]
    meta = json.loads(np.load(io.BytesIO(one.encode()))["meta"].tobytes())
    # which blocks are folded follows from the first two numbers of the release
    assert (meta["kernel"], meta["capture_ns"]) == (".".join(platform.release().split(".")[:2]), 0)


SAMPLES = sorted((Path(__file__).parent / "data" / "captures").glob("*.npz"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_an_anonymised_capture_is_unmapped_as_the_raw_one(path, tmp_path):
    raw = Capture.load(path)
    shift = raw.page_shift
    columns = zip(raw.vma_start, raw.vma_end, raw.vma_pgoff, raw.vma_ino, raw.meta["vma_text"], strict=True)
    vmas = [
        Vma(
            int(start) << shift,
            int(end) << shift,
            int(pgoff),
            "fe:00",
            int(inode),
            text["perms"],
            text["name"],
            text["flags"],
        )
        for start, end, pgoff, inode, text in columns
    ]
    ranges = zip(raw.huge_start, raw.huge_end, strict=True)
    huge = [Region(int(start) << shift, int(end) << shift) for start, end in ranges]
    one = Image(vmas, huge, raw.pm, raw.kf, raw.kc, shift, 1.0)
    anonymise_images([one])
    (tmp_path / "anonymised.npz").write_bytes(one.encode())
    for arch, policy in product(("x86-64", "arm64-4k"), ("v6.15", "v7.0", "anon-swap")):
        before, after = (rf.Population.load(one, arch=arch) for one in (path, tmp_path / "anonymised.npz"))
        assert set(after.vma_start.tolist()).isdisjoint(before.vma_start.tolist())
        for entry in ("memory.reclaim", "pageout"):
            results = [
                rf.reclaim(population, "100%" if entry == "memory.reclaim" else "1MiB", policy=policy, entry=entry)
                for population in (before, after)
            ]
            assert results[0].events == results[1].events, (policy, entry)
            assert results[0].batch_lengths == results[1].batch_lengths


# Layouts


@live
def test_known_layout(child, tmp_path):
    file = cached_file(tmp_path / "data", 16 * MIB)
    one = child()
    at = one.do(
        f"""f = new(16 * MIB, {str(file)!r}, shared=True, write=False); touch(f, 16 * MIB, write=False); """
        """t = new(8 * MIB); advise(t, 8 * MIB, 14); touch(t, 8 * MIB); """
        """s = new(4 * MIB); advise(s, 4 * MIB, 15); touch(s, 4 * MIB); """
        """advise(s + 5 * PAGE, 3 * PAGE, 4); advise(s + MIB, MIB, 4); """
        """m = new(2 * MIB, shared=True); touch(m, MIB); libc.mlock(m, 16 * PAGE); """
        """z = new(64 * PAGE); advise(z, 64 * PAGE, 15); touch(z, 8 * PAGE, write=False); """
        """out = {"file": f, "thp": t, "small": s, "locked": m, "zero": z}"""
    )
    for freeze in (False, True):
        (done,) = rf.capture(one.pid, tmp_path / "one.npz", freeze=freeze, overwrite=True)
        assert one.state() == "S" and one.do("out = 5") == 5
        population = rf.Population.load(tmp_path / "one.npz")
        assert (done.pid, done.file_bytes) == (one.pid, (tmp_path / "one.npz").stat().st_size)
        assert "broken" not in population.assumptions

        assert present(ptes_at(population, at["file"], 16 * MIB)) == 4096
        folios = np.unique(folios_at(population, at["file"], 16 * MIB))
        assert np.sum(1 << population.folio_order[folios].astype(int)) == 4096
        assert np.all(population.folio_flags[folios] & FolioFlag.ANON == 0)
        assert np.all(population.folio_mapcount[folios] == 1 << population.folio_order[folios].astype(int))
        assert population.vma_flags[vma_at(population, at["file"])] & VmaFlag.SHARED

        assert present(ptes_at(population, at["thp"], 8 * MIB)) == 2048
        rollup = smaps_kb(one.pid, at["thp"])
        folios = np.unique(folios_at(population, at["thp"], 8 * MIB))
        leaf = population.folio_entire_mapcount[folios] == 1
        assert np.sum(population.folio_order[folios] == 9) * 2048 >= rollup["AnonHugePages"] == 2048 * np.sum(leaf)
        assert np.all(population.folio_flags[folios] & FolioFlag.ANON > 0)

        ptes = ptes_at(population, at["small"], 4 * MIB)
        want = np.ones(1024, bool)
        want[5:8] = want[256:512] = False
        assert np.array_equal(ptes & pte.PRESENT > 0, want)
        assert np.all(population.folio_order[folios_at(population, at["small"], 4 * MIB)] == 0)

        assert present(ptes_at(population, at["locked"], 16 * PAGE)) == 16
        assert population.vma_flags[vma_at(population, at["locked"])] & VmaFlag.LOCKED
        folios = np.unique(folios_at(population, at["locked"], 16 * PAGE))
        assert np.all(population.folio_flags[folios] & FolioFlag.MLOCKED > 0)

        zero = ptes_at(population, at["zero"], 64 * PAGE)
        assert np.array_equal(zero & pte.PRESENT > 0, np.arange(64) < 8)
        assert np.all(zero[:8] & pte.SPECIAL > 0)


def smaps_kb(pid: int, at: int) -> dict[str, int]:
    """The kB lines of the VMA that begins there."""
    found, here = {}, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            here = name.startswith(f"{at:x}-") or name.startswith(f"{at:08x}-")
        elif here and rest.endswith(" kB"):
            found[name[:-1]] = int(rest.split()[0])
    return found


@live
@pytest.mark.parametrize("gib", [1, 16])
def test_write_protected_pages_and_markers(child, tmp_path, gib):
    """Also where a large VMA is looked through before it is read."""
    one, size = child(), gib << 30
    at, done = one.do(
        f"t = new({size}); advise(t, {size}, 15); touch(t + {size} - 16 * PAGE, 8 * PAGE); "
        f"out = t, write_protect(t, {size}, t + {size} - 12 * PAGE, 8 * PAGE)"
    )
    if not done:
        pytest.skip("needs userfaultfd with UFFD_FEATURE_WP_UNPOPULATED (Linux 6.4), allowed here")
    path = capture_range(one.pid, at, size, tmp_path / "one.npz")
    capture = Capture.load(path)
    assert "uw" in capture.vma_flags[0] and capture.nr_pages == size // PAGE
    if gib > 1:
        tail = np.repeat(capture.pm.first[-16:], np.minimum(capture.pm.length[-16:], 16))[-16:]
        assert np.array_equal(tail >> np.uint64(57) & np.uint64(1) > 0, [False] * 4 + [True] * 8 + [False] * 4)
        return
    ptes = rf.Population.load(path).ptes[-16:]
    assert [pte.KINDS[kind] for kind in pte.kind(ptes[8:])] == ["marker_uffd_wp"] * 4 + ["none"] * 4
    assert np.all(ptes[:8] & pte.PRESENT > 0)
    assert np.array_equal(ptes[:8] & pte.UFFD_WP > 0, [False] * 4 + [True] * 4)


@live
def test_markers_alone_are_not_taken_for_nothing(child, tmp_path):
    one, size = child(), 16 << 30
    at, done = one.do(f"t = new({size}, align=4 << 30); out = t, write_protect(t, {size}, t + (5 << 30), 8 * PAGE)")
    if not done:
        pytest.skip("needs userfaultfd with UFFD_FEATURE_WP_UNPOPULATED (Linux 6.4), allowed here")
    capture = Capture.load(capture_range(one.pid, at, size, tmp_path / "one.npz"))
    marked = capture.pm.first >> np.uint64(57) & np.uint64(1) > 0
    first = np.cumsum(capture.pm.length) - capture.pm.length
    assert first[marked].tolist() == [(5 << 30) // PAGE] and capture.pm.length[marked].tolist() == [8]


@live
def test_holes_of_the_whole_process_match_its_rss(child, tmp_path):
    """Present pages by VMA are what smaps counts as Rss."""
    one = child()
    one.do("t = new(8 * MIB); touch(t, 8 * MIB, step=3 * PAGE)")
    rf.capture(one.pid, tmp_path / "one.npz", freeze=True)
    capture = Capture.load(tmp_path / "one.npz")
    pagemap, compared = capture.pagemap, 0
    real = (pagemap & PM_PRESENT) > 0
    real[real] = (capture.kpageflags & np.uint64(1 << 24)) == 0  # Rss leaves out the zero page
    for number, text in enumerate(capture.meta["vma_text"]):
        first = int(capture.vma_first[number])
        nr = int(np.count_nonzero(real[first : first + int(capture.vma_end[number] - capture.vma_start[number])]))
        if not capture.vma_flags[number] & {"pf", "io", "de"}:  # the kernel does not account for those
            assert text["smaps_kb"].get("Rss", 0) * 1024 == nr * PAGE, capture.vma_name[number]
            compared += nr
    assert compared > 700


@live
def test_forked_pages_are_shared_until_written(child, tmp_path):
    one = child()
    at, forked = one.do(
        "s = new(8 * MIB); advise(s, 8 * MIB, 15); touch(s, 8 * MIB); r, w = os.pipe(); pid = os.fork(); "
        "pid or (touch(s, MIB), os.write(w, b'.'), time.sleep(600)); os.read(r, 1); out = s, pid"
    )
    try:
        rf.capture([one.pid, forked], tmp_path / "both.npz", freeze=True)
    finally:
        os.kill(forked, signal.SIGKILL)
    paths = [tmp_path / "both_p0.npz", tmp_path / "both_p1.npz"]
    population = rf.Population.load(paths)
    mine, its = (ptes_at(rf.Population.load(path), at, 8 * MIB) for path in paths)
    same = pte.pfn(mine) == pte.pfn(its)
    assert not same[:256].any() and same[256:].all()
    parent = rf.Population.load(paths[0])
    assert np.all(parent.folio_mapcount[folios_at(parent, at, MIB)] == 1)
    assert np.all(parent.folio_mapcount[folios_at(parent, at + MIB, 7 * MIB)] == 2)
    vmas = np.flatnonzero(population.vma_start == at // PAGE)
    assert population.vma_mm[vmas].tolist() == [0, 1]


@live
@pytest.mark.parametrize("anonymise", [False, True])
def test_processes_are_joined_by_page_frame(child, tmp_path, anonymise):
    file = cached_file(tmp_path / "secret.db", 8 * MIB)
    both = [child(), child()]
    at = [
        one.do(f"f = new(8 * MIB, {str(file)!r}, shared=True, write=False); touch(f, 8 * MIB, write=False); out = f")
        for one in both
    ]
    done = rf.capture([one.pid for one in both], tmp_path / "pair.npz", anonymise=anonymise)
    assert [Path(one.path).name for one in done] == ["pair_p0.npz", "pair_p1.npz"]
    population = rf.Population.load([one.path for one in done])
    if anonymise:  # where the mapping was does not show any more
        known = population.vma_end - population.vma_start == 2048
        vmas = np.flatnonzero(known & (population.vma_flags & VmaFlag.SHARED > 0)).tolist()
    else:
        vmas = [
            int(np.flatnonzero((population.vma_start == start // PAGE) & (population.vma_mm == mm))[0])
            for mm, start in enumerate(at)
        ]
    pfns = []
    for vma in vmas:
        base = int(population.vma_pte_base[vma])
        ptes = population.ptes[base : base + 2048]
        assert present(ptes) == 2048
        pfns.append(pte.pfn(ptes))
    assert np.array_equal(*pfns)
    number = np.flatnonzero(np.isin(population.folio_pfn, pfns[0]))
    assert np.all(population.folio_mapcount[number] == 2 << population.folio_order[number].astype(int))
    for folio in number:
        row = population.rmap_vma[population.rmap_start[folio] : population.rmap_start[folio + 1]]
        assert sorted(row.tolist()) == vmas
    if anonymise:
        for one in done:
            capture = Capture.load(one.path)
            assert "secret.db" not in capture.vma_name and capture.meta["anonymised"]
            assert os.stat(file).st_ino not in capture.vma_ino.tolist()
        rf.capture([one.pid for one in both], tmp_path / "raw.npz")
        raw = rf.Population.load([tmp_path / "raw_p0.npz", tmp_path / "raw_p1.npz"])
        assert raw.orders() == population.orders() and raw.nr_folios == population.nr_folios


@live
def test_pmd_mapped_ranges_without_pagemap_scan(child, tmp_path, monkeypatch):
    one = child()
    at = one.do(
        "t = new(16 * MIB); advise(t, 16 * MIB, 14); touch(t, 16 * MIB); advise(t + 6 * MIB, 2 * MIB, 4); out = t"
    )
    if smaps_kb(one.pid, at).get("AnonHugePages") != 14 << 10:
        pytest.skip("no PMD-mapped anonymous folios here")

    def huge(name):
        return Capture.load(capture_range(one.pid, at, 16 * MIB, tmp_path / name))

    scanned = huge("scan.npz")
    if not len(scanned.huge_start):
        pytest.skip("needs PAGEMAP_SCAN (Linux 6.7)")

    def scan(*_, **__):
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(reader.Process, "scan", scan)  # as in Linux 6.6
    tables = [set(), set()]
    for found, one_capture in zip(tables, (scanned, huge("smaps.npz")), strict=True):
        for start, end in zip(one_capture.huge_start, one_capture.huge_end, strict=True):
            found |= set(range(int(start), int(end), 512))
    assert tables[0] == tables[1] and len(tables[0]) == 7
    # Which of two candidates is mapped by a PMD smaps does not tell, so none is.
    one.do("libc.mprotect(t + 2 * MIB, PAGE, 1); libc.mprotect(t + 2 * MIB, PAGE, 3)")
    if smaps_kb(one.pid, at).get("AnonHugePages") == 12 << 10:
        unsure = huge("unsure.npz")
        assert len(unsure.huge_start) == 0 and unsure.meta["huge_unknown_kb"] == 12 << 10


@live
def test_sparse_vma_beyond_one_chunk(child, tmp_path):
    one = child()
    size = 29 << 30  # more than 2^20 pages
    at, guarded = one.do(
        f"t = new({size}, align=4 << 30); touch(t + (4 << 30) - 2 * PAGE, 4 * PAGE); touch(t + {size} - PAGE, PAGE); "
        "out = t, libc.madvise(t + (16 << 30), PAGE, 102)"  # MADV_GUARD_INSTALL: an entry that is no page
    )
    capture = Capture.load(capture_range(one.pid, at, size, tmp_path / "sparse.npz"))
    length, value = capture.pm.length, capture.pm.first & ~np.uint64(1 << 55)
    first = np.cumsum(length) - length
    there = value > 0
    middle = (4 << 30) // PAGE - 2
    pages = np.concatenate([np.arange(a, a + n) for a, n in zip(first[there], length[there], strict=True)])
    guards = [] if guarded else [(16 << 30) // PAGE]
    assert pages.tolist() == [*range(middle, middle + 4), *guards, size // PAGE - 1]
    assert capture.nr_present == 5 and length.sum() == size // PAGE
    assert (tmp_path / "sparse.npz").stat().st_size < 20_000


# The model and the kernel


@live
def test_pageout_ends_with_the_same_pages(child, tmp_path):
    release = os.uname().release
    if tuple(map(int, release.split(".")[:2])) < (6, 12):
        pytest.skip(f"the oldest edition of the model is v6.12, this is kernel {release}")
    size = 256 * MIB
    file = cached_file(tmp_path / "data", size)
    one = child()
    at = one.do(f"f = new({size}, {str(file)!r}, shared=True, write=False); touch(f, {size}, write=False); out = f")
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    before = capture_range(one.pid, at, size, pairs / "fresh_pageout.before.npz")
    population = rf.Population.load(before)
    if present(population.ptes) != size // PAGE or set(population.orders()) == {0}:
        pytest.skip(f"this filesystem's page cache has no large folios, or not all of the file: {population.orders()}")
    one.do(f"advise(f, {size}, 21)")
    capture_range(one.pid, at, size, pairs / "fresh_pageout.after.npz")
    (case,) = replay_captures(pairs)
    assert case.agrees, capture_lines([case])
    assert case.real["none"] > size // PAGE // 2, case.real  # most went, so the agreement says something


# Bad input


@live
def test_no_such_process(cli, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    for pid in (ended.pid, 1 << 30):
        assert f"no process {pid}" in cli("capture", pid, "-o", tmp_path / "a.npz")
    for pid in ("0", "nobody"):
        assert "pid" in cli("capture", pid, "-o", tmp_path / "a.npz").lower()


@live
def test_kernel_threads_and_zombies(cli, tmp_path):
    zombie = subprocess.Popen(["true"])
    wait_for(lambda: state_of(zombie.pid) == "Z")
    for more in ([], ["--freeze"]):
        assert f"process {zombie.pid} exited" in cli("capture", zombie.pid, "-o", tmp_path / "a.npz", *more)
    zombie.wait()
    if Path("/proc/2/comm").exists() and Path("/proc/2/comm").read_text() == "kthreadd\n":
        assert "kernel thread" in cli("capture", 2, "-o", tmp_path / "a.npz")


def drop_sys_admin():
    if ctypes.CDLL(None).prctl(24, 21, 0, 0, 0):  # PR_CAPBSET_DROP, CAP_SYS_ADMIN
        raise OSError("prctl")


NOBODY = 65534


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@live
def test_without_privilege(child, cli, tmp_path):
    one = child()
    text = cli("capture", one.pid, "-o", tmp_path / "a.npz", "--freeze", preexec_fn=drop_sys_admin)
    assert "frame numbers are zero" in text and "CAP_SYS_ADMIN" in text
    assert one.state() == "S"
    nobody = subprocess.Popen(["sleep", "600"], preexec_fn=become_nobody)
    folder = tempfile.mkdtemp()  # tmp_path is closed to others
    os.chmod(folder, 0o777)
    # The interpreter may lie where nobody may read: what the command imports is imported before, by a capture that may.
    first = ["-o", f"{folder}/first.npz"]
    code = (
        "import contextlib, os, sys; from rmapfast import cli\n"
        "with open(os.devnull, 'w') as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):\n"
        f"    assert cli.main(['capture', '{one.pid}', *{first}]) == 0\n"
        f"os.remove('{folder}/first.npz'); os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    )
    try:
        for pid, name in ((one.pid, "CAP_SYS_PTRACE"), (nobody.pid, "CAP_SYS_ADMIN")):
            argv = ["capture", str(pid), "-o", f"{folder}/a.npz"]
            done = run_python("-c", code + f"sys.exit(cli.main({argv}))")
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
            assert "not permitted" in done.stderr and name in done.stderr
        assert os.listdir(folder) == []
    finally:
        os.rmdir(folder)
        nobody.kill()
        nobody.wait()


@live
@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("how", ["kill", "exec"])
def test_process_ends_in_the_middle(child, tmp_path, monkeypatch, how, freeze):
    one, other = child(), child()
    read = reader.Process.pagemap

    def pagemap(process, vma):
        yield from read(process, vma)
        if process.pid == one.pid and vma.name == "[heap]":
            if how == "kill":
                one.process.kill()
            else:
                one.process.stdin.write("os.execv('/bin/sleep', ['sleep', '600'])\n")
                one.process.stdin.flush()
            if how == "kill" or not freeze:
                wait_for(lambda: not Path(f"/proc/{one.pid}/smaps").read_text().count("[heap]") or how == "exec")
                time.sleep(0.3)

    monkeypatch.setattr(reader.Process, "pagemap", pagemap)
    if how == "exec" and freeze:  # stopped, it cannot
        rf.capture([other.pid, one.pid], tmp_path / "a.npz", freeze=True)
        return
    with pytest.raises(rf.CaptureError, match=rf"process {one.pid} (exited|has no memory)"):
        rf.capture([other.pid, one.pid], tmp_path / "a.npz", freeze=freeze)
    assert os.listdir(tmp_path) == []
    assert other.state() == "S"


@live
def test_vmas_that_change_in_the_middle(child, tmp_path, monkeypatch):
    one = child()
    one.do("maps = [new(MIB) for _ in range(9)]; [touch(at, MIB) for at in maps]")
    read, times = reader.Process.pagemap, []

    def pagemap(process, vma):
        yield from read(process, vma)
        if vma.name == "[heap]" and len(times) < limit:
            times.append(one.do("libc.munmap(maps.pop(), MIB)"))

    monkeypatch.setattr(reader.Process, "pagemap", pagemap)
    limit = 1  # read again, and the second time nothing changed
    rf.capture(one.pid, tmp_path / "a.npz")
    maps = {int(line.split("-")[0], 16) for line in Path(f"/proc/{one.pid}/maps").read_text().splitlines()}
    assert {int(start) * PAGE for start in Capture.load(tmp_path / "a.npz").vma_start} == maps - {0xFFFFFFFFFF600000}
    limit = 9
    with pytest.raises(rf.CaptureError, match=r"kept changing its mappings.*--freeze"):
        rf.capture(one.pid, tmp_path / "b.npz")
    assert os.listdir(tmp_path) == ["a.npz"]


@live
def test_files_that_cannot_be_written(child, cli, tmp_path):
    one, other = child(), child()
    (tmp_path / "there.npz").write_bytes(b"old")
    assert "--overwrite" in cli("capture", one.pid, "-o", tmp_path / "there.npz", "--freeze")
    assert (tmp_path / "there.npz").read_bytes() == b"old"
    cli("capture", one.pid, "-o", tmp_path / "there.npz", "--overwrite", status=0)
    assert "No folder" in cli("capture", one.pid, "-o", tmp_path / "no" / "a.npz")
    assert ".npz" in cli("capture", one.pid, "-o", tmp_path / "a.txt")
    assert "once" in cli("capture", one.pid, one.pid, "-o", tmp_path / "a.npz")
    (tmp_path / "a_p1.npz").mkdir()
    assert "a_p1" in cli("capture", one.pid, other.pid, "-o", tmp_path / "a.npz")
    assert one.state() == other.state() == "S"


@pytest.mark.parametrize("fails", ["open", "replace"])
def test_all_files_or_none(tmp_path, monkeypatch, fails):
    (tmp_path / "b").write_bytes(b"old")
    (tmp_path / "c").mkdir()
    calls, replace = [], os.replace

    def second_fails(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(*paths)

    if fails == "replace":
        monkeypatch.setattr(os, "replace", second_fails)
        files = [(tmp_path / "a", b"1"), (tmp_path / "b", b"2")]
    else:
        files = [(tmp_path / "a", b"1"), (tmp_path / "c", b"2")]
    with pytest.raises(OSError):
        write_together(files, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["b", "c"] and (tmp_path / "b").read_bytes() == b"old"


def test_not_a_capture_and_another_page_size(cli, tmp_path):
    (tmp_path / "text.npz").write_text("no capture")
    assert "text.npz" in cli("reclaim", "--capture", tmp_path / "text.npz")
    source = next(iter(sorted(DATA.glob("*.npz"))))
    arrays = dict(np.load(source))
    meta = json.loads(arrays["meta"].tobytes())
    arrays["meta"] = np.frombuffer(json.dumps(meta | {"page_shift": 10}).encode(), np.uint8)
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    assert "small.npz" in cli("reclaim", "--capture", tmp_path / "small.npz")
    with pytest.raises(rf.CaptureError):
        rf.Population.load(tmp_path / "small.npz")
    assert "arm64-64k" in cli("reclaim", "--capture", source, "--arch", "arm64-64k")


# Freezing


@live
def test_stopped_processes_stay_stopped(child, tmp_path):
    one, other = child(), child()
    os.kill(one.pid, signal.SIGSTOP)
    wait_for(lambda: one.state() == "T")
    rf.capture([one.pid, other.pid], tmp_path / "a.npz", freeze=True)
    assert (one.state(), other.state()) == ("T", "S")
    os.kill(one.pid, signal.SIGCONT)


@live
def test_everything_is_stopped_while_it_is_read(child, tmp_path, monkeypatch):
    one = child()
    one.do("import threading; [threading.Thread(target=time.sleep, args=(600,), daemon=True).start() for _ in 'abc']")
    read, seen = reader.Process.read, []

    def reading(process, *args):
        seen.append(process.states())
        return read(process, *args)

    monkeypatch.setattr(reader.Process, "read", reading)
    rf.capture(one.pid, tmp_path / "a.npz", freeze=True)
    assert seen == ["TTTT"] and one.state() == "S"


@live
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interrupted_while_frozen(child, tmp_path, monkeypatch, error):
    one = child()

    def read(*_):
        assert one.state() == "T"
        raise error

    monkeypatch.setattr(reader.Process, "read", read)
    with pytest.raises(error):
        rf.capture(one.pid, tmp_path / "a.npz", freeze=True)
    assert one.state() == "S" and os.listdir(tmp_path) == []


@live
def test_interrupted_again_while_it_lets_go(child, tmp_path, monkeypatch):
    """The child does what a second Ctrl-C kept this process from."""
    one, this = child(), os.getpid()
    resume = reader.resume

    def interrupted(processes):
        if os.getpid() == this:
            raise KeyboardInterrupt
        resume(processes)

    monkeypatch.setattr(reader, "resume", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rf.capture(one.pid, tmp_path / "a.npz", freeze=True)
    assert one.state() == "S"


CAPTURE_FOREVER = f"""{INTERRUPTIBLE}
import os, subprocess, sys, time
import rmapfast as rf
from rmapfast.captures import process as reader
def read(*_):
    # a child that holds what it inherited open, and is not of the job that is killed
    holder = os.fork()
    if not holder:
        os.setsid()
        print("frozen", os.getpid(), flush=True)
        time.sleep({DEADLINE})
        os._exit(0)
    time.sleep({DEADLINE})
reader.Process.read = read
rf.capture(int(sys.argv[1]), sys.argv[2], freeze=True)
"""


@live
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_while_frozen(child, tmp_path, number):
    one = child()
    capturer = subprocess.Popen(
        [sys.executable, "-c", CAPTURE_FOREVER, str(one.pid), str(tmp_path / "a.npz")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    holder = None
    try:
        word, holder = capturer.stdout.readline().split()
        assert word == b"frozen"
        assert one.state() == "T"
        os.killpg(capturer.pid, number)  # as a terminal does: to all of the job
        wait_for(lambda: one.state() == "S", "the process to go on")
        assert state_of(int(holder)) == "S", "it went on while the pipe was held open"
    finally:
        os.kill(one.pid, signal.SIGCONT)
        if holder:
            os.kill(int(holder), signal.SIGKILL)
        capturer.kill()
        capturer.wait()
        capturer.stdout.close()
    assert os.listdir(tmp_path) == []


@live
def test_killed_process_does_not_come_back(child, tmp_path, monkeypatch):
    """One of two dies while both are stopped: an error, and the other one goes on."""
    one, other = child(), child()
    read = reader.Process.read

    def reading(process, *args):
        if process.pid == one.pid:
            one.process.kill()
            one.process.wait()
        return read(process, *args)

    monkeypatch.setattr(reader.Process, "read", reading)
    with pytest.raises(rf.CaptureError, match=f"process {one.pid} "):
        rf.capture([one.pid, other.pid], tmp_path / "a.npz", freeze=True)
    assert other.state() == "S" and os.listdir(tmp_path) == []


@live
def test_signals_go_to_no_recycled_process(child):
    one = child()
    with reader.Process(one.pid, 12) as process:
        one.process.kill()
        one.process.wait()
        with pytest.raises(ProcessLookupError):
            process.send(signal.SIGCONT)
        assert process.state() == ""
