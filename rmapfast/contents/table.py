"""The description of a population as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmapfast._version import __version__
from rmapfast.support import format_size, hanging, paragraph

# Labels of the ways in which a folio lies in a VMA.
_MAPPINGS = {
    "order_0": "order 0",
    "whole": "large, whole by PTEs",
    "pmd": "large, by a PMD",
    "partial": "large, in part",
    "cut_by_vma": "  cut by a VMA border",
    "cut_by_table": "  cut by a page-table border",
    "cow": "  with COWed pages inside",
    "holes": "  with holes",
}


def description_table(described: Mapping[str, Any]) -> str:
    """Return a description as tables of plain text, 80 columns at most.

    Parameters
    ----------
    described : dict
        What :func:`rmapfast.describe` returned.

    Returns
    -------
    str
        Without a line feed at its end.
    """
    page, mapped = described["page_size"], described["mapped_pages"]
    lines = paragraph(
        f"{described['source']}: {described['mms']} process(es), {described['vmas']} VMAs, {described['ptes']} PTEs, "
        f"{described['ptes_present']} present"
    )
    kinds = ", ".join(f"{count} {kind}" for kind, count in described["kinds"].items())
    lines += [f"{format_size(described['bytes'])} in {described['folios']} folios: {kinds or 'none'}"]
    lines += [f"LRU: {described['inactive']} inactive, {described['active']} active"]

    lines += ["", f"{'VMAs':<28}{'number':>10}{'size':>12}{'mapped':>12}"]
    everything = {"vmas": described["vmas"], "pages": described["vma_pages"], "mapped": mapped}
    for name, row in {"all": everything, **described["vma_flags"]}.items():
        if row["vmas"]:
            size, of_it = format_size(row["pages"] * page), format_size(row["mapped"] * page)
            lines.append(f"  {name.replace('_', '-'):<26}{row['vmas']:>10}{size:>12}{of_it:>12}")
    if described["vmas_unused"]:
        lines.append(f"  {'without a mapped page':<26}{described['vmas_unused']:>10}")

    lines += ["", *_order_lines(described)]

    lines += ["", f"{'how folios lie in VMAs':<28}{'mappings':>10}{'pages':>12}{'of mapped':>12}"]
    for name, label in _MAPPINGS.items():
        row = described["mappings"][name]
        if row["mappings"]:
            lines.append(f"  {label:<26}{row['mappings']:>10,}{row['pages']:>12,}{_share(row['pages'], mapped):>12}")

    lines += ["", f"{'runs that may batch':<28}{'runs':>10}{'pages':>12}{'of mapped':>12}"]
    for low, row in described["runs"].items():
        label = f"{low} to {2 * int(low) - 1} pages" if int(low) > 1 else "1 page"
        lines.append(f"  {label:<26}{row['runs']:>10,}{row['pages']:>12,}{_share(row['pages'], mapped):>12}")

    pages = sum(described["sharing"].values())
    lines += ["", f"{'mappings of a page':<38}{'pages':>12}{'share':>12}"]
    for label, nr in _sharing_rows(described["sharing"]):
        lines.append(f"  {label:<36}{nr:>12,}{_share(nr, pages):>12}")

    lines += ["", *_policy_lines(described), "", "Assumed:"]
    for name, value in described["assumptions"].items():
        lines += hanging(f"  {name}:", 14, str(value))
    return "\n".join(line.rstrip() for line in lines)


def _share(part: float, whole: float) -> str:
    """Return part / whole in percent, or ``-`` if the whole is 0."""
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _order_lines(described: Mapping[str, Any]) -> list[str]:
    """Return the table of folios by order and kind, with the memory of each order."""
    kinds = described["orders_by_kind"]
    lines = [f"{'folios of order':<18}" + "".join(f"{kind:>11}" for kind in kinds) + f"{'memory':>12}{'share':>9}"]
    for order, count in described["orders"].items():
        size = format_size(described["page_size"] << int(order))
        cells = "".join(f"{rows[order]['folios'] if order in rows else 0:>11,}" for rows in kinds.values())
        pages = count << int(order)
        memory = format_size(pages * described["page_size"])
        lines.append(f"  {order:<4}{size:>10}  {cells}{memory:>12}{_share(pages, described['pages']):>9}")
    return lines


def _sharing_rows(sharing: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return label and pages by number of mappings: up to 3 each, from 4 on by powers of two."""
    bins: dict[int, int] = {}
    for times, nr in sharing.items():
        low = int(times) if int(times) <= 4 else 1 << (int(times).bit_length() - 1)
        bins[low] = bins.get(low, 0) + nr
    names = {low: f"{low}" if low < 4 else f"{low} to {2 * low - 1}" for low in bins}
    return [(names[low], nr) for low, nr in sorted(bins.items())]


def _policy_lines(described: Mapping[str, Any]) -> list[str]:
    """Return the table of mapped pages by policy, and the notes below it."""
    mapped = described["mapped_pages"]
    lines = [
        f"{'mapped pages unmapped by':<26}{'batches':>9}{'of whole':>10}{'one':>8}{'by a':>8}{'not':>8}{'steps':>11}",
        f"{'':<26}{'':>9}{'folios':>10}{'by one':>8}{'PMD':>8}{'':>8}",
    ]
    for name, row in described["policies"].items():
        cells = (
            f"{_share(row[key], mapped):>{width}}"
            for key, width in (("batched", 9), ("whole_folio", 10), ("single", 8), ("pmd", 8), ("left", 8))
        )
        lines.append(f"  {name:<24}{''.join(cells)}{row['steps']:>11,}")
    notes = []
    if any(row["put_back"] for row in described["policies"].values()):
        most = max(row["put_back"] for row in described["policies"].values())
        notes.append(f"Up to {most:,} of the pages were in steps that were taken back.")
    if described["split_first"]:
        notes.append(
            f"{described['split_first']:,} partially mapped anonymous folios are split before, as reclaim does."
        )
    notes.append(
        f"Each folio is unmapped once on {described['arch']}, whether it was referenced or not, with unlimited swap."
    )
    notes.append(f"rmapfast {__version__}")
    return [*lines, *paragraph(" ".join(notes))]
