"""Where the full recorded data lies: the repository holds a sample of it, which is enough for the other tests.

Tests that need the full data are marked ``shared``; ``conftest.py`` skips them where it is missing. The environment
variable RMAPFAST_SHARED names another folder; an empty one hides the data.
"""

import os
from pathlib import Path

_DEFAULT = Path(__file__).resolve().parents[2] / "shared"
_NAMED = os.environ.get("RMAPFAST_SHARED")

DATA = Path(_NAMED or _DEFAULT) / "data"
PRESENT = _NAMED != "" and DATA.is_dir()
if _NAMED and not PRESENT:
    raise FileNotFoundError(f"RMAPFAST_SHARED: {DATA} is no folder; name the one that holds data/, or nothing")
