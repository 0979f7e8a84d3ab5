"""docs/howto-notebook.md: its Python runs, block after block."""

import logging
import re
import textwrap
from pathlib import Path

import matplotlib
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "howto-notebook.md"


@pytest.fixture
def quiet():
    """Loggers and figures as they were before."""
    handlers, logger = logging.getLogger().handlers[:], logging.getLogger("rmapfast")
    level = logger.level
    yield
    logging.getLogger().handlers[:] = handlers
    logger.setLevel(level)
    matplotlib.pyplot.close("all")


def test_the_page_runs(quiet, capsys):
    matplotlib.use("agg")
    blocks = re.findall(r"(?m)(?:^    .*\n(?:\n(?=    ))?)+", PAGE.read_text(encoding="utf-8"))
    code = [textwrap.dedent(block) for block in blocks if "pip install" not in block and "entry-points" not in block]
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(code) == 4 and "population.order" in capsys.readouterr().out
    left, mean = names["left"], names["mean"]
    assert left.containers and "5% to 95%" in left.get_ylabel() and len(mean) == 10
