"""The measured rows of `validation/data` as what the model is asked for: a figure and the events that belong to it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rmapfast import Population, folio_referenced_one, pte, reclaim, try_to_unmap_one
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.cost import LEVEL, Range
from rmapfast.events import EVENT_NAMES
from rmapfast.flags import FolioFlag, MmFlag, TableState

DATA = Path(__file__).resolve().parent / "data"

MIB = 1 << 20
# Weight of a row under MGLRU, whose scatter is three times that of the others.
MGLRU_WEIGHT = 0.3
# Builds of one source: unchanged, with file folios unmapped per page, and with the young check per page too.
_A = _policy.get("v7.2")
_B = _A.replace(name="v7.2, file per page", file=False)
POLICIES = {"A": _A, "B": _B, "C": _B.replace(name="v7.2, file and young per page", young="per-page")}
POLICIES |= {version: _policy.get(f"v{version}") for version in ("6.12", "7.2", "7.3")}

# Repeats scatter by about 1%, and at order 9 by more, as the file says: the measured range divided by the figure.
_SCATTER = {
    ("ab-7.2.13", "total", 9, "A"): (153 / 168, 177 / 168),
    ("x86-7.2", "total", 9, "7.2"): (242 / 244, 280 / 244),
    ("arm64-6.12", "total", 9, "6.12"): (2509 / 2632, 2633 / 2632),
}


@dataclass(frozen=True, eq=False)
class Row:
    """One measured figure.

    Parameters
    ----------
    file, section, name : str
        Where the figure stands.
    vector : str
        Cost vector that explains it.
    kind : str
        ``total`` (whole reclaim per page), ``shrink`` (shrink_folio_list per page), ``unmap``, ``referenced`` (per
        call), ``ns`` (per page).
    order : int
        Of the folios.
    measured : float
        The figure, in instructions or ns.
    counts : ndarray of float64, shape (len(EVENT_NAMES),)
        Events that belong to the figure.
    traced : float
        Calls that were traced, of those that the figure holds.
    scatter : tuple of float
        Smallest and largest repeat, divided by the figure.
    """

    file: str
    section: str
    name: str
    vector: str
    kind: str
    order: int
    measured: float
    counts: np.ndarray
    traced: float = 0.0
    scatter: tuple[float, float] = (0.99, 1.01)

    @property
    def design(self) -> str:
        """What was reclaimed, whatever the build and the figure: rows of one design test the same thing."""
        return self.name.rsplit(" ", 1)[0].removeprefix("file_") if self.unit == "instructions" else self._ns_design

    @property
    def lists(self) -> str:
        """Which LRU the kernel had: ``classic`` or ``mglru``."""
        return "mglru" if self.file == "measured-mglru.toml" else "classic"

    @property
    def weight(self) -> float:
        """Of the relative error in a fit. In which order runs under MGLRU were made is not known for all."""
        return MGLRU_WEIGHT if self.lists == "mglru" else 1.0

    @property
    def unit(self) -> str:
        """Of the figure."""
        return "ns" if self.kind == "ns" else "instructions"

    @property
    def _ns_design(self) -> str:
        """Folio order and kind: whatever mapped the folios, and however often."""
        return f"{self.section.partition('.')[0]} order {self.order}"

    def predicted(self, vector) -> float:
        """Return the figure that a cost vector predicts."""
        return self.range(vector).value

    def range(self, vector, level: float = LEVEL) -> Range:
        """Return the figure that a cost vector predicts, with its interval."""
        price, tracer = vector.price(self.counts, level=level), self.traced * vector["traced_calls"]
        return Range(price.value + tracer, *(bound + tracer for bound in price.interval))


def load(name: str) -> dict:
    """Return a file of measurements."""
    return tomllib.loads((DATA / name).read_text(encoding="utf-8"))


def _per_page(population, policy, arch, target_pages: int) -> np.ndarray:
    result = reclaim(population, target_pages << population.page_shift, policy=policy, arch=arch, in_place=True)
    return result.events.counts / result.reclaimed_pages


def without(counts: np.ndarray, *events: str) -> np.ndarray:
    """Return the counts without those of some events."""
    counts = counts.copy()
    counts[[EVENT_NAMES.index(event) for event in events]] = 0
    return counts


# Real kernels in a virtual machine, instructions


def _mapping(arch, order: int, pages: int, **options) -> Population:
    return Population.synthetic(pages * arch.page_size, arch=arch, orders=order, **({"young": 0.0} | options))


def _total(policy, arch, order: int, mib: int, reclaimed_mib: int, **options) -> np.ndarray:
    """Events of a whole reclaim. MADV_POPULATE_READ activates large file folios, so the active list ages them first."""
    active = order > 0 and options.get("kind", "file") == "file"
    population = _mapping(arch, order, mib * MIB // arch.page_size, active=active, **options)
    return _per_page(population, policy, arch, reclaimed_mib * MIB // arch.page_size)


def _shrink(policy, arch, order: int, mib: int, reclaimed_mib: int) -> np.ndarray:
    """Events of a reclaim inside shrink_folio_list: without the active list, isolation and scan control."""
    population = _mapping(arch, order, mib * MIB // arch.page_size)
    counts = _per_page(population, policy, arch, reclaimed_mib * MIB // arch.page_size)
    return without(counts, "isolation_calls", "pages_scanned", "priority_passes", "reclaim_rounds")


def _calls(policy, arch, order: int, **options) -> dict[str, np.ndarray]:
    """Mean events of one try_to_unmap_one and one folio_referenced_one call."""
    # As many as the medians of the hole rows are taken over.
    folios = 26 if order == 9 else 64
    return _events_of_calls(_mapping(arch, order, folios << order, **options), policy, arch)


def _events_of_calls(population: Population, policy, arch) -> dict[str, np.ndarray]:
    folios, order = len(population.folio_order), int(population.folio_order[0])
    # The reference of reclaim, which isolated the folio.
    population.folio_refcount += 1
    edition = {"policy": policy, "arch": arch}
    ttu = ("BATCH_FLUSH", "SYNC") if order else ("BATCH_FLUSH",)
    referenced = [folio_referenced_one(population, folio, 0, **edition).events.counts for folio in range(folios)]
    unmap = [try_to_unmap_one(population, folio, 0, ttu=ttu, **edition).events.counts for folio in range(folios)]
    return {"referenced": np.mean(referenced, axis=0), "unmap": np.mean(unmap, axis=0)}


def _order(key: str) -> int:
    return int(key.split("order_")[1].split("_")[0])


def vm_rows() -> list[Row]:
    """Return the rows of measured-vm.toml that are instructions."""
    data = load("measured-vm.toml")
    return [*_ab_rows(data), *_debian_rows(data, "debian_x86"), *_debian_rows(data, "debian_arm64")]


class _Section:
    """Makes the rows of one table, which share most of what a row holds."""

    def __init__(self, section: str, arch: str, kind: str):
        self.section, self.arch, self.kind = section, _arch.get(arch), kind

    def row(self, vector: str, name: str, order: int, build: str, measured: float, counts, traced=0.0) -> Row:
        scatter = _SCATTER.get((vector, self.kind, order, build), (0.99, 1.01))
        file = "measured-vm.toml"
        return Row(file, self.section, name, vector, self.kind, order, measured, counts, traced, scatter)

    def totals(self, table: dict, vector, mib: int, reclaimed_mib: int) -> Iterator[Row]:
        for key, builds in table.items():
            order, options = _order(key), {}
            if "_young" in key:
                options["young"] = 1.0
            if "_uffd_wp_vma" in key:
                options["uffd_wp_vma"] = True
            if key.startswith("lazyfree"):
                options["kind"] = "lazyfree"
            for build, measured in builds.items():
                counts = _total(POLICIES[build], self.arch, order, mib, reclaimed_mib, **options)
                yield self.row(vector(build), f"{key} {build}", order, build, measured, counts)

    def calls(self, table: dict, vector, what: str, **options) -> Iterator[Row]:
        for key, builds in table.items():
            holes = key.startswith("k_")
            order = 9 if holes or key == "intact" else _order(key)
            extra = {"holes": f"every:{key[2:]}"} if holes else {}
            for build, measured in builds.items():
                counts = _calls(POLICIES[build], self.arch, order, **extra, **options)[what]
                yield self.row(vector(build), f"{key} {build}", order, build, measured, counts, traced=1.0)


def _ab_rows(data: dict) -> Iterator[Row]:
    def vector(build):
        return "ab-7.2.13"

    def section(name, kind):
        return _Section(name, "x86-64", kind)

    yield from section("ab", "total").totals(data["ab"], vector, 256, 205)
    yield from section("ab_curve", "total").totals(data["ab_curve"], vector, 64, 51)
    for name, what in (
        ("ab_try_to_unmap_per_call", "unmap"),
        ("ab_folio_referenced_per_call", "referenced"),
        ("ab_holes_try_to_unmap_per_call", "unmap"),
    ):
        yield from section(name, what).calls(data[name], vector, what)
    shrink = section("ab_shrink_folio_list_per_page", "shrink")
    for key, builds in data[shrink.section].items():
        for build, measured in builds.items():
            counts = _shrink(POLICIES[build], shrink.arch, _order(key), 64, 51)
            traced = counts[EVENT_NAMES.index("shrink_calls")]
            yield shrink.row(vector(build), f"{key} {build}", _order(key), build, measured, counts, traced)


def _debian_rows(data: dict, name: str) -> Iterator[Row]:
    table = data[name]
    arch, prefix, mib = {"debian_x86": ("x86-64", "x86", 256), "debian_arm64": ("arm64-4k", "arm64", 128)}[name]

    def vector(build):
        # 7.3 was measured in one row only.
        return f"{prefix}-{'7.2' if build == '7.3' else build}"

    def section(key, kind):
        return _Section(f"{name}.{key}", arch, kind)

    yield from section("total", "total").totals(table["total"], vector, mib, mib * 4 // 5)
    for key, what, options in (
        ("try_to_unmap_per_call", "unmap", {}),
        ("folio_referenced_per_call", "referenced", {}),
        ("uffd_wp_vma_try_to_unmap_per_call", "unmap", {"uffd_wp_vma": True}),
    ):
        yield from section(key, what).calls(table[key], vector, what, **options)
    for key, what in (
        ("curve_total_72", "total"),
        ("curve_try_to_unmap_per_call_72", "unmap"),
        ("holes_try_to_unmap_per_call_72", "unmap"),
    ):
        if key in table:
            builds = {row: {"7.2": figure} for row, figure in table[key].items()}
            of = section(key, what)
            yield from of.totals(builds, vector, 64, 51) if what == "total" else of.calls(builds, vector, what)


# Real kernels of other architectures and page sizes

# Release to the edition whose rows it stands with; of 7.3 there are too few for a vector of its own.
_EDITION = {"6.12": "6.12", "7.2": "7.2", "7.3": "7.2"}
_ARCH_ROW = re.compile(
    r"(?P<lazyfree>lazyfree_)?order_(?P<order>\d+)(?P<young>_young|_allyoung)?(?P<pmd>_pmd_mapped)?(?P<uffd>_uffd_wp_vma)?"
    r"(?:_holes_k_(?P<holes>\d+))?(?:_shifted_(?P<shift>\d+))?(?P<around>_fault_around_2M)?"
)
_WHAT = {"total": "total", "try_to_unmap_per_call": "unmap", "folio_referenced_per_call": "referenced"}


def arch_rows() -> list[Row]:
    """Return the rows of measured-arch.toml that are instructions."""
    return [
        row
        for section, tables in load("measured-arch.toml").items()
        if not section.startswith("counts")
        for table, rows in tables.items()
        for name, releases in rows.items()
        for row in _arch_row(section, table, name, releases)
    ]


def _arch_row(section: str, table: str, name: str, releases: dict) -> Iterator[Row]:
    match = _ARCH_ROW.fullmatch(name)
    assert match, name
    arch, kind, order = _arch.get(section.replace("_", "-")), _WHAT[table], int(match["order"])
    for release, measured in releases.items():
        policy, window = POLICIES[release], (2 * MIB if match["around"] else 64 << 10) >> arch.page_shift
        made = {"match": match, "arch": arch, "window": window, "edition": _EDITION[release]}
        traced = float(kind != "total")
        if kind == "total":
            pages, target = (mib * MIB >> arch.page_shift for mib in _sizes(arch, order, bool(match["lazyfree"])))
            population = _arch_population(pages, **made)
            counts = _per_page(population, policy, arch, target)
        else:
            folios = 64 if arch.page_size << order < 2 * MIB else 26 if arch.page_size << order <= 2 * MIB else 7
            counts = _events_of_calls(_arch_population(folios << order, **made), policy, arch)[kind]
        vector = f"{arch.name}-{_EDITION[release]}"
        where = "measured-arch.toml", f"{section}.{table}", f"{name} {release}"
        yield Row(*where, vector, kind, order, measured, counts, traced)


def _sizes(arch, order: int, lazyfree: bool) -> tuple[int, int]:
    """Return the MiB that were mapped and reclaimed, as the file says."""
    if arch.page_size << order > 2 * MIB:
        return 256, 205
    if arch.page_size > 4096 or lazyfree or order > 4:
        return 64, 51
    return (16, 13) if order <= 1 else (32, 26)


def _arch_population(pages: int, match, arch, window: int, edition: str) -> Population:
    order, lazyfree = int(match["order"]), bool(match["lazyfree"])
    options: dict = (
        {"kind": "lazyfree"}
        if lazyfree
        else {"fault_around": "folio" if edition == "7.2" else window << arch.page_shift}
    )
    if match["holes"]:
        options["holes"] = f"every:{match['holes']}"
    if match["shift"]:
        options["phase"] = int(match["shift"]) >> arch.page_shift
    population = _mapping(
        arch,
        order,
        pages,
        active=order > 0 and not lazyfree and not match["pmd"],
        uffd_wp_vma=bool(match["uffd"]),
        young=1.0 if match["young"] == "_allyoung" or (match["young"] and arch.tlb != "arm64") else 0.0,
        **options,
    )
    if match["young"] == "_young" and arch.tlb == "arm64":
        # Fault-around maps old entries there: only the one that the fault was for is young.
        step = max(window, 1 << order) if edition == "7.2" else window
        present = np.flatnonzero(population.ptes & np.uint64(pte.PRESENT))
        young = present[present % step == 0]
        population.ptes[young] |= np.uint64(pte.YOUNG)
    if order == 0 and not lazyfree:
        # MADV_POPULATE_READ leaves PG_referenced on each page.
        population.folio_flags |= np.uint32(FolioFlag.REFERENCED)
    if match["pmd"]:
        _map_by_pmd(population)
    return population


# A real machine, nanoseconds

_ORDERS = {"4K": 0, "16K": 2, "64K": 4, "256K": 6, "2048K": 9}


def ns_rows() -> list[Row]:
    """Return the rows of measured-x86-6.18.toml, in ns per page; the figure is the minimum of the repeats."""
    data, arch, policy = load("measured-x86-6.18.toml"), _arch.get("x86-64"), _policy.get("v6.18")
    rows = []

    def add(section, name, order, population):
        lowest, _, highest = data_of[name]
        # The mapping process slept, and a CPU that runs nothing of the mm is not signalled.
        counts = without(_per_page(population, policy, arch, population.nr_pages * 4 // 5), "ipis")
        if not section.startswith("seed"):
            # Lowering memory.limit_in_bytes asks for 32 pages at a time: each isolation is a round of its own.
            counts[EVENT_NAMES.index("reclaim_rounds")] = counts[EVENT_NAMES.index("isolation_calls")]
        rows.append(
            Row(
                "measured-x86-6.18.toml",
                section,
                name,
                "x86-64",
                "ns",
                order,
                lowest,
                counts,
                scatter=(1.0, highest / lowest),
            )
        )

    for section, data_of in ((f"file_clean.{key}", table) for key, table in data["file_clean"].items()):
        mappings = int(section[-1])
        for name in data_of:
            order = _ORDERS[name.split("_")[0]]
            population = Population.synthetic(
                "64MiB", orders=order, sharing=max(mappings, 1), mapped=min(mappings, 1), young=0.0
            )
            population.mm_flags |= np.uint32(MmFlag.OUTSIDE_MEMCG)
            if name.endswith("_pmd_mapped"):
                _map_by_pmd(population)
            add(section, name, order, population)
    for section, data_of in ((f"lazyfree.{key}", table) for key, table in data["lazyfree"].items()):
        order = _ORDERS[section.split("_")[1]]
        for name in data_of:
            length = int(name.removeprefix("batch_"))
            population = Population.synthetic("64MiB", kind="lazyfree", orders=order, young=0.0, uffd_wp_vma=True)
            population.mm_flags |= np.uint32(MmFlag.OUTSIDE_MEMCG)
            if length < 1 << order:
                marked = np.arange(len(population.ptes)) // length % 2 == 1
                population.ptes[marked] = population.ptes[marked] & ~pte.WRITE | pte.UFFD_WP
            add(section, name, order, population)
    section, data_of = "seed_experiment_1GiB", data["seed_experiment_1GiB"]
    for name, order, young in (("64K_young", 4, 1.0), ("64K_aged", 4, 0.0), ("2048K_pte_young", 9, 1.0)):
        add(section, name, order, Population.synthetic("1GiB", orders=order, young=young))
    return rows


def _map_by_pmd(population) -> None:
    """Turn each table of a mapping of PMD-sized folios into a PMD leaf."""
    pages = 1 << int(population.folio_order[0])
    population.table_state[:] = TableState.PMD_LEAF
    population.folio_entire_mapcount[:] = 1
    population.folio_mapcount[:] = 1
    anon = population.folio_flags & np.uint32(FolioFlag.ANON) > 0
    population.folio_refcount[:] = np.where(anon, 1, pages + 1)
    population.folio_nr_pages_mapped[:] = pages


# Published figures, seconds


def published_rows(order: int) -> list[Row]:
    """Return the seed's experiment on arm64 in ns per page, with folios of an order that its authors do not state."""
    rows, arch = {}, _arch.get("arm64-4k")
    for entry in load("published.toml")["row"]:
        if entry["id"] not in ("file-unmap-arm64", "young-arm64"):
            continue
        for side in ("before", "after"):
            policy = entry[f"policy_{side}"]
            population = Population.synthetic("1GiB", arch=arch, orders=order)
            counts = _per_page(population, policy, arch, population.nr_pages * 4 // 5)
            measured = entry[f"{side}_s"] * 1e9 / (8 << 30 >> arch.page_shift)
            rows[policy] = Row("published.toml", entry["id"], policy, "arm64-4k", "ns", order, measured, counts)
    return list(rows.values())


def pageout_rows() -> list[Row]:
    """Return MADV_PAGEOUT on the physical host of the emulations, in ns per page; no vector is fitted to them."""
    data, arch, policy = load("measured-vm.toml"), _arch.get("x86-64"), _policy.get("v6.18")
    rows = []
    for name, (lowest, _, highest) in data["host_618_pageout_ns"].items():
        kind, _, order = name.partition("_order_")
        population = Population.synthetic("64MiB", kind=kind, orders=int(order), young=0.0)
        result = reclaim(population, policy=policy, arch=arch, entry="pageout", in_place=True)
        counts = result.events.counts / result.reclaimed_pages
        scatter = (1.0, highest / lowest)
        section = "host_618_pageout_ns"
        rows.append(Row("measured-vm.toml", section, name, "x86-64", "ns", int(order), lowest, counts, scatter=scatter))
    return rows
