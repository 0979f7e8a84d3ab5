"""Waiting for other processes: on a condition, with deadlines that only a hang reaches, also on a loaded machine."""

import time

# Of whatever a test waits for. No test asserts how long a thing takes.
DEADLINE = 300

# The first line of a child that is to be interrupted: a job in the background inherits an ignored SIGINT.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def wait_for(condition, what: str = "a condition") -> None:
    """Return once a condition holds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"waited {DEADLINE} s for {what}"
        time.sleep(0.01)
