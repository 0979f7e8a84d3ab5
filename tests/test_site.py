"""The pages of docs/ and README.md: every link leads somewhere, and nothing is left out of the site (`make docs`)."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\((?P<place>[^)#\s]+)(?:#[^)\s]*)?\)")


def load(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn(path):
    """Whether the build makes a file: it is in docs/generated, or beside a case study and named after it."""
    if path.parent == DOCS / "generated":
        return path.suffix == ".svg" and path.stem in load("pictures").PICTURES
    studies = [script.stem for script in (DOCS / "case-studies").glob("[a-z]*.py")]
    return path.parent == DOCS / "case-studies" and path.suffix == ".svg" and path.stem.startswith(tuple(studies))


def lost(text, page):
    """Return the relative links of a page that lead nowhere."""
    text = re.sub(r"(?ms)^```.*?^```$", "", text)
    places = [match["place"] for match in LINK.finditer(text) if not re.match(r"\w+:", match["place"])]
    folder = (ROOT / page).parent
    return [place for place in places if not (folder / place).exists() and not drawn((folder / place).resolve())]


@pytest.mark.parametrize("page", [page for page in PAGES if "generated" not in page])
def test_the_links_of_a_page(page):
    pytest.importorskip("matplotlib")
    assert lost((ROOT / page).read_text(encoding="utf-8"), page) == []


def test_a_lost_link_is_found():
    pytest.importorskip("matplotlib")
    text = "[a](model.md) [b](modell.md#x) ![c](case-studies/none.svg) ![d](generated/rmap.svg)"
    assert lost(text, "docs/index.md") == ["modell.md", "case-studies/none.svg"]


def test_each_page_is_in_the_site():
    listed = set(re.findall(r"(?m)^([\w/-]+)$", (DOCS / "index.md").read_text(encoding="utf-8")))
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.glob("*.md")} - {"index"}
    assert pages - listed == set()


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 100 and sum(line.startswith("![") for line in lines) == 1


def test_no_drawn_picture_is_committed():
    done = subprocess.run(["git", "ls-files", "docs"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git repository")
    pictures = [name for name in done.stdout.split() if name.endswith((".svg", ".png"))]
    assert set(pictures) == {"docs/batch.svg", "docs/performance.svg"}


def test_the_picture_of_the_readme_is_up_to_date(tmp_path):
    """Its words and numbers; other versions of matplotlib may draw other lines."""
    pytest.importorskip("matplotlib")
    pictures = load("pictures")
    pictures.save(pictures.batch, tmp_path / "batch.svg")
    drawn_now, kept = (
        [re.sub(r"<[^>]+>", "", text) for text in re.findall(r"(?s)<text.*?</text>", path.read_text(encoding="utf-8"))]
        for path in (tmp_path / "batch.svg", DOCS / "batch.svg")
    )
    assert drawn_now == kept and any("14 steps" in text for text in kept)


def test_the_links_of_a_built_site(tmp_path):
    """What docs/links.py says of a folder with one fault of each kind."""
    (tmp_path / "good.html").write_text('<h1 id="here"></h1><a href="#here"></a><img src="x.svg">')
    (tmp_path / "x.svg").write_text("<svg/>")
    (tmp_path / "bad.html").write_text(
        '<a href="good.html#there"></a><a href="gone.html"></a><script src="https://cdn.example/x.js"></script>'
        '<a href="https://example.org"></a><link rel="canonical" href="https://example.org">'
    )
    assert load("links").problems(tmp_path) == [
        "bad.html: loads https://cdn.example/x.js",
        "bad.html: good.html#there: there is no such anchor",
        "bad.html: gone.html: there is no such file",
    ]
