"""Presets that other installed packages bring, loaded when their name is asked for.

They are entry points of the groups ``rmapfast.policies`` and ``rmapfast.architectures``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def _entries(group: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points  # not on every import of the package

    return sorted(entry_points(group=group), key=lambda entry: entry.name)


def names(group: str) -> list[str]:
    """Return the names of the presets of a group, without loading them.

    Parameters
    ----------
    group : str
        Such as ``rmapfast.policies``.
    """
    return list(dict.fromkeys(entry.name for entry in _entries(group)))


def load(group: str, name: str, kinds: tuple[type, ...], expected: str) -> Any:
    """Return the preset of that name, or None if no package has one.

    Parameters
    ----------
    group, name : str
    kinds : tuple of type
        What it may be.
    expected : str
        The same in words.

    Raises
    ------
    ValueError
        If two packages have one of that name, or it cannot be loaded, or is something else; the message names the
        package.
    """
    found = {(_package(entry), entry.value): entry for entry in _entries(group) if entry.name == name}
    if not found:
        return None
    if len(found) > 1:
        packages = " and ".join(package for package, _ in found)
        raise ValueError(f"{group}: {name!r} is a preset of {packages}; uninstall one of them")
    ((package, value), entry), *_ = found.items()
    where = f"{group}: the preset {name!r} of {package} ({value})"
    try:
        preset = entry.load()
    except Exception as error:  # whatever the other package raises
        raise ValueError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from None
    if not isinstance(preset, kinds):
        raise ValueError(f"{where}: expected {expected}, got {type(preset).__name__}")
    return preset


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unnamed package"
