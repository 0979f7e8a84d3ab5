"""A report on a policy, and the file that it is written to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rmapfast.policy_report.data import ReportData
from rmapfast.policy_report.html import html
from rmapfast.policy_report.markdown import markdown
from rmapfast.support import check_writable, checked_path, write_atomically

ENDINGS = (".md", ".html")


@dataclass(frozen=True, repr=False)
class PolicyReport(ReportData):
    """A policy against its baseline: checks, predictions on many layouts, and what they depend on.

    Parameters
    ----------
    policy, baseline : str
        Names.
    doc, source : str
        What the policy is, and the source of a rule of one's own; empty where there is none.
    differing : tuple of str
        Fields of :class:`rmapfast.Policy` in which the two differ.
    checks : tuple of CheckReport
        The small states of an unmap, and where the policy is about them, those of splits and of reference checks.
    kinds, tried_kinds : tuple of str
        Kinds of folios in which the policy differs, out of those that were tried.
    points : tuple of Point
        Every layout, order, kind and architecture.
    by_order : dict of int to Comparison
        The plain layout of the first kind by folio order, in detail, on every architecture.
    captures : tuple of CaptureRun
    seconds : float
        How long it took.
    provenance : dict
        Versions, host and arguments.

    Examples
    --------
    >>> from rmapfast import report
    >>> found = report("v7.0", kinds=["file"], orders=[4], arches=["x86-64"], size="1MiB", pages=1)
    >>> found.to_markdown().splitlines()[0]
    '# v7.0 against v6.18'
    """

    def to_markdown(self) -> str:
        """Return the report as Markdown of at most 80 columns, for a cover letter.

        Returns
        -------
        str
        """
        return markdown(self)

    def to_html(self) -> str:
        """Return the report as one HTML page, for reviewers: it has pictures, no script, and asks for no other file.

        Returns
        -------
        str

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message has the pip command.
        """
        return html(self)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the report as one file.

        Parameters
        ----------
        path : path
            Ending in .md or .html.
        overwrite : bool
            Replace a file that is there.

        Raises
        ------
        ValueError, ImportError, OSError
            As :func:`check_path`; also if the file cannot be written.
        """
        where = check_path(path, overwrite=overwrite)
        text = self.to_html() if where.suffix.lower() == ".html" else self.to_markdown()
        write_atomically(path, (text + "\n").encode(), overwrite=overwrite)

    def __repr__(self) -> str:
        """Return the report as Markdown."""
        return self.to_markdown()


def check_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return the path if a report can be written there, before the work.

    Parameters
    ----------
    path : path
    overwrite : bool

    Raises
    ------
    ValueError
        If it ends neither in .md nor in .html.
    ImportError
        For .html, if matplotlib is not installed; the message has the pip command.
    OSError
        If there is a file that may not be replaced, or no folder for it.
    """
    found = checked_path("path", path)
    if found.suffix.lower() not in ENDINGS:
        raise ValueError(f"-o: expected a file ending in {' or '.join(ENDINGS)}, got {str(path)!r}")
    if found.suffix.lower() == ".html":
        from rmapfast.plot import require_matplotlib

        require_matplotlib()
    check_writable(path, overwrite=overwrite)
    return found
