"""Functions in Python as policies wherever a policy is named: in reclaim, compare, sweeps and on the command line."""

import json

import pytest

import rmapfast as rf
from rmapfast.cli import main

SOURCE = '''
def clipped(folio, vma, walk, pte):
    """Batch file folios, clipped to the table and the VMA."""
    if folio.anon or folio.nr_pages == 1 or vma.uffd_wp:
        return 1
    return walk.batch(min(folio.nr_pages, walk.room()))

def single(folio, vma, walk, pte):
    """Page by page."""
    return 1

NOT_A_FUNCTION = 7
'''
SPACE = {"population.order": [0, 4], "population.size": "1MiB", "arch": "x86-64"}


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def clipped(folio, vma, walk, pte):
    """The same as in the file."""
    if folio.anon or folio.nr_pages == 1 or vma.uffd_wp:
        return 1
    return walk.batch(min(folio.nr_pages, walk.room()))


def test_a_function_runs_on_the_reference_of_its_own_accord(mine):
    population = rf.Population.synthetic("1MiB")
    runs = [rf.reclaim(population, "50%", policy=policy) for policy in (f"{mine}:clipped", clipped)]
    assert runs[0].events == runs[1].events and runs[0].policy_name == "clipped"
    assert [run.provenance["arguments"]["engine"] for run in runs] == ["reference"] * 2
    assert rf.reclaim(population, "50%", policy="v7.0").provenance["arguments"]["engine"] == "c"
    for engine in ("c", "general"):
        with pytest.raises(ValueError, match="a Python function runs on the reference only"):
            rf.reclaim(population, "50%", policy=clipped, engine=engine)


def test_compare(mine):
    compared = rf.compare(
        rf.Population.synthetic("1MiB"), "50%", policies=["per-page", clipped, f"{mine}:single"], arches=["x86-64"]
    )
    engines = [run.provenance["arguments"]["engine"] for run in compared.runs]
    assert engines == ["c", "reference", "reference"]
    page, batched, single = (run.events["batches"] for run in compared.runs)
    assert page == single > batched


def test_madvise(mine):
    population = rf.Population.synthetic("64KiB", orders=2)
    given, named = (rf.madvise(population, "MADV_PAGEOUT", policy=one) for one in (clipped, f"{mine}:clipped"))
    assert given.events == named.events and given.events["batches"] == 4


@pytest.mark.parametrize("named", [True, False])
def test_sweep(mine, named):
    policies = ["per-page", f"{mine}:clipped" if named else clipped]
    swept = rf.sweep(SPACE | {"policy": policies})
    assert swept.complete and not swept.failures
    label = "mine.py:clipped" if named else "clipped"
    assert [point.values["policy"] for point in swept] == ["per-page", label] * 2
    direct = rf.reclaim(rf.Population.synthetic("1MiB", orders=4), "80%", policy=clipped, arch="x86-64")
    (point,) = swept.sel({"policy": label, "population.order": 4})
    assert dict(point.events) == dict(direct.events)
    assert len(swept.sel(policy=policies[1])) == 2


def test_a_sweep_of_a_file_runs_elsewhere_and_again(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    swept = rf.sweep(SPACE | {"policy": ["v7.0", "mine.py:clipped"]}, "out.csv", executor="processes", workers=1)
    assert swept.complete and not swept.failures
    monkeypatch.chdir("/")  # the path was made absolute
    assert rf.rerun(tmp_path / "out.csv").same
    mine.write_text(SOURCE.replace("room()", "room() // 2"))
    again = rf.rerun(tmp_path / "out.csv")
    assert not again.same
    assert all("mine.py has changed since" in text for text in again.again.failures.values())


def test_a_function_of_another_process_is_named():
    swept = rf.sweep(SPACE | {"policy": ["v7.0", clipped]}, executor="processes", workers=1)
    assert len(swept.failures) == 2
    assert all("clipped is known only in the process that had the function" in e for e in swept.failures.values())


def test_two_functions_of_one_name_are_refused():
    def other(*_):
        return 1

    other.__name__ = "clipped"
    with pytest.raises(ValueError, match="two different values have the same name"):
        rf.Space.of(SPACE | {"policy": [clipped, other]})


def test_fields_of_a_function_are_refused():
    swept = rf.sweep(SPACE | {"policy": clipped, "policy.file": [True, False]})
    assert set(swept.failures.values()) == {"policy.file: a function in Python has no such field"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gone.py:clipped", "gone.py: No such file"),
        ("mine.py:cliped", r"has no function 'cliped' \(did you mean 'clipped'"),
        ("mine.py:NOT_A_FUNCTION", "has no function 'NOT_A_FUNCTION'"),
        ("broken.py:clipped", r"broken\.py cannot be imported: SyntaxError"),
    ],
)
def test_what_cannot_be_had(mine, monkeypatch, capsys, text, said):
    monkeypatch.chdir(mine.parent)
    (mine.parent / "broken.py").write_text("def clipped(:\n")
    for call in (
        lambda: rf.reclaim(rf.Population.synthetic("1MiB"), "50%", policy=text),
        lambda: rf.compare(rf.Population.synthetic("1MiB"), "50%", policies=[text], arches=["x86-64"]),
        lambda: rf.Space.of(SPACE | {"policy": [text]}),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    for words in (["reclaim", "--size", "1MiB", "--policy", text], ["check", "--policy", text]):
        assert main(words) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1


def test_on_the_command_line(mine, monkeypatch, capsys):
    monkeypatch.chdir(mine.parent)
    assert (
        main(["reclaim", "--size", "1MiB", "--policy", "per-page,mine.py:clipped", "--arch", "x86-64", "--json"]) == 0
    )
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["policy"] for run in runs] == ["per-page", "clipped"]
    assert runs[1]["events"]["batches"] < runs[0]["events"]["batches"]
    words = ["policy=v7.0,mine.py:clipped", "population.size=1MiB", "population.order=0,4"]
    assert main(["sweep", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["columns"]["policy"] == ["v7.0"] * 2 + ["mine.py:clipped"] * 2
    assert main(["check", "--policy", "mine.py:clipped", "--budget", "2", "--json"]) in (0, 1)
    assert [one["policy"] for one in json.loads(capsys.readouterr().out)["policies"]] == ["clipped"]
    assert main(["check", "--policy", "v7.0,mine.py:clipped"]) == 2
    assert "--policy: expected a function in Python alone" in capsys.readouterr().err
