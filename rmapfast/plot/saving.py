"""Figures as files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmapfast.plot.style import require_matplotlib
from rmapfast.support import check_writable, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")

# By ending: without the date the same figure gives the same file.
_METADATA: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return the path if a figure can be saved there, before the work that the figure is to show.

    Parameters
    ----------
    path : str or path
        With one of the endings :data:`ENDINGS`, in upper or lower case.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If the path has another ending.
    ImportError
        If matplotlib is not installed; the message has the pip command.
    OSError
        If the folder does not exist, or the path is something other than a file.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.plot.check_path("gain.svg").suffix
    '.svg'
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"plot: expected a file ending in {', '.join(ENDINGS)}, got {str(path)!r}")
    require_matplotlib()
    check_writable(path, overwrite=True)
    return path


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as .png, .svg or .pdf.

    The file is written in one step, so after a failure the old file is still there. A file that exists is replaced.
    The same figure gives the same file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or path
        Its ending decides the format.

    Raises
    ------
    ValueError, ImportError, OSError
        As :func:`check_path`; also if the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import rmapfast as rf
    >>> figure = rf.plot.batch_lengths(rf.reclaim(rf.Population.synthetic("4MiB"), "2MiB"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rf.plot.save(figure, f"{folder}/lengths.svg")
    """
    path = check_path(path)
    write_atomically(path, _drawn(figure, path.suffix.lower()), overwrite=True)


def svg_of(figure: Figure) -> bytes:
    """Return a figure as the content of an .svg file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    bytes
    """
    return _drawn(figure, ".svg")


def _drawn(figure: Figure, ending: str) -> bytes:
    """Return the content of the file of a figure."""
    from matplotlib import rc_context

    content = io.BytesIO()
    with rc_context({"svg.hashsalt": "rmapfast"}):
        figure.savefig(content, format=ending.removeprefix("."), dpi=150, metadata=_METADATA.get(ending))
    return content.getvalue()
