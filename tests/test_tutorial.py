"""docs/tutorial.md as typed: each command runs, each Python line gives what the page says."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import DEADLINE

import rmapfast

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
# Where a test may not read /proc of another process, a capture that was taken before stands for it.
CAPTURE = ROOT / "docs" / "case-studies" / "data" / "anon_mthp.npz"


def blocks(start):
    """Return the indented blocks that begin in some way, without their indent."""
    found = re.findall(r"(?m)^\n((?:    .*\n)+)", TEXT)
    return [re.sub("(?m)^    ", "", block) for block in found if block.startswith(f"    {start}")]


def words(line):
    return " ".join(line.split())


def shown_lines(expected, printed):
    """Return the first line of a page that a command did not print after the ones before it, or None."""
    left = [words(line) for line in printed.splitlines()]
    for line in expected:
        if line == "...":
            continue
        pattern = re.compile(re.escape(words(line)).replace(re.escape("..."), ".*") + "$")
        while left and not pattern.match(left[0]):
            left.pop(0)
        if not left:
            return line
        left.pop(0)
    return None


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Run a command in one folder for all of the page, with `rmapfast` and `python3` of this test."""
    folder = tmp_path_factory.mktemp("tutorial")
    tools = tmp_path_factory.mktemp("bin")
    package = Path(rmapfast.__file__).resolve().parents[1]
    for name, command in (("rmapfast", "-m rmapfast"), ("python3", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        (tools / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(package)}

    def run(command):
        return subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE
        )

    return run


def may_capture():
    return sys.platform == "linux" and os.geteuid() == 0


def test_the_commands_as_typed(shell, tmp_path_factory):
    typed = [block for block in blocks("$ ") if "export PATH" not in block]
    assert len(typed) > 8
    for block in typed:
        command, *expected = re.sub(r"\\\n *", "", block).splitlines()
        command = command.removeprefix("$ ").replace("sudo ", "")
        if " capture " in command and not may_capture():
            command, expected = f"cp {CAPTURE} mine.npz", []
        if command.startswith("python3 -c"):
            # The program of the page runs on while the next commands look at it.
            command = command.replace("& sleep 2", "> /dev/null 2>&1 & sleep 2")
        done = shell(command)
        if done.returncode and " capture " in command and "Operation not permitted" in done.stderr:
            done = shell(f"cp {CAPTURE} mine.npz")
            expected = []
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert shown_lines(expected, done.stdout) is None, f"{command}\n{done.stdout}"
    shell("kill $(cat pid)")


def test_the_python_as_typed():
    source = "".join(blocks(">>> "))
    example = doctest.DocTestParser().get_doctest(source, {}, "tutorial", None, 0)
    said = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert len(example.examples) > 8 and not said, "".join(said)


def test_the_other_commands_are_read():
    """What the page only lists has arguments that exist."""
    from rmapfast.cli import parser

    (listed,) = (block for block in blocks("rmapfast ") if "--lru mglru" in block)
    for line in listed.splitlines():
        arguments = re.sub(r"\s+#.*", "", line).split()[1:]
        parser().parse_args(arguments)


def test_a_line_that_is_not_printed_is_found():
    assert shown_lines(["...", "a  b", "..."], "x\na b\n") is None
    assert shown_lines(["a b", "c ..."], "a b\nc 1\n") is None
    assert shown_lines(["c", "a"], "a\nc\n") == "a"
