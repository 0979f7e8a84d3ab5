"""Arrays as attributes, and who has them: what is seen in arrays that nobody has need not be looked for again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeVar

import numpy.typing as npt

_T = TypeVar("_T")


class _Lent:
    """Whether anybody has arrays of some objects, and so may write to them at any time."""

    def __init__(self, lent: bool) -> None:
        self.lent = lent


class _Attribute:
    """An array as an attribute. Whoever gets or sets it has it from then on."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, arrays: HeldArrays | None, owner: type[HeldArrays]) -> Any:
        if arrays is None:
            return self
        arrays._lent.lent = True
        return arrays.held(self.name)

    def __set__(self, arrays: HeldArrays, array: npt.NDArray[Any]) -> None:
        arrays._lent.lent = True
        arrays.hold({self.name: array})


class HeldArrays:
    """Arrays that are attributes.

    Parameters
    ----------
    arrays : dict of ndarray
        By name. The caller has them: whoever made them for this object alone calls :meth:`just_made`.
    """

    def __init_subclass__(cls, names: Iterable[str] = (), **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in names:
            setattr(cls, name, _Attribute(name))

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._lent = _Lent(True)
        self._seen: dict[Any, Any] = {}
        self.hold(arrays)

    def just_made(self) -> Self:
        """Return the object itself. Its arrays were just made, so nobody has them."""
        self._lent = _Lent(False)
        return self

    def lend(self) -> None:
        """Say that somebody has the arrays, or gets them otherwise than as attributes."""
        self._lent.lent = True

    def shares_with(self, other: HeldArrays) -> None:
        """Say that some of the arrays are those of another object too, so that whoever has them has both."""
        self._lent = other._lent

    @property
    def lent(self) -> bool:
        """Whether anybody has one of the arrays, or one that an object has that shares some."""
        return self._lent.lent

    def held(self, name: str) -> npt.NDArray[Any]:
        """Return an array for a look. Unlike the attribute it is not to be kept, changed or passed on."""
        array: npt.NDArray[Any] = self.__dict__[name]
        return array

    def hold(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take arrays, by name, that nobody else has."""
        self.__dict__.update(arrays)
        self.arrays_change()

    def arrays_change(self) -> None:
        """Forget what was seen in the arrays, because they are about to be changed."""
        self._seen.clear()

    def see(self, look: Callable[..., _T], *arguments: Any) -> _T:
        """Return what a function sees in the arrays. It looks once as long as nobody has one of them.

        Parameters
        ----------
        look : callable
            Gets the object and the arguments. What it returns is not to be changed.
        *arguments
            Further ones, by which its results are told apart.
        """
        if self.lent:
            return look(self, *arguments)
        key = look, *arguments
        if key not in self._seen:
            self._seen[key] = look(self, *arguments)
        found: _T = self._seen[key]
        return found
