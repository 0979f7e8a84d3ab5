"""``make mutants``: small faults planted in csrc one by one, and which of the checks notices each.

Each mutant is one replacement of text in one file, built as the C library and as the Python module. The checks are

* ``C``: the tests in tests/c, and ``fuzz``: the C lane (fast paths, identities of events, mapcounts and counters);
* ``check``: a part of the states of ``rmapfast check`` on every preset, compared with what it says of the code;
* ``vectors``: the vendored recorded vectors; ``twins``: cases of the lane fuzz-twins.

A check that takes ten times as long as it does without a fault, and five minutes at least, ``hangs``: a user would notice.

``python tests/mutants.py 3 17`` tries two of them. The exit status is 1 if one escapes all checks.
"""

# ruff: noqa: E501 (a fault a line reads as a table)

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CHECKS = ("C", "fuzz", "check", "vectors", "twins")
EITHER = "vectors or twins"


class Mutant(NamedTuple):
    """A fault: what it is, and the text of a file of csrc that is replaced."""

    what: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant("a batch leaves its last PTE", "unmap.c", "later = rmf_entries_clear(rmf_slots_at(slots, vpn) + 1, inside - 1);", "later = rmf_entries_clear(rmf_slots_at(slots, vpn) + 1, inside > 1 ? inside - 2 : 0);"),
    Mutant("mapcount off only across page 2", "folio.c", "unmapped += --mapcount[i] <= 0;", "unmapped += (mapcount[i] -= i != 2 || nr == 1) <= 0;"),
    Mutant("one marker too few", "unmap.c", "RMF_UFFD_WHOLE_BATCH ? unmap->nr : 1;", "RMF_UFFD_WHOLE_BATCH ? unmap->nr - (unmap->nr > 1) : 1;"),
    Mutant("soft-dirty lost on restore", "unmap.c", "set_ptes(unmap, unmap->pteval, unmap->nr);", "set_ptes(unmap, unmap->pteval & ~(rmf_pte)RMF_PTE_SOFT_DIRTY, unmap->nr);"),
    Mutant("young lost on restore", "unmap.c", "set_ptes(unmap, unmap->pteval, unmap->nr);", "set_ptes(unmap, unmap->pteval & ~(rmf_pte)RMF_PTE_YOUNG, unmap->nr);"),
    Mutant("write lost on restore", "unmap.c", "set_ptes(unmap, unmap->pteval, unmap->nr);", "set_ptes(unmap, unmap->pteval & ~(rmf_pte)RMF_PTE_WRITE, unmap->nr);"),
    Mutant("uffd-wp lost on restore", "unmap.c", "set_ptes(unmap, unmap->pteval, unmap->nr);", "set_ptes(unmap, unmap->pteval & ~(rmf_pte)RMF_PTE_UFFD_WP, unmap->nr);"),
    Mutant("soft-dirty lost in a swap entry", "unmap.c", "unmap->pteval & (RMF_PTE_SOFT_DIRTY | RMF_PTE_UFFD_WP)", "unmap->pteval & RMF_PTE_UFFD_WP"),
    Mutant("uffd-wp lost in a swap entry", "unmap.c", "unmap->pteval & (RMF_PTE_SOFT_DIRTY | RMF_PTE_UFFD_WP)", "unmap->pteval & RMF_PTE_SOFT_DIRTY"),
    Mutant("exclusive lost in a swap entry", "unmap.c", "if (exclusive)\n\t\tflags |= RMF_PTE_EXCLUSIVE;", "(void)exclusive;"),
    Mutant("exclusive always set in a swap entry", "unmap.c", "if (exclusive)\n\t\tflags |=", "(void)exclusive;\n\t\tflags |="),
    Mutant("exclusive stays at the page", "unmap.c", "rmf_pages_clear_flag(&unmap->pages, unmap->page + i, RMF_PAGE_EXCLUSIVE);", "(void)i;"),
    Mutant("shmem counted as file", "unmap.c", "return is_swapbacked(unmap) ? RMF_MM_SHMEMPAGES : RMF_MM_FILEPAGES;", "return RMF_MM_FILEPAGES;"),
    Mutant("anonymous pages counted as file", "unmap.c", "return RMF_MM_ANONPAGES;\n\treturn is_swapbacked", "return RMF_MM_FILEPAGES;\n\treturn is_swapbacked"),
    Mutant("references off by one from batches of 3 on", "unmap.c", "folio_refcount[unmap->folio] -= (int32_t)nr;", "folio_refcount[unmap->folio] -= (int32_t)(nr - (nr > 2));"),
    Mutant("stale nr at a device entry", "unmap.c", "if (run->policy.nr_reset)\n\t\t\tunmap.nr = 1;", "if (run->policy.nr_reset && !unmap.walk.crossed)\n\t\t\tunmap.nr = 1;"),
    Mutant("nr is never reset", "unmap.c", "if (run->policy.nr_reset)\n\t\t\tunmap.nr = 1;", "if (0)\n\t\t\tunmap.nr = 1;"),
    Mutant("a batch is capped at 7", "folio_batch.c", "return nr < max_nr ? nr : max_nr;", "nr = nr < max_nr ? nr : max_nr;\n\treturn nr < 7 ? nr : 7;"),
    Mutant("a batch is capped at 16", "folio_batch.c", "return nr < max_nr ? nr : max_nr;", "nr = nr < max_nr ? nr : max_nr;\n\treturn nr < 16 ? nr : 16;"),
    Mutant("no markers where a dirty batch exceeds 2", "unmap.c", "!(unmap->pteval & RMF_PTE_UFFD_WP))\n\t\treturn;", "!(unmap->pteval & RMF_PTE_UFFD_WP) ||\n\t    (unmap->nr > 2 && (unmap->pteval & RMF_PTE_DIRTY)))\n\t\treturn;"),
    Mutant("markers in anonymous VMAs too", "unmap.c", "if ((unmap->vma_flags & RMF_VMA_ANON) || !(unmap->vma_flags & RMF_VMA_UFFD_WP)", "if (!(unmap->vma_flags & RMF_VMA_UFFD_WP)"),
    Mutant("UFFD_ARMED is no reason to keep an unused entry", "unmap.c", "(RMF_VMA_UFFD_WP | RMF_VMA_UFFD_ARMED)", "RMF_VMA_UFFD_WP"),
    Mutant("an unused entry is not dropped", "unmap.c", "if (rmf_pte_present(unmap->pteval) && (unmap->pteval & RMF_PTE_UNUSED) &&", "if (0 && (unmap->pteval & RMF_PTE_UNUSED) &&"),
    Mutant("swap offset by one", "unmap.c", "pop->folio_swap[unmap->folio] + unmap->page,", "pop->folio_swap[unmap->folio] + unmap->page + 1,"),
    Mutant("swap offset of the folio for every page", "unmap.c", "pop->folio_swap[unmap->folio] + unmap->page,", "pop->folio_swap[unmap->folio],"),
    Mutant("pinned pages are unmapped", "unmap.c", "if (exclusive && (*folio_flags(unmap) & RMF_FOLIO_PINNED)) {", "if (exclusive && (*folio_flags(unmap) & 0)) {"),
    Mutant("no swap_puts for a pinned page", "unmap.c", "rmf_count(unmap->run, RMF_SWAP_PUTS, 1);", ""),
    Mutant("locked VMAs are unmapped", "unmap.c", "if (!(ttu & RMF_TTU_IGNORE_MLOCK) && (vma_flags & RMF_VMA_LOCKED)) {", "if (0 && (vma_flags & RMF_VMA_LOCKED)) {"),
    Mutant("a folio of a locked VMA is not mlocked", "unmap.c", "if (walk->pmd || !walk->crossed)\n\t\trmf_mlock_vma_folio(unmap->run, unmap->folio);", "(void)walk;"),
    Mutant("lazyfree ignores references", "unmap.c", "if (pop->folio_refcount[unmap->folio] != 1 + pop->folio_mapcount[unmap->folio])", "if (0 && pop)"),
    Mutant("lazyfree ignores dirty", "unmap.c", "if ((*folio_flags(unmap) & RMF_FOLIO_DIRTY) && !(unmap->vma_flags & RMF_VMA_DROPPABLE))", "if (0)"),
    Mutant("a held lazyfree folio becomes swapbacked", "unmap.c", ": why == DISCARD_DIRTY;", ": why != DISCARD_OK;"),
    Mutant("restored blocks are not folded", "unmap.c", "rmf_contpte_fold(&unmap->walk.slots, unmap->walk.vpn, unmap->nr, unmap->walk.folio_pfn,\n\t\t\t unmap->walk.nr_pages);", ""),
    Mutant("blocks are not unfolded at the end of a range", "contpte.c", "if (((last + 1) & slots->cont_mask) && is_folded(slots, last))\n\t\tunfold(slots, last);", "(void)last;"),
    Mutant("the hint of a block is one too long", "contpte.h", "return slots->cont_mask + 1 - (vpn & slots->cont_mask);", "return slots->cont_mask + 2 - (vpn & slots->cont_mask);"),
    Mutant("TLB range short by one", "unmap.c", "unmap->pteval, unmap->walk.vpn, cleared);", "unmap->pteval, unmap->walk.vpn, cleared - (cleared > 1));"),
    Mutant("no TLB flush of a clean entry", "tlb.c", "rmf_count(run, RMF_TLB_DEFERRED, 1);", "if (!(pte & RMF_PTE_DIRTY))\n\t\treturn;\n\trmf_count(run, RMF_TLB_DEFERRED, 1);"),
    Mutant("tlb_writable is not set", "tlb.c", "run->tlb_writable = true;\n\tif (run->arch.tlb == RMF_TLB_ARM64)", "run->tlb_writable |= false;\n\tif (run->arch.tlb == RMF_TLB_ARM64)"),
    Mutant("an abort says success", "unmap.c", "} else if (!unmap_entries(&unmap, &done)) {\n\t\t\tret = false;", "} else if (!unmap_entries(&unmap, &done)) {"),
    Mutant("the folio is not made dirty", "unmap.c", "*folio_flags(unmap) |= RMF_FOLIO_DIRTY;\n\t\t\trmf_count(run, RMF_FOLIOS_DIRTIED, 1);\n\t\t}\n\t} else {", "rmf_count(run, RMF_FOLIOS_DIRTIED, 1);\n\t\t}\n\t} else {"),
    Mutant("dirty of later entries is lost", "unmap.c", "return later & RMF_PTE_DIRTY ? rmf_pte_mkdirty(&unmap->run->arch, first) : first;", "return first;"),
    Mutant("young of later entries is lost", "unmap.c", "first |= later & RMF_PTE_YOUNG;", ""),
    Mutant("a failed swap dup is ignored", "unmap.c", "RMF_PAGE_SWAP_DUP_FAIL)\n\t\t\treturn false;", "RMF_PAGE_SWAP_DUP_FAIL)\n\t\t\treturn true;"),
    Mutant("swap dup looks at the first page alone", "unmap.c", "for (uint64_t i = 0; i < unmap->nr; i++)\n\t\tif (rmf_pages_flags(&unmap->pages, unmap->page + i) & RMF_PAGE_SWAP_DUP_FAIL)", "for (uint64_t i = 0; i < 1; i++)\n\t\tif (rmf_pages_flags(&unmap->pages, unmap->page + i) & RMF_PAGE_SWAP_DUP_FAIL)"),
    Mutant("a batch mixes exclusive and shared pages", "unmap.c", "if (is_anon(unmap) && is_swapbacked(unmap))\n\t\tnr = rmf_anon_exclusive_batch(&unmap->pages, unmap->page, nr);", ""),
    Mutant("the scan ignores write though it respects it", "folio_batch.c", "if (!(flags & RMF_FPB_RESPECT_WRITE))\n\t\tignored |=", "ignored |="),
    Mutant("the scan compares dirty", "folio_batch.c", "if (!(flags & RMF_FPB_RESPECT_DIRTY))\n\t\tignored |= RMF_PTE_DIRTY;", ""),
    Mutant("a scan leaves the table though it clips", "slots.h", "return (last < slots->vma_end ? last + 1 : slots->vma_end) - vpn;", "return slots->vma_end - vpn + 0 * last;"),
    Mutant("a scan leaves the VMA though it clips", "slots.h", "return (last < slots->vma_end ? last + 1 : slots->vma_end) - vpn;", "return last + 1 - vpn;"),
    Mutant("the walk ends after any batch", "unmap.c", "return unmap->nr == unmap->walk.nr_pages;", "return unmap->nr > 1;"),
    Mutant("the walk skips one entry too many", "unmap.c", "rmf_walk_skip(&unmap->walk, unmap->nr - 1);", "rmf_walk_skip(&unmap->walk, unmap->nr);"),
    Mutant("the mm counter of a batch falls by one", "unmap.c", "batches ? -(int64_t)unmap->nr : -1);\n\treturn true;", "-1);\n\treturn true;"),
    Mutant("swap entries are not counted", "unmap.c", "add_mm_counter(unmap, RMF_MM_SWAPENTS, (int64_t)unmap->nr);", ""),
    Mutant("munlock in a VMA that is not locked", "folio.c", "if (!(run->pop.vma_flags[vma] & RMF_VMA_LOCKED))\n\t\treturn;", ""),
    Mutant("mapped statistic off by one", "folio.c", "run->mapped_stat -= nr;\n\t\tpartial", "run->mapped_stat -= nr + (nr > 1);\n\t\tpartial"),
    Mutant("deferred split asked for a whole folio", "folio.c", "partial = nr > 0 && pop->folio_nr_pages_mapped[pages->folio] != 0;", "partial = nr > 0;"),
    Mutant("the memo frees one folio too few", "regular_body.h", "for (uint64_t i = 0; i < m; i++)\n\t\t\tpop->folio_flags[folio + i] = regular->flags_after;", "for (uint64_t i = 0; i + 1 < m; i++)\n\t\t\tpop->folio_flags[folio + i] = regular->flags_after;"),
    Mutant("the memo does not look at refcounts", "regular_body.h", "(uint32_t)(refcount[i] ^ regular->refcount) |", ""),
    Mutant("the memo takes a folio that crosses a table", "memo.h", "if ((*vpn + nr - 1) >> shift != table ||", "if (0 ||"),
    Mutant("young batch of one", "referenced.c", "nr = young_batch(&walk, folio);", "nr = 1 + 0 * young_batch(&walk, folio);"),
)  # fmt: skip


def run(folder, *command, seconds=900, **variables):
    """Run a command in a folder; (exit status, output). After so many seconds all that it started is killed."""
    with subprocess.Popen(
        command, cwd=folder, env=os.environ | variables, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as child:  # fmt: skip
        try:
            out, _ = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise
    return child.returncode, out


# A part of the states of ``rmapfast check``, spread over all families: some seconds in place of a minute. What this part
# notices the whole check notices too: the drawn states of a family are the first ones of the default run.
_CHECK = """
import json, rmapfast as rf
from rmapfast.verify.checker import unmap_rules
from rmapfast.verify.states import Scope
scope, arch, oracle = Scope(4, drawn=2_400), rf.arch.get("x86-64"), rf.policy.get("per-page")
found = []
for number, family in enumerate(scope.families):
    rules = list(dict.fromkeys(unmap_rules(one, family.kind, family.anon_vma, family.uffd_wp)
                               for one in rf.policy.PRESETS.values()))
    for part in range(8):
        first = family.states * part // 8
        end = min(first + 300, family.states)
        if first < end:
            found.append(repr(scope.run(number, first, end, oracle, rules, arch)))
print(json.dumps(found))
"""


def make(folder, base=None):
    """Build the C library, the C lane and the Python module in a folder.

    `base` is another folder, in which all was built already. The wrapper of the module is taken from there: it has none
    of the rules.
    """
    flags = ["CFLAGS=-O1 -fPIC", "WERROR="]
    wrapper = "build/core.o"
    commands = [["make", "-s", "-C", "csrc", *flags, "build/librmapfast.a", "build/fuzz"]]
    if base is None:
        includes = [f"-I{sysconfig.get_paths()['include']}", f"-I{np.get_include()}", "-Icsrc", "-Irmapfast/include"]
        (folder / "build").mkdir()
        commands += [
            [sys.executable, "-m", "cython", "-3", "-X", "binding=True", "rmapfast/_core.pyx"],
            ["cc", "-O1", "-fPIC", "-fwrapv", *includes, "-c", "rmapfast/_core.c", "-o", wrapper],
        ]
    module = f"rmapfast/_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    commands.append(["cc", "-shared", wrapper, "csrc/build/librmapfast.a", "-o", module])
    for command in commands:
        status, out = run(folder, *command)
        if status:
            raise RuntimeError(f"does not build: {out[-2000:]}")


def tried(mutant, base, expected, limits):
    """What each check says of a mutant: "-", "caught" or "hangs"; and the seconds that each took.

    `limits` are the seconds after which a check hangs.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "tree"
        shutil.copytree(base, folder, symlinks=True)
        path = folder / "csrc" / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            raise RuntimeError(f"{mutant.what}: {mutant.file} has the text {text.count(mutant.old)} times")
        path.write_text(text.replace(mutant.old, mutant.new))
        make(folder, base)
        python = {"PYTHONPATH": str(folder), "HYPOTHESIS_PROFILE": "ci", "FUZZ_N": "800"}
        vectors = sorted(map(str, (folder / "tests" / "data" / "conformance").glob("*.jsonl.gz")))
        said, seconds = {}, {}
        for check, call in (
            ("C", ["make", "-s", "-C", "csrc", "CFLAGS=-O1 -fPIC", "WERROR=", "test"]),
            ("fuzz", ["csrc/build/fuzz", "40000"]),
            ("check", [sys.executable, "-c", _CHECK]),
            ("vectors", [sys.executable, "-m", "rmapfast", "conformance", *vectors]),
            ("twins", [sys.executable, "tests/fuzz_twins.py"]),
        ):
            begun = time.monotonic()
            try:
                status, out = run(folder, *call, seconds=limits[check], **python)
                noticed = status or (check == "check" and out != expected)
                said[check] = "caught" if noticed else "-"
            except subprocess.TimeoutExpired:
                said[check] = "hangs"
            seconds[check] = time.monotonic() - begun
        return said, seconds


def main(numbers):
    """Try the mutants of these numbers, or all; print who caught what."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        shutil.copytree(ROOT, base, symlinks=True, ignore=shutil.ignore_patterns(".git", ".venv", "build", "build-*"))
        make(base)
        status, expected = run(base, sys.executable, "-c", _CHECK, PYTHONPATH=str(base))
        if status:
            raise RuntimeError(f"the checker fails: {expected[-2000:]}")
        nothing = MUTANTS[0]._replace(new=MUTANTS[0].old)
        said, seconds = tried(nothing, base, expected, dict.fromkeys(CHECKS, 900))
        if noise := [check for check in CHECKS if said[check] != "-"]:
            raise RuntimeError(f"the code without a fault fails {', '.join(noise)}")
        limits = {check: max(300, 10 * seconds[check]) for check in CHECKS}
        chosen = [MUTANTS[number - 1] for number in numbers] or MUTANTS
        caught = dict.fromkeys((*CHECKS, EITHER), 0)
        escaped = 0
        print(f"{'mutant':<52}" + "".join(f"{check:>9}" for check in CHECKS), flush=True)
        with ThreadPoolExecutor(int(os.environ.get("JOBS", os.cpu_count() or 1))) as pool:
            results = pool.map(lambda one: tried(one, base, expected, limits), chosen)
            for mutant, (said, _) in zip(chosen, results, strict=True):
                print(f"{mutant.what:<52}" + "".join(f"{said[check]:>9}" for check in CHECKS), flush=True)
                found = [check for check in CHECKS if said[check] != "-"]
                escaped += not found
                for check in found:
                    caught[check] += 1
                caught[EITHER] += "vectors" in found or "twins" in found
        shares = "".join(f"{caught[check]}/{len(chosen)}".rjust(9) for check in CHECKS)
        print(f"{'caught':<52}{shares}")
        print(f"{EITHER:<52}{caught[EITHER]}/{len(chosen)}")
    print(f"mutants: {len(chosen)} in {time.monotonic() - begun:.0f} s, {escaped} escaped all checks")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main([int(number) for number in sys.argv[1:]]))
