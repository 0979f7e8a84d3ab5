"""A case drawn as strips of page-table entries, before and after."""

from __future__ import annotations

import numpy as np

from rmapfast import policy as _policy
from rmapfast import pte
from rmapfast.flags import FOLIO_KINDS, FolioFlag, folio_kind
from rmapfast.verify.cases import judge, unmap_case


def case_in_words(case: dict) -> str:
    """Return the folio, the VMA and the tags of a case in words."""
    folio, vma = case["folio"], case["vma"]
    pages = 1 << folio["order"]
    flags = (FolioFlag.ANON if folio["anon"] else 0) | (FolioFlag.SWAPBACKED if folio["swapbacked"] else 0)
    kind = FOLIO_KINDS[int(folio_kind(flags))]
    words = [f"{pages} page{'s' if pages > 1 else ''}, {kind}"]
    words += [name for name in ("dirty", "pinned") if folio[name]]
    words += [*vma["flags"], *case.get("tags", ())]
    return ", ".join(words)


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


def _cell(word, folio_pfn: int, pages: int) -> str:
    kind = pte.KINDS[int(pte.kind(word))]
    letters = "".join(_LETTERS[flag] for flag in pte.flags(word))
    if kind == "marker_uffd_wp":
        return "marker"
    if kind != "present":
        return _CODES.get(kind, kind) + (f":{letters}" if letters else "")
    page = int(pte.pfn(word)) - folio_pfn
    return f"{page if 0 <= page < pages else 'x'}:{letters or '-'}"


def case_drawing(case: dict, policy, *, against="per-page", arch="x86-64") -> str:
    """Return a case as a strip of PTEs: before, after under the oracle and under the policy, and the steps of both.

    An entry is the page of the folio that it maps (x: of another one) and its bits: W write, Y young, D dirty,
    S soft-dirty, U uffd-wp, E exclusive, N unused, P another protection; ``.`` is none. ``|`` is a page-table border,
    ``[ ]`` the VMA, ``*`` marks entries in which the two outcomes differ.
    """
    policy = policy if callable(policy) else _policy.get(policy)
    name = getattr(policy, "name", None) or getattr(policy, "__name__", "callable")
    oracle, outcome = (unmap_case(case, one, arch) for one in (_policy.get(against), policy))
    before = outcome.before
    first, per_table = int(before.vma_window_start[0]), before.ptrs_per_pte
    start, end = int(before.vma_start[0]), int(before.vma_end[0])
    folio_pfn, pages = int(before.folio_pfn[0]), 1 << int(before.folio_order[0])
    seen = [first + int(i) for i in np.flatnonzero(before.ptes | oracle.after.ptes | outcome.after.ptes)]
    low, high = min([start, *seen]), max([end - 1, *seen]) + 1
    if high - low > 20:
        low, high = max(low, start), min(high, max(low, start) + 20)

    def strip(title: str, cells: list[str]) -> str:
        text = ""
        for vpn, cell in zip(range(low, high), cells, strict=True):
            left = "|" if vpn % per_table == 0 else " "
            text += left + ("[" if vpn == start else " ") + f"{cell:^8}" + ("]" if vpn == end - 1 else " ")
        return f"{title:<12}{text}".rstrip()

    def row(title: str, ptes) -> str:
        return strip(title, [_cell(ptes[vpn - first], folio_pfn, pages) for vpn in range(low, high)])

    def steps(one) -> str:
        found = [(vpn, nr, kind) for kind, vpn, nr in one.call.trace if kind in ("step", "step_nonpresent")]
        text = ", ".join(f"{vpn}+{nr}" + (" (non-present)" if kind != "step" else "") for vpn, nr, kind in found)
        return f"{text or 'none'}; {'done' if one.ret else 'aborted'}"

    differ = [oracle.after.ptes[vpn - first] != outcome.after.ptes[vpn - first] for vpn in range(low, high)]
    violated = judge(case, policy, against=against, arch=arch)
    lines = [
        f"{name} against {against}: {', '.join(violated) or 'no violation'}",
        f"{case_in_words(case)}; {' '.join(case['ttu']) or 'no TTU flags'}",
        strip("vpn", [str(vpn) for vpn in range(low, high)]),
        row("before", before.ptes),
        row(against[:11], oracle.after.ptes),
        row(name[:11], outcome.after.ptes),
    ]
    if any(differ):
        lines.append(strip("", ["*" if one else "" for one in differ]))
    lines += [f"steps of {against}: {steps(oracle)}", f"steps of {name}: {steps(outcome)}"]
    if violated and (broke := _breaking_step(outcome, [low + i for i, one in enumerate(differ) if one])):
        lines.append(f"it breaks at step {broke[0]}+{broke[1]}")
    lines += [f"  {title}: {a} against {b}" for title, a, b in _folio_differences(oracle, outcome)]
    return "\n".join(lines)


def _breaking_step(outcome, differ: list[int]):
    """The step that left a slot differing, counted more than it cleared, or went out of bounds; else the first one."""
    before = outcome.before
    per_table, end = before.ptrs_per_pte, int(before.vma_end[0])
    steps = [(vpn, nr, kind) for kind, vpn, nr in outcome.call.trace if kind in ("step", "step_nonpresent")]
    for vpn, nr, kind in steps:
        stale = kind == "step_nonpresent" and nr > 1
        outside = vpn + nr > min(end, (vpn // per_table + 1) * per_table)
        if stale or outside or any(vpn <= slot < vpn + nr for slot in differ):
            return vpn, nr
    return steps[0][:2] if steps else None


def _folio_differences(oracle, outcome):
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
    outside = {
        name: outcome.call.events[name]
        for name in ("oob_reads", "oob_writes", "vma_overrun_reads", "vma_overrun_writes")
    }
    for name, count in outside.items():
        if count:
            yield name, count, oracle.call.events[name]
