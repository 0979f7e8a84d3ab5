"""The schemas of rmapfast/schemas: each describes what the program writes or reads, and refuses what is broken."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import textwrap
import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import rmapfast as rf
from rmapfast.cli import main

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")

ROOT = Path(__file__).resolve().parents[1]
CAPTURES = ROOT / "tests" / "data" / "captures"
SCHEMAS = {
    path.name.removesuffix(".schema.json"): json.loads(path.read_text(encoding="utf-8"))
    for path in files("rmapfast").joinpath("schemas").iterdir()
    if path.name.endswith(".json")
}
REGISTRY = referencing.Registry().with_resources(
    (schema["$id"], referencing.Resource.from_contents(schema)) for schema in SCHEMAS.values()
)


def wrong(name, document):
    """Return where a document breaks a schema, as text."""
    validator = jsonschema.Draft202012Validator(SCHEMAS[name], registry=REGISTRY)
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(document)]


def printed(capsys, *arguments):
    status = main([*map(str, arguments), "--json"])
    assert status in (0, 1)
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_one(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"] == f"urn:rmapfast:schema:{name}" and SCHEMAS[name]["description"]


def test_the_page_lists_every_schema():
    listed = re.findall(r"`([\w-]+)\.schema\.json`", (ROOT / "docs" / "formats.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(SCHEMAS)


def test_the_validator_of_the_page(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"(?m)^\n((?:    .*\n|\n(?=    ))+)", text) if "Draft202012Validator" in one]
    rf.save(rf.reclaim(rf.Population.synthetic("1MiB"), "50%"), tmp_path / "run.json")
    monkeypatch.chdir(tmp_path)
    typed = textwrap.dedent(block)
    exec(typed, {})
    (tmp_path / "run.json").write_text('{"runs": []}')
    with pytest.raises(jsonschema.ValidationError):
        exec(typed, {})


RUNS = (
    ["--size", "16MiB"],
    ["--size", "4MiB", "--arch", "x86-64", "--costs", "ab-7.2.13", "--lru", "mglru", "--policy", "v7.2"],
    ["--size", "4MiB", "--kind", "anon", "--entry", "pageout", "--no-swap", "--arch", "s390x"],
    ["--capture", CAPTURES / "file64k_holes_memcg.before.npz", "--arch", "x86-64"],
)


@pytest.mark.parametrize("arguments", RUNS, ids=lambda one: str(one[-1]))
def test_runs(arguments, capsys):
    assert wrong("comparison", printed(capsys, "reclaim", *arguments)) == []


def test_saved_and_compared_runs(tmp_path, capsys):
    population = rf.Population.synthetic("4MiB")
    for name, policy in (("one", "v6.16+young"), ("two", "v7.0")):
        rf.save(rf.reclaim(population, "50%", policy=policy, arch="x86-64"), tmp_path / f"{name}.json")
        assert wrong("comparison", json.loads((tmp_path / f"{name}.json").read_text())) == []
    assert wrong("comparison", printed(capsys, "compare", tmp_path / "one.json", tmp_path / "two.json")) == []


def test_sweeps_and_reruns(tmp_path, capsys):
    path = tmp_path / "sweep.json"
    # A contpte block of 3 entries is none: that point fails.
    arguments = ["population.size=4MiB", "policy=v6.16+young,v7.0", "arch=x86-64", "arch.cont_ptes=1,3"]
    assert wrong("sweep", printed(capsys, "sweep", *arguments, "-o", path)) == []
    document = json.loads(path.read_text())
    assert wrong("sweep", document) == [] and {*document["columns"]["status"]} == {"done", "failed"}
    assert wrong("rerun", printed(capsys, "rerun", path)) == []


@pytest.mark.parametrize("name", ["file64k_holes_memcg", "file2m_pmdmapped_pageout"])
def test_descriptions(name, capsys):
    path = CAPTURES / f"{name}.before.npz"
    assert wrong("description", printed(capsys, "describe", path)) == []
    described = rf.describe(rf.Population.synthetic("4MiB", orders="0,4", holes=0.1, sharing=2))
    assert wrong("description", json.loads(json.dumps(described))) == []


@pytest.mark.parametrize("policy", ["v7.0", "v6.15"])
def test_checks(policy, capsys):
    assert wrong("check", printed(capsys, "check", "--policy", policy, "--pages", "2")) == []


@pytest.mark.parametrize(
    "path", sorted(Path(rf.__file__).with_name("costs").glob("*.toml")), ids=lambda path: path.stem
)
def test_cost_vectors(path):
    assert wrong("cost-vector", tomllib.loads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("name", sorted(rf.arch.PRESETS))
def test_architectures(name):
    assert wrong("architecture", tomllib.loads(rf.arch.get(name).to_toml())) == []
    inline = rf.arch.get(name).replace(costs=rf.cost.get("x86-64").replace(tlbi_ops=1.0))
    assert wrong("architecture", tomllib.loads(inline.to_toml())) == []


def test_the_parameters_of_an_architecture_are_all_there():
    fields = {field.name for field in dataclasses.fields(rf.Arch)}
    assert set(SCHEMAS["architecture"]["properties"]) == fields | {"cost"}


def test_spaces():
    assert wrong("space", tomllib.loads((ROOT / "examples" / "sweep.toml").read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", sorted(CAPTURES.rglob("*.npz")), ids=lambda path: path.name)
def test_captures(path):
    with np.load(path) as members:
        assert wrong("capture-meta", json.loads(bytes(members["meta"]).decode())) == []


def test_cases():
    found = [*CAPTURES.rglob("cases.json")]
    assert found
    for path in found:
        assert wrong("cases", json.loads(path.read_text(encoding="utf-8"))) == []


def test_a_broken_document_is_refused(capsys):
    """A schema that accepts anything would pass every test above."""
    good = printed(capsys, "reclaim", "--size", "4MiB", "--arch", "x86-64")

    def broken(change):
        document = copy.deepcopy(good)
        change(document)
        return wrong("comparison", document)

    assert broken(lambda one: one.pop("runs"))
    assert broken(lambda one: one["runs"][0]["events"].update(batches=-1))
    assert broken(lambda one: one["runs"][0]["batch_lengths"].update(many=1))
    assert broken(lambda one: one["runs"][0].update(predicted_s="1"))
    assert broken(lambda one: one["runs"][0].update(speed=1))
    assert broken(lambda one: one["provenance"].pop("host"))
    assert broken(lambda one: one["cost_vectors"]["x86-64"].update(unit="s"))
    assert wrong("architecture", {"page_shift": 12}) and wrong("architecture", {"name": "a", "pages": 1})
    assert wrong("cost-vector", {"unit": "ns", "arch": "x86-64", "costs": {"batches": 1}})
    assert wrong("capture-meta", {"format": "rle2"}) and wrong("space", {"zip": [{"arch": 1}]})
    assert wrong("sweep", {"provenance": {}, "columns": {}, "records": {}})
    assert wrong("rerun", {"same": True}) and wrong("check", {"policies": []})
    assert wrong("cases", {"cases": [{"case": "a"}]}) and wrong("description", {"arch": "x86-64"})
    assert wrong("report", {"policy": "v7.0"})
