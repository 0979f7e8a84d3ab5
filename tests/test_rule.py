"""Batching rules in C: the built-in policies restated give the same, wrong rules are found or refused."""

import ctypes
import json
import pickle
import re
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_populations import random_arch, random_population
from test_fast_paths import irregular_population
from test_twins import assert_same_call, assert_same_state

import rmapfast as rf
import rmapfast._core as _core
from rmapfast import calls
from rmapfast import rule as rules
from rmapfast.verify import check_cases, random_cases
from rmapfast.verify.cases import case_arch, case_population

DATA = Path(__file__).parent / "data" / "rules"
FILE = DATA / "restated.c"
# The preset that a function of the file restates, and whose other rules hold around it.
RESTATED = {"one": "per-page", "v7_0": "v7.0", "v6_15": "v6.15", "anon_swap": "anon-swap"}
PAIRS = list(RESTATED.items())
NONSENSE = {"none": "got 0", "one_too_many": "got 17"}


def policy_of(name, around="v7.0"):
    return rf.policy.get(around).replace(name=name, rule=f"{FILE}:{name}")


def assert_same(one, other):
    """Two results count the same and, where both have populations, leave the same."""
    np.testing.assert_array_equal(one.events.counts, other.events.counts)
    np.testing.assert_array_equal(one.referenced_events.counts, other.referenced_events.counts)
    assert one.batch_lengths == other.batch_lengths
    assert (one.after is None) == (other.after is None)
    if one.after is not None:
        assert_same_state(one.after, other.after)


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=200, deadline=None)
@given(seeds, st.sampled_from(PAIRS))
def test_restated_on_irregular_populations(seed, pair):
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(list(rf.arch.PRESETS))))
    population = irregular_population(rng, arch)
    shared = {
        "arch": arch,
        "entry": str(rng.choice(["memory.reclaim", "memory.reclaim", "pageout"])),
        "swap": bool(rng.random() < 0.8),
    }
    target = int(rng.integers(1, 2 * population.nr_pages + 2)) << arch.page_shift
    built_in = rf.reclaim(population, target, policy=pair[1], **shared)
    for engine in ("c", "general"):
        assert_same(rf.reclaim(population, target, policy=policy_of(*pair), engine=engine, **shared), built_in)


@settings(max_examples=200, deadline=None)
@given(seeds, st.sampled_from(PAIRS), st.integers(1, 200))
def test_restated_on_odd_states(seed, pair, target):
    arch = random_arch(np.random.default_rng(seed))
    population = random_population(seed, arch)
    built_in, own = (
        rf.reclaim(population, target << arch.page_shift, policy=policy, arch=arch, swap=1000 << arch.page_shift)
        for policy in (pair[1], policy_of(*pair))
    )
    assert_same(own, built_in)


@settings(max_examples=100, deadline=None)
@given(seeds, st.sampled_from([*PAIRS, ("looks", "v7.0"), ("looks", "v7.3"), ("unclipped", "v6.16")]))
def test_the_reference_asks_the_same(seed, pair):
    arch = random_arch(np.random.default_rng(seed))
    population = random_population(seed, arch)
    compiled, reference = (
        rf.reclaim(population, 50 << arch.page_shift, policy=policy_of(*pair), arch=arch, engine=engine)
        for engine in ("c", "reference")
    )
    assert_same(compiled, reference)


@pytest.mark.parametrize(("name", "preset"), PAIRS)
def test_single_unmaps(name, preset):
    """With each set of TTU flags, poisoned pages among them."""
    steps = 0
    for number, case in enumerate(random_cases(5, 150)):
        ttu = {flag for flag in ("BATCH_FLUSH", "SYNC", "IGNORE_MLOCK", "HWPOISON") if number & _core.TTU_FLAGS[flag]}
        own, built_in = case_population(case), case_population(case)
        found, expected = (
            calls.try_to_unmap_one(one, 0, 0, policy=policy, arch=case_arch(case), ttu=ttu, guard=case["guard"])
            for one, policy in ((own, policy_of(name, preset)), (built_in, preset))
        )
        assert_same_call(found, expected)
        assert_same_state(own, built_in)
        steps += expected.events["batches"]
    assert steps > 150


@pytest.mark.parametrize(("name", "preset"), PAIRS)
@pytest.mark.parametrize("threads", [1, 3])
def test_block_by_block_and_on_threads(name, preset, threads):
    population = rf.Population.described("48MiB", orders="0:10,4:70,9:20", young=0.03, sharing=2)
    own = rf.reclaim(population, "20MiB", policy=policy_of(name, preset), threads=threads)
    assert own.after is None
    assert_same(own, rf.reclaim(population, "20MiB", policy=preset))


def test_in_worker_processes():
    population = rf.Population.described("24MiB", orders=4)
    own = rf.reclaim(population, "20MiB", policy=f"{FILE}:v7_0", executor="processes", workers=2)
    assert_same(own, rf.reclaim(population, "20MiB", policy="v7.0"))


def test_madvise():
    population = rf.Population.synthetic("8MiB", kind="lazyfree", orders="0,4")
    own, built_in = (rf.madvise(population, "MADV_PAGEOUT", policy=policy) for policy in (policy_of("v7_0"), "v7.0"))
    assert_same(own, built_in)


def test_a_python_function_that_says_the_same():
    def v7_0(folio, vma, walk, pte):
        if not folio.large or "HWPOISON" in walk.ttu or pte.unused or vma.uffd_wp or folio.kind == "anon":
            return 1
        return walk.batch(walk.room(), ["WRITE", "SOFT_DIRTY"])

    for seed in range(20):
        population = random_population(seed, rf.arch.get("x86-64"))
        in_python = rf.reclaim(population, "200KiB", policy=v7_0, engine="reference", arch="x86-64")
        assert_same(rf.reclaim(population, "200KiB", policy=policy_of("v7_0"), arch="x86-64"), in_python)


# The checker


@pytest.mark.parametrize(("name", "preset"), PAIRS)
def test_every_small_state(name, preset):
    report = rf.check([policy_of(name, preset), preset], pages=2, budget=600, folios=0)
    own, built_in = ({one.invariant: one.count for one in policy.violations} for policy in report.policies)
    assert report.complete and own == built_in


def test_an_unclipped_rule_is_found():
    report = rf.check([policy_of("unclipped")], pages=2, budget=600, folios=0)
    violations = {one.invariant: one for one in report.policies[0].violations}
    # a rule of one's own has no history, though that of v7.0 around it has
    assert "out-of-bounds" in violations and violations["accounting"].history == ""


def test_an_unclipped_rule_for_16_pages_is_found_where_there_are_16():
    report = check_cases(random_cases(1, 3000), [policy_of("unclipped_16")], budget=600)
    found = {one.invariant: one.example for one in report.policies[0].violations}
    assert 1 << found["out-of-bounds"]["folio"]["order"] >= 16


def test_nonsense_ends_the_check():
    with pytest.raises(ValueError, match=r"policy.rule: must return from 1 to 1, the pages left in folio 0 at vpn"):
        rf.check([policy_of("none")], pages=1)


# Nonsense


@pytest.mark.parametrize("name", NONSENSE)
@pytest.mark.parametrize("engine", ["c", "general", "reference"])
def test_nonsense_ends_the_run(name, engine):
    population = rf.Population.synthetic("1MiB", orders=4)
    first = int(population.vma_start[0])
    said = rf"from 1 to 16, the pages left in folio 0 at vpn {first}, {NONSENSE[name]}"
    with pytest.raises(ValueError, match=said):
        rf.reclaim(population, "1MiB", policy=policy_of(name), engine=engine)
    with pytest.raises(ValueError, match=said):
        rf.madvise(population, "MADV_PAGEOUT", policy=policy_of(name), engine=engine)


def test_nonsense_is_named_by_its_folio_and_entry():
    population = rf.Population.described("24MiB", orders="2:1,3:1", young=0.0)
    order = rf.Population.of(population).folio_order
    folio = int(np.argmax(order == 3))
    vpn = population.vpn + int((1 << order[:folio].astype(int)).sum()) + 5
    for threads in (1, 2):
        with pytest.raises(ValueError, match=rf"left in folio \d+ at vpn {vpn}, got 0") as error:
            rf.reclaim(population, "24MiB", policy=policy_of("late_nonsense"), threads=threads)
        assert f"folio {folio} " in str(error.value)


def test_nonsense_of_a_single_call():
    population = rf.Population.synthetic("64KiB", orders=4)
    with pytest.raises(ValueError, match="from 1 to 16, the pages left in folio 0"):
        rf.try_to_unmap_one(population, 0, 0, policy=policy_of("none"))


def test_a_rule_that_changes_its_mind_is_found_by_the_check():
    said = r"policy\.rule: must return the same for the same call, got 1 and then 2 for folio 0 at vpn"
    with pytest.raises(ValueError, match=said):
        rf.check([policy_of("counts")], pages=2, folios=0, threads=1)
    with pytest.raises(ValueError, match=said.replace("rule", "young_rule")):
        rf.check([rf.policy.get(f"{FILE}:+counts")], pages=2, young=True, threads=1)


def test_nonsense_of_the_policy_that_is_compared_with():
    with pytest.raises(ValueError, match=r"policy\.rule: must return from 1 to 1"):
        rf.check(["v7.0"], pages=1, against=policy_of("none"))


def test_bits_that_count_under_nonsense():
    scope = _core.CheckScope(2, False, False, 0, 0)
    with pytest.raises(
        ValueError, match=r"policy\.rule: must return from 1 to 2, .* of a state of folios with 2 pages"
    ):
        for family in range(len(scope)):
            states = scope.family(family)["states"]
            scope.counted_bits(family, 0, states, policy_of("one_too_many"), rf.arch.get("x86-64"))


# Young rules


def young_policy(name, around="v7.0"):
    return rf.policy.get(around).replace(name=name, young_rule=f"{FILE}:{name}")


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_a_restated_young_rule(seed):
    """Of single pages the built-in check does not read the entry to scan, so they count otherwise."""
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(list(rf.arch.PRESETS))))
    population = rf.Population.synthetic(
        "2MiB", arch=arch, orders=str(rng.choice(["4", "2", "9", "1:1,4:3"])), phase=int(rng.choice([0, 1, 500])),
        young=float(rng.choice([0.0, 0.1, 0.5, 1.0])), holes=float(rng.choice([0.0, 0.1])),
        sharing=int(rng.integers(1, 3)),
    )  # fmt: skip
    shared = {"arch": arch, "lru": str(rng.choice(["classic", "mglru"])), "swap": True}
    around = str(rng.choice(["v7.0", "v7.2", "v7.3"])) if shared["lru"] == "classic" else "v7.2"
    built_in = rf.reclaim(population, "1MiB", policy=around, **shared)
    for engine in ("c", "general", "reference"):
        assert_same(
            rf.reclaim(population, "1MiB", policy=young_policy("young", around), engine=engine, **shared), built_in
        )


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from(["young", "one", "looks", "by_place", "by_bits", "in_pairs", "all"]))
def test_the_reference_asks_a_young_rule_the_same(seed, name):
    arch = random_arch(np.random.default_rng(seed))
    population = random_population(seed, arch)
    compiled, reference = (
        rf.reclaim(population, 50 << arch.page_shift, policy=young_policy(name), arch=arch, engine=engine)
        for engine in ("c", "reference")
    )
    assert_same(compiled, reference)


@pytest.mark.parametrize("engine", ["c", "reference"])
def test_a_young_rule_in_python_and_in_c(engine):
    def in_pairs(folio, vma, walk):
        return 1 if min(walk.room(), folio.nr_pages - folio.page(walk.pte)) < 2 else walk.batch(2)

    population = rf.Population.synthetic("1MiB", orders="0,2,4", holes=0.1, young=0.3)
    python = rf.reclaim(population, "512KiB", policy=rf.YoungRule(batch=in_pairs, around="v7.0"), engine="reference")
    assert_same(rf.reclaim(population, "512KiB", policy=young_policy("in_pairs"), engine=engine), python)
    assert python.policy_name == "in_pairs"
    with pytest.raises(ValueError, match="a Python function runs on the reference only"):
        rf.reclaim(population, "512KiB", policy=rf.YoungRule(batch=in_pairs), engine="c")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_young_rule_block_by_block(threads):
    population = rf.Population.described("24MiB", orders=4, young=0.03)
    own = rf.reclaim(population, "10MiB", policy=young_policy("young"), threads=threads)
    assert_same(own, rf.reclaim(population, "10MiB", policy="v7.0"))


@pytest.mark.parametrize(("name", "got"), [("none", 0), ("beyond_room", 17)])
@pytest.mark.parametrize("engine", ["c", "general", "reference"])
@pytest.mark.parametrize("lru", ["classic", "mglru"])
def test_nonsense_of_a_young_rule(name, got, engine, lru):
    population = rf.Population.synthetic("1MiB", orders=4)
    first = int(population.vma_start[0])
    said = rf"from 1 to 16, the entries left of page table, VMA and folio \d+ at vpn \d+, got {got}$"
    with pytest.raises(ValueError, match=said) as error:
        rf.reclaim(population, "1MiB", policy=young_policy(name), engine=engine, lru=lru)
    folio, vpn = (int(re.search(rf"{what} (\d+)", str(error.value))[1]) for what in ("folio", "vpn"))
    assert vpn == first + 16 * folio


def test_nonsense_of_a_young_rule_of_a_single_call():
    population = rf.Population.synthetic("64KiB", orders=4)
    with pytest.raises(ValueError, match=r"policy\.young_rule: must return from 1 to 16"):
        rf.folio_referenced_one(population, 0, 0, policy=young_policy("none"), arch="x86-64")
    with pytest.raises(ValueError, match=r"policy\.young_rule: must return from 1 to"):
        rf.check([young_policy("none")], young=True, pages=1, threads=1)


def test_a_young_rule_is_checked():
    right, wrong = rf.check([young_policy("young"), young_policy("all")], young=True, pages=2, budget=600).policies
    assert right.clean
    # it takes entries for the folio's that are not
    assert {one.invariant for one in wrong.violations} >= {"outside-window", "final-state"}


def test_a_name_stands_for_both_kinds():
    both = rf.policy.get(f"{FILE}:v7_0+young")
    assert both.name == "restated.c:v7_0+young"
    assert both.rule.startswith(f"{FILE}:v7_0#") and both.young_rule.startswith(f"{FILE}:young#")
    one = rf.policy.get(f"{FILE}:+young")
    assert one.name == "restated.c:+young" and not one.rule and one == both.replace(name=one.name, rule="")
    assert pickle.loads(pickle.dumps(both)) == both
    with pytest.raises(ValueError, match=r"^policy\.young_rule: .* has no function uint32_t gone\(call\)"):
        rf.policy.get(f"{FILE}:v7_0+gone")
    with pytest.raises(ValueError, match=r"^policy\.young_rule: expected FILE.c:NAME or a function pointer"):
        rf.Policy("mine", young_rule="own")
    with pytest.raises(TypeError, match=r"^policy\.young_rule: a function pointer cannot be pickled"):
        pickle.dumps(rf.Policy("mine", young_rule=rules.Rule(lambda call: 1)))


def test_a_pointer_is_checked_in_its_process(library):
    loaded = ctypes.CDLL(str(library))
    policy = rf.policy.get("v7.0").replace(name="mine", rule=loaded.v7_0, young_rule=loaded.young)
    for mode in ("young", "splits"):
        assert rf.check([policy], pages=1, budget=600, threads=2, **{mode: True}).clean


def test_a_young_rule_in_a_sweep_and_on_the_command_line(run, source):
    axis = ["", f"{source}:young"]
    memory = {"population.size": "1MiB", "population.orders": "4", "target": "512KiB"}
    swept = rf.sweep({"policy": "v7.0", "policy.young_rule": axis, **memory})
    none, young = (record["events"] for record in swept.records.values())
    assert none == young and not swept.failures
    status, out, err = run("check", "--young", "--pages", "1", "--policy", f"{source}:+young", "--json")
    assert status == 0, err
    assert json.loads(out)["policies"][0]["policy"] == "own.c:+young"
    status, _, err = run("check", "--young", "--pages", "1", "--policy", f"{source}:+none")
    assert status == 2 and err.count("\n") == 1 and "policy.young_rule: must return from 1 to 1" in err


# Function pointers


def test_a_function_of_ctypes():
    population = rf.Population.synthetic("1MiB", orders=4)
    asked = []

    @rules.Rule
    def clipped(call):
        asked.append(call.contents.page)
        return call.contents.folio_pte_batch(call, call.contents.room, 4 | 2)

    policy = rf.policy.get("v7.0").replace(name="mine", rule=clipped)
    assert_same(rf.reclaim(population, "512KiB", policy=policy), rf.reclaim(population, "512KiB", policy="v7.0"))
    assert asked and set(asked) == {0}
    assert policy.replace(name="other").rule == policy.rule and hash(policy.replace(name="mine")) == hash(policy)


@pytest.fixture
def library(tmp_path):
    """The file as a library of the user's own."""
    path = tmp_path / "own.so"
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{rf.get_include()}", FILE, "-o", path], check=True)
    return path


def test_a_pointer_stays_in_its_process(library):
    loaded = ctypes.CDLL(str(library))
    policy = rf.policy.get("v7.0").replace(name="mine", rule=loaded.v7_0)
    with pytest.raises(TypeError, match=r"cannot be pickled or used in other processes; give FILE\.c:NAME"):
        pickle.dumps(policy)
    population = rf.Population.described("24MiB", orders=4)
    with pytest.raises(TypeError, match="cannot be pickled or used in other processes"):
        rf.reclaim(population, "20MiB", policy=policy, executor="processes", workers=2)
    with pytest.raises(ValueError, match="pointer:0x10 is known only in the process that had the function"):
        rf.reclaim(rf.Population.synthetic("1MiB"), "1MiB", policy=rf.Policy("mine", rule="pointer:0x10"))


def test_an_object_with_an_address(library):
    class Compiled:
        address = ctypes.cast(ctypes.CDLL(str(library)).v7_0, ctypes.c_void_p).value

    population = rf.Population.synthetic("1MiB", orders=4)
    policy = rf.policy.get("v7.0").replace(name="mine", rule=Compiled())
    assert_same(rf.reclaim(population, "512KiB", policy=policy), rf.reclaim(population, "512KiB", policy="v7.0"))


def test_a_pointer_of_cffi(library):
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    ffi.cdef("uint32_t v7_0(const void *call);")
    policy = rf.policy.get("v7.0").replace(name="mine", rule=ffi.dlopen(str(library)).v7_0)
    population = rf.Population.synthetic("1MiB", orders=4)
    assert_same(rf.reclaim(population, "512KiB", policy=policy), rf.reclaim(population, "512KiB", policy="v7.0"))


@pytest.mark.filterwarnings("default")
def test_a_function_of_numba():
    numba = pytest.importorskip("numba")

    @numba.cfunc(numba.uint32(numba.types.CPointer(numba.uint32)))
    def one(call):
        return 1

    policy = rf.policy.get("per-page").replace(name="mine", rule=one)
    population = rf.Population.synthetic("1MiB", orders=4)
    assert_same(rf.reclaim(population, "512KiB", policy=policy), rf.reclaim(population, "512KiB", policy="per-page"))


@pytest.mark.parametrize("rule", [3, None, True, print, [1]])
def test_what_is_no_pointer(rule):
    with pytest.raises(TypeError, match=r"policy.rule: expected FILE.c:NAME, or a function pointer of ctypes, cffi or"):
        rf.Policy("mine", rule=rule)


# Files


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "own.c"
    path.write_text(FILE.read_text())
    return path


def test_a_policy_of_a_file_is_a_value(source):
    policy = rf.policy.get(f"{source}:v7_0")
    assert policy.name == "own.c:v7_0" and policy == rf.policy.get(f"{source}:v7_0")
    assert pickle.loads(pickle.dumps(policy)) == policy and hash(policy) == hash(pickle.loads(pickle.dumps(policy)))
    source.write_text(source.read_text() + "\n")
    assert policy != rf.policy.get(f"{source}:v7_0")


def test_a_file_that_changed_is_refused(source):
    text = pickle.dumps(rf.policy.get(f"{source}:v7_0"))
    source.write_text(source.read_text() + "/* another hash */\n")
    rules._of_file.cache_clear()  # as in another process
    with pytest.raises(ValueError, match=r"own\.c has changed since the policy was made"):
        rf.reclaim(rf.Population.synthetic("1MiB"), "1MiB", policy=pickle.loads(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "#include <rmf_rule.h>\nuint32_t own(const struct rmf_rule_call *call)\n{ return cal; }\n",
            r"own\.c:3:.*error",
        ),
        ("int other;\n", r"own\.c has no function uint32_t own\(call\)"),
        ("#include <rmf_rule.h>\nuint32_t own(int *call)\n{ return *call; }\n", r"own\.c has no function uint32_t own"),
        ("#include <nothing.h>\n", r"own\.c:1:.*nothing\.h"),
    ],
)
def test_what_does_not_compile(source, text, said):
    source.write_text(text)
    with pytest.raises(ValueError, match=rf"^policy.rule: .*{said}") as error:
        rf.policy.get(f"{source}:own")
    assert "\n" not in str(error.value)


def test_no_compiler(source, monkeypatch):
    monkeypatch.setenv("CC", "no-such-cc -O1")
    with pytest.raises(ValueError, match=r"the C compiler 'no-such-cc -O1' cannot be run .*; install one, or name it"):
        rf.policy.get(f"{source}:v7_0")


@pytest.mark.parametrize("rule", ["own", "own.c", "own.c:", "own.c:1st", "own.py:one"])
def test_what_names_no_rule(rule):
    with pytest.raises(ValueError, match=r"policy.rule: expected FILE.c:NAME or a function pointer"):
        rf.Policy("mine", rule=rule)
    with pytest.raises(ValueError, match=r"policy: (no preset|own\.py:one is a function in Python)"):
        rf.policy.get(rule)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.c: No such file or directory"):
        rf.policy.get(f"{tmp_path}/gone.c:own")


@pytest.mark.parametrize("standard", ["c99", "c11"])
def test_the_header_stands_alone(standard, tmp_path):
    path = tmp_path / "alone.c"
    path.write_text("#include <rmf_rule.h>\nrmf_rule alone;\n")
    flags = ["-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", f"-I{rf.get_include()}"]
    subprocess.run(["cc", f"-std={standard}", *flags, "-fsyntax-only", path], check=True)


def test_what_a_rule_sees_has_the_layout_of_the_header(tmp_path):
    names = [name for name, *_ in rules.Call._fields_]
    path, program = tmp_path / "layout.c", tmp_path / "layout"
    offsets = " ".join(f'printf("%zu ", offsetof(struct rmf_rule_call, {name}));' for name in names)
    path.write_text(
        "#include <rmf_rule.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        f'int main(void) {{ {offsets} printf("%zu", sizeof(struct rmf_rule_call)); return 0; }}\n'
    )
    subprocess.run(["cc", f"-I{rf.get_include()}", path, "-o", program], check=True)
    said = [int(word) for word in subprocess.check_output([program], text=True).split()]
    assert said == [*(getattr(rules.Call, name).offset for name in names), ctypes.sizeof(rules.Call)]


# What is kept, the command line, and the how-to


HOW_TO = (Path(__file__).parents[1] / "docs" / "howto-policy.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", HOW_TO, re.MULTILINE)]
COMMANDS = [block.strip("\n").splitlines() for block in BLOCKS if block.strip("\n").startswith("$ rmapfast check")]


@pytest.fixture
def as_typed(tmp_path, monkeypatch):
    """The folder of somebody who typed the how-to's files."""
    monkeypatch.chdir(tmp_path)
    of_c = [block for block in BLOCKS if "const struct rmf_rule_call *call" in block]
    assert len(of_c) == 2
    Path("mine.c").write_text("".join(of_c))
    Path("mine.py").write_text(next(block for block in BLOCKS if "def whole_from_16(" in block))


@pytest.mark.parametrize("lines", COMMANDS, ids=lambda lines: lines[0])
def test_the_how_to_shows_what_is_printed(lines, as_typed, run):
    """All lines up to ``...``; a line that ends in it is shown in part."""
    command, *shown = lines
    status, out, err = run(*command.split()[2:], "--budget", "600")
    assert status == (0 if any(line.endswith("  clean") for line in shown) else 1), err
    assert shown[-1] == "..." and len(shown) > 2
    for said, line in zip(shown[:-1], out.splitlines(), strict=False):
        assert line.startswith(said.removesuffix("...")) if said.endswith("...") else line == said


def test_the_how_to_has_rules_that_are_the_same(as_typed):
    def file_batch(folio, vma, walk, pte):
        if folio.anon or folio.nr_pages == 1 or vma.uffd_wp or pte.unused or "HWPOISON" in walk.ttu:
            return 1
        return walk.batch(min(folio.nr_pages, walk.room()))

    (compared,) = re.findall(r"print\((rf\.compare_rules.*)\)", HOW_TO)
    assert eval(compared.replace("budget=20", "budget=4")).same
    differ = rf.compare_rules("mine.c:file_batch", file_batch, budget=20)
    assert differ.difference.in_c > differ.difference.in_python
    population = rf.Population.synthetic("2MiB", orders="0,2,4", holes=0.1, young=0.3)
    in_python = rf.reclaim(population, "1MiB", policy=file_batch, engine="reference")
    assert_same(rf.reclaim(population, "1MiB", policy="mine.c:clipped"), in_python)


def test_a_saved_run_is_run_again(tmp_path, source):
    result = rf.reclaim(rf.Population.synthetic("1MiB", orders=4), "512KiB", policy=f"{source}:v7_0")
    rf.save(result, tmp_path / "run.json")
    assert rf.load(tmp_path / "run.json").runs[0].policy == result.policy
    assert rf.rerun(tmp_path / "run.json").differences == ()
    # what was saved can be looked at without the file
    source.unlink()
    assert rf.load(tmp_path / "run.json").runs[0].policy == result.policy


def test_a_sweep(source):
    swept = rf.sweep({"policy": ["v7.0", f"{source}:v7_0"], "population.size": "1MiB", "target": "512KiB"})
    built_in, own = swept.records.values()
    assert built_in["events"] == own["events"] and not swept.failures


def test_an_axis(source):
    rules_of_axis = ["", f"{source}:one", f"{source}:v7_0"]
    swept = rf.sweep({"policy": "v7.0", "policy.rule": rules_of_axis, "population.size": "1MiB", "target": "512KiB"})
    none, one, v7_0 = (record["events"] for record in swept.records.values())
    assert none == v7_0 != one


def test_the_command_line(run, source):
    memory = ("--size", "1MiB", "--target", "512KiB", "--json")
    status, out, err = run("reclaim", "--policy", f"v7.0,{source}:v7_0", *memory)
    assert status == 0, err
    first, second = json.loads(out)["runs"][:2]
    assert second["policy"] == "own.c:v7_0" and first["events"] == second["events"]


def test_the_command_line_checks(run, source):
    status, out, _ = run("check", "--policy", f"{source}:unclipped", "--pages", "2", "--folios", "10", "--json")
    found = json.loads(out)["policies"][0]
    assert status == 1 and found["policy"] == "own.c:unclipped"
    assert "out-of-bounds" in {one["invariant"] for one in found["violations"]}
    status, _, err = run("check", "--policy", f"{source}:none", "--pages", "1")
    assert status == 2 and "policy.rule: must return from 1 to 1" in err
    status, _, err = run("reclaim", "--policy", f"{source}:gone")
    assert status == 2 and "has no function uint32_t gone(call)" in err and err.count("\n") == 1
