"""``python -m rmapfast.cli`` is the command ``rmapfast``."""

import sys

from rmapfast.cli import main

sys.exit(main())
