"""What the fuzz lanes in Python share: which cases are run, what is said about them, and when a lane fails."""

import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable

# A lane stops after so many findings.
MOST_FINDINGS = 10


def run_lane(name: str, case: Callable[[int, Counter], None], *, short_run: int) -> int:
    """Run cases by their seeds and return the exit status: 1 with a finding, or if there was no case.

    The seeds are those of the command line; or others for FUZZ_S seconds; or 1 to FUZZ_N, by default
    `short_run`, the same each time. SIGINT and SIGTERM end the run with its closing line.
    """
    for ending in (signal.SIGINT, signal.SIGTERM):  # a job in the background inherits an ignored SIGINT
        signal.signal(ending, signal.default_int_handler)
    seconds, given = os.environ.get("FUZZ_S") or None, [int(seed) for seed in sys.argv[1:]]
    begun, short_run = time.monotonic(), int(os.environ.get("FUZZ_N", short_run))
    first = int.from_bytes(os.urandom(6), "big") << 8 if seconds else 0
    done: Counter[str] = Counter()
    findings, number = 0, 0
    while findings < MOST_FINDINGS:
        if given:
            if number == len(given):
                break
            seed = given[number]
        elif number == short_run if seconds is None else time.monotonic() - begun > float(seconds):
            break
        else:
            seed = first + number + 1
        number += 1
        try:
            case(seed, done)
        except KeyboardInterrupt:
            break
        except BaseException as error:
            findings += 1
            at = traceback.extract_tb(error.__traceback__)[-1]
            what = " ".join(str(error).split())[:500]
            print(f"{name}: case {seed}: {type(error).__name__} in {at.name}: {what}", flush=True)
    counted = ", ".join(f"{count:,} {what}" for what, count in sorted(done.items()))
    print(f"{name}: {number:,} cases in {time.monotonic() - begun:.0f} s: {counted}; {findings} findings")
    return 1 if findings or not number else 0
