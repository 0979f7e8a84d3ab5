"""Checks of arguments, files that are written in one step, text, and undoing."""

import math
import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmapfast import support
from rmapfast.support import call_apart, format_size, parse_size, undone


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10GiB", 10 << 30),
        ("64K", 65536),
        ("2 MB", 2000000),
        ("1.5kib", 1536),
        ("7", 7),
        (9, 9),
        ("3TiB", 3 << 40),
        ("0b", 0),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@given(st.integers(0, 2**62))
def test_format_size(size):
    if size < 1024:
        assert parse_size(format_size(size)) == size
    assert format_size(10 << 30) == "10 GiB" and format_size(1536) == "1.5 KiB"


@pytest.mark.parametrize("bad", ["", "GiB", "-1K", "1XiB", "0.3", "99999999TiB", -1, 1 << 63, None, True])
def test_size_errors(bad):
    with pytest.raises((ValueError, TypeError), match="target: "):
        parse_size(bad, "target")


def test_checked_values_are_plain_python():
    found = (
        support.checked_rate("young", np.float32(0.5)),
        support.checked_integer("seed", np.uint8(7), 0, 10),
        support.checked_boolean("cont", np.True_),
        support.checked_choice("kind", np.str_("file"), ["file", "anon"]),
    )
    assert found == (0.5, 7, True, "file") and [type(one) for one in found] == [float, int, bool, str]


@pytest.mark.parametrize(
    ("check", "error", "text"),
    [
        (lambda: support.checked_rate("young", 1.5), ValueError, "young: expected a rate from 0 to 1, got 1.5"),
        (lambda: support.checked_rate("young", "0.5"), ValueError, "young: expected a rate from 0 to 1, got '0.5'"),
        (lambda: support.checked_rate("young", math.nan), TypeError, "young: expected a rate from 0 to 1, got nan"),
        (lambda: support.checked_integer("seed", 11, 0, 10), ValueError, "seed: expected an integer from 0 to 10"),
        (lambda: support.checked_integer("seed", 1.0, 0, 10), TypeError, "seed: expected an integer from 0 to 10"),
        (lambda: support.checked_boolean("cont", 1), TypeError, "cont: expected True or False, got 1"),
        (
            lambda: support.checked_choice("kind", "fil", iter(["file", "anon"])),
            ValueError,
            r"kind: expected one of file, anon, got 'fil' \(did you mean 'file'\?\)",
        ),
        (lambda: support.flag_mask("fpb", "X", {"Y": 1}), ValueError, "fpb: no flag 'X'; known are Y"),
    ],
)
def test_errors_name_the_argument(check, error, text):
    with pytest.raises(error, match=text):
        check()


def test_flag_mask():
    known = {"A": 1, "B": 2, "C": 4}
    assert support.flag_mask("flags", "B", known) == 2
    assert support.flag_mask("flags", ["A", "C", "A"], known) == 5
    assert support.flag_mask("flags", [], known) == 0


@pytest.mark.parametrize(
    ("unit", "largest", "scale"),
    [
        ("ns", 2.5e9, ("s", 1e9)),
        ("ns", 999.0, ("ns", 1.0)),
        ("ns", 0.0, ("ns", 1.0)),
        ("instructions", 1e6, ("M", 1e6)),
        ("instructions", 12.0, ("", 1.0)),
    ],
)
def test_price_scale(unit, largest, scale):
    assert support.price_scale(unit, largest) == scale


@given(st.floats(0.001, 1e6))
def test_decimals_show_four_digits_at_most(largest):
    text = f"{largest:.{support.decimals(largest)}f}"
    assert float(text) == pytest.approx(largest, abs=0.5 if largest >= 1e3 else largest / 500 + 5e-4)


def test_text():
    assert [support.number(value) for value in (math.nan, 0, 0.123456, 98765.4)] == ["-", "0", "0.1235", "98765"]
    assert support.listed({"policy": ["v6.16", "v7.0"], "size": "1GiB"}) == "policy: v6.16, v7.0; size: 1GiB"
    lines = support.hanging("  label:", 12, "word " * 40)
    assert lines[0].startswith("  label:     word") and all(line.startswith(" " * 13 + "word") for line in lines[1:])
    assert max(map(len, lines)) <= 96 and max(map(len, support.paragraph("word " * 40))) <= 96


def test_files_written_together_are_new_together(tmp_path):
    files = [(tmp_path / "one", b"1"), (tmp_path / "missing" / "two", b"2")]
    with pytest.raises(FileNotFoundError, match="missing"):
        support.write_together(files, overwrite=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_undone_once_and_nothing_is_left_open():
    calls, files = [], len(os.listdir("/proc/self/fd"))
    with undone(lambda: calls.append(os.getpid())):
        assert calls == []
    assert calls == [os.getpid()]
    assert len(os.listdir("/proc/self/fd")) == files


def evaluated(text, seconds=20):
    return call_apart("builtins:eval", text, seconds=seconds, addresses=2 << 30)


def test_a_call_in_another_process_returns_what_json_has():
    assert evaluated(b"{'a': [1, 0.1, 'x', None]}") == {"a": [1, 0.1, "x", None]}


def test_what_a_library_prints_is_no_part_of_the_answer():
    assert evaluated(b"[print('a'), __import__('os').write(1, b'b')]") == [None, 1]


def test_a_process_that_cannot_make_the_call_is_no_fault_of_the_content():
    with pytest.raises(ChildProcessError, match=r"ended with exit status 1: AttributeError.*no_such_name"):
        call_apart("builtins:no_such_name", b"", seconds=20, addresses=2 << 30)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"int('x')", "invalid literal"),
        (b"{}['key']", "KeyError: 'key'"),
        (b"len(bytes(1 << 40))", "MemoryError"),
        (b"sum(iter(int, 1))", "did not end within 1 s"),
        (b"__import__('os').abort()", "ended by SIGABRT"),
        (b"__import__('os').kill(__import__('os').getpid(), 9)", "ended by SIGKILL"),
    ],
)
def test_a_call_in_another_process_that_fails_says_how(text, said):
    with pytest.raises(ValueError, match=said):
        evaluated(text, seconds=1 if b"iter" in text else 20)
