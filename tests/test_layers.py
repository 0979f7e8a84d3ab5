"""The house: imports point one way, other rooms import from a room's __init__ alone, and no file grows without end.

`LAYERS` is the order that CONTRIBUTING.md promises. Each rule is planted broken once, and seen to fail.
"""

import ast
import re
import shutil
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the ground up: a module imports from its own line and those above it. A room is one entry; `rmapfast` is the
# package's own __init__.
LAYERS = """
_version _core
support
parallel
rule plugins
pte flags events policy editions cost arch
arrays layout lru spec swap
captures unseen
population
reference
calls provenance stream runs result loop
reports
comparison
contents
verify
sweeps
saved
calibration
plot
policy_report
rmapfast
cli
__main__
"""
LONGEST = 900
MAY_BE_LONGER = {"reference.py"}  # the twin of csrc, read from top to bottom in the kernel's order
SOURCES = {".py", ".pyx", ".pxi", ".pxd", ".pyi", ".c", ".h", ".def"}


# The package


def modules(package: Path) -> dict[str, Path]:
    """Every Python file of a package by its dotted name; an ``__init__`` by that of its folder."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(name: str, path: Path, known: set[str]) -> list[tuple[int, str]]:
    """Line and module of everything that a file imports from the package, wherever it stands in the file."""
    found = []
    root = name.partition(".")[0]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.append((node.lineno, inner if inner in known else base))
        elif isinstance(node, ast.Constant) and node.value in known - {root} and "import_module" in text:
            found.append((node.lineno, node.value))
        elif isinstance(node, ast.JoinedStr) and ast.unparse(node)[2:].startswith(f"{root}.") and name != root:
            found.append((node.lineno, f"{root}.?"))  # only the __init__ finds its rooms by a table
    return [(line, target) for line, target in found if target.partition(".")[0] == root]


def entry(name: str) -> str:
    """The name of a module in `LAYERS`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def faults_of_package(package: Path, layers: str = LAYERS) -> list[str]:
    """Return what breaks the order, a line each."""
    height = {one: level for level, line in enumerate(layers.strip().splitlines()) for one in line.split()}
    files = modules(package)
    compiled = {f"{package.name}.{path.stem}" for path in package.rglob("*.pyx")}
    known = {*files, *compiled}
    faults, edges = [], {}
    present = {entry(name) for name in known}
    faults += [f"{one}: is in no line of LAYERS" for one in sorted(present - set(height))]
    faults += [f"{one}: LAYERS names it, and it is not there" for one in sorted(set(height) - present)]
    for name, path in files.items():
        edges[name] = set()
        for line, target in imports(name, path, known):
            at = f"{path.relative_to(package.parent)}:{line}: imports {target}"
            if target not in known:
                faults.append(f"{at}, which is no module of the package")
                continue
            edges[name].add(target)
            mine, other = entry(name), entry(target)
            if mine != other and target.count(".") > 1:
                faults.append(f"{at}, past the __init__ of {other}")
            if height.get(other, -1) > height.get(mine, len(height)):
                faults.append(f"{at}, which is above it")
    for path in sorted([*package.rglob("*.pyx"), *package.rglob("*.pxi"), *package.rglob("*.pxd")]):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.match(rf"\s*(from|c?import)\s+(\.|{package.name}\b)(?!\.?_c(ore|src)\b)", text):
                faults.append(f"{path.relative_to(package.parent)}:{number}: imports from the package")
    return faults + circle(edges)


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Return the first circle as a line, or nothing."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return ["circle: " + " - ".join(reversed(error.args[1]))]
    return []


# The C library


def faults_of_c(folder: Path) -> list[str]:
    """Return circles among C files: by what they include, and by the functions of each other that they use."""
    texts = {}
    for path in sorted([*folder.glob("*.c"), *folder.glob("*.h"), *folder.glob("*.def")]):
        texts[path.name] = re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    home = {}
    for name, text in texts.items():
        if name.endswith(".c"):
            for function in re.findall(r"^(?!static)[a-z][^;{}()=]*?\b(rmf_\w+)\([^;{}]*\)\s*\{", text, re.MULTILINE):
                home[function] = name
    edges = {}
    for name, text in texts.items():
        included = set(re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE)) & set(texts)
        used = {home[word] for word in set(re.findall(r"\brmf_\w+", text)) & set(home) if name.endswith(".c")}
        edges[name] = (included | used) - {name}
    return circle(edges)


def too_long(*folders: Path) -> list[str]:
    """Return the files that are longer than LONGEST lines."""
    faults = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            # a .c beside a .pyx is what Cython made of it
            made = path.suffix == ".c" and path.with_suffix(".pyx").exists()
            if path.suffix in SOURCES and path.name not in MAY_BE_LONGER and not made:
                lines = path.read_text(encoding="utf-8").count("\n")
                if lines > LONGEST:
                    faults.append(f"{path.relative_to(folder.parent)}: {lines} lines, of {LONGEST} at most")
    return faults


def test_imports_point_one_way():
    assert faults_of_package(ROOT / "rmapfast") == []


def test_no_circle_in_c():
    assert faults_of_c(ROOT / "csrc") == []


def test_no_file_is_too_long():
    assert too_long(ROOT / "rmapfast", ROOT / "csrc") == []


# Each rule, broken

SMALL = """
_core
low side
room
house
top
"""


@pytest.fixture
def house(tmp_path):
    """A package in order: four modules, and a room with an inside."""
    package = tmp_path / "house"
    (package / "room").mkdir(parents=True)
    for name, text in {
        "__init__.py": "from house.low import one\n",
        "_core.pyx": "import os\n",
        "low.py": "one = 1\n",
        "side.py": "from house.low import one\n",
        "room/__init__.py": "from house.room.inside import two\n",
        "room/inside.py": "from .. import low\nfrom house import _core, side\ntwo = 2\n",
        "top.py": "import house\nfrom house.room import two\n",
    }.items():
        (package / name).write_text(text)
    assert faults_of_package(package, SMALL) == []
    return package


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("low.py", "from house.room import two", "low.py:2: imports house.room, which is above it"),
        ("low.py", "import house.top", "low.py:2: imports house.top, which is above it"),
        ("low.py", "from house import top", "low.py:2: imports house.top, which is above it"),
        ("low.py", "from house import one", "low.py:2: imports house, which is above it"),
        ("low.py", "from . import top", "low.py:2: imports house.top, which is above it"),
        ("low.py", "from .room import two", "low.py:2: imports house.room, which is above it"),
        ("room/inside.py", "from ..top import two", "inside.py:4: imports house.top, which is above it"),
        ("low.py", "def f():\n    from house.top import x", "low.py:3: imports house.top, which is above it"),
        ("low.py", "if TYPE_CHECKING:\n    import house.top", "low.py:3: imports house.top, which is above it"),
        ("low.py", "importlib.import_module('house.top')", "low.py:2: imports house.top, which is above it"),
        ("low.py", "importlib.import_module(f'house.{name}')", "low.py:2: imports house.?, which is no module"),
        ("low.py", "from house.side import one", "circle: house."),
        ("room/inside.py", "from house.room import two", "circle: house.room"),
        ("room/inside.py", "from . import two", "circle: house.room"),
        ("top.py", "from house.room.inside import two", "top.py:3: imports house.room.inside, past the __init__"),
        ("top.py", "from house.room import inside", "top.py:3: imports house.room.inside, past the __init__"),
        ("top.py", "import house.room.inside as x", "top.py:3: imports house.room.inside, past the __init__"),
        ("top.py", "from house.gone import x", "top.py:3: imports house.gone, which is no module"),
        ("new.py", "", "new: is in no line of LAYERS"),
        ("_core.pyx", "from house.low import one", "_core.pyx:2: imports from the package"),
        ("_core.pyx", "    from house import low", "_core.pyx:2: imports from the package"),
    ],
)
def test_a_broken_rule_of_the_package_is_seen(house, file, text, said):
    with open(house / file, "a") as source:
        source.write(f"{text}\n")
    assert any(said in fault for fault in faults_of_package(house, SMALL)), faults_of_package(house, SMALL)


def test_a_module_that_went_is_seen(house):
    (house / "top.py").unlink()
    assert faults_of_package(house, SMALL) == ["top: LAYERS names it, and it is not there"]


def test_an_upward_import_planted_in_this_package_is_seen(tmp_path):
    package = tmp_path / "rmapfast"
    shutil.copytree(ROOT / "rmapfast", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    before = faults_of_package(package)
    line = (package / "pte.py").read_text().count("\n") + 2
    with open(package / "pte.py", "a") as source:
        source.write("def lazily():\n    from rmapfast.population import Population\n")
    fault = f"rmapfast/pte.py:{line}: imports rmapfast.population, which is above it"
    assert fault not in before and fault in faults_of_package(package)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"b.h": '#include "a.h"\n'}, "a.h"),  # a.h includes it
        ({"b.c": '#include "b.h"\nint rmf_b(void)\n{\n\treturn rmf_a(1);\n}\n'}, "a.c"),  # a.c calls it
        ({"b.c": "int rmf_b(void)\n{\n\t/* not rmf_a(1) */\n\treturn 0;\n}\n"}, None),
    ],
)
def test_a_circle_in_c_is_seen(tmp_path, files, said):
    right = {
        "a.h": '#include "b.h"\nint rmf_a(int x);\n',
        "a.c": '#include "a.h"\nstatic int rmf_own(void)\n{\n}\nint rmf_a(int x)\n{\n\treturn rmf_b();\n}\n',
        "b.h": "int rmf_b(void);\n",
        "b.c": '#include "b.h"\nint rmf_b(void)\n{\n\treturn 0;\n}\n',
    }
    for name, text in right.items():
        (tmp_path / name).write_text(text)
    assert faults_of_c(tmp_path) == []
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = faults_of_c(tmp_path)
    assert found == [] if said is None else len(found) == 1 and said in found[0]


def test_a_long_file_is_seen(tmp_path):
    for name in ("long.py", "long.c", "reference.py", "notes.txt", "made.c"):
        (tmp_path / name).write_text("\n" * (LONGEST + 1))
    (tmp_path / "made.pyx").write_text("")
    (tmp_path / "short.py").write_text("\n" * LONGEST)
    assert [fault.split(":")[0].split("/")[-1] for fault in too_long(tmp_path)] == ["long.c", "long.py"]
