"""Batching policies: kernel editions and proposals, each as a point in one parameter space.

Presets are looked up by name with :func:`get`; :data:`PRESETS` holds those of this package. Another package brings its
own as entry points of the group ``rmapfast.policies``.
A preset's docstring (its ``doc``) says what changed, in which commit, and which bug it has.

To add an edition: its preset in ``_presets()`` here, its row in ``editions.py``. A rule that no field expresses takes
a field of :class:`Policy` and five more files; CONTRIBUTING.md has the checklist.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from rmapfast import plugins
from rmapfast import rule as _rule
from rmapfast.support import HtmlPart, changed_fields, checked_list, closest, html_of, short_repr, shown

CHOICES = {
    "uffd_wp": ("first-entry", "per-page", "whole-batch"),
    "young": ("per-page", "batched"),
    "advance": ("rescan", "caller", "hint"),
    "walk_done": ("never", "batched", "whole"),
    "split_order": ("ascending", "descending"),
    "swap_split": ("always", "any-slot", "all-slots"),
    "swap_single": ("partial", "empty"),
    "sharing": ("guess", "tracked"),
    "dirty_flush": ("folio", "batch"),
    "mglru": ("none", "v6.12", "v7.0", "v7.2", "v7.3"),
}


@dataclass(frozen=True, repr=False)
class Policy:
    """How ``try_to_unmap_one`` and ``folio_referenced_one`` batch.

    Parameters
    ----------
    name : str
        Name of the preset, or of the variation.
    lazyfree, file, anon_swap : bool
        Which folio classes are unmapped in batches; a class that is not named is unmapped page by page.
    all_or_nothing : bool
        Batch only if the folio's first page is at hand and the scan finds the whole folio.
    clip : bool
        Whether the scan stops at the end of the page table and of the VMA.
    uffd_wp : {'first-entry', 'per-page', 'whole-batch'}
        In a uffd-wp VMA: a marker in the first slot of a batch only; batch size 1; or a marker in each slot.
    respect_write, respect_soft_dirty : bool
        Bits that must match inside an unmap batch.
    nr_reset : bool
        Whether the batch size is set back to 1 in each iteration (CVE-2026-63950 without).
    young : {'per-page', 'batched'}
        The reference check.
    advance : {'rescan', 'caller', 'hint'}
        After a batch that is not the whole folio: the walker reads the cleared slots again; the caller advances the
        walk by nr - 1; or it hands nr to the walker, which skips. The last two cause the same events.
    walk_done : {'never', 'batched', 'whole'}
        When the walk is ended early: never; after a batch of more than one page; or when nr is the whole folio.
    mlock_at_once : bool
        Up to v6.14 the unmap of an mlocked VMA stops at the first entry and sets mlocked only at order 0.
    failure_swapbacked : bool
        Up to v6.14 any failed lazyfree unmap makes the folio swapbacked (unless the VMA is droppable).
    hwpoison_page0 : bool
        From v7.3 the poison mark of page 0 is tested in place of the page's.
    mismatch_restores : bool
        From v7.3 an abort for swapbacked != swapcache puts the entries back.
    split_order : {'ascending', 'descending'}
        In which page order the pieces of a split folio take their turns after the first page: rising up to v6.14,
        falling since.
    swap_split : {'always', 'any-slot', 'all-slots'}
        Whether a large folio for which no run of swap slots is free is split: always (every edition); only if any slot
        is free; or only if as many are free as it has pages. One that is not split is activated whole.
    swap_single : {'partial', 'empty'}
        Where a single page looks for a swap slot first, on a device with a map: in a cluster that serves single pages;
        or, up to v6.14, in the cluster of the last single page and then in an empty one, which large folios then lack.
    sharing : {'guess', 'tracked'}
        How madvise tells whether a large folio is shared: up to v6.14 a guess from the mapcount of its first page;
        since v6.15 the folio flag ``MAYBE_SHARED``.
    dirty_flush : {'folio', 'batch'}
        What the TLB flush before a write-out is for: each dirty folio (every edition), or up to 31 dirty folios that
        are written out after it.
    local_tlbi : bool
        Whether arm64 invalidates the TLB of the CPU that reclaims alone, without a broadcast, if no other CPU ran the
        mm and that CPU did: if ``mm_cpumask`` is 1. No edition does, and other architectures have no such rule.
    shmem_fallback : bool
        From v7.0 a shmem folio that is split for want of swap slots counts in ``swpout_fallbacks``.
    mglru : {'none', 'v6.12', 'v7.0', 'v7.2', 'v7.3'}
        Edition whose rules the multi-gen LRU follows (docs/kernel-rules.md, section 9); ``none`` if they are not known.
        The look-around goes by batches from v7.2 on with ``young = batched``, else by entries.
    riscv_lazyfree_split : bool
        Whether riscv splits the PMD that maps a lazyfree folio and unmaps it page by page, in place of discarding it
        whole. Recorded: v6.12 does, v7.2 does not; the editions between were not tried. No other architecture does.
    rule : str or function pointer
        A batching rule in C in place of that of the edition (docs/howto-policy.md): ``FILE.c:NAME``, which is compiled
        with the compiler that ``CC`` names, else ``cc``; or a function pointer of ctypes, cffi or ``numba.cfunc``. It
        is kept as text: ``FILE.c:NAME#HASH``, or ``pointer:0x...``, which no other process can use.
    young_rule : str or function pointer
        A young rule in C in place of the scan of the edition's reference check, given and kept in the same way. It is
        asked at each entry, whatever `young` says.
    doc : str
        What the edition is; not compared.

    Examples
    --------
    >>> import rmapfast as rf
    >>> mine = rf.policy.get("v7.0").replace(name="mine", nr_reset=True)
    >>> rf.reclaim(rf.Population.synthetic("1MiB"), "80%", policy=mine).policy_name
    'mine'
    """

    name: str
    lazyfree: bool = False
    file: bool = False
    anon_swap: bool = False
    all_or_nothing: bool = False
    clip: bool = True
    uffd_wp: str = "first-entry"
    respect_write: bool = False
    respect_soft_dirty: bool = False
    nr_reset: bool = True
    young: str = "per-page"
    advance: str = "rescan"
    walk_done: str = "whole"
    mlock_at_once: bool = False
    failure_swapbacked: bool = False
    hwpoison_page0: bool = False
    mismatch_restores: bool = False
    split_order: str = "descending"
    swap_split: str = "always"
    swap_single: str = "partial"
    sharing: str = "tracked"
    dirty_flush: str = "folio"
    local_tlbi: bool = False
    shmem_fallback: bool = True
    mglru: str = "none"
    riscv_lazyfree_split: bool = False
    rule: Any = ""
    young_rule: Any = ""
    doc: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check every field."""
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if entry.name in _rule.FIELDS:
                object.__setattr__(self, entry.name, _rule.as_text(value, entry.name))
                continue
            want = {"bool": bool, "str": str}[str(entry.type)]
            if type(value) is not want:
                raise TypeError(f"policy.{entry.name}: expected {entry.type}, got {value!r}")
            if entry.name in CHOICES and value not in CHOICES[entry.name]:
                choices = ", ".join(CHOICES[entry.name])
                raise ValueError(f"policy.{entry.name}: expected one of {choices}, got {value!r}")

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to be pickled with a function pointer."""
        for name in _rule.FIELDS:
            if _rule.is_pointer(getattr(self, name)):
                raise TypeError(
                    f"policy.{name}: a function pointer cannot be pickled or used in other processes;"
                    " give FILE.c:NAME instead"
                )
        return dict(self.__dict__)

    def __repr__(self) -> str:
        """Return the call that makes it, with the fields that are not as by default."""
        return short_repr(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the fields that are not as by default, and all fields."""
        every = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        del every["name"], every["doc"]
        changed = {name: value for name, value in changed_fields(self).items() if name != "name"}
        parts = [
            HtmlPart("not as by default", list(changed.items()), more=f"{len(changed)} fields", open=True),
            HtmlPart("all fields", list(every.items()), more=f"{len(every)} fields"),
        ]
        return html_of("Policy", self.name, self.doc, parts)

    @property
    def rule_address(self) -> int:
        """Address of the function of `rule`, 0 without one; ``ValueError`` if its file changed before its first use."""
        return _rule.address(self.rule)

    @property
    def young_rule_address(self) -> int:
        """The same of `young_rule`."""
        return _rule.address(self.young_rule, "young_rule")

    @property
    def has_pointer(self) -> bool:
        """Whether a rule is a function pointer, which no other process can have."""
        return any(_rule.is_pointer(getattr(self, name)) for name in _rule.FIELDS)

    def replace(self, **changes: Any) -> Policy:
        """Return a copy with some parameters changed.

        Parameters
        ----------
        **changes
            Values by parameter.

        Returns
        -------
        Policy

        Raises
        ------
        TypeError
            If there is no such parameter, or its value is of another type.
        ValueError
            If the value is out of range; the message names the parameter.

        Examples
        --------
        >>> import rmapfast as rf
        >>> rf.policy.get("v7.0").replace(name="mine", uffd_wp="per-page").uffd_wp
        'per-page'
        """
        known = [entry.name for entry in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise TypeError(f"policy.{name}: no such parameter{closest(name, known)}; known are {', '.join(known)}")
        return dataclasses.replace(self, **changes)


def _presets() -> dict[str, Policy]:
    per_page = Policy(
        name="per-page",
        mglru="v7.2",
        doc="Today's code with batch size 1 everywhere: the oracle that batching is compared with (K0).",
    )
    v6_14 = per_page.replace(
        name="v6.14",
        mglru="none",
        mlock_at_once=True,
        failure_swapbacked=True,
        walk_done="never",
        split_order="ascending",
        sharing="guess",
        swap_single="empty",
        shmem_fallback=False,
        doc="Per page, with the older mlock and lazyfree-failure rules (V614).",
    )
    v6_15 = per_page.replace(
        name="v6.15",
        mglru="none",
        lazyfree=True,
        all_or_nothing=True,
        clip=False,
        walk_done="batched",
        shmem_fallback=False,
        doc="354dffd29575: whole lazyfree folios in one batch. Bug: the scan is bounded by the folio, not by the "
        "page table or the VMA (CVE-2025-38447), and a failed unmap restores the first entry's write and "
        "soft-dirty bits everywhere (K1).",
    )
    v6_16 = v6_15.replace(
        name="v6.16",
        all_or_nothing=False,
        clip=True,
        walk_done="whole",
        nr_reset=False,
        doc="ddd05742b45b: any batch length, clipped to table and VMA. Bugs: nr is not reset, so a non-present "
        "entry reuses the last one (CVE-2026-63950); restores spread write and soft-dirty (K2).",
    )
    v6_16_young = v6_16.replace(
        name="v6.16+young",
        young="batched",
        doc="Patches 1 to 4 of the seed's series on v6.16: the batched reference check (07f440c23a19); its \"W/o "
        'patch".',
    )
    file_v5 = v6_16_young.replace(
        name="file-v5",
        file=True,
        doc="The seed's patch as posted in v5: file folios batch too. Bug: in a uffd-wp VMA only the first slot of "
        "a batch gets its marker (K3); plus those of v6.16.",
    )
    v7_0_rc1 = file_v5.replace(
        name="v7.0-rc1",
        uffd_wp="per-page",
        shmem_fallback=True,
        mglru="v7.0",
        doc='a67fe41e214f: the patch with batch size 1 in uffd-wp VMAs; the seed\'s "W/ patch". Bugs: stale nr, '
        "restores spread write and soft-dirty (K4).",
    )
    v7_0 = v7_0_rc1.replace(
        name="v7.0",
        respect_write=True,
        respect_soft_dirty=True,
        doc="29f40594a281: write and soft-dirty must match inside a batch, so a restore is exact in them. Bug: "
        "stale nr, CVE-2026-63950 (K4b).",
    )
    v7_0_12 = v7_0.replace(
        name="v7.0.12",
        nr_reset=True,
        doc="v7.0 with nr reset in each iteration (K5).",
    )
    v7_2 = v7_0_12.replace(
        name="v7.2",
        mglru="v7.2",
        doc="v7.2.13: unmaps as v7.0.12 does in every recorded case; MGLRU's look-around goes by batches (V72).",
    )
    v7_3 = v7_2.replace(
        name="v7.3",
        mglru="v7.3",
        uffd_wp="whole-batch",
        hwpoison_page0=True,
        mismatch_restores=True,
        doc="v7.3-rc7: uffd-wp VMAs batch for every folio kind, with a marker in each slot; the walk reads each "
        "marker twice (V73).",
    )
    return {
        policy.name: policy
        for policy in (
            per_page,
            v6_14.replace(
                name="v6.12",
                riscv_lazyfree_split=True,
                mglru="v6.12",
                doc="v6.12.95: per page; equal to v6.14 in every recorded case (V612).",
            ),
            v6_14,
            v6_15,
            v6_16,
            v6_16_young,
            v6_16.replace(
                name="v6.18",
                respect_write=True,
                respect_soft_dirty=True,
                nr_reset=True,
                doc="Stable 6.18.44: v6.16 with write and soft-dirty matching and with nr reset; reference check "
                "per page.",
            ),
            file_v5,
            v7_0_rc1,
            v7_0,
            v7_0_12,
            v7_0_12.replace(
                name="v7.1",
                mglru="none",
                doc="v7.1.5: unmaps as v7.0.12 does in every recorded case. Its MGLRU is not known.",
            ),
            v7_2,
            v7_3,
            v7_2.replace(
                name="walker-jump",
                uffd_wp="whole-batch",
                advance="caller",
                doc="Dev Jain's proposal of March 2026, reconstructed: markers in each slot and the walk jumps over "
                "the batch (K6jump). Not merged.",
            ),
            v7_2.replace(
                name="skip-caller",
                advance="caller",
                doc="Wei Yang's proposal: after a partial batch the caller advances pte and address by nr - 1. Not "
                "merged.",
            ),
            v7_2.replace(
                name="skip-hint",
                advance="hint",
                doc="Barry Song's variant of skip-caller: the batch length is a hint to the walker, which skips. "
                "Not merged.",
            ),
            v7_2.replace(
                name="anon-swap",
                anon_swap=True,
                advance="caller",
                doc="Dev Jain's and Barry Song's proposal: swapbacked anonymous folios batch too, in runs of equal "
                "PageAnonExclusive. Not merged.",
            ),
            v7_2.replace(
                name="noswap-split-any",
                swap_split="any-slot",
                doc='Barry Song\'s RFC "mm: Avoiding split large folios if swap has no space" of 18 June 2026, v1: a '
                "large folio is activated whole if no swap slot is free. Not merged.",
            ),
            v7_2.replace(
                name="noswap-split-all",
                swap_split="all-slots",
                doc="The form of noswap-split-any that its thread preferred: split only if as many slots are free as "
                "the folio has pages, so that only contiguity is missing. Not merged.",
            ),
            v7_2.replace(
                name="flush-batch",
                dirty_flush="batch",
                doc='Zhang Peng\'s "mm: batch TLB flushing for dirty folios in vmscan" (v4 of 25 May 2026): one flush '
                "for up to 31 dirty folios. Not merged.",
            ),
            v7_2.replace(
                name="local-tlbi",
                local_tlbi=True,
                doc='"arm64: tlbflush: Don\'t broadcast if mm was only active on local cpu" (v2 of 14 June 2026): '
                "TLBIs and their barriers reach only the CPU that reclaims if no other ran the mm. Not merged.",
            ),
        )
    }


PRESETS = _presets()
# The entry points of packages that bring presets of their own.
GROUP = "rmapfast.policies"
# The preset whose rules hold around a policy that is a function.
AROUND_A_FUNCTION = "v7.0"


def names() -> tuple[str, ...]:
    """Return the names of the presets: those of this package, and those that other installed packages bring.

    Returns
    -------
    tuple of str
    """
    return (*PRESETS, *(name for name in plugins.names(GROUP) if name not in PRESETS))


def is_known(policy: Policy) -> bool:
    """Return whether a preset has the rules of a policy, whatever its name.

    Parameters
    ----------
    policy : Policy

    Returns
    -------
    bool
        False for a combination of rules that no kernel had and nobody proposed.

    Examples
    --------
    >>> import rmapfast as rf
    >>> mine = rf.policy.get("v7.0").replace(name="mine", lazyfree=False)
    >>> rf.policy.is_known(rf.policy.get("v7.0")), rf.policy.is_known(mine)
    (True, False)
    """
    policy = get(policy)
    return any(policy.replace(name=preset.name) == preset for preset in PRESETS.values())


def resolved(policy: str | Policy | Callable[..., int]) -> Policy | Callable[..., int]:
    """Return the policy or the Python function that is given or named.

    Parameters
    ----------
    policy : str, Policy or callable
        ``FILE.py:NAME`` is a function ``(folio, vma, walk, pte) -> nr``, which runs on the reference model. Any other
        text is what :func:`get` takes.

    Returns
    -------
    Policy or callable

    Raises
    ------
    TypeError, ValueError
        As :func:`get`, and for a file that cannot be imported or has no such function.
    """
    if isinstance(policy, str) and _rule.names_a_function(policy):
        return _rule.python_function(policy)
    return policy if callable(policy) else get(policy)


def configured(policy: Policy, settings: Iterable[str], where: str = "settings") -> Policy:
    """Return a policy with settings applied.

    Parameters
    ----------
    policy : Policy
    settings : iterable of str
        ``policy.PARAM=VALUE``: a parameter of :class:`Policy`, with true or false for a truth value.
    where : str
        Where the settings come from, for the error text.

    Returns
    -------
    Policy
        Its name has the settings in it. Without settings it is the policy itself.

    Raises
    ------
    ValueError
        If a setting is not valid; the message names it.

    Examples
    --------
    >>> configured(get("v7.2"), ["policy.anon_swap=true"]).name
    'v7.2 anon_swap=true'
    """
    changes: dict[str, Any] = {}
    settings = checked_list(where, settings, "settings")
    for setting in settings:
        if not isinstance(setting, str):
            raise TypeError(f"{where}: expected policy.PARAM=VALUE, got {shown(setting)}")
        key, _, text = setting.partition("=")
        name = key.removeprefix("policy.")
        if name == key or not name or not text:
            raise ValueError(f"{where}: expected policy.PARAM=VALUE, got {setting!r}")
        changes[name] = {"true": True, "false": False}.get(text.lower(), text)
    if not changes:
        return policy
    words = ",".join(setting.removeprefix("policy.") for setting in settings)
    try:
        return policy.replace(**{"name": f"{policy.name} {words}"} | changes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def get(policy: str | Policy) -> Policy:
    """Return the policy itself, the preset of that name, or the rules around rules in C.

    Parameters
    ----------
    policy : str or Policy
        ``FILE.c:NAME`` is ``v7.0`` with that batching rule, ``FILE.c:+YOUNG`` with that young rule, and
        ``FILE.c:NAME+YOUNG`` with both.

    Returns
    -------
    Policy

    Raises
    ------
    ValueError
        If no preset has that name; the message lists the valid ones. If the rule does not compile.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.policy.get("v7.0").file
    True
    """
    if isinstance(policy, Policy):
        return policy
    if isinstance(policy, str) and _rule.names_a_function(policy):
        raise ValueError(
            f"policy: {policy} is a function in Python, which only the reference model runs; expected a preset"
        )
    if isinstance(policy, str) and (named := _rule.rules_named(policy)):
        return PRESETS[AROUND_A_FUNCTION].replace(name=_rule.short_name(policy), **named, doc="Rules in C.")
    if not isinstance(policy, str):
        raise TypeError(
            f"policy: expected a Policy or the name of a preset, got {type(policy).__name__}"
            " (a YoungRule is for check(), and for the reference engine)"
        )
    if policy in PRESETS:
        return PRESETS[policy]
    if (brought := plugins.load(GROUP, policy, (Policy,), "a Policy")) is not None:
        preset: Policy = brought.replace(name=policy)
        return preset
    raise ValueError(f"policy: no preset {policy!r}{closest(policy, names())}; known are {', '.join(names())}")
