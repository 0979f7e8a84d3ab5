"""The machine that is calibrated: what it must have, and the settings of it that are changed and put back."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from rmapfast import arch as _arch
from rmapfast.arch import Arch


class CalibrateError(ValueError):
    """Something that a calibration needs is missing; the message says what.

    Examples
    --------
    >>> import rmapfast as rf
    >>> issubclass(rf.CalibrateError, ValueError)
    True
    """


def running_arch() -> Arch:
    """Return the preset for this machine.

    Raises
    ------
    CalibrateError
        If this is not Linux, the process is not root, or no preset describes the machine.
    """
    if sys.platform != "linux":
        raise CalibrateError("calibrate: needs Linux")
    if os.geteuid() != 0:
        raise CalibrateError("calibrate: needs root (memory cgroups, page frame numbers, readahead settings)")
    try:
        return _arch.of_machine(platform.machine(), os.sysconf("SC_PAGE_SIZE"))
    except ValueError as error:
        raise CalibrateError(f"calibrate: {error}") from None


def readahead_setting(folder: Path) -> Path:
    """Return the file in /sys that holds the readahead window of a folder's disk, in KiB.

    Raises
    ------
    CalibrateError
        If there is none, as for a folder in memory.
    """
    device = os.stat(folder).st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    if not setting.exists():
        raise CalibrateError(f"folder: {folder} is on no disk with a readahead setting ({setting}); choose another")
    return setting
