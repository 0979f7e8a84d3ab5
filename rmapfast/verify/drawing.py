"""A case drawn as strips of page-table entries, before and after."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast import pte
from rmapfast.arch import Arch
from rmapfast.flags import FOLIO_KINDS, FolioFlag, folio_kind
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.reference import BatchRule, YoungRule
from rmapfast.result import policy_name
from rmapfast.verify.cases import FOLIO_FLAGS, Case
from rmapfast.verify.invariants import OUTSIDE, Step, UnmapOutcome, judge, unmap_case
from rmapfast.verify.split_judge import SplitJudge, fresh, run_c, run_reference
from rmapfast.verify.split_states import SplitState, split_population, toy_arch
from rmapfast.verify.young_judge import YoungJudge, YoungOutcome
from rmapfast.verify.young_states import YoungState

# Entries that a strip shows, and steps that a line lists.
_SHOWN = 20

_CODES = {"none": ".", "swap": "swap", "migration": "migr", "device_exclusive": "dev", "device_private": "devp"}
_LETTERS = {
    "write": "W",
    "young": "Y",
    "dirty": "D",
    "soft_dirty": "S",
    "uffd_wp": "U",
    "exclusive": "E",
    "unused": "N",
    "prot": "P",
    "cont": "C",
    "special": "Z",
}


def case_in_words(case: Case) -> str:
    """Return the folio, the VMA and the tags of a case in words."""
    if "split_state" in case:
        return str(SplitState.of_case(case))
    if "young_state" in case:
        return str(YoungState.of_case(case))
    folio, vma = case["folio"], case["vma"]
    pages = 1 << folio["order"]
    flags = sum(FOLIO_FLAGS[name] for name in ("anon", "swapbacked") if folio[name])
    words = [f"{pages} page{'s' if pages > 1 else ''}, {FOLIO_KINDS[int(folio_kind(flags))]}"]
    words += [name for name in ("dirty", "pinned") if folio[name]]
    words += [*vma["flags"], *case.get("tags", ())]
    if "cont_ptes" in case:
        words.append(f"contpte blocks of {case['cont_ptes']}")
    return ", ".join(words)


def _cell(word: np.uint64, folio_pfn: int, pages: int) -> str:
    kind = pte.KINDS[int(pte.kind(word))]
    letters = "".join(_LETTERS[flag] for flag in pte.flags(word))
    if kind == "marker_uffd_wp":
        return "marker"
    if kind != "present":
        return _CODES.get(kind, kind) + (f":{letters}" if letters else "")
    page = int(pte.pfn(word)) - folio_pfn
    return f"{page if 0 <= page < pages else 'x'}:{letters or '-'}"


def _steps(outcome: UnmapOutcome) -> str:
    shown = outcome.steps[:_SHOWN]
    text = ", ".join(f"{step.vpn}+{step.nr}" + ("" if step.present else " (non-present)") for step in shown)
    if len(outcome.steps) > _SHOWN:
        text += f", ... ({len(outcome.steps)} in all)"
    return f"{text or 'none'}; {'done' if outcome.ret else 'aborted'}"


def case_drawing(
    case: Case,
    policy: str | Policy | BatchRule | YoungRule,
    *,
    against: str | Policy = "per-page",
    arch: str | Arch = "x86-64",
) -> str:
    """Return a case as a strip of PTEs: before, after under the oracle and under the policy, and the steps of both.

    An entry is the page of the folio that it maps (x: of another one) and its bits: W write, Y young, D dirty,
    S soft-dirty, U uffd-wp, E exclusive, N unused, P another protection; ``.`` is none. ``|`` is a page-table border,
    ``[ ]`` the VMA, ``*`` marks entries in which the two outcomes differ.

    Parameters
    ----------
    case : dict
        As a violation's ``example`` holds it.
    policy : str, Policy, callable or YoungRule
        Python functions run on the reference.
    against : str or Policy
        The oracle.
    arch : str or Arch
        Its rules (soft-dirty with dirty, TLB deferral) hold.

    Returns
    -------
    str
        Lines of text.
    """
    if isinstance(policy, str):
        policy = _policy.get(policy)
    if "split_state" in case:
        assert not isinstance(policy, YoungRule)
        return _split_drawing(SplitState.of_case(case), policy, _policy.get(against), toy_arch(arch))
    if "young_state" in case:
        return _young_drawing(YoungJudge(YoungState.of_case(case), _policy.get(against), _arch.get(arch)), policy)
    assert not isinstance(policy, YoungRule)
    name, oracle_name = policy_name(policy), policy_name(against)
    oracle, outcome = unmap_case(case, _policy.get(against), arch), unmap_case(case, policy, arch)
    before = outcome.before
    first, per_table = int(before.vma_window_start[0]), before.ptrs_per_pte
    start, end = int(before.vma_start[0]), int(before.vma_end[0])
    folio_pfn, pages = int(before.folio_pfn[0]), 1 << int(before.folio_order[0])
    seen = [first + int(i) for i in np.flatnonzero(before.ptes | oracle.after.ptes | outcome.after.ptes)]
    low, high = min([start, *seen]), max([end - 1, *seen]) + 1
    violated = judge(case, policy, against=against, arch=arch)
    all_differ = (first + np.flatnonzero(oracle.after.ptes != outcome.after.ptes)).tolist()
    broke = _breaking_step(outcome, all_differ) if violated else None
    if high - low > _SHOWN:
        # around the first difference, or the border that a step crosses; else from the start of the VMA on
        low = shown = max(low, start)
        if all_differ:
            shown = all_differ[0]
        elif broke:
            shown = min(broke.vpn + broke.nr, end, (broke.vpn // per_table + 1) * per_table)
        low = max(low, min(shown - _SHOWN // 2, high - _SHOWN))
        high = min(high, low + _SHOWN)

    def strip(title: str, cells: list[str]) -> str:
        text = ""
        for vpn, cell in zip(range(low, high), cells, strict=True):
            left = "|" if vpn % per_table == 0 else " "
            text += left + ("[" if vpn == start else " ") + f"{cell:^8}" + ("]" if vpn == end - 1 else " ")
        return f"{title:<12}{text}".rstrip()

    def row(title: str, ptes: npt.NDArray[np.uint64]) -> str:
        return strip(title, [_cell(ptes[vpn - first], folio_pfn, pages) for vpn in range(low, high)])

    differ = [vpn for vpn in range(low, high) if oracle.after.ptes[vpn - first] != outcome.after.ptes[vpn - first]]
    lines = [
        f"{name} against {oracle_name}: {', '.join(violated) or 'no violation'}",
        f"{case_in_words(case)}; {' '.join(case['ttu']) or 'no TTU flags'}",
        strip("vpn", [str(vpn) for vpn in range(low, high)]),
        row("before", before.ptes),
        row(oracle_name[:11], oracle.after.ptes),
        row(name[:11], outcome.after.ptes),
    ]
    if differ:
        lines.append(strip("", ["*" if vpn in differ else "" for vpn in range(low, high)]))
    lines += [f"steps of {oracle_name}: {_steps(oracle)}", f"steps of {name}: {_steps(outcome)}"]
    if broke:
        lines.append(f"it breaks at step {broke.vpn}+{broke.nr}")
    lines += [f"  {title}: {a} against {b}" for title, a, b in _folio_differences(oracle, outcome)]
    return "\n".join(lines)


def _split_drawing(state: SplitState, policy: Policy | BatchRule, oracle: Policy, arch: Arch) -> str:
    """A state with splits: the entries before, with folios of one page under the oracle, and under the policy."""
    engine = run_c if isinstance(policy, Policy) else run_reference
    violated = SplitJudge(state, oracle, arch, engine).violated(policy)
    before = split_population(state)
    small = engine(fresh(split_population(state.per_page)), state.per_page, oracle, arch).after
    outcome = engine(fresh(before), state, policy, arch)
    total, first_pfn = len(state.slots), int(before.folio_pfn[0])

    def row(title: str, population: Population) -> str:
        cells, first_pfn = [], int(population.folio_pfn[0])
        for page, word in enumerate(population.ptes):
            left = "|" if page and page % total == state.border % total else " "
            text = "zero" if word >> pte.PFN_SHIFT == pte.ZERO_PFN else _cell(word, first_pfn, total)
            cells.append(f"{left}{text:^9}")
        return f"{title:<12}{''.join(cells)}".rstrip()

    folios = zip(outcome.after.folio_pfn, outcome.after.folio_order, outcome.after.folio_flags, strict=True)
    listed = [
        f"{int(pfn) - first_pfn}+{1 << int(order)}" + (" freed" if flags & FolioFlag.FREED else "")
        for pfn, order, flags in folios
    ]
    return "\n".join(
        [
            f"{policy_name(policy)} against {oracle.name}: {', '.join(violated) or 'no violation'}",
            str(state),
            row("before", before),
            row(oracle.name[:11], small),
            row(policy_name(policy)[:11], outcome.after),
            f"folios of {policy_name(policy)} (first page + pages): {', '.join(listed)}",
        ]
    )


def _young_drawing(judge: YoungJudge, policy: Policy | BatchRule | YoungRule) -> str:
    """A reference check: the entries before, under the oracle and under the policy, and what each tested."""
    state, name, oracle = judge.state, policy_name(policy), judge.oracle
    outcome, right = judge.outcome(policy), judge.outcome(oracle)
    total, (first, _) = len(state.slots), state.folios[state.tested]
    low = max(0, first - _SHOWN // 2) if total > _SHOWN else 0
    shown = range(low, min(total, low + _SHOWN))
    processes = range(len(judge.words) // total)

    def strip(title: str, cells: list[str]) -> str:
        text = ""
        for process in processes:
            spans = state.spans if process == 0 else [(0, total)]
            for page in shown:
                left = "|" if (state.first_vpn(process) + page) % state.table == 0 else " "
                starts, ends = any(page == low for low, _ in spans), any(page == high - 1 for _, high in spans)
                cell = cells[process * total + page]
                text += f"{left}{'[' if starts else ' '}{cell:^8}{']' if ends else ' '}"
        return f"{title:<12}{text}".rstrip()

    def row(title: str, ptes: npt.NDArray[np.uint64]) -> str:
        return strip(
            title,
            ["zero" if word >> pte.PFN_SHIFT == pte.ZERO_PFN else _cell(word, state.origin, total) for word in ptes],
        )

    def tests(outcome: YoungOutcome) -> str:
        windows = [f", window {start} to {end}" for start, end in outcome.windows.values()]
        return (", ".join(f"{vpn}+{nr}" for vpn, nr in outcome.tests) or "nothing") + "".join(windows)

    return "\n".join(
        [
            f"{name} against {oracle.name}: {', '.join(judge.violated(policy)) or 'no violation'}",
            str(state),
            strip("vpn", [str(state.first_vpn(process) + page) for process in processes for page in range(total)]),
            row("before", judge.before.ptes),
            row(oracle.name[:11], right.after.ptes),
            row(name[:11], outcome.after.ptes),
            f"tests of {oracle.name}: {tests(right)}; VMAs that referenced the folio: {right.referenced}",
            f"tests of {name}: {tests(outcome)}; VMAs that referenced the folio: {outcome.referenced}",
            *(f"  {event}: {outcome.counts[event]}" for event in OUTSIDE if outcome.counts[event]),
        ]
    )


def _breaking_step(outcome: UnmapOutcome, differ: list[int]) -> Step | None:
    """The step that left a page differing, counted more than it cleared, or went out of bounds; else the first one."""
    before = outcome.before
    per_table, end = before.ptrs_per_pte, int(before.vma_end[0])
    for step in outcome.steps:
        outside = step.vpn + step.nr > min(end, (step.vpn // per_table + 1) * per_table)
        if step.nr > step.cleared or outside or any(step.vpn <= vpn < step.vpn + step.nr for vpn in differ):
            return step
    return outcome.steps[0] if outcome.steps else None


def _folio_differences(oracle: UnmapOutcome, outcome: UnmapOutcome) -> Iterator[tuple[str, object, object]]:
    """What differs between two outcomes beside the PTEs: (name, policy's, oracle's)."""
    for name in ("folio_refcount", "folio_mapcount"):
        a, b = int(getattr(outcome.after, name)[0]), int(getattr(oracle.after, name)[0])
        if a != b:
            yield name, a, b
    flags = [
        {name for name in ("DIRTY", "SWAPBACKED", "MLOCKED") if int(one.after.folio_flags[0]) & FolioFlag[name]}
        for one in (outcome, oracle)
    ]
    if flags[0] != flags[1]:
        yield "folio flags", " ".join(sorted(flags[0])) or "none", " ".join(sorted(flags[1])) or "none"
    rss = [one.after.mm_rss[0].tolist() for one in (outcome, oracle)]
    if rss[0] != rss[1]:
        yield "counters (file, anon, swap, shmem)", rss[0], rss[1]
    for name in OUTSIDE:
        if outcome.call.events[name]:
            yield name, outcome.call.events[name], oracle.call.events[name]
