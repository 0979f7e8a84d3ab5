"""Constraints of a space: expressions of names, constants, arithmetic and comparisons, over all points at once."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rmapfast.support import closest
from rmapfast.sweeps.parameter import ALIASES

_Array: TypeAlias = npt.NDArray[Any]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def holds(text: str, names: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Return where a constraint is true.

    Parameters
    ----------
    text : str
        An expression in Python's words, without calls.
    names : mapping of str to ndarray
        The values of each axis and of each fixed parameter, of shapes that broadcast to that of the space.

    Raises
    ------
    TypeError
        If it is no text.
    ValueError
        If it is no such expression, or has a name that the space has not; the message names what.
    """
    if not isinstance(text, str):
        raise TypeError(f"constraints: expected expressions as text, got {text!r}")
    try:
        return np.asarray(_Constraint(text, names).value(ast.parse(text.strip(), mode="eval").body), np.bool_)
    except (SyntaxError, TypeError, RecursionError, ArithmeticError) as error:
        raise ValueError(f"constraints: {text!r}: {error}") from None


class _Constraint:
    """The nodes of one expression, evaluated over arrays."""

    def __init__(self, text: str, names: Mapping[str, _Array]) -> None:
        self.text, self.names = text, names

    def value(self, node: ast.expr) -> _Array:
        """Return the value of a node at all points."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return np.asarray(value)
            case ast.Name() | ast.Attribute():
                return self._named(node)
            case ast.BoolOp(op=op, values=values):
                result = self._truth(values[0])
                for one in values[1:]:
                    result = result & self._truth(one) if isinstance(op, ast.And) else result | self._truth(one)
                return result
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self._truth(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return np.asarray(-self.value(operand))
            case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _BINARY:
                with np.errstate(all="ignore"):
                    return np.asarray(_BINARY[type(operation)](self.value(left), self.value(right)))
            case ast.Compare(left=left, ops=comparisons, comparators=others):
                together: npt.NDArray[np.bool_] = np.asarray(np.True_)
                for comparison, other in zip(comparisons, others, strict=True):
                    together = together & self._compared(left, comparison, other)
                    left = other
                return together
        raise TypeError(f"only names, numbers, texts, arithmetic and comparisons, not {ast.unparse(node)!r}")

    def _truth(self, node: ast.expr) -> npt.NDArray[np.bool_]:
        return np.asarray(self.value(node), np.bool_)

    def _compared(self, left: ast.expr, comparison: ast.cmpop, right: ast.expr) -> npt.NDArray[np.bool_]:
        if isinstance(comparison, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List):
                raise TypeError("'in' needs a list")
            found: npt.NDArray[np.bool_] = np.asarray(np.False_)
            for one in right.elts:
                found = found | self._compared(left, ast.Eq(), one)
            return ~found if isinstance(comparison, ast.NotIn) else found
        if type(comparison) not in _COMPARE:
            raise TypeError(f"no such comparison in {self.text!r}")
        a, b = self.value(left), self.value(right)
        if "O" not in a.dtype.kind + b.dtype.kind and (a.dtype.kind == "U") != (b.dtype.kind == "U"):
            if isinstance(comparison, ast.Eq | ast.NotEq):
                return np.asarray(isinstance(comparison, ast.NotEq))
            raise TypeError(f"{ast.unparse(left)} and {ast.unparse(right)} are a text and a number")
        return np.asarray(_COMPARE[type(comparison)](a, b), np.bool_)

    def _named(self, node: ast.expr) -> _Array:
        name = ast.unparse(node)
        name = name if name in self.names else ALIASES.get(name, name)
        if name not in self.names:
            known = list(self.names)
            raise ValueError(
                f"constraints: {self.text!r}: no axis or fixed value {name!r}{closest(name, known)}; there are "
                f"{', '.join(known)}"
            )
        return self.names[name]
