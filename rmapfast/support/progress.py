"""How far long work is: a bar of tqdm where it is installed, else a line; in a log file a line now and then."""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

# Seconds: between two changes of a line on a terminal, between two lines of a log, and before tqdm is imported.
_REDRAW = 0.1
_NOW_AND_THEN = 30.0
_PATIENCE = 0.5


def _in_notebook() -> bool:
    """Return whether a notebook shows what is printed; then IPython has a kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


class ProgressLine:
    """A line on stderr that says how far the work is.

    On a terminal each call replaces the line, at most ten times a second. Elsewhere, such as in a log, a call prints
    a line of its own if 30 seconds have gone since the last one.
    """

    def __init__(self) -> None:
        self.on_terminal = sys.stderr.isatty()
        self.last = 0.0 if self.on_terminal else time.monotonic()
        self.shown = False

    def __call__(self, text: str) -> None:
        """Show `text`."""
        now = time.monotonic()
        if now - self.last < (_REDRAW if self.on_terminal else _NOW_AND_THEN):
            return
        self.last, self.shown = now, True
        if self.on_terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self.on_terminal and self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class ProgressBar:
    """How much of a total is done, at what rate, and how long the rest takes.

    Parameters
    ----------
    label : str
        What is done; may be empty.
    unit : str
        Of the total, such as ``points``.
    total : int
    """

    def __init__(self, label: str, unit: str, total: int = 0) -> None:
        self.label, self.unit, self.total = label, unit, total
        self.start = time.monotonic()
        self.before: int | None = None
        self.line = ProgressLine()
        self.bar: Any = None
        self.use_tqdm = self.line.on_terminal or _in_notebook()

    def __call__(self, done: int, note: str = "") -> None:
        """Show that so much is done."""
        self.before = done if self.before is None else self.before  # what was done earlier took no time now
        seconds = time.monotonic() - self.start
        if self.bar is None and self.use_tqdm and seconds > _PATIENCE:
            self.bar = self._tqdm()
            self.use_tqdm = self.bar is not None
        if self.bar is not None:
            self.bar.total = self.total
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(done - self.bar.n)
            return
        rate = (done - self.before) / max(seconds, 1e-9)
        left = f", {round((self.total - done) / rate)} s left" if rate and done < self.total else ""
        head = f"{self.label}: " if self.label else ""
        self.line(f"{head}{done:,}/{self.total:,} {self.unit}, {rate:.3g}/s{left}{f', {note}' if note else ''}")

    def _tqdm(self) -> Any:
        """Return a bar of tqdm that goes on from where the work began, or None if tqdm is not installed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about ipywidgets, without which the bar is text
                from tqdm.auto import tqdm

                return tqdm(
                    desc=self.label or None,
                    unit=f" {self.unit}",
                    total=self.total,
                    initial=self.before or 0,
                    leave=False,
                )
        except ImportError:
            return None

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
        self.line.clear()
