"""Architectures: the structural parameters that decide which events an unmap causes, and what the events cost.

Presets are looked up by name with :func:`get`; :data:`PRESETS` holds those of this package. Another package brings its
own as entry points of the group ``rmapfast.architectures``. :func:`load` reads one from a TOML file, as
:meth:`Arch.to_toml` writes it.

To add an architecture: its preset in :data:`PRESETS` and its machine in ``_OF_MACHINE`` here, its costs in
``costs/NAME.toml``. CONTRIBUTING.md has the checklist.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmapfast import cost as _cost
from rmapfast import plugins
from rmapfast.cost import CostVector
from rmapfast.support import (
    HtmlPart,
    checked_integer,
    checked_list,
    closest,
    format_size,
    html_of,
    read_toml,
    short_repr,
    shown,
    toml_value,
)

TLB_KINDS = ("none", "x86", "arm64", "riscv")

_PTE_SIZE = 8


@dataclass(frozen=True, repr=False)
class Arch:
    """An architecture as the unmap path sees it.

    Parameters
    ----------
    name : str
        Name of the preset, or of the variation.
    page_shift : int
        log2 of the base page size in bytes, 12 to 18.
    ptrs_per_pte : int
        Entries per page table, a power of two; a table of 8-byte entries is one page at most.
    cont_ptes : int
        Entries of a contpte block (riscv: Svnapot), a power of two; 1 where the architecture has none.
    tlb : {'none', 'x86', 'arm64', 'riscv'}
        When TLB flushes are deferred and what a flush issues (docs/model.md, section 4).
    flush_ceiling : int
        Pages above which an immediate flush becomes a full one (not arm64).
    range_tlbi : bool
        Whether one TLBI can cover a range (arm64, FEAT_TLBIRANGE).
    max_dvm_ops : int
        Without ``range_tlbi``: pages from which a whole-ASID flush replaces single TLBIs (arm64).
    bbml2_noabort : bool
        Whether a contpte block can be unfolded without a TLB flush (arm64).
    invlpgb : bool
        Whether a CPU flushes the TLBs of others by INVLPGB and TLBSYNC instead of IPIs (x86: Zen 3 servers and later).
    page_mapcount : bool
        Whether the kernel keeps a mapcount per page (CONFIG_PAGE_MAPCOUNT). Without, the mapped statistic and what
        counts as partially mapped are approximate for large folios (docs/model.md, section 5).
    mkdirty_soft_dirty : bool
        Whether making a PTE dirty also makes it soft-dirty (x86).
    nr_cpus : int
        CPUs of the machine.
    costs : str or CostVector
        The default cost vector: the name of one of :mod:`rmapfast.cost`, or the vector. "" for none: runs are then not
        priced unless they are given one.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.arch.get("arm64-4k").cont_ptes
    16
    >>> without = rf.arch.get("arm64-4k").replace(name="no-contpte", cont_ptes=1)
    >>> rf.reclaim(rf.Population.synthetic("1MiB"), "80%", arch=without).events["contpte_unfolds"]
    0
    """

    name: str
    page_shift: int = 12
    ptrs_per_pte: int = 512
    cont_ptes: int = 1
    tlb: str = "none"
    flush_ceiling: int = 33
    range_tlbi: bool = False
    max_dvm_ops: int = 512
    bbml2_noabort: bool = False
    invlpgb: bool = False
    page_mapcount: bool = True
    mkdirty_soft_dirty: bool = False
    nr_cpus: int = 32
    costs: str | CostVector = ""

    def __post_init__(self) -> None:
        """Check every parameter."""
        for field in dataclasses.fields(self):
            value, want = getattr(self, field.name), _TYPES.get(str(field.type))
            if want and type(value) is not want:
                raise TypeError(f"arch.{field.name}: expected {field.type}, got {value!r}")
        if not isinstance(self.costs, str | CostVector):
            raise TypeError(f"arch.costs: expected the name of a cost vector or a CostVector, got {self.costs!r}")
        if isinstance(self.costs, str) and self.costs.endswith(".toml"):
            # a path would mean something else in another directory, and another vector when the file changes
            raise ValueError(
                f"arch.costs: expected the name of a cost vector, got {self.costs!r}; pass cost.get({self.costs!r})"
            )
        if not self.name or not self.name.isprintable() or self.name != self.name.strip():
            raise ValueError(f"arch.name: expected printable text without blanks around it, got {self.name!r}")
        if not 12 <= self.page_shift <= 18:
            raise ValueError(f"arch.page_shift: expected 12 to 18 (4 KiB to 256 KiB), got {self.page_shift}")
        for name, low, high, limit in (
            ("ptrs_per_pte", 2, min(self.page_size // _PTE_SIZE, 8192), "8 bytes each in one page"),
            ("cont_ptes", 1, self.ptrs_per_pte, "the page table"),
        ):
            value = getattr(self, name)
            if not low <= value <= high or value & (value - 1):
                raise ValueError(f"arch.{name}: expected a power of two from {low} to {high} ({limit}), got {value}")
        if self.tlb not in TLB_KINDS:
            raise ValueError(
                f"arch.tlb: expected one of {', '.join(TLB_KINDS)}, got {self.tlb!r}{closest(self.tlb, TLB_KINDS)}"
            )
        if self.invlpgb and self.tlb != "x86":
            raise ValueError(f"arch.invlpgb: expected False with tlb {self.tlb!r}, only x86 has INVLPGB; got True")
        for name in ("flush_ceiling", "max_dvm_ops", "nr_cpus"):
            if not 1 <= getattr(self, name) < 1 << 31:
                raise ValueError(f"arch.{name}: expected 1 to 2^31 - 1, got {getattr(self, name)}")

    def __repr__(self) -> str:
        """Return the call that makes it, with the parameters that are not as by default."""
        return short_repr(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: all parameters, and the costs of the default cost vector."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del values["name"], values["costs"]
        vector = self.cost_vector
        table = format_size(self.page_size * self.ptrs_per_pte)
        facts = f"pages of {format_size(self.page_size)}, a page table maps {table}"
        costs = [] if vector is None else vector.html_parts()
        parts = [HtmlPart("parameters", list(values.items()), open=True), *costs]
        return html_of("Arch", self.name, f"{facts}, {vector.facts if vector else 'no cost vector'}", parts)

    @property
    def page_size(self) -> int:
        """Bytes in a base page."""
        return 1 << self.page_shift

    @property
    def cost_vector(self) -> CostVector | None:
        """The default cost vector, or None."""
        return None if self.costs == "" else _cost.get(self.costs)

    @property
    def cost(self) -> CostVector | None:
        """The default cost vector under its former name."""
        warnings.warn("Arch.cost is called Arch.cost_vector", DeprecationWarning, stacklevel=2)
        return self.cost_vector

    def replace(self, **changes: Any) -> Arch:
        """Return a copy with some parameters changed.

        Parameters
        ----------
        **changes
            Values by parameter. A name with a dot is a cost: ``replace(**{"cost.tlbi_ops": 50.0})`` stands for
            ``replace(costs=arch.cost_vector.replace(tlbi_ops=50.0))``, after the other changes.

        Returns
        -------
        Arch

        Raises
        ------
        TypeError
            If there is no such parameter, or its value is of another type.
        ValueError
            For a value out of range, an unknown event, or a cost of an architecture without costs.

        Examples
        --------
        >>> import rmapfast as rf
        >>> rf.arch.get("arm64-4k").replace(name="mine", cont_ptes=1).cont_ptes
        1
        """
        known = [field.name for field in dataclasses.fields(self)]
        costs = {name.removeprefix("cost."): changes.pop(name) for name in list(changes) if name.startswith("cost.")}
        for name in changes:
            if name not in known:
                raise TypeError(
                    f"arch.{name}: no such parameter{closest(name, known)}; known are {', '.join(known)}, cost.EVENT"
                )
        arch = dataclasses.replace(self, **changes)
        if not costs:
            return arch
        if arch.cost_vector is None:
            raise ValueError(f"arch.cost.{next(iter(costs))}: {arch.name} has no cost vector; give it costs first")
        return dataclasses.replace(arch, costs=arch.cost_vector.replace(**costs))

    def to_toml(self) -> str:
        """Return the architecture as TOML, which :func:`load` reads back as an equal one.

        Returns
        -------
        str

        Examples
        --------
        >>> import rmapfast as rf
        >>> rf.arch.get("arm64-4k").to_toml().splitlines()[0]
        'name = "arm64-4k"'
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        costs = values.pop("costs")
        if isinstance(costs, str) and costs:
            values["costs"] = costs
        text = "".join(f"{name} = {toml_value(value)}\n" for name, value in values.items())
        return text + ("\n" + costs.to_toml("cost") if isinstance(costs, CostVector) else "")


_TYPES = {"int": int, "bool": bool, "str": str}

PRESETS = {
    arch.name: arch
    for arch in (
        # docs/kernel-rules.md, section 3, has the figures of each architecture.
        # Section 3: 4K pages, 512 PTEs per table, deferral if another CPU is in mm_cpumask, ceiling 33.
        Arch(name="x86-64", tlb="x86", mkdirty_soft_dirty=True, costs="x86-64"),
        # Section 2.6, section 2.7, section 3: contpte of 16, deferral always, MAX_DVM_OPS = PTEs per table. Range TLBI
        # as in ARMv8.4 and later; arm64 has no soft-dirty bit.
        Arch(name="arm64-4k", cont_ptes=16, tlb="arm64", range_tlbi=True, costs="arm64-4k"),
        # Section 3: contpte of 128 pages = 2M, PMD of 32M.
        Arch(
            name="arm64-16k",
            page_shift=14,
            ptrs_per_pte=2048,
            cont_ptes=128,
            tlb="arm64",
            range_tlbi=True,
            max_dvm_ops=2048,
            costs="arm64-16k",
        ),
        # Section 3: contpte of 32 pages = 2M, PMD of 512M.
        Arch(
            name="arm64-64k",
            page_shift=16,
            ptrs_per_pte=8192,
            cont_ptes=32,
            tlb="arm64",
            range_tlbi=True,
            max_dvm_ops=8192,
            costs="arm64-64k",
        ),
        # Section 3: deferral always, flush_all threshold of 64 PTEs. Svnapot blocks of 16 exist, but no user
        # folio is mapped by them (hugetlb and vmalloc only).
        Arch(name="riscv64", tlb="riscv", flush_ceiling=64, costs="riscv64"),
        # The proposal "riscv: add Svnapot-based contiguous PTE support" (v1, 21 April 2026; not merged): user folios
        # are mapped by Svnapot blocks of 16 pages, as by contpte on arm64.
        Arch(name="riscv64-svnapot", cont_ptes=16, tlb="riscv", flush_ceiling=64, costs="riscv64-svnapot"),
        # Section 3: tables of 2K, PMD of 1M, no deferral. The only architecture whose entries can be UNUSED.
        Arch(name="s390x", ptrs_per_pte=256, costs="s390x"),
        # Section 3: radix tables of 32 entries, PMD of 2M, no deferral (hash has 256 entries and a PMD of 16M).
        Arch(name="ppc64-64k", page_shift=16, ptrs_per_pte=32, costs="ppc64-64k"),
    )
}


# The entry points of packages that bring presets of their own.
GROUP = "rmapfast.architectures"
# Presets by the machine that uname or the kernel's sources name, and the size of its base pages in bytes.
_OF_MACHINE = {
    ("x86_64", 4096): "x86-64",
    ("aarch64", 4096): "arm64-4k",
    ("aarch64", 16384): "arm64-16k",
    ("aarch64", 65536): "arm64-64k",
    ("riscv64", 4096): "riscv64",
    ("s390x", 4096): "s390x",
    ("ppc64le", 65536): "ppc64-64k",
}
_MACHINES = {"x86": "x86_64", "arm64": "aarch64", "ppc64": "ppc64le"}


def names() -> tuple[str, ...]:
    """Return the names of the presets: those of this package, and those that other installed packages bring.

    Returns
    -------
    tuple of str
    """
    return (*PRESETS, *(name for name in plugins.names(GROUP) if name not in PRESETS))


def of_machine(machine: str, page_size: int = 4096) -> Arch:
    """Return the preset for a machine.

    Parameters
    ----------
    machine : str
        As ``uname -m`` prints it, or the kernel's own name: ``"x86_64"``, ``"aarch64"`` or ``"arm64"``.
    page_size : int
        Size of a base page in bytes.

    Returns
    -------
    Arch

    Raises
    ------
    ValueError
        If no preset describes such a machine; the message lists those that are described.

    Examples
    --------
    >>> of_machine("aarch64", 65536).name
    'arm64-64k'
    """
    if not isinstance(machine, str):
        raise TypeError(f"machine: expected a text such as 'x86_64', got {shown(machine)}")
    page_size = checked_integer("page_size", page_size, 1, 1 << 30)
    name = _OF_MACHINE.get((_MACHINES.get(machine, machine), page_size))
    if name is None:
        known = ", ".join(f"{one} with pages of {size}" for one, size in _OF_MACHINE)
        raise ValueError(
            f"machine: no architecture describes {machine!r} with pages of {page_size} bytes; known are {known}"
        )
    return PRESETS[name]


def load(path: str | os.PathLike[str]) -> Arch:
    """Read an architecture from a TOML file.

    At its top level are the parameters of :class:`Arch`, of which only ``name`` is required. ``costs`` names a cost
    vector; or the table ``[cost]`` holds one as :meth:`CostVector.to_dict` gives it.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Arch

    Raises
    ------
    ValueError
        If the file is not TOML or no architecture; the message says which key is wrong.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import rmapfast as rf
    >>> with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
    ...     print('name = "mine"', file=file)
    ...     print("page_shift = 14", file=file, flush=True)
    ...     rf.arch.load(file.name).page_size
    16384
    """
    document = read_toml(path)
    known = [*(field.name for field in dataclasses.fields(Arch)), "cost"]
    for key in document:
        if key not in known:
            raise ValueError(f"{path}: no such key {key!r}{closest(key, known)}; known are {', '.join(known)}")
    if "name" not in document:
        raise ValueError(f"{path}: the key 'name' is missing")
    if "cost" in document and "costs" in document:
        raise ValueError(f"{path}: expected costs = NAME or the table [cost], got both")
    try:
        if "cost" in document:
            document["costs"] = CostVector.from_dict(document.pop("cost"))
        arch = Arch(**document)
        _ = arch.cost_vector  # a name that no vector has is refused here, not when the first run is priced
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return arch


def get(arch: str | os.PathLike[str] | Arch) -> Arch:
    """Return the architecture itself, the preset of that name, or the one in a TOML file.

    Parameters
    ----------
    arch : str, path or Arch

    Returns
    -------
    Arch

    Raises
    ------
    ValueError
        If no preset has that name, or as :func:`load`; the message lists the valid ones.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.arch.get("x86-64").page_size
    4096
    """
    if isinstance(arch, Arch):
        return arch
    if isinstance(arch, str) and arch in PRESETS:
        return PRESETS[arch]
    if isinstance(arch, str | os.PathLike) and Path(arch).suffix == ".toml":
        return load(arch)
    brought = plugins.load(GROUP, arch, (Arch,), "an Arch") if isinstance(arch, str) else None
    if brought is not None:
        preset: Arch = brought.replace(name=arch)
        return preset
    raise ValueError(
        f"arch: no preset {arch!r}{closest(arch, names())}; known are {', '.join(names())}, or a path ending in .toml"
    )


def configured(
    names: Iterable[str | os.PathLike[str] | Arch], settings: Iterable[str] = (), where: str = "settings"
) -> list[Arch]:
    """Return architectures with settings applied.

    Parameters
    ----------
    names : iterable
        What :func:`get` takes; one that is given twice is returned once.
    settings : iterable of str
        ``arch.PARAM=VALUE`` for all of them, or ``NAME.PARAM=VALUE`` for one. PARAM is a parameter of :class:`Arch`;
        ``cost.EVENT``; or ``costs``, with the name of a cost vector or a TOML file as value. They are applied together,
        so that only the outcome must be valid; of two for the same parameter the later one holds.
    where : str
        Where the settings come from, for the error text.

    Returns
    -------
    list of Arch
        In the order of `names`.

    Raises
    ------
    ValueError
        If a name or a setting is not valid; the message names it.

    Examples
    --------
    >>> import rmapfast as rf
    >>> [mine] = rf.arch.configured(["arm64-4k"], ["arm64-4k.cont_ptes=1"])
    >>> mine.cont_ptes
    1
    """
    arches: dict[str, Arch] = {}
    for arch in map(get, checked_list("names", names, "architectures")):
        if arches.setdefault(arch.name, arch) != arch:
            raise ValueError(f"arch: two different architectures are named {arch.name!r}")
    changes: dict[str, dict[str, Any]] = {name: {} for name in arches}
    given: dict[str, list[str]] = {name: [] for name in arches}
    for setting in checked_list(where, settings, "settings"):
        if not isinstance(setting, str):
            raise TypeError(f"{where}: expected arch.PARAM=VALUE or NAME.PARAM=VALUE, got {shown(setting)}")
        key, _, text = setting.partition("=")
        first, dot, _ = key.partition(".")
        if not (first and dot and text):
            raise ValueError(f"{where}: expected arch.PARAM=VALUE or NAME.PARAM=VALUE, got {setting!r}")
        # the name of an architecture may have a dot in it
        owner = max((owner for owner in ("arch", *arches) if key.startswith(f"{owner}.")), key=len, default=None)
        if owner is None:
            raise ValueError(
                f"{where}: {setting}: {first!r} is no architecture of this run{closest(first, arches)}; "
                f"it has {', '.join(arches)}"
            )
        parameter = key.removeprefix(f"{owner}.")
        try:
            value = _parse(parameter, text)
        except (ValueError, OSError) as error:
            raise ValueError(f"{where}: {setting}: {error}") from None
        for name in arches if owner == "arch" else [owner]:
            changes[name][parameter] = value
            given[name].append(setting)
    for name, arch in arches.items():
        try:
            arches[name] = arch.replace(**changes[name])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {', '.join(given[name])}: {error}") from None
    return list(arches.values())


def _parse(parameter: str, text: str) -> str | int | float | bool | CostVector:
    """The value that the text of a setting means, of the parameter's type; replace() refuses an unknown parameter."""
    if parameter == "cost":
        raise ValueError("cost: one figure is cost.EVENT=VALUE, a whole vector is costs=NAME")
    if parameter == "costs":
        vector = _cost.get(text)
        return vector if text.endswith(".toml") else text
    kind = {field.name: field.type for field in dataclasses.fields(Arch)}.get(parameter)
    if kind == "bool":
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(f"expected true or false, got {text!r}")
        return text.lower() in ("true", "1")
    try:
        if kind == "int":
            return int(text, 0)
        if parameter.startswith("cost."):
            return float(text)
    except ValueError:
        raise ValueError(f"expected a {'whole ' if kind == 'int' else ''}number, got {text!r}") from None
    return text
