"""Named arrays as they lie in an ``.npz`` file in memory, and one as it lies in an ``.npy`` file.

``zipfile`` with ``zlib`` takes seven times as long for the files of a block, and who reads those of all blocks does
little else.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_END = struct.Struct("<4s4H2LH")
"""The archive's last bytes: signature, four counts (the last: members), size and place of the directory, comment."""
_ENTRY = struct.Struct("<4s6H3L5H2L")
"""Of the directory; the name follows, then an extra field and a comment."""
_LOCAL = struct.Struct("<26x2H")
"""Before a member's bytes; its name and an extra field, of which these are the lengths, come in between."""
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1
_MOST_TIMES = 1100
"""Deflated bytes become at most 1032 times as many."""


class _OtherKindError(Exception):
    """Not an archive as numpy writes them, or a damaged one."""


def arrays_of(content: bytes, names: tuple[str, ...] | None = None) -> dict[str, NDArray[Any]]:
    """Named arrays of an ``.npz`` file; all, in their order in it, if no names are given.

    Whatever is not as numpy writes it is left to ``zipfile``, which also says what is wrong with a damaged file.

    Raises:
        zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError: it is damaged, or has no such array.
    """
    try:
        found = dict(_members(content, names))
        _expect(names is None or found.keys() == set(names))
    except (_OtherKindError, struct.error):
        found = _members_by_zipfile(content, names)
    return {name: array_of(found[name]) for name in names or found}


def _members(content: bytes, names: tuple[str, ...] | None) -> Iterator[tuple[str, bytes]]:
    signature, _, _, _, count, _, place, comment = _END.unpack_from(content, max(0, len(content) - _END.size))
    _expect(signature == b"PK\5\6" and comment == 0)
    for _ in range(count):
        entry = _ENTRY.unpack_from(content, place)
        signature, _, _, flags, method, _, _, crc, packed, size, *lengths, _, _, _, begin = entry
        _expect(signature == b"PK\1\2" and not flags & _ENCRYPTED)
        member = content[place + _ENTRY.size : place + _ENTRY.size + lengths[0]].decode("ascii", "replace")
        place += _ENTRY.size + sum(lengths)
        name = member.removesuffix(".npy")
        if names is not None and name not in names:
            continue
        _expect(content[begin : begin + 4] == b"PK\3\4")
        begin += _LOCAL.size + sum(_LOCAL.unpack_from(content, begin))
        yield name, _unpacked(content[begin : begin + packed], method, size, crc)


def _unpacked(packed: bytes, method: int, size: int, crc: int) -> bytes:
    import imagecodecs  # not before it is needed

    _expect(method in (_STORED, _DEFLATED) and size <= _MOST_TIMES * len(packed))
    try:
        unpacked = bytes(imagecodecs.deflate_decode(packed, raw=True, out=size)) if method == _DEFLATED else packed
    except imagecodecs.DeflateError as error:
        raise _OtherKindError from error
    _expect(len(unpacked) == size and imagecodecs.deflate_crc32(unpacked) == crc)
    return unpacked


def _expect(condition: bool) -> None:
    if not condition:
        raise _OtherKindError


def _members_by_zipfile(content: bytes, names: tuple[str, ...] | None) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [f"{name}.npy" for name in names] if names else archive.namelist()
            return {member.removesuffix(".npy"): archive.read(member) for member in members}
    except (KeyError, RuntimeError) as error:  # no such name; ciphered, or packed by a method that nobody knows
        raise zipfile.BadZipFile(str(error)) from error


def array_of(content: bytes) -> NDArray[Any]:
    """An array out of an ``.npy`` file; numpy would parse each header anew, which takes most of its time."""
    if content[:8] != b"\x93NUMPY\x01\x00":
        return np.load(io.BytesIO(content))  # type: ignore[no-any-return]
    begin = 10 + int.from_bytes(content[8:10], "little")
    shape, is_fortran, dtype = _header(content[8:begin])
    array = np.frombuffer(content, dtype, math.prod(shape), begin)
    return array.reshape(shape, order="F" if is_fortran else "C").copy("K")


@lru_cache(maxsize=1024)
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type; most files of a step have the same."""
    return np.lib.format.read_array_header_1_0(io.BytesIO(content))
