"""Global heaps of HDF5 files, in which texts of any length and maps of virtual datasets lie.

A damaged one has HDF5 (2.0 at least) look for what lies behind an object of no size for ever, where no signal
reaches it. So heaps are looked at before HDF5 sees them.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import struct
from collections.abc import Iterator
from typing import Any

import h5py

from blockwise.errors import UserError

_HEAP = b"GCOL\x01\0\0\0"
"""Begins a collection of the global heap."""
_OBJECT = struct.Struct("<HH4xQ")
"""Begins an object of it: its number, 0 for what is free; references; its size, 8 bytes of which are aligned."""


def endless_heap(path: str, start: int = 0, stop: int | None = None) -> int | None:
    """Look for an object of no size in the heaps of a file that begin in a range of bytes (default: all).

    Returns:
        Where the first collection with such an object begins, in bytes; None where none has.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        stop = len(content) if stop is None else min(len(content), stop)
        place = content.find(_HEAP, start, stop)
        while place >= 0:
            if _is_endless(content, place):
                return place
            place = content.find(_HEAP, place + 8, stop)
    return None


def _is_endless(content: mmap.mmap, start: int) -> bool:
    end = min(len(content), start + int.from_bytes(content[start + 8 : start + 16], "little"))
    place = start + 16
    while place + _OBJECT.size <= end:
        number, _, size = _OBJECT.unpack_from(content, place)
        needed = (size if number == 0 else _OBJECT.size + -(-size // 8) * 8) % 2**64
        if needed == 0:
            return True
        place += needed
    return False


class _Watched(io.FileIO):
    """A file whose heaps are looked at as they are read: those that are needed, however large the file is."""

    def readinto(self, buffer: Any) -> int:
        start = self.tell()
        count = super().readinto(buffer) or 0
        around = (
            max(0, start - len(_HEAP) + 1),
            start + count + len(_HEAP) - 1,
        )  # a read may begin, or end, in its name
        if b"GCOL" in self._bytes(*around) and (place := endless_heap(str(self.name), *around)) is not None:
            raise UserError(f"{self.name}: is damaged, the texts at byte {place:,} have no end; copy it again")
        return count

    def _bytes(self, start: int, stop: int) -> bytes:
        place = self.tell()
        self.seek(start)
        found = self.read(stop - start)
        self.seek(place)
        return found or b""


@contextlib.contextmanager
def watched_heaps(path: str) -> Iterator[h5py.File]:
    """Open a file for what may lie in heaps, not for voxels: this is slow.

    External links must not be followed from it: HDF5 would look for what they name in the same file.

    Raises:
        UserError: a heap that was needed has no end; from whatever reads it.
        OSError: it cannot be opened.
    """
    with _Watched(path) as source, h5py.File(source, "r") as file:
        yield file


def attributes_of(node: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """The attributes of an object of a file that is open already.

    Raises:
        UserError: texts have no end.
    """
    with watched_heaps(node.file.filename) as file:
        return dict(file[node.ref].attrs)
