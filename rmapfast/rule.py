"""Rules of one's own, in C or in Python.

In C a rule is a function in a file that the user's compiler takes, or a function pointer; in Python it is a function
in a file.

Where a :class:`rmapfast.Policy` keeps a rule it is text: ``FILE.c:NAME#HASH``, or ``pointer:0x...`` for a function of
this process. :func:`as_text` makes the text of what a user gives, and :func:`address` finds the function. There are two
kinds, batching rules and young rules, which look the same to a compiler.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

from rmapfast.support import closest

_FILE = re.compile(r"(?P<path>.+\.c):(?P<name>[A-Za-z_]\w*)(#(?P<digest>[0-9a-f]{64}))?", re.DOTALL)
# The name of a policy: a batching rule, a young rule behind a plus, or both.
_POLICY = re.compile(r"(?P<path>.+\.c):(?P<rule>[A-Za-z_]\w*)?(\+(?P<young_rule>[A-Za-z_]\w*))?", re.DOTALL)
_PYTHON = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)(#(?P<digest>[0-9a-f]{64}))?", re.DOTALL)
# How the text of a function of this process begins.
_FUNCTION = "function:"
_POINTER = "pointer:"
# The fields of a policy that hold a rule.
FIELDS = ("rule", "young_rule")
# Errors in place of warnings: what would crash when it is called.
_STRICT = (
    "-Werror=implicit-function-declaration",
    "-Werror=incompatible-pointer-types",
    "-Werror=int-conversion",
    "-Werror=return-type",
)
_ENTRY = "rmf_rule_entry"
# What a rule as ctypes type is; of every function pointer there, the base.
_CTYPES_FUNCTION: Any = ctypes.CFUNCTYPE(None).__base__
# The objects behind the pointers in use: a pointer is valid as long as its object lives.
_kept: dict[str, object] = {}


class Call(ctypes.Structure):
    """``struct rmf_rule_call`` of ``rmf_rule.h``."""


class Place(ctypes.Structure):
    """``struct rmf_rule_place``."""

    _fields_ = (
        ("vma_before", ctypes.c_uint64),
        ("vma_left", ctypes.c_uint64),
        ("table_before", ctypes.c_uint32),
        ("table_left", ctypes.c_uint32),
    )


Scan = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.POINTER(Call), ctypes.c_uint32, ctypes.c_uint32)
Exclusive = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.POINTER(Call), ctypes.c_uint32)
YoungDirty = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.POINTER(Call))
FindPlace = ctypes.CFUNCTYPE(None, ctypes.POINTER(Call), ctypes.POINTER(Place))
Rule = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.POINTER(Call))
Call._fields_ = [
    ("folio_nr_pages", ctypes.c_uint32),
    ("folio_kind", ctypes.c_uint32),
    ("folio_flags", ctypes.c_uint32),
    ("folio_mapcount", ctypes.c_int32),
    ("page", ctypes.c_uint32),
    ("pte", ctypes.c_uint32),
    ("vma_flags", ctypes.c_uint32),
    ("hwpoison", ctypes.c_uint32),
    ("folio_left", ctypes.c_uint32),
    ("room", ctypes.c_uint32),
    ("folio_pte_batch", Scan),
    ("exclusive_batch", Exclusive),
    ("young_dirty", YoungDirty),
    ("place", FindPlace),
    ("behind", ctypes.c_void_p),
]


def get_include() -> str:
    """Return the directory of ``rmf_rule.h``, against which rules in C are compiled.

    Returns
    -------
    str

    Examples
    --------
    >>> sorted(os.listdir(get_include()))
    ['rmf_rule.h']
    """
    return str(Path(__file__).parent / "include")


def rules_named(text: str) -> dict[str, str] | None:
    """Return the rules that a policy's name stands for, by the field of the policy; None if it names none.

    Parameters
    ----------
    text : str
        ``FILE.c:NAME`` names a batching rule, ``FILE.c:+YOUNG`` a young rule, and ``FILE.c:NAME+YOUNG`` both.

    Returns
    -------
    dict or None
    """
    found = _POLICY.fullmatch(text)
    if not found:
        return None
    return {name: f"{found['path']}:{found[name]}" for name in FIELDS if found[name]} or None


def path_of(text: str) -> str:
    """Return the path in the text of a rule in C; empty for no rule and for a function pointer."""
    found = _FILE.fullmatch(text)
    return found["path"] if found else ""


def short_name(text: str) -> str:
    """Return the name of a policy, a rule or a function without the folder and the hash."""
    if text.startswith(_FUNCTION):
        return text.removeprefix(_FUNCTION).partition("@")[0]
    found = _FILE.fullmatch(text) or _PYTHON.fullmatch(text)
    return f"{Path(found['path']).name}:{found['name']}" if found else Path(text).name if ".c:" in text else text


def names_a_function(text: str) -> bool:
    """Return whether a text is ``FILE.py:NAME``, with or without the hash of the file, or names one of this process."""
    return text.startswith(_FUNCTION) or _PYTHON.fullmatch(text) is not None


def function_as_text(function: str | Callable[..., Any]) -> str:
    """Return the text under which a space of points keeps a Python rule.

    Parameters
    ----------
    function : str or callable
        ``FILE.py:NAME`` becomes ``FILE.py:NAME#HASH``, which any process can use as long as the file does not change. A
        function becomes ``function:NAME@NUMBER``, which only this process can use.

    Raises
    ------
    ValueError
        As :func:`python_function`.
    """
    if not isinstance(function, str):
        text = f"{_FUNCTION}{getattr(function, '__name__', 'callable')}@{id(function):#x}"
        _kept[text] = function
        return text
    found = _PYTHON.fullmatch(function)
    if found is None or found["digest"]:  # of a file of results, which runs no code when it is read
        return function
    python_function(function)
    path = Path(found["path"]).absolute()
    return f"{path}:{found['name']}#{_digest_of(path.read_bytes())}"


def python_function(text: str) -> Callable[..., Any]:
    """Import a Python file and return the function that ``FILE.py:NAME`` names in it.

    Raises
    ------
    ValueError
        If the file is not there, has changed, cannot be imported or has no such function, and for a function of another
        process; one line says which.
    """
    if text.startswith(_FUNCTION):
        if text not in _kept:
            raise ValueError(
                f"policy: {short_name(text)} is known only in the process that had the function; give FILE.py:NAME"
            )
        return cast("Callable[..., Any]", _kept[text])
    found = _PYTHON.fullmatch(text)
    if not found:
        raise ValueError(f"policy: expected FILE.py:NAME, got {text!r}")
    path = Path(found["path"])
    try:
        digest = _digest_of(path.read_bytes())
    except OSError as error:
        raise ValueError(f"policy: {path}: {error.strerror or error}") from None
    if found["digest"] not in (None, digest):
        raise ValueError(f"policy: {path} has changed since the policy was made; make it again")
    return _of_python_file(path, found["name"], digest)


@cache
def _of_python_file(path: Path, name: str, digest: str) -> Callable[..., Any]:
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"rmapfast_rule_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises
        raise ValueError(f"policy: {path} cannot be imported: {type(error).__name__}: {error}") from None
    function = getattr(module, name, None)
    if not callable(function):
        known = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        raise ValueError(f"policy: {path} has no function {name!r}{closest(name, known)}")
    return cast("Callable[..., Any]", function)


def as_text(rule: object, field: str = "rule") -> str:
    """Return the text under which a policy keeps a rule.

    Parameters
    ----------
    rule : str or function pointer
        ``FILE.c:NAME``, which is read and compiled; the text of a rule, which is returned as it is; or a pointer of
        ctypes, cffi, or anything with the attribute ``address``, such as a ``numba.cfunc``.
    field : {'rule', 'young_rule'}
        The field of the policy, for errors.

    Returns
    -------
    str
        ``""`` for no rule.

    Raises
    ------
    ValueError
        If the file is not there or does not compile, or if there is no compiler; one line says which.
    TypeError
        For an object that is no function pointer.
    """
    try:
        return _text_of(rule)
    except (TypeError, ValueError) as error:
        raise type(error)(f"policy.{field}: {error}") from None


def _text_of(rule: object) -> str:
    if isinstance(rule, str):
        if rule == "" or re.fullmatch(rf"{_POINTER}0x[0-9a-f]+", rule):
            return rule
        found = _FILE.fullmatch(rule)
        if not found:
            raise ValueError(f"expected FILE.c:NAME or a function pointer, got {rule!r}")
        if found["digest"]:
            return rule
        path = Path(found["path"]).absolute()
        digest = _digest(path)
        _compiled(path, found["name"], digest, _compiler())
        return f"{path}:{found['name']}#{digest}"
    text = f"{_POINTER}{_pointer(rule):#x}"
    _kept[text] = rule
    return text


def is_pointer(text: str) -> bool:
    """Return whether the text of a rule is that of a function pointer, which no other process can have."""
    return text.startswith(_POINTER)


def address(text: str, field: str = "rule") -> int:
    """Return the address of the function behind the text of a rule; 0 for no rule.

    Parameters
    ----------
    text : str
    field : {'rule', 'young_rule'}
        The field of the policy, for errors.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the file is not there any more, changed before its first use here, or does not compile, and for a pointer of
        another process.
    """
    if text == "":
        return 0
    if is_pointer(text):
        if text not in _kept:
            raise ValueError(
                f"policy.{field}: {text} is known only in the process that had the function; make it again"
            )
        return int(text.removeprefix(_POINTER), 16)
    found = _FILE.fullmatch(text)
    assert found and found["digest"]
    try:
        return _of_file(found["path"], found["name"], found["digest"])
    except ValueError as error:
        raise ValueError(f"policy.{field}: {error}") from None


def function(text: str) -> Any:
    """Return the function behind the text of a rule, to be called with a pointer to :class:`Call`."""
    return Rule(address(text))


@cache
def _of_file(path: str, name: str, digest: str) -> int:
    if _digest(Path(path)) != digest:
        raise ValueError(f"{path} has changed since the policy was made; make the policy again")
    return _compiled(Path(path), name, digest, _compiler())


def _digest(path: Path) -> str:
    """Return the hash of a file and of the header that it is compiled against."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    return _digest_of(source + (Path(get_include()) / "rmf_rule.h").read_bytes())


def _digest_of(content: bytes) -> str:
    import hashlib  # not on every import of the package

    return hashlib.sha256(content).hexdigest()


def _compiler() -> str:
    return os.environ.get("CC") or "cc"


@cache
def _compiled(path: Path, name: str, digest: str, compiler: str) -> int:
    """Compile a file and load it; return the address of a function that calls `name`.

    The library is in a temporary folder and is deleted once it is loaded. So nobody else's library can be loaded in its
    place, and a file that it includes is never out of date.
    """
    import shlex
    import subprocess
    import tempfile

    if any(one in str(path) for one in '"\\\n'):
        raise ValueError(f"expected a path without quotes, backslashes and newlines, got {str(path)!r}")
    with tempfile.TemporaryDirectory(prefix="rmapfast-rule-") as folder:
        entry, library = Path(folder) / f"{_ENTRY}.c", Path(folder) / f"{_ENTRY}.so"
        # A call in place of the address: then the compiler checks the types, and may inline the rule.
        entry.write_text(
            f'#include "rmf_rule.h"\n#include "{path}"\n'
            f"uint32_t {_ENTRY}(const struct rmf_rule_call *call)\n{{\n\treturn {name}(call);\n}}\n"
        )
        command = [*shlex.split(compiler), "-O2", "-shared", "-fPIC", *_STRICT, f"-I{get_include()}", str(entry)]
        try:
            done = subprocess.run(
                [*command, "-o", str(library)], capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}
            )
        except OSError as error:
            raise ValueError(
                f"the C compiler {compiler!r} cannot be run ({error.strerror}); install one, or name it in CC"
            ) from None
        if done.returncode:
            lines = done.stderr.splitlines() or [f"{compiler} ended with status {done.returncode}"]
            first = next((line for line in lines if "error" in line), lines[0])
            if first.startswith(str(entry)):
                reason = first.partition("error: ")[2]
                raise ValueError(f"{path} has no function uint32_t {name}(call): {reason}")
            raise ValueError(f"{first}")
        try:
            loaded = ctypes.CDLL(str(library))
        except OSError as error:
            raise ValueError(f"{path} cannot be loaded: {error}") from None
    return _pointer(getattr(loaded, _ENTRY))


def _pointer(rule: object) -> int:
    """Return the address of a function pointer."""
    found: object = getattr(rule, "address", None)
    if isinstance(rule, _CTYPES_FUNCTION):
        found = ctypes.cast(rule, ctypes.c_void_p).value
    elif type(rule).__module__ == "_cffi_backend":
        cffi: Any = sys.modules["_cffi_backend"]
        found = int(cffi.FFI().cast("uintptr_t", rule))
    if isinstance(found, bool) or not isinstance(found, int):
        raise TypeError(
            f"expected FILE.c:NAME, or a function pointer of ctypes, cffi or numba.cfunc, got {type(rule).__name__}"
        )
    if found == 0:
        raise ValueError("expected a function pointer, got NULL")
    return found
