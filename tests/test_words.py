"""The words in which memory and kernels are described: flags, kinds, editions, machines."""

import numpy as np
import pytest

import rmapfast as rf
from rmapfast import _core, arch, editions, flags, policy, pte
from rmapfast.flags import FOLIO_KINDS, FolioFlag, folio_kind


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        (flags.FolioFlag, "FOLIO_"),
        (flags.VmaFlag, "VMA_"),
        (flags.TableState, "TABLE_"),
        (flags.PageFlag, "PAGE_"),
        (flags.MmFlag, "MM_"),
    ],
)
def test_flags_are_those_of_the_c_library(kind, prefix):
    known = {name.removeprefix(prefix): getattr(_core, name) for name in dir(_core) if name.startswith(prefix)}
    # numbers of several bits are no flags
    known = {name: value for name, value in known.items() if not name.endswith(("_SHIFT", "_MASK"))}
    assert {one.name: one.value for one in kind} == known


def test_arrays_keep_their_dtype():
    numbers = np.arange(4, dtype=np.uint32)
    whole = numbers
    numbers |= FolioFlag.DIRTY | FolioFlag.ANON
    numbers[1:2] &= ~FolioFlag.ANON
    assert whole is numbers and numbers.dtype == np.uint32 and numbers.tolist() == [9, 8, 11, 11]
    assert (numbers & FolioFlag.DIRTY).dtype == np.uint32 and (FolioFlag.DIRTY & numbers).dtype == np.uint32
    numbers[0] |= FolioFlag.FREED
    assert numbers[0] == 9 | FolioFlag.FREED and (numbers[0] & FolioFlag.ANON).dtype == np.uint32
    assert np.array([flags.TableState.ABSENT], np.uint8) == flags.TableState.ABSENT


@pytest.mark.parametrize("kind", FOLIO_KINDS)
def test_a_synthetic_folio_is_of_its_kind(kind):
    population = rf.Population.synthetic("64KiB", kind=kind, orders=2, folio_dirty=0.5)
    assert {FOLIO_KINDS[number] for number in folio_kind(population.folio_flags)} == {kind}


def test_the_kind_of_one_folio_and_of_many():
    assert folio_kind(FolioFlag.ANON | FolioFlag.DIRTY) == FOLIO_KINDS.index("lazyfree")
    assert folio_kind(np.zeros((2, 3), np.uint32)).shape == (2, 3)


def test_entries_that_map_a_page():
    words = [pte.make(kind, None if kind == "none" else 0 if kind.startswith("marker") else 5) for kind in pte.KINDS]
    mapping = [name for name, maps in zip(pte.KINDS, pte.maps_page(words), strict=True) if maps]
    assert mapping == ["device_exclusive", "device_private", "present"]


@pytest.mark.parametrize(
    ("release", "preset"),
    [
        ("6.12.95", "v6.12"),
        ("6.14.1", "v6.14"),
        ("6.16.0-arch1", "v6.16"),
        ("6.18.44-x", "v6.18"),
        ("7.0.3", "v7.0"),
        ("7.0.14", "v7.0.12"),
        ("7.1.5", "v7.1"),
        ("7.2", "v7.2"),
        ("7.3-rc7", "v7.3"),
        ("7.3.0-rc7+", "v7.3"),
        ("7.9.1", "v7.3"),
        ("6.1.0-18-amd64", "v6.12"),
    ],
)
def test_the_edition_of_a_release(release, preset):
    assert editions.preset_of(release) == preset


@pytest.mark.parametrize("release", ["", "7", "seven.two", "v7.2"])
def test_what_is_no_release(release):
    with pytest.raises(ValueError, match="release: expected a kernel release"):
        editions.preset_of(release)


def test_every_edition_is_a_preset():
    for edition in editions.EDITIONS:
        assert policy.get(edition.policy)
    recorded = [edition.unmap or edition.referenced for edition in editions.EDITIONS]
    assert len({*editions.UNMAP_VECTORS}) == sum(bool(edition.unmap) for edition in editions.EDITIONS)
    assert any(recorded)


@pytest.mark.parametrize(
    ("machine", "page_size", "preset"),
    [
        ("x86_64", 4096, "x86-64"),
        ("x86", 4096, "x86-64"),
        ("aarch64", 4096, "arm64-4k"),
        ("arm64", 16384, "arm64-16k"),
        ("aarch64", 65536, "arm64-64k"),
        ("riscv64", 4096, "riscv64"),
        ("s390x", 4096, "s390x"),
        ("ppc64le", 65536, "ppc64-64k"),
    ],
)
def test_the_architecture_of_a_machine(machine, page_size, preset):
    found = arch.of_machine(machine, page_size)
    assert found is arch.PRESETS[preset] and found.page_size == page_size


def test_a_machine_that_nothing_describes():
    with pytest.raises(ValueError, match=r"machine: no architecture describes 'm68k' with pages of 4096 bytes; known"):
        arch.of_machine("m68k")


def test_releases_that_map_whole_folios():
    """Recorded with 16K pages: 6.12 maps windows of a file, 7.2 and 7.3 whole large folios."""
    assert not editions.maps_whole_folios("6.12.117-arm64")
    for release in ("7.2.13", "7.3.0-rc7", "7.3-rc7", "7.3", "unknown"):
        assert editions.maps_whole_folios(release)
    assert editions.preset_of("7.3") == editions.preset_of("7.3-rc7") == "v7.3"
