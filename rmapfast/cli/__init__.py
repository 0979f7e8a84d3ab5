"""The command ``rmapfast``: one file a verb. A verb reads its arguments, calls public functions, and prints."""

from rmapfast.cli.command import main, parser

__all__ = ["main", "parser"]
