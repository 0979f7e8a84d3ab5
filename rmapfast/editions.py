"""Kernel editions: which preset has the rules of a kernel release, and which recorded vectors it must reproduce.

:data:`EDITIONS` is the one table. Captures, calibration, recorded counts and the replay of vectors read it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Edition:
    """A preset of :mod:`rmapfast.policy` and the kernels whose rules it has.

    Parameters
    ----------
    policy : str
        Name of the preset.
    since : tuple of int, or None
        The first release with these rules, as (major, minor) or (major, minor, patch). None for rules that no release
        had: patches as posted, release candidates, proposals, and the page-by-page oracle.
    unmap : str
        Code of the recorded unmap vectors that it must reproduce, or "".
    referenced : str
        Code of the recorded vectors of the reference check that it must reproduce, or "".
    """

    policy: str
    since: tuple[int, ...] | None = None
    unmap: str = ""
    referenced: str = ""


EDITIONS = (
    Edition("per-page", None, "K0", "R614"),
    Edition("v6.12", (6, 12), "V612"),
    Edition("v6.14", (6, 13), "V614"),
    Edition("v6.15", (6, 15), "K1"),
    Edition("v6.16", (6, 16), "K2"),
    Edition("v6.18", (6, 17)),
    Edition("file-v5", None, "K3"),
    Edition("v7.0-rc1", None, "K4"),
    Edition("v7.0", (7, 0), "K4b", "R70"),
    Edition("v7.0.12", (7, 0, 12), "K5"),
    Edition("v7.1", (7, 1), "", "R71"),
    Edition("v7.2", (7, 2), "V72", "R72"),
    Edition("v7.3", (7, 3), "V73", "R73"),
    Edition("walker-jump", None, "K6jump"),
)

# Preset by code of the recorded vectors.
UNMAP_VECTORS = {edition.unmap: edition.policy for edition in EDITIONS if edition.unmap}
REFERENCED_VECTORS = {edition.referenced: edition.policy for edition in EDITIONS if edition.referenced}

_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:[-+. ].*)?")


# Since when a page fault on a file maps a whole large folio, not only a window around it: 6.12 does not, 7.2 does, as
# recorded; the release between is by the date of the change.
FOLIO_FAULTS_SINCE = (6, 18)
# The window of the others in bytes, unless debugfs says otherwise.
FAULT_AROUND = 64 << 10


def maps_whole_folios(release: str) -> bool:
    """Return whether a page fault of a kernel release maps a whole large folio of a file.

    Parameters
    ----------
    release : str
        As ``uname -r`` prints it. Any other text stands for a new kernel.
    """
    match = _RELEASE.fullmatch(release)
    return match is None or tuple(int(part or 0) for part in match.groups()) >= FOLIO_FAULTS_SINCE


def series_of(release: str) -> str:
    """Return major and minor number of a kernel release, which decide its rules; "" for any other text."""
    match = _RELEASE.fullmatch(release)
    return f"{match[1]}.{match[2]}" if match else ""


def preset_of(release: str) -> str:
    """Return the preset that has the rules of a kernel release.

    Parameters
    ----------
    release : str
        As ``uname -r`` prints it: ``"7.0.14"``, ``"6.12.95-amd64"``, ``"7.3.0-rc7"``.

    Returns
    -------
    str
        Name of the newest preset whose rules the release has. Releases before 6.12 unmap page by page and get that
        edition.

    Raises
    ------
    ValueError
        If the text is no release.

    Examples
    --------
    >>> preset_of("7.0.14")
    'v7.0.12'
    """
    match = _RELEASE.fullmatch(release)
    if not match:
        raise ValueError(f'release: expected a kernel release such as "7.0.14", got {release!r}')
    version = tuple(int(part or 0) for part in match.groups())
    dated = sorted((edition.since, edition.policy) for edition in EDITIONS if edition.since)
    return next((policy for since, policy in reversed(dated) if since <= version), dated[0][1])
