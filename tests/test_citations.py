"""Every citation of a rule, a section or a page in code, tests and docs resolves to something in docs/.

The short forms (an S, an I or "bug" with a number, a numbered step) are those of docs/kernel-rules.md.
"""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("csrc", "rmapfast", "tests", "docs", "bench", "validation", "examples")
ENDINGS = {".c", ".h", ".def", ".py", ".pyi", ".pyx", ".pxi", ".pxd", ".md"}
RULES = "docs/kernel-rules.md"
PAGES = ("README.md", "CONTRIBUTING.md")
GENERATED = {"rmapfast/_core.c"}

# docs/X.md, and "docs/X.md, section N" or "docs/X.md`, sections N and M".
_NUMBERS = r"(?P<numbers>\d+(?:\.\d+)*(?:(?:, | and | to )\d+(?:\.\d+)*)*)"
PAGE = re.compile(rf"\bdocs/(?P<page>[\w/-]+\.md)(?:`?, sections? {_NUMBERS})?")
LINK = re.compile(r"\]\((?P<page>[\w./-]+\.md)?(?:#(?P<anchor>[\w.-]+))?\)")
SECTION = re.compile(rf"\b[Ss]ections? {_NUMBERS}")
# A step of try_to_unmap_one() is S and one digit, an invariant I and one digit; neither is part of a name, a quoted
# string ("S1"), an array element or a size such as 4S.
STEP = re.compile(r"(?<![\w\"'./\[+-])S(?P<number>\d+)(?![\w\"'(\[=-])")
INVARIANT = re.compile(r"(?<![\w\"'./\[+-])I(?P<number>\d+)(?![\w\"'(\[=-])")
BUG = re.compile(r"\bbug (?P<number>\d+)\b")
WALK_STEP = re.compile(r"(?<![\w.])(?P<section>\d+\.\d+),? step (?P<number>\d+)\b")
GONE = re.compile(
    r"fact sheet|kernel-facts|\b[Ff]acts, (?:section|\d)|\bFORMAT\.md|\(FORMAT, (?:section|\")|\bCHECK\.md"
)
OUTSIDE = re.compile(r"\.\./shared|\bshared/data\b")


@cache
def targets(page):
    """Return the anchors and the numbers of the headings of a page in docs/, or None if there is no such page."""
    path = ROOT / "docs" / page
    if not path.is_file():
        return None
    text = path.read_text()
    return frozenset(re.findall(r'<a id="([^"]+)"></a>', text)) | frozenset(
        f"section-{number.rstrip('.')}" for number in re.findall(r"^#+ (\d+(?:\.\d+)*)\.? ", text, re.MULTILINE)
    )


def code_free(text, name):
    """Drop code blocks of a Markdown page, whose words are no citations."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE) if name.endswith(".md") else text


def one_line(text):
    """Join the lines of comments and paragraphs, so that a citation may break across two lines."""
    return re.sub(r"[ \t]*\n[ \t]*(?:#+ |\* |// )?[ \t]*", " ", text)


def problems(text, name):
    """Return a sentence for every citation of a text that does not resolve."""
    found = []
    text = one_line(code_free(text, name))

    def check(page, anchor, shown):
        if targets(page) is None:
            found.append(f"{name}: {shown!r}: there is no docs/{page}")
        elif anchor is not None and anchor not in targets(page):
            found.append(f"{name}: {shown!r}: docs/{page} has no {anchor}")

    for match in PAGE.finditer(text):
        numbers = re.findall(r"\d+(?:\.\d+)*", match["numbers"] or "")
        for anchor in [f"section-{number}" for number in numbers] or [None]:
            check(match["page"], anchor, match[0])
    if name.startswith("docs/"):
        here = Path(name).relative_to("docs")
        for match in LINK.finditer(text):
            check(str(here.parent / match["page"]) if match["page"] else str(here), match["anchor"], match[0])
    short = PAGE.sub("", text)
    cited = []
    for pattern, form in ((STEP, "s{number}"), (INVARIANT, "i{number}"), (BUG, "bug-{number}")):
        cited += [(form.format(**match.groupdict()), match[0]) for match in pattern.finditer(short)]
    cited += [(f"{match['section']}-step-{match['number']}", match[0]) for match in WALK_STEP.finditer(short)]
    for match in SECTION.finditer(short):
        cited += [(f"section-{number}", match[0]) for number in re.findall(r"\d+(?:\.\d+)*", match["numbers"])]
    # In a page of docs/ a section without a page may be one of its own.
    own = targets(str(Path(name).relative_to("docs"))) if name.startswith("docs/") else None
    for anchor, shown in cited:
        if own and anchor in own:
            continue
        check(RULES.removeprefix("docs/"), anchor, shown)
        if RULES not in text and name != RULES:
            found.append(f"{name}: {shown!r} is a short form, and the file does not name {RULES}")
    found += [f"{name}: {match[0]!r} is not in the repository" for match in GONE.finditer(text)]
    if name.startswith(("csrc/", "rmapfast/", "docs/")):
        found += [f"{name}: {match[0]!r} is not in the repository" for match in OUTSIDE.finditer(text)]
    return found


def files():
    here = Path(__file__).resolve()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in ENDINGS and name not in GENERATED and path != here and "build" not in path.parts:
                yield name
    yield from PAGES


@pytest.mark.parametrize("name", list(files()))
def test_citations_resolve(name):
    assert problems((ROOT / name).read_text(), name) == []


def test_rules_are_cited():
    """The patterns find the citations that are there: each kind somewhere."""
    text = "".join((ROOT / name).read_text() for name in files() if not name.startswith("docs/"))
    for pattern in (PAGE, SECTION, STEP, BUG, WALK_STEP):
        assert pattern.search(text)
    rules = targets("kernel-rules.md")
    for anchor in (
        *(f"s{n}" for n in range(10)),
        *(f"i{n}" for n in range(1, 10)),
        *(f"bug-{n}" for n in range(1, 17)),
    ):
        assert anchor in rules
    assert {"2.1-step-4", "2.2-step-8", "section-0", "section-2.8", "section-8", "8a", "8d"} <= rules


NAMED = "Rules such as S5 are those of docs/kernel-rules.md. "


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        ("/* S12 */", "'S12': docs/kernel-rules.md has no s12"),
        ("# I10", "'I10': docs/kernel-rules.md has no i10"),
        ("# bug 17", "'bug 17': docs/kernel-rules.md has no bug-17"),
        ("# 2.2 step 9", "'2.2 step 9': docs/kernel-rules.md has no 2.2-step-9"),
        ("# 2.2 step\n    # 9", "'2.2 step 9': docs/kernel-rules.md has no 2.2-step-9"),
        ("# Section 2.10.", "'Section 2.10': docs/kernel-rules.md has no section-2.10"),
        ("# sections 2.6 and 2.10", "docs/kernel-rules.md has no section-2.10"),
        ("# docs/model.md, section 12", "docs/model.md has no section-12"),
        ("# docs/modell.md", "'docs/modell.md': there is no docs/modell.md"),
        ("# the fact sheet, 2.6", "'fact sheet' is not in the repository"),
        ("# facts, 2.6", "'facts, 2' is not in the repository"),
        ("# as FORMAT.md says", "'FORMAT.md' is not in the repository"),
        ("# ../shared/data", "'../shared' is not in the repository"),
    ],
)
def test_a_bad_citation_is_found(planted, message):
    assert [one for one in problems(NAMED + planted, "rmapfast/planted.py") if one.endswith(message)]


@pytest.mark.parametrize("short", ["S5", "I8", "bug 6", "2.2 step 8", "section 2.6"])
def test_a_short_form_needs_the_name_of_the_page(short):
    assert problems(NAMED + short, "csrc/planted.c") == []
    (problem,) = problems(short, "csrc/planted.c")
    assert problem.endswith(f"is a short form, and the file does not name {RULES}")


@pytest.mark.parametrize(
    "text",
    [
        "PRESENT | S | W",
        'names = ["S1", "I2"]',
        "S1_total, ST, PS5",
        "rates[S0]",
        "bugs 4",
        "debug 4",
        "12.5 steps",
        "ISO-8859-1",
    ],
)
def test_what_only_looks_like_a_citation_is_none(text):
    assert problems(text, "rmapfast/planted.py") == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("model.md", "modell.md"),
        ("case-studies/README.md", "case-studies/model.md"),
        ("#s5", "#s10"),
        ("kernel-rules.md#2.2-step-8", "kernel-rules.md#2.2-step-9"),
    ],
)
def test_links_between_pages(good, bad):
    assert problems(f"[a]({good})", RULES) == []
    assert len(problems(f"[a]({bad})", RULES)) == 1
