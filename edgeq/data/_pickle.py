"""A reader of the pickles that CIFAR's python version consists of, and of nothing else.

Unpickling runs a small program. Here only the opcodes of containers, numbers and strings are known, plus a call of numpy's array
reconstruction, which is answered by a stand-in: no function of numpy or of Python is ever reached from the file, and no array is
larger than the file.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError

_OPCODES = (
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK,
    pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
    pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINUNICODE, pickle.SHORT_BINUNICODE,
    pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
    pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS,
    pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET,
    pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD,
)  # fmt: skip


class _Array:
    """Stands in for an ndarray that is being rebuilt: only ``__setstate__`` gives it a content."""

    __slots__ = ("value",)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if kind is not _U1 or fortran not in (0, False) or not isinstance(data, bytes) or not isinstance(shape, tuple) or len(shape) > 4:
            raise pickle.UnpicklingError("an array that is not of plain bytes")
        if not all(type(s) is int and s >= 0 for s in shape) or math.prod(shape) != len(data):
            raise pickle.UnpicklingError("an array whose shape does not fit its bytes")
        self.value = np.frombuffer(data, np.uint8).reshape(shape)


class _Stand:
    """A global that the file may name. It cannot be changed by the file."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        if self is not _U1:  # numpy writes a dtype's byte order as state; a byte has none
            raise pickle.UnpicklingError(f"a change to {self.name}")

    def __call__(self, *args: Any) -> Any:
        if self.name == "dtype" and args and args[0] in ("u1", b"u1", "|u1", b"|u1"):
            return _U1
        if self.name == "_reconstruct" and len(args) == 3 and args[0] is _GLOBALS["numpy", "ndarray"]:
            return _Array()
        if self.name == "encode" and len(args) == 2 and args[1] == "latin1" and isinstance(args[0], str):
            return args[0].encode("latin1")  # how Python 3 writes bytes for Python 2
        raise pickle.UnpicklingError(f"a call of {self.name} that these files do not make")


_U1 = _Stand("uint8")
_RECONSTRUCT = _Stand("_reconstruct")
_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): _Stand("ndarray"),
    ("numpy", "dtype"): _Stand("dtype"),
    ("_codecs", "encode"): _Stand("encode"),
}


def _plain_keys(keys: list[Any]) -> None:
    # nested tuples as keys would take exponential time to hash
    if not all(isinstance(key, str | bytes) for key in keys):
        raise pickle.UnpicklingError("a dictionary key that is no text")


MAX_OPCODES = 300_000  # an official batch has some 60,000

# Python's own unpickler in pure Python (Any: its methods are not in typeshed). The C one allocates as much memory as a memo index says.
_Base: Any = pickle._Unpickler


class _Reader(_Base):
    """An unpickler with a short table of opcodes."""

    dispatch = {code[0]: _Base.dispatch[code[0]] for code in _OPCODES}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise pickle.UnpicklingError(f"the name {module[:60]}.{name[:60]}")
        return _GLOBALS[module, name]

    def load_setitem(self) -> None:
        _plain_keys(self.stack[-2:-1])
        _Base.load_setitem(self)

    def load_setitems(self) -> None:
        _plain_keys(self.stack[::2])
        _Base.load_setitems(self)

    def load_reduce(self) -> None:
        if not isinstance(self.stack[-2], _Stand):
            raise pickle.UnpicklingError("a call of something else than numpy's array")
        _Base.load_reduce(self)

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], _Stand | _Array):
            raise pickle.UnpicklingError("a change to something else than an array")
        _Base.load_build(self)

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build


class _Counted(dict[int, Any]):
    """The table of opcodes, for so many of them: pure Python takes a minute for those of 64 MB."""

    left = MAX_OPCODES

    def __getitem__(self, code: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f"more than {MAX_OPCODES:,} opcodes")
        return super().__getitem__(code)


def read_dict(data: bytes, where: str) -> dict[str, Any]:
    """The dictionary in a CIFAR pickle: keys as text, arrays as uint8 ``np.ndarray``. Raises :class:`EdgeqError` for anything else."""
    try:
        reader = _Reader(io.BytesIO(data), encoding="bytes")
        reader.dispatch = _Counted(_Reader.dispatch)
        value = reader.load()
    except Exception as error:  # a hostile file can raise nearly any error inside the opcodes; none of them got to call anything
        what = f"opcode {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error) or type(error).__name__
        wrong = f"is no CIFAR file and was not unpickled: it contains {what[:120]}"
        raise EdgeqError(f"{where}: {wrong}; use the official python version") from None
    if not isinstance(value, dict):
        raise EdgeqError(f"{where}: is no CIFAR file: it contains no dictionary; use the official python version")
    return {_text(k): v.value if isinstance(v, _Array) and hasattr(v, "value") else v for k, v in value.items()}


def _text(key: str | bytes) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else key
