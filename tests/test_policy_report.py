"""A report on a policy: what it says is what checks and runs say, and the file is whole in itself."""

import base64
import dataclasses
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import rmapfast as rf
from rmapfast.cli import main
from rmapfast.policy_report.baseline import baseline_of, differing
from rmapfast.policy_report.layouts import LAYOUTS, memory

CAPTURE = Path(__file__).resolve().parent / "data" / "captures" / "file64k_cow_memcg.before.npz"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Whether a check is complete must not depend on the machine: two pages are tried in a second, with a minute to spare.
SMALL = {"orders": [0, 4], "size": "1MiB", "pages": 2, "budget": 60.0}
TINY = {"arches": ["x86-64"], "orders": [4], "size": "1MiB", "pages": 1}

RULE_IN_PYTHON = '''
def clipped(folio, vma, walk, pte):
    """Batch file folios <up to> the end."""
    if folio.anon or folio.nr_pages == 1 or vma.uffd_wp or pte.unused or "HWPOISON" in walk.ttu:
        return 1
    return walk.batch(min(folio.nr_pages, walk.room()))

def too_far(folio, vma, walk, pte):
    if folio.anon or folio.nr_pages == 1 or vma.uffd_wp or pte.unused or "HWPOISON" in walk.ttu:
        return 1
    return walk.batch(folio.nr_pages)

not_a_function = 5
'''
RULE_IN_C = """
#include <rmf_rule.h>

uint32_t clipped(const struct rmf_rule_call *call)
{
    if (call->folio_kind == RMF_RULE_LAZYFREE || call->folio_kind == RMF_RULE_ANON || call->folio_nr_pages == 1 ||
        (call->vma_flags & RMF_RULE_VMA_UFFD_WP) || (call->pte & RMF_RULE_PTE_UNUSED) || call->hwpoison)
        return 1;
    return call->folio_pte_batch(call, call->room, 0);
}
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rules")
    (folder / "mine.py").write_text(RULE_IN_PYTHON)
    (folder / "mine.c").write_text(RULE_IN_C)
    (folder / "broken.py").write_text("def clipped(:\n")
    (folder / "raises.py").write_text("raise KeyError('no\\nsuch')\n")
    return folder


@pytest.fixture(scope="module")
def proposal():
    return rf.report("anon-swap", kinds=["anon"], captures=[str(CAPTURE)], **SMALL)


@pytest.fixture(scope="module")
def in_python(rules):
    return rf.report(
        f"{rules / 'mine.py'}:clipped", baseline="per-page", kinds=["file"], **(SMALL | {"pages": None, "budget": 0.5})
    )


# What a policy is compared with


def test_the_baseline_is_the_nearest_release():
    assert baseline_of(rf.policy.get("anon-swap")).name == "v7.2"
    assert baseline_of(rf.policy.get("skip-caller")).name == "v7.2"
    assert baseline_of(rf.policy.get("v7.3")).name == "v7.2"
    assert baseline_of(rf.policy.get("v6.12")).name == "per-page"
    assert baseline_of(lambda folio, vma, walk, pte: 1).name == "v7.0"
    mine = rf.policy.get("v7.3").replace(name="mine", clip=False)
    assert baseline_of(mine).name == "v7.3" and differing(mine, baseline_of(mine)) == ["clip"]


def test_the_baseline_of_a_rule_in_c_is_what_is_around_it(rules):
    rule = f"{rules / 'mine.c'}:clipped"
    assert baseline_of(rf.policy.get(rule)).name == "v7.0"
    assert baseline_of(rf.policy.get("v7.3").replace(name="mine", rule=rule)).name == "v7.3"
    around = rf.policy.get("v7.3").replace(name="mine", rule=rule, clip=False)
    assert differing(around, baseline_of(around)) == ["rule"]


# What it says


def test_each_point_is_what_a_reclaim_says(proposal):
    assert {(p.arch, p.layout, p.order) for p in proposal.points} == {
        (arch, layout, order) for arch in ("arm64-4k", "x86-64") for layout in LAYOUTS for order in (0, 4)
    }
    for point in proposal.points:
        arch = rf.arch.get(point.arch)
        spec = memory("1MiB", point.kind, point.order, point.layout, arch, 0)
        before, after = (rf.reclaim(spec, "80%", policy=policy, arch=arch) for policy in ("v7.2", "anon-swap"))
        assert before.reclaimed_pages and after.reclaimed_pages, point
        prices = [run.prediction.value / run.reclaimed_pages for run in (before, after)]
        assert [point.before, point.after] == pytest.approx(prices)
        assert point.change[0] == pytest.approx(prices[1] / prices[0] - 1)
        assert point.change[1] <= point.change[0] + 1e-9 and point.change[0] <= point.change[2] + 1e-9
        assert (point.differing == 0) == (before.events == after.events)


def test_a_failed_check_stands_at_the_top(proposal):
    assert not proposal.clean
    text = proposal.to_markdown()
    assert [line for line in text.splitlines() if line.startswith("#")][:3] == [
        "# anon-swap against v7.2", "## CHECK FAILED", "## Summary",
    ]  # fmt: skip
    assert "final-state (one soft-dirty entry marks its whole batch)" in " ".join(text.split())
    assert "anon-swap against per-page: final-state" in text  # the drawing
    page = proposal.to_html()
    assert page.index("CHECK FAILED") < page.index("<h2>Summary")


def test_a_clean_check_stands_below_the_predictions(in_python):
    assert in_python.clean
    text = in_python.to_markdown()
    assert "CHECK FAILED" not in text and text.index("## Summary") < text.index("## Check")
    assert "which are not the whole scope" in " ".join(text.split())  # a second is not enough for a function


def test_the_kinds_that_matter_are_found():
    found = rf.report("v7.3", baseline="v7.2", **TINY)
    # of v7.3 only the batches in uffd-wp VMAs can matter here
    assert "file" in found.kinds and "anon" not in found.kinds
    assert {point.layout for point in found.points if point.differing} == {"uffd-wp"}
    same = rf.report("v7.2", baseline="v7.2", **TINY)
    assert same.kinds == () and "NO EVENT DIFFERS from v7.2" in same.to_markdown()


def test_what_matters_is_ranked(proposal):
    swings = [factor.swing for factor in proposal.factors]
    assert swings == sorted(swings, reverse=True)
    by_name = {factor.name: factor.means for factor in proposal.factors}
    assert set(by_name) == {"folio order", "layout", "architecture"}
    changes = [point.change[0] for point in proposal.points if point.order == 4]
    assert by_name["folio order"]["4"] == pytest.approx(sum(changes) / len(changes))
    assert by_name["folio order"]["0"] == pytest.approx(0)


def test_what_costs_time_is_named():
    found = rf.report("per-page", baseline="v7.0", kinds=["file"], **SMALL)
    assert found.slower and all(point.change[1] > 0 for point in found.slower)
    text = found.to_markdown()
    assert "## Where it costs time" in text and "## Where it helps most" not in text
    assert f"It costs time in {len(found.slower)} of {len(found.points)} runs" in " ".join(text.split())


def test_predictions_carry_their_level_and_what_has_no_price_is_named(proposal):
    assert proposal.unpriced
    for text in (" ".join(proposal.to_markdown().split()), proposal.to_html()):
        assert "(level 90%)" in text and "Predicted, not measured" in text
        for arch, events in proposal.unpriced.items():
            assert f"Events without a price on {arch}: {', '.join(events)}." in text
    assert (
        "Every event that differs has a price."
        in rf.report("v7.0", baseline="v7.0", kinds=["file"], **SMALL).to_markdown()
    )


def test_captures_take_part(proposal):
    assert [(run.path, run.point.arch) for run in proposal.captures] == [
        (str(CAPTURE), "arm64-4k"),
        (str(CAPTURE), "x86-64"),
    ]
    assert CAPTURE.name in proposal.to_markdown()
    with pytest.raises(ValueError, match=r"captures: .*has pages of 4096 bytes, and no architecture"):
        rf.report("v7.0", arches=["arm64-64k"], captures=[str(CAPTURE)])


def test_the_report_as_a_document(proposal):
    document = json.loads(json.dumps(proposal.to_dict(), allow_nan=False))
    assert document["clean"] is False and len(document["points"]) == len(proposal.points)
    assert document["provenance"]["arguments"]["orders"] == [0, 4]


# Its files


@pytest.mark.parametrize("name", ["proposal", "in_python"])
def test_markdown_has_80_columns(name, request):
    found = request.getfixturevalue(name)
    text = found.to_markdown()
    own = set(found.source.splitlines())  # a source is shown as it is
    assert [line for line in text.splitlines() if len(line) > 80 and line not in own] == []
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert tables
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
        assert len({len(line) for line in table.splitlines()}) == 1


class Links(html.parser.HTMLParser):
    """Everything that a page loads or runs, and the tags that it leaves open."""

    def __init__(self):
        super().__init__()
        self.loads, self.scripts, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        self.scripts += [name for name, _ in attributes if name.startswith("on")] + [tag] * (tag == "script")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["proposal", "in_python"])
def test_html_is_whole_in_itself(name, request):
    pytest.importorskip("matplotlib")
    found = request.getfixturevalue(name)
    page = found.to_html()
    links = Links()
    links.feed(page)
    assert links.open == [] and links.scripts == []
    assert links.loads and all(link.startswith("data:image/svg+xml;base64,") for link in links.loads)
    assert "@import" not in page and "url(" not in page
    for link in links.loads:
        picture = base64.b64decode(link.partition(",")[2]).decode()
        # names of namespaces are no requests; references stay inside the picture
        assert not re.search(r'(?:href|src)="(?!#)', picture) and "<script" not in picture


def test_a_source_is_plain_text(in_python):
    pytest.importorskip("matplotlib")
    assert in_python.source.strip().startswith("def clipped(") and "<up to>" in in_python.source
    assert in_python.source.strip() in in_python.to_markdown()
    assert "Batch file folios &lt;up to&gt; the end." in in_python.to_html()
    assert "<up to>" not in in_python.to_html()


def shown(page, folder):
    """Open a page in Chromium; return what it asked the network for, its errors, and what it looks like."""
    image = pytest.importorskip("matplotlib.image")
    folder.mkdir()
    (folder / "page.html").write_text(page)
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={folder / 'net.json'}", "--enable-logging=stderr", "--window-size=1100,3000",
            f"--screenshot={folder / 'page.png'}", (folder / "page.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = json.loads((folder / "net.json").read_text())["events"]
    # what the browser asks for by itself, such as the time, has no page behind it
    asked = {
        event["params"]["url"]
        for event in events
        if event.get("params", {}).get("initiator", "not an origin") != "not an origin"
    }
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return asked, errors, image.imread(folder / "page.png")[:, :, :3]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_chromium_shows_the_page_without_a_request_or_an_error(proposal, in_python, tmp_path):
    for name, found in (("proposal", proposal), ("in_python", in_python)):
        asked, errors, pixels = shown(found.to_html(), tmp_path / name)
        assert asked == set() and errors == []
        # text, pictures and coloured cells: the page is not blank, neither at its top nor further down
        assert pixels[:300].std() > 0.02 and pixels[300:].std() > 0.02


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_chromium_would_tell_of_a_request_and_of_an_error(proposal, tmp_path):
    planted = '<img src="http://picture.invalid/x.png"><script>throw new Error("planted")</script></body>'
    asked, errors, _ = shown(proposal.to_html().replace("</body>", planted), tmp_path / "planted")
    assert asked == {"http://picture.invalid/x.png"}
    assert any("planted" in error for error in errors)


def test_save_refuses(in_python, tmp_path):
    with pytest.raises(ValueError, match=r"expected a file ending in \.md or \.html, got .*a\.txt"):
        in_python.save(tmp_path / "a.txt")
    in_python.save(tmp_path / "a.md")
    assert (tmp_path / "a.md").read_text() == in_python.to_markdown() + "\n"
    with pytest.raises(FileExistsError):
        in_python.save(tmp_path / "a.md")
    in_python.save(tmp_path / "a.md", overwrite=True)


# The command line


WORDS = ["--orders", "4", "--size", "1MiB", "--pages", "2", "--arch", "x86-64"]


def test_the_command_writes_what_python_writes(tmp_path, capsys, rules):
    out = tmp_path / "a.md"
    assert main(["report", "anon-swap", "--kind", "anon", "--capture", str(CAPTURE), *WORDS, "-o", str(out)]) == 1
    assert out.read_text().startswith("# anon-swap against v7.2\n") and capsys.readouterr().out == ""
    assert main(["report", f"{rules / 'mine.c'}:clipped", "--baseline", "per-page", "--kind", "file", *WORDS]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# mine.c:clipped against per-page") and "uint32_t clipped(" in text
    own = [word for word in WORDS if word not in ("--pages", "2")]
    status = main(["report", f"{rules / 'mine.py'}:too_far", "--kind", "file", *own, "--budget", "0.5", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["policy"] == "too_far" and document["baseline"] == "v7.0"
    assert status == (0 if document["clean"] else 1)


def test_a_variation_is_compared_with_what_it_varies(capsys):
    changes = ["--set", "policy.clip=false", "--set", "arch.cont_ptes=1"]
    assert main(["report", "v7.0", *changes, "--kind", "file", "--orders", "4", "--size", "1MiB", "--pages", "2",
                 "--arch", "arm64-4k", "--json"]) == 1  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    assert (document["policy"], document["baseline"]) == ("v7.0 clip=false", "v7.0")
    assert document["differing"] == ["clip"]
    assert document["main"]["runs"][0]["arch_parameters"]["cont_ptes"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["v7.00"], "did you mean 'v7.0"),
        (["{}/mine.py:clippd"], "has no function 'clippd' (did you mean 'clipped'?)"),
        (["{}/mine.py:not_a_function"], "has no function 'not_a_function'"),
        (["{}/none.py:clipped"], "No such file"),
        (["{}/broken.py:clipped"], "cannot be imported: SyntaxError"),
        (["{}/raises.py:clipped"], "cannot be imported: KeyError"),
        (["{}/mine.py:clipped", "--set", "policy.clip=false"], "--set: a Python function has no parameters"),
        (["v7.0", "--set", "policy.clp=false"], "did you mean 'clip'?"),
        (["v7.0", "--set", "policy.clip=maybe"], "policy.clip: expected bool"),
        (["v7.0", "--set", "clip=false"], "--set: expected arch.PARAM=VALUE"),
        (["v7.0", "--orders", "x"], "--orders: expected folio orders such as 0,4,9"),
        (["v7.0", "--orders", "99"], "orders: expected an integer from 0 to 13"),
        (["v7.0", "--kind", "fil"], "kinds: expected one of file, anon, lazyfree, shmem, got 'fil'"),
        (["v7.0", "--size", "1MB"], "as MB is decimal"),
        (["v7.0", "--budget", "0"], "budget: expected seconds above 0"),
        (["v7.0", "-o", "a.txt"], "expected a file ending in .md or .html"),
        (["v7.0", "--capture", "none.npz"], "none.npz"),
    ],
)
def test_bad_input_is_one_line(words, said, rules, capsys):
    assert main(["report", *(word.replace("{}", str(rules)) for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def test_a_reference_check_has_no_report():
    with pytest.raises(TypeError, match="got a YoungRule"):
        rf.report(rf.YoungRule(tested=lambda folio, vma, walk, nr: 1))


def test_a_report_does_not_depend_on_the_time(proposal):
    again = rf.report("anon-swap", kinds=["anon"], captures=[str(CAPTURE)], **SMALL)
    # only the check says how long it took
    assert [check.policies for check in again.checks] == [check.policies for check in proposal.checks]
    assert dataclasses.replace(again, checks=proposal.checks) == proposal
