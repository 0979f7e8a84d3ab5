"""Replay of recorded sequences of isolations: ``[isolations]`` and ``[classic_isolations]`` of measured-mglru.toml.

A line stands for a round: ``request | priority: isolation; isolation x N | priority: ...``. An isolation is what it was
asked for, the pages that it looked at, those that it took and, if fewer, those that were freed. ``A`` stands before one
from the active list, ``age`` for an ageing, ``-`` for a pass without any.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from rmapfast.verify.counts import tables_of
from rmapfast.verify.rows import Counted, parse_row, reclaim_row

TABLES = ("isolations", "classic_isolations")

_ENTRY = re.compile(r"(?P<what>age|-|A?\d+(?:,\d+){1,3})(?: x(?P<times>\d+))?")
_MOST_ENTRIES = 1 << 20


@dataclass(frozen=True)
class Round:
    """A round of memory.reclaim.

    Parameters
    ----------
    request : int
        Base pages that it asks for.
    passes : tuple of (int, tuple of str)
        The priority of each pass, and its entries.
    """

    request: int
    passes: tuple[tuple[int, tuple[str, ...]], ...]

    @property
    def isolations(self) -> list[str]:
        """The isolations of the round, whatever pass they are in."""
        return [entry for _, entries in self.passes for entry in entries if entry != "age"]

    def __str__(self) -> str:
        return f"{self.request} | " + " | ".join(f"{priority}: {_joined(entries)}" for priority, entries in self.passes)


def _joined(entries: tuple[str, ...]) -> str:
    runs: list[tuple[str, int]] = []
    for entry in entries:
        if runs and runs[-1][0] == entry:
            runs[-1] = (entry, runs[-1][1] + 1)
        else:
            runs.append((entry, 1))
    return "; ".join(entry if times == 1 else f"{entry} x{times}" for entry, times in runs) or "-"


@dataclass(frozen=True)
class Sequence:
    """A recorded sequence and the model's.

    Parameters
    ----------
    row : str
    recorded, model : list of Round
    problem : str
        Why the row cannot be read; then both are empty.
    """

    row: str
    recorded: list[Round]
    model: list[Round]
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether every isolation of every round is the recorded one, in its order."""
        if self.problem or len(self.recorded) != len(self.model):
            return False
        return all(
            one.request == other.request and one.isolations == other.isolations
            for one, other in zip(self.recorded, self.model, strict=True)
        )

    @property
    def passes_agree(self) -> bool:
        """Whether each isolation and each ageing also lies in the recorded pass."""
        return self.recorded == self.model

    @property
    def first_difference(self) -> tuple[str, str] | None:
        """The first recorded round that the model does not have, and what it has."""
        for number in range(max(len(self.recorded), len(self.model))):
            pair = [str(rounds[number]) if number < len(rounds) else "none" for rounds in (self.recorded, self.model)]
            if pair[0] != pair[1]:
                return pair[0], pair[1]
        return None


def replay_sequences(path: str | os.PathLike[str], engine: str = "c") -> list[Sequence]:
    """Compare the recorded sequences of isolations of a file with the model's.

    Parameters
    ----------
    path : path
        A TOML file with a table ``[isolations]`` or ``[classic_isolations]``, as in measured-mglru.toml.
    engine : {'c', 'reference'}

    Returns
    -------
    list of Sequence

    Raises
    ------
    ValueError
        If the file is not TOML, or has no such table.
    OSError
        If it cannot be read.
    """
    found = []
    for table, rows in tables_of(path, TABLES).items():
        for name, lines in rows.items():
            try:
                recorded = _rounds(lines)
                row = parse_row(name, classic=table == "classic_isolations")
                runs = [rounds_of(reclaim_row(row, stats, engine)) for stats in row.lru_stats]
                found.append(Sequence(name, recorded, recorded if recorded in runs else runs[0]))
            except (TypeError, ValueError) as error:
                found.append(Sequence(name, [], [], str(error)))
    return found


def _rounds(lines: object) -> list[Round]:
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ValueError(f"expected a list of texts, one for each round, got {lines!r:.80}")
    return [_round(line) for line in lines]


def _round(line: str) -> Round:
    request, *passes = line.split(" | ")
    found = []
    for text in passes:
        priority, _, entries = text.partition(": ")
        if not priority.isdecimal():
            raise ValueError(f"expected a pass such as '12: 4,64,64', got {text!r:.80}")
        found.append((int(priority), _entries(entries)))
    if not request.isdecimal():
        raise ValueError(f"expected the request of a round, got {request!r:.80}")
    return Round(int(request), tuple(found))


def _entries(text: str) -> tuple[str, ...]:
    entries: list[str] = []
    for one in text.split("; "):
        match = _ENTRY.fullmatch(one)
        times = int(match["times"] or 1) if match else 0
        if match is None or len(entries) + times > _MOST_ENTRIES:
            raise ValueError(f"expected an isolation such as '4,64,64 x3', age or -, got {one!r:.80}")
        entries += [match["what"]] * times if match["what"] != "-" else []
    return tuple(entries)


def rounds_of(counted: Counted) -> list[Round]:
    """Return the rounds of a reclaim as its trace has them."""
    rounds: list[tuple[int, list[tuple[int, list[str]]]]] = []
    asked = looked = 0
    for kind, a, b in counted.trace:
        if kind == "round":
            rounds.append((a, []))
        elif kind == "pass":
            rounds[-1][1].append((a, []))
        elif kind == "inactive":
            asked, looked = a, b
        elif kind == "isolated" and (asked, looked) != (0, 0):
            rounds[-1][1][-1][1].append(f"{asked},{looked},{a}" + (f",{b}" if a != b else ""))
        elif kind == "active":
            rounds[-1][1][-1][1].append(f"A{a},{b},{b}")
        elif kind == "age":
            rounds[-1][1][-1][1].append("age")
    return [
        Round(request, tuple((priority, tuple(entries)) for priority, entries in passes)) for request, passes in rounds
    ]


def sequence_lines(found: list[Sequence]) -> list[str]:
    """Return the sequences as lines of text, ending in ``N passed, M failed``."""
    width = max((len(one.row) for one in found), default=0)
    lines = []
    for one in found:
        number = sum(len(round_.isolations) for round_ in one.recorded)
        if one.problem:
            lines.append(f"{one.row:<{width}}  cannot be read: {one.problem}")
            continue
        verdict = f"all {number} isolations of {len(one.recorded)} rounds agree" if one.agrees else "DIFFERS"
        if one.agrees and not one.passes_agree:
            verdict += ", but not the pass of each"
        lines.append(f"{one.row:<{width}}  {verdict}")
        if one.first_difference:
            lines += [f"  recorded  {one.first_difference[0]}", f"  model     {one.first_difference[1]}"]
    passed = sum(one.agrees for one in found)
    return [*lines, f"{passed} passed, {len(found) - passed} failed"]
