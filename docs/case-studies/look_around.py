"""What the batched look-around of the multi-gen LRU buys, and the classic LRU against the multi-gen LRU."""

from __future__ import annotations

import _study as study

from rmapfast import policy as _policy
from rmapfast.lru import LruGen

ARCHES = ("x86-64", "arm64-4k")
ORDERS = range(10)
SHOWN = (0, 1, 2, 4, 6, 9)
SHARES = {"none": 0.0, "1/64": 1 / 64, "half": 0.5, "all": 1.0}
NEW = "v7.2"
# v7.2 in everything but that it looks around once per entry.
PER_PTE = _policy.get(NEW).replace(name=f"{NEW}, per PTE", young="per-page")
POLICIES = ("v6.12", "v7.0", PER_PTE, NEW)
NAMES = ("v6.12", "v7.0", PER_PTE.name, NEW)
# The Debian kernels in which look-arounds and ageings were counted, and nanoseconds.
VECTORS = {"x86-64": ("x86-64", "x86-7.2"), "arm64-4k": ("arm64-4k", "arm64-7.2")}
# A vector that has a price for these prices what is compared here.
NEEDED = ("look_arounds", "window_pte_reads", "aging_pte_reads")
# The workload that the recorded reclaims had: populated by MADV_POPULATE_READ, then clear_refs.
POPULATED = "written,populated,cleared"
# docs/kernel-rules.md, section 4: the change by the batched look-around; on arm64 0.180 s in place of 0.470 s.
PUBLISHED = {"x86-64": -0.15, "arm64-4k": 0.180 / 0.470 - 1}
# docs/kernel-rules.md, section 8: instructions per page of order 4, x86 7.2, recorded after MADV_POPULATE_READ.
RECORDED = {"classic": 738, "MGLRU": 553}
CLASSIC_ACTIVE, MGLRU_POPULATED = "classic, all active, statistics unflushed", "MGLRU, written, populated, clear_refs"


def main(argv=None) -> dict:
    """Write the page; return the runs by what was run, and the prices that there are."""
    given = study.arguments(__file__, argv, __doc__, size="256MiB")
    page = study.Page(
        __file__,
        given,
        "The batched look-around, and classic or MGLRU",
        "Up to v7.0 the multi-gen LRU looks around once per PTE, since v7.1 once per batch. What does that buy? And "
        "what does MGLRU itself cost or save beside the classic LRU: reference checks, isolations, TLB flushes?",
        'The series "batched young check" (docs/kernel-rules.md, section 4), whose authors report 0.470 s before and '
        "0.180 s after on arm64 and about 15% on x86, without folio sizes and without saying how much was young.",
    )
    page.head("Simulated")
    page.text(
        f"{study.format_size(given.size)} of clean file folios of one order, mapped once, four fifths reclaimed "
        "through memory.reclaim in a memory cgroup that was never reclaimed. The folios were written, and then entries "
        "at random became young: none, 1 in 64, half, or all. With MGLRU the folios lie in generation 0 of 0 to 3 (in "
        "v6.12 in 1), with the classic LRU on the inactive list.",
        f"`{PER_PTE.name}` is {NEW} in everything but that it looks around once per entry: the pair of it and {NEW} "
        "shows the batching alone. v6.12 and v7.0 also differ from them in their loops, in the marks of a folio found "
        "young and in what a window passes over (docs/kernel-rules.md, section 9.9). v7.1 looks around as v7.2 does; "
        "the rest of its MGLRU is not known. The model's v6.12 and v7.2 were compared with recorded kernels; of v7.0 "
        "no kernel was counted, so its column rests on the rules alone.",
    )
    runs = _simulate(given.size)
    starts = _starts(given.size)
    facts = {"runs": runs, "starts": starts, "changes": {}, "lists": {}}
    _batching(page, runs, facts["changes"])
    _lists(page, runs, facts["lists"])
    _plots(page, runs)
    _answer(page, runs, facts)
    _flips(page, runs, starts, facts)
    page.write()
    return facts


def _simulate(size: int) -> dict:
    """Runs by (architecture, order, share, policy); as policy ``classic`` those of the newest on the classic LRU."""
    runs = {}
    for arch in ARCHES:
        for order in ORDERS:
            for share, young in SHARES.items():
                population = study.synthetic(arch, size, order, young=young)
                for name, policy in zip(NAMES, POLICIES, strict=True):
                    runs[arch, order, share, name] = study.reclaim(population, policy, arch, lru="mglru")
                runs[arch, order, share, "classic"] = study.reclaim(population, NEW, arch)
    return runs


def _starts(size: int) -> dict:
    """Runs at order 4, old entries, from other start states, by architecture and words."""
    found = {}
    for arch in ARCHES:
        for active in (False, True):
            population = study.synthetic(arch, size, 4, young=0.0, active=active)
            place = "active" if active else "inactive"
            for stats in ("unflushed", "flushed") if active else ("unflushed",):
                words = f"classic, all {place}" + (f", statistics {stats}" if active else "")
                found[arch, words] = study.reclaim(population, NEW, arch, lru_stats=stats)
        population = study.synthetic(arch, size, 4, young=0.0)
        found[arch, "MGLRU, written"] = study.reclaim(population, NEW, arch, lru="mglru")
        population = study.synthetic(arch, size, 4, young=0.0)
        population.lru_gen = LruGen(max_seq=5, min_seq_anon=4, min_seq_file=4)
        found[arch, "MGLRU, written, memory cgroup reclaimed before"] = study.reclaim(
            population, NEW, arch, lru="mglru"
        )
        population = study.synthetic(arch, size, 4, young=0.0, history=POPULATED)
        found[arch, "MGLRU, written, populated, clear_refs"] = study.reclaim(population, NEW, arch, lru="mglru")
        population = study.synthetic(arch, size, 4, young=0.0, sharing=2)
        found[arch, "classic, mapped by two processes"] = study.reclaim(population, NEW, arch)
        found[arch, "MGLRU, mapped by two processes"] = study.reclaim(population, NEW, arch, lru="mglru")
    return found


def _per_page(run, event: str) -> float:
    return run.events[event] / run.reclaimed_pages


def _check_loads(run) -> float:
    """PTE loads of the reference checks per reclaimed page."""
    return run.referenced_events["raw_pte_loads"] / run.reclaimed_pages


def _vectors(page, runs, keys) -> list:
    """The vectors of the runs' architecture that price what the runs are compared for; the page then names them."""
    arch = keys[0][0]
    counts = [runs[key].events.counts for key in keys]
    found = []
    for name in VECTORS[arch]:
        vector = study.cost.get(name)
        if not set(vector.unpriced(*counts)) & set(NEEDED):
            found.append(page.vector(name))
    return found


# Batching


def _batching(page, runs: dict, changes: dict) -> None:
    for arch in ARCHES:
        page.head(
            f"MGLRU on {arch}, per reclaimed page: look-arounds / entries read in windows / PTE loads of the check"
        )
        body = []
        for order in SHOWN:
            for share in SHARES:
                cells = []
                for name in NAMES:
                    run = runs[arch, order, share, name]
                    figures = _per_page(run, "look_arounds"), _per_page(run, "window_pte_reads"), _check_loads(run)
                    cells.append(" / ".join(map(study.number, figures)))
                body.append([str(order), share, *cells])
        page.table(["order", "young", *NAMES], body, left=2)
    page.text(
        "PTE loads are 8-byte loads inside `folio_referenced_one()`: of the walk, of batch scans, of young tests and "
        "of windows, and on arm64 the gathers over contpte blocks behind them. A folded block has one young bit there, "
        "so half and all differ little on arm64 from order 4 on. At 1 in 64 a window of 64 entries holds one young "
        "entry on average."
    )
    for arch in ARCHES:
        keys = [(arch, order, share, name) for order in ORDERS for share in SHARES for name in NAMES[2:]]
        for vector in _vectors(page, runs, keys):
            page.head(f"Predicted {vector.unit} per reclaimed page on {arch}, `{vector.name}`")
            body = []
            for order in ORDERS:
                for share in SHARES:
                    counts = {name: study.per_page(runs[arch, order, share, name]) for name in NAMES}
                    change = study.change(counts[PER_PTE.name], counts[NEW], vector)
                    changes[arch, vector.name, order, share] = change
                    if order in SHOWN:
                        prices = [f"{study.price(counts[name], vector).value:,.0f}" for name in NAMES]
                        body.append([str(order), share, *prices, study.percent(change)])
            page.table(["order", "young", *NAMES, f"{PER_PTE.name} -> {NEW}"], body, left=2)
            page.text(_kinds(vector))


def _kinds(vector) -> str:
    """What the vector takes for the look-around and for ageing, and where that comes from."""
    words = []
    for event in NEEDED:
        one = next((one for one in vector.costs if one.event == event), None)
        if one:
            words.append(f"`{event}` {one.value:.3g} ({one.low:.3g} to {one.high:.3g}, {one.kind})")
    return f"`{vector.name}` takes, in {vector.unit}: {'; '.join(words)}. One vector prices all four editions."


# Classic or MGLRU


def _lists(page, runs: dict, changes: dict) -> None:
    for arch in ARCHES:
        page.head(f"Classic LRU -> MGLRU, {NEW} on {arch}, per 1000 reclaimed pages")
        body = []
        for order in ORDERS:
            for share in ("none", "all"):
                pair = runs[arch, order, share, "classic"], runs[arch, order, share, NEW]
                cells = [
                    " -> ".join(study.number(1000 * _per_page(run, event)) for run in pair)
                    for event in ("tlb_flushes", "shrink_calls", "referenced_calls")
                ]
                cells.append(" -> ".join(study.number(1000 * _check_loads(run)) for run in pair))
                cells.append(study.number(1000 * _per_page(pair[1], "aging_pte_reads")))
                if arch == "arm64-4k":
                    cells.append(" -> ".join(study.number(1000 * _per_page(run, "young_flushes")) for run in pair))
                body.append([str(order), share, *cells])
        head = ["order", "young", "TLB flushes", "`shrink_calls`", "reference checks", "PTE loads of the checks"]
        head.append("entries read by ageing")
        if arch == "arm64-4k":
            head.append("flushes for young bits")
        page.table(head, body, left=2)
    page.text(
        "A TLB flush is a `try_to_unmap_flush()` that had something to flush; each costs IPIs on x86 and a barrier on "
        "arm64. A group whose folios are all kept flushes nothing."
    )
    for arch in ARCHES:
        keys = [(arch, order, share, name) for order in ORDERS for share in SHARES for name in ("classic", NEW)]
        for vector in _vectors(page, runs, keys):
            page.head(f"Classic LRU -> MGLRU, predicted {vector.unit} per reclaimed page on {arch}, `{vector.name}`")
            body = []
            for order in ORDERS:
                cells = []
                for share in SHARES:
                    before, after = (study.per_page(runs[arch, order, share, name]) for name in ("classic", NEW))
                    change = changes[arch, vector.name, order, share] = study.change(before, after, vector)
                    prices = [f"{study.price(counts, vector).value:,.0f}" for counts in (before, after)]
                    cells.append(f"{' -> '.join(prices)}, {study.percent(change)}")
                body.append([str(order), *cells])
            page.table(["order", *(f"young: {share}" for share in SHARES)], body)


def _answer(page, runs: dict, facts: dict) -> None:
    def of(name: str, event: str, order: int = 4, share: str = "all", arch: str = "x86-64") -> float:
        return _per_page(runs[arch, order, share, name], event)

    pairs = [[runs[arch, 0, share, name] for name in NAMES[2:]] for arch in ARCHES for share in SHARES]
    same = all(
        one.events[event] == other.events[event]
        for one, other in pairs
        for event in ("look_arounds", "window_pte_reads", "raw_pte_loads")
    )
    flushes = [1000 * of(name, "tlb_flushes", share="none") for name in ("classic", NEW)]
    young_flushes = [1000 * of(name, "tlb_flushes") for name in ("classic", NEW)]
    ratio = of(PER_PTE.name, "look_arounds", share="none") / of(NEW, "look_arounds", share="none")
    loads = {arch: [_check_loads(runs[arch, 4, "none", name]) for name in (PER_PTE.name, NEW)] for arch in ARCHES}
    page.answer(
        f"{'Nothing' if same else 'Little'} at order 0. At order 4 one look-around in place of {ratio:.0f} per folio, "
        f"and where all entries are young {of(NEW, 'window_pte_reads'):.1f} entries read in windows per page in place "
        f"of {of(PER_PTE.name, 'window_pte_reads'):.1f} (x86-64). MGLRU takes {flushes[1]:.0f} TLB flushes per 1000 "
        f"pages at order 4 where the classic LRU takes {flushes[0]:.0f}, if nothing is young.",
        f"With old entries the check of a page at order 4 loads {loads['x86-64'][0]:.1f} -> {loads['x86-64'][1]:.1f} "
        f"PTEs on x86-64 and {loads['arm64-4k'][0]:.0f} -> {loads['arm64-4k'][1]:.1f} on arm64-4k, where each entry of "
        "a folded block that is read or tested alone costs the block.",
        "With young entries the windows are what counts. v7.0 passes over the folio's own entries in them, so each PTE "
        f"that is young reads a window again: {of('v7.0', 'window_pte_reads'):.1f} entries per page at order 4, "
        f"{of('v7.0', 'window_pte_reads', 9):.1f} at order 9, where a folio fills its page table and no neighbour's "
        "window clears a part of it before. v6.12 clears the folio's own entries in the first window "
        f"and reads {of('v6.12', 'window_pte_reads'):.1f} and {of('v6.12', 'window_pte_reads', 9):.1f}. Batched, "
        f"{of(NEW, 'window_pte_reads'):.1f} and {of(NEW, 'window_pte_reads', 9):.2f} are left. So the batching also "
        "takes back most of what v7.0 lost against v6.12 (x86-64). At order 0, where there is nothing to batch, it "
        "does not: "
        f"{of('v6.12', 'window_pte_reads', 0):.1f} entries per page in v6.12, {of(NEW, 'window_pte_reads', 0):.1f} in "
        f"{NEW}.",
        "Where all entries are young MGLRU frees its groups only in part: a flush covers "
        f"{1000 / young_flushes[1]:.0f} pages at order 4, with the classic LRU {1000 / young_flushes[0]:.0f}. From "
        "order 6 on a group is one folio under either, and the flushes are the same. MGLRU never flushes for young "
        "bits, which the classic LRU does on arm64. But its checks read windows where the classic LRU clears a "
        "folio's own bits alone, and ageing reads every entry.",
    )
    body = []
    for words, changes in (
        ("the batching", facts["changes"]),
        (f"MGLRU, {NEW}, with all folios inactive", facts["lists"]),
    ):
        for arch, vector in dict.fromkeys((arch, vector) for arch, vector, *_ in changes):
            found = (
                study.percent(changes[arch, vector, order, share]) for order in (4, 9) for share in ("none", "all")
            )
            body.append([words, arch, f"`{vector}`", *found])
    if not body:
        page.text("No vector prices look-arounds and ageing, so these are events alone.")
        return
    page.text("Predicted change of a reclaim:")
    head = ["by", "architecture", "vector", "order 4, none young", "order 4, all young"]
    page.table([*head, "order 9, none young", "order 9, all young"], body, left=3)


def _flips(page, runs: dict, starts: dict, facts: dict) -> None:
    page.head("What would change this")
    page.text(
        "Where the folios come from decides how often MGLRU ages, and whether the classic LRU checks each folio twice. "
        f"Order 4, old entries, {NEW}, per 1000 reclaimed pages:"
    )
    body = []
    for (arch, words), run in starts.items():
        figures = [
            1000 * _per_page(run, event)
            for event in ("tlb_flushes", "referenced_calls", "active_passes", "look_arounds", "aging_pte_reads")
        ]
        body.append([words, arch, *map(study.number, figures), str(run.events["ages"])])
    head = ["start", "architecture", "TLB flushes", "reference checks", "active passes", "look-arounds"]
    page.table([*head, "entries read by ageing", "ageings in all"], body, left=2)
    _price_starts(page, starts)
    page.text(
        f"The published change of the batching is {study.signed_percent(PUBLISHED['arm64-4k'])} on arm64 and about "
        f"{study.signed_percent(PUBLISHED['x86-64'])} on x86, in time, of reclaims whose folio order, share of young "
        f"entries and start state are not given. {_against_published(facts)}"
    )
    for arch in ARCHES:
        keys = [(arch, 4, "none", name) for name in ("classic", NEW)]
        for vector in _vectors(page, runs, keys):
            before, after = (study.per_page(runs[key]) for key in keys)
            margin = before - after
            if not float(margin @ vector.values):
                continue
            cheaper = float(margin @ vector.values) > 0
            page.text(
                f"On {arch}, order 4, old entries: that MGLRU costs {'less' if cheaper else 'more'} than the classic "
                f"LRU holds in {study.support_words(margin if cheaper else -margin, vector)}. What the costs would "
                "have to be for the opposite:"
            )
            page.table(study.FLIP_HEAD, study.flip_rows(margin, before, after, vector))
            keys_batch = [(arch, 4, "all", name) for name in (PER_PTE.name, NEW)]
            before, after = (study.per_page(runs[key]) for key in keys_batch)
            gain = 1 - float(after @ vector.values) / float(before @ vector.values)
            page.text(
                f"The batching's predicted gain at order 4, all entries young, {study.signed_percent(-gain)}, would be "
                "half of that if costs were a multiple of what they are:"
            )
            page.table(
                study.FLIP_HEAD,
                study.flip_rows(study.gain_margin(before, after, gain / 2), before, after, vector),
            )


def _price_starts(page, starts: dict) -> None:
    body = []
    for arch in ARCHES:
        of = {key: run for key, run in starts.items() if key[0] == arch}
        for vector in _vectors(page, starts, list(of)):
            before = study.per_page(starts[arch, CLASSIC_ACTIVE])
            for (_, words), run in of.items():
                counts = study.per_page(run)
                change = study.percent(study.change(before, counts, vector))
                body.append(
                    [words, f"`{vector.name}`", f"{study.price(counts, vector).value:,.0f} {vector.unit}", change]
                )
    if not body:
        return
    page.text(f'Prices of these per reclaimed page, and the change from "{CLASSIC_ACTIVE}":')
    page.table(["start", "vector", "price", "change"], body, left=2)
    page.text(
        f"Recorded on x86, 7.2, after MADV_POPULATE_READ, which makes folios active on the classic LRU: "
        f"{RECORDED['classic']} instructions per page with the classic LRU, {RECORDED['MGLRU']} with MGLRU, "
        f"{study.signed_percent(RECORDED['MGLRU'] / RECORDED['classic'] - 1)} (docs/kernel-rules.md, section 8). That "
        "is "
        f'"{CLASSIC_ACTIVE}" against "{MGLRU_POPULATED}".'
    )


def _against_published(facts: dict) -> str:
    words = []
    for arch, vector in dict.fromkeys((arch, vector) for arch, vector, *_ in facts["changes"]):
        values = {
            key[2:]: change.value
            for key, change in facts["changes"].items()
            if key[:2] == (arch, vector) and key[2] > 0
        }
        low, high = min(values, key=values.get), max(values, key=values.get)
        near = min(values, key=lambda key: abs(values[key] - PUBLISHED[arch]))
        words.append(
            f"For folios of order 1 or more `{vector}` predicts between {study.signed_percent(values[low])} (order "
            f"{low[0]}, young: {low[1]}) and {study.signed_percent(values[high])} (order {high[0]}, young: {high[1]}); "
            f"nearest to the published change is {study.signed_percent(values[near])} (order {near[0]}, young: "
            f"{near[1]})."
        )
    return " ".join(words) or "Without a price of look-arounds this cannot be compared."


# Figures


def _plots(page, runs: dict) -> None:
    words = "PTE loads inside the reference checks; events, which depend on no cost."
    figure, axes = study.figure(page, 4, height=3.4, words=words)
    panels = [(arch, share) for arch in ARCHES for share in ("none", "all")]
    for ax, (arch, share) in zip(axes, panels, strict=True):
        series = {name: [_check_loads(runs[arch, order, share, name]) for order in ORDERS] for name in NAMES}
        study.lines(ax, list(ORDERS), series, legend=False)
        study.log_axis(ax)
        ax.set_ylim(1.5, 300)
        ax.set_xticks(list(ORDERS))
        study.titles(ax, f"{arch}, young: {share}", "folio order", "PTE loads per page (log)")
    _legend(figure, axes[0])
    page.plot(figure, "PTE loads of MGLRU's reference checks per reclaimed page, by folio order")
    words = f"{NEW}, x86-64; events, which depend on no cost."
    figure, axes = study.figure(page, 3, height=3.4, words=words)
    panels = (
        ("TLB flushes", "flushes per 1000 pages (log)", lambda run: 1000 * _per_page(run, "tlb_flushes")),
        ("shrink_folio_list()", "calls per 1000 pages (log)", lambda run: 1000 * _per_page(run, "shrink_calls")),
        ("Reference checks", "PTE loads per page (log)", _check_loads),
    )
    for ax, (title, label, figure_of) in zip(axes, panels, strict=True):
        series = {
            f"{words}, young: {share}": [figure_of(runs["x86-64", order, share, name]) for order in ORDERS]
            for name, words in (("classic", "classic"), (NEW, "MGLRU"))
            for share in ("none", "all")
        }
        study.lines(ax, list(ORDERS), series, legend=False)
        study.log_axis(ax)
        ax.set_xticks(list(ORDERS))
        study.titles(ax, title, "folio order", label)
    _legend(figure, axes[0])
    page.plot(figure, "Classic LRU and MGLRU by folio order", "lists")


def _legend(figure, ax) -> None:
    handles, labels = ax.get_legend_handles_labels()
    ax.get_figure().legend(
        handles, labels, loc="outside upper center", ncols=4, fontsize=study.TEXT, frameon=False, handlelength=3.5
    )


if __name__ == "__main__":
    main()
