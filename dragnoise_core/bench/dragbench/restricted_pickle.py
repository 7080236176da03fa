"""Reads DragBench's pickles without running anything that they name.

A pickle is a program. Here it may use the instructions below, which build strings, numbers, lists and dictionaries,
and three names of numpy. Those names do not stand for numpy's own objects, whose state a crafted file could set to
anything, but for records of what numpy would be given; an array is made from a record once every part of it has been
checked.
"""

import io
import math
import pickle
import pickletools
from typing import Any

import numpy

from ...errors import DragNoiseError

# What Python 3 writes for such data, in protocols 3 to 5. Left out: persistent objects, extension codes, classes'
# instances, buffers outside the file. Protocols 0 to 2 would need a codec as well, to build bytes.
INSTRUCTIONS = {
    "PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
}  # fmt: skip
# Booleans, integers and floats of up to eight bytes, as numpy's dtype names them in a pickle.
ELEMENTS = ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
MOST_DIMENSIONS = 4
# Pickles of a few arrays reuse fewer than ten things. Every reuse can double what there is to hash or to print.
MOST_REFERENCES = 20


def load_arrays(data: bytes) -> Any:
    """Return what a pickle of strings, numbers, lists, dictionaries and plain numpy arrays holds.

    Arrays within dictionaries, the outermost ones, come back as read-only numpy arrays. Raises DragNoiseError for
    anything else, before it is built.
    """
    try:
        _check_instructions(data)
        value = _Reader(io.BytesIO(data)).load()
        if isinstance(value, dict):
            return {key: entry.array() if isinstance(entry, _Array) else entry for key, entry in value.items()}
        return value.array() if isinstance(value, _Array) else value
    except DragNoiseError:
        raise
    # The ways in which the reader fails on a damaged pickle.
    except (
        pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError,
        MemoryError, RecursionError,
    ) as error:  # fmt: skip
        raise DragNoiseError(f"the pickle is damaged ({str(error)[:80]}); download it again.") from error


def _check_instructions(data: bytes) -> None:
    references = 0
    for instruction, argument, _ in pickletools.genops(data):
        if instruction.name not in INSTRUCTIONS:
            raise DragNoiseError(
                f"the pickle uses the instruction {instruction.name}, which plain arrays and strings do not need; "
                "take the published file, or save it again with Python 3."
            )
        references += instruction.name in ("BINGET", "LONG_BINGET")
        # The memo is a table that grows to the largest number asked for.
        is_large = instruction.name in ("BINPUT", "LONG_BINPUT") and argument > len(data)
        if is_large or references > MOST_REFERENCES:
            raise DragNoiseError("the pickle asks for more memory than its size explains; take the published file.")


class _Dtype:
    """Stands for numpy.dtype: "u1" and the byte order."""

    def __init__(self, name: Any, *options: Any) -> None:
        self.name, self.order = name, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def element(self) -> numpy.dtype:
        if self.name not in ELEMENTS or self.order not in ("|", "<", ">", "="):
            raise DragNoiseError("the pickle has an array that does not hold plain numbers; only those are read.")
        return numpy.dtype(self.order.replace("|", "=") + self.name)


class _Array:
    """Stands for numpy.ndarray, and for the function with which numpy makes an empty one to fill."""

    def __init__(self, *arguments: Any) -> None:
        self.shape, self.dtype, self.is_fortran, self.data = (), None, False, b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.is_fortran, self.data = state

    def array(self) -> numpy.ndarray:
        is_shape = (
            isinstance(self.shape, tuple)
            and len(self.shape) <= MOST_DIMENSIONS
            and all(type(side) is int and side >= 0 for side in self.shape)
        )
        if not is_shape or not isinstance(self.dtype, _Dtype) or not isinstance(self.data, bytes | bytearray):
            raise DragNoiseError("the pickle has an array without shape, type or data; take the published file.")
        element = self.dtype.element()
        if math.prod(self.shape) * element.itemsize != len(self.data):
            raise DragNoiseError(
                f"the pickle has an array of shape {str(self.shape)[:60]} in {len(self.data)} bytes; the two disagree."
            )
        flat = numpy.frombuffer(bytes(self.data), element)
        return flat.reshape(self.shape, order="F" if self.is_fortran else "C")


class _BufferArray(_Array):
    """Stands for the function with which protocol 5 makes an array from a buffer."""

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.data, self.dtype, self.shape, self.is_fortran = data, dtype, shape, order == "F"


NAMES = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _BufferArray,
    ("numpy._core.numeric", "_frombuffer"): _BufferArray,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in NAMES:
            raise DragNoiseError(
                f"the pickle names {module[:40]}.{name[:40]}, which is not run; only arrays and strings are read."
            )
        return NAMES[module, name]
