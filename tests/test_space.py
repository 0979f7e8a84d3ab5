"""Spaces of sweeps: the same as dict, as TOML and on the command line; what they refuse; constraints."""

import itertools

import numpy as np
import pytest

import rmapfast as rf
from rmapfast import cli
from rmapfast.cli.sweep import space_of
from rmapfast.sweeps import Space, from_text
from rmapfast.sweeps.parameter import parameters

DOCUMENT = {
    "population.size": "64MiB",
    "population.order": [0, 4, "0:10,4:70,9:20"],
    "policy": ["v6.16", "v7.0"],
    "arch": "arm64-4k",
    "zip": [{"arch.page_shift": [12, 14], "arch.ptrs_per_pte": [512, 2048]}],
    "cases": [{"population.holes": 0.0, "target": "50%"}, {"population.holes": "every:7", "target": "1MiB"}],
    "arch.cost.tlbi_ops": {"from": 10, "to": 400, "steps": 5},
    "constraints": ["population.order == 4 or arch.page_shift < 14"],
}
TOML = """
arch = "arm64-4k"
policy = ["v6.16", "v7.0"]
constraints = ["population.order == 4 or arch.page_shift < 14"]
"arch.cost.tlbi_ops" = {from = 10, to = 400, steps = 5}
[population]
size = "64MiB"
order = [0, 4, "0:10,4:70,9:20"]
[[zip]]
"arch.page_shift" = [12, 14]
"arch.ptrs_per_pte" = [512, 2048]
[[cases]]
population.holes = 0.0
target = "50%"
[[cases]]
population.holes = "every:7"
target = "1MiB"
"""


def points(space):
    """Values of the kept points, as a set."""
    return {repr(sorted(space.values(tuple(index)).items(), key=repr)) for index in np.argwhere(space.kept)}


def test_the_dict_and_the_toml_mean_the_same(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(TOML)
    one, other = Space.of(DOCUMENT), Space.of(path)
    assert points(one) == points(other)
    assert len(points(one)) == np.count_nonzero(one.kept) == (3 * 2 - 2) * 2 * 2 * 5
    assert points(Space.of(one.to_dict())) == points(one)


def test_the_command_line_means_the_same():
    words = ["population.size=64MiB", "population.order=0;4;0:10,4:70,9:20", "policy=v6.16,v7.0", "arch=arm64-4k"]
    words += ["arch.page_shift=12,14", "arch.ptrs_per_pte=512,2048", "--zip", "arch.page_shift,arch.ptrs_per_pte"]
    words += ["arch.cost.tlbi_ops=10..400/5", "--where", DOCUMENT["constraints"][0]]
    arguments, more = cli.parser().parse_known_args(["sweep", *words])
    arguments.space += more
    document = {name: value for name, value in DOCUMENT.items() if name != "cases"}
    assert points(space_of(arguments)) == points(Space.of(document))


def test_words_mean_numbers_truth_values_ranges_and_texts():
    words = {"4": 4, "0.5": 0.5, "true": True, "v7.0": "v7.0", "64MiB": "64MiB", "0:1,4:2": "0:1,4:2"}
    assert {word: from_text(word) for word in words} == words
    assert from_text("1..8/3log") == {"from": 1, "to": 8, "steps": 3, "scale": "log"}
    assert Space.of({"arch.cost.tlbi_ops": from_text("1..100/3log")}).axes[0].values == pytest.approx((1, 10, 100))


def test_every_argument_and_parameter_is_an_axis():
    known = parameters()
    for name in ("target", "entry", "engine", "swap", "policy", "arch", "costs", "capture", "assume.dirty"):
        assert name in known
    assert {f"population.{name}" for name in ("size", "kind", "orders", "sharing", "shuffle", "seed")} <= set(known)
    for kind, prefix in ((rf.Arch, "arch"), (rf.Policy, "policy")):
        names = {field for field in kind.__dataclass_fields__ if field not in ("name", "doc", "costs")}
        assert {f"{prefix}.{name}" for name in names} <= set(known)
    assert {f"arch.cost.{event}" for event in rf.EVENT_NAMES} <= set(known)


def test_architectures_and_policies_of_one_s_own_are_part_of_the_space(tmp_path):
    arch = rf.arch.get("arm64-4k").replace(name="mine", cont_ptes=32)
    path = tmp_path / "theirs.toml"
    path.write_text(arch.replace(name="theirs", nr_cpus=4).to_toml())
    policy = rf.policy.get("v7.0").replace(name="all", file=True, anon_swap=True)
    space = Space.of({"arch": [arch, str(path), "x86-64"], "policy": ["v7.0", policy], "population.size": "1MiB"})
    assert [axis.labels.tolist() for axis in space.axes] == [["mine", "theirs", "x86-64"], ["v7.0", "all"]]
    path.unlink()  # the space holds what the file said
    again = Space.of(space.to_dict())
    assert points(again) == points(space)
    assert [again.key(index) for index in np.ndindex(3, 2)] == [space.key(index) for index in np.ndindex(3, 2)]


BAD = {
    "unknown": ({"population.ordr": [1]}, "population.ordr", "population.order"),
    "unknown event": ({"arch.cost.tlbi": [1.0]}, "arch.cost.tlbi", "did you mean"),
    "unknown preset": ({"policy": ["v7.0", "v7.00"]}, "v7.00", "did you mean"),
    "unknown architecture": ({"arch": "arm65-4k"}, "arm65-4k", "arm64-4k"),
    "unknown choice": ({"population.kind": ["fil"]}, "population.kind", "'file'"),
    "empty": ({"population.order": []}, "population.order", "empty"),
    "unequal": ({"zip": [{"arch.cont_ptes": [1, 2], "policy": ["v7.0"]}]}, "unequal", "arch.cont_ptes 2, policy 1"),
    "twice": ({"population.order": [4], "population.orders": 9}, "population.order", "more than once"),
    "value twice": ({"population.order": [4, 0, 4]}, "4", "twice"),
    "cases": ({"cases": [{"target": 1}, {"policy": "v7.0"}]}, "cases[1]", "target"),
    "size": ({"target": ["1GiB", "many"]}, "target", "many"),
    "percent": ({"target": "120%"}, "target", "100%"),
    "type": ({"arch.cont_ptes": ["16"]}, "arch.cont_ptes", "expected int"),
    "rate": ({"population.young": [2]}, "population.young", "0 to 1"),
    "cost": ({"arch.cost.tlbi_ops": [-1]}, "arch.cost.tlbi_ops", "0 or more"),
    "nan": ({"arch.cost.tlbi_ops": [float("nan")]}, "arch.cost.tlbi_ops", "finite"),
    "range": ({"arch.cost.tlbi_ops": {"from": 1, "steps": 3}}, "arch.cost.tlbi_ops", "{from, to, steps}"),
    "log range": ({"arch.cost.tlbi_ops": {"from": 0, "to": 1, "steps": 3, "scale": "log"}}, "above 0", "'log'"),
    "capture and synthetic": ({"capture": "a.npz", "population.order": [1]}, "population.orders", "not with capture"),
    "assume": ({"assume.dirty": [True]}, "assume.dirty", "only with capture"),
    "units": ({"costs": ["x86-64", "ab-7.2.13"]}, "ns", "instructions"),
    "no mapping": ([1], "mapping", "list"),
    "no path": ({"capture": []}, "capture", "empty"),
    "constraint": ({"policy": ["v7.0"], "constraints": ["polici == 1"]}, "polici", "did you mean 'policy'"),
    "call": ({"policy": ["v7.0"], "constraints": ["__import__('os')"]}, "constraints", "not \"__import__('os')\""),
    "syntax": ({"policy": ["v7.0"], "constraints": ["policy =="]}, "constraints", "policy =="),
    "text and number": ({"policy": ["v7.0"], "constraints": ["policy < 1"]}, "text", "number"),
    "nothing left": ({"policy": ["v7.0"], "constraints": ["policy == 'x'"]}, "no point is left", "policy == 'x'"),
}


@pytest.mark.parametrize("which", BAD)
def test_bad_spaces(which):
    document, *words = BAD[which]
    with pytest.raises((TypeError, ValueError, OSError)) as error:
        Space.of(document)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_bad_toml_names_the_file(tmp_path):
    path = tmp_path / "space.toml"
    for text, word in (("policy = [", "not TOML"), ('policy = ["v7.00"]', "v7.00"), ("x = 1", "no such axis 'x'")):
        path.write_text(text)
        with pytest.raises(ValueError, match=word) as error:
            Space.of(path)
        assert str(path) in str(error.value)


EXPRESSIONS = [
    "population.order <= 4",
    "not population.order <= 4",
    "arch == 'x86-64' or arch.cont_ptes > 1",
    "1 < arch.cont_ptes <= 16 and policy in ('v7.0', 'v6.16')",
    "policy not in ['v7.0']",
    "(1 << population.order) >= arch.cont_ptes",
    "population.order % 2 == 0",
    "population.order * 4 - arch.cont_ptes / 2 > -3 + 1",
    "arch != 'x86-64' and (policy == 'v7.0' or population.order // 2 == 2)",
    "target >= 1048576",
    "population.shuffle",
    "policy == 4 or population.order == 4",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_constraints_mean_what_python_means(text):
    axes = {
        "population.order": [0, 1, 4, 9],
        "arch": ["x86-64", "arm64-4k"],
        "arch.cont_ptes": [1, 16, 32],
        "policy": ["v7.0", "v6.16", "v7.3"],
        "population.shuffle": [True, False],
    }
    space = Space.of(axes | {"target": "1MiB", "constraints": [text]})
    for index in itertools.product(*(range(len(values)) for values in axes.values())):
        order, arch, cont_ptes, policy, shuffle = (values[at] for at, values in zip(index, axes.values(), strict=True))

        class Named(str):
            pass

        named = Named(arch)
        named.cont_ptes = cont_ptes
        population = type("Population", (), {"order": order, "shuffle": shuffle})
        names = {"arch": named, "policy": policy, "population": population, "target": 1 << 20}
        assert space.kept[index] == bool(eval(text, {}, names)), index
