"""The file of an ilastik project: opened for whoever reads a part of it; what is wrong with it is said in one way."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py

from blockwise.errors import UserError

_HEAP = b"GCOL\x01\0\0\0"
"""Begins a collection of HDF5's global heap, in which texts of any length lie."""
_OBJECT = struct.Struct("<HH4xQ")
"""Begins an object of it: its number, 0 for what is free; references; its size, 8 bytes of which are aligned."""


def endless_heap(path: str) -> int | None:
    """Look for an object of no size: HDF5 (2.0 at least) looks for what lies behind it for ever, out of reach.

    Returns:
        Where the first collection with such an object begins, in bytes; None where none has.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_HEAP)
        while start >= 0:
            end = min(len(content), start + int.from_bytes(content[start + 8 : start + 16], "little"))
            place = start + 16
            while place + _OBJECT.size <= end:
                number, _, size = _OBJECT.unpack_from(content, place)
                needed = (size if number == 0 else _OBJECT.size + -(-size // 8) * 8) % 2**64
                if needed == 0:
                    return start
                place += needed
            start = content.find(_HEAP, start + 8)
    return None


@dataclass(frozen=True)
class ProjectFile:
    """A project's file in one state, so that what was read of it can be kept until it changes.

    Attributes:
        path: of the ``.ilp`` file.
        device: with ``inode``, which file it is.
        inode: likewise.
        size: in bytes.
        modified_ns: time of its last change.
    """

    path: str
    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def at(cls, path: str) -> ProjectFile:
        """The file as it is now.

        Raises:
            UserError: there is none, or it may not be looked at.
        """
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"project {path}: there is no such file (looked from {Path.cwd()})") from None
        except OSError as error:
            raise UserError(f"project {path}: cannot be read: {error.strerror}") from error
        return cls(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    @contextlib.contextmanager
    def opened(self, part: str = "") -> Iterator[h5py.File]:
        """Open it; whatever h5py, or the body, stumbles over is told of this file.

        Args:
            part: what is read, for people, such as ``its threshold``.

        Raises:
            UserError: it is no project, is damaged, or of another layout; or as the body says.
        """
        if Path(self.path).is_dir() or not h5py.is_hdf5(self.path):
            raise UserError(f"project {self.path}: is not an HDF5 file, so not an ilastik project; is it cut off?")
        if (place := endless_heap(self.path)) is not None:
            raise UserError(
                f"project {self.path}: is damaged, the texts at byte {place:,} have no end; copy it again, or "
                "open it in ilastik and save it again"
            )
        try:
            with h5py.File(self.path, "r", locking=False) as file:
                yield file
        except UserError:
            raise
        except Exception as error:
            what, is_so = (f"{part} ", "the file is") if part else ("", "it is")
            raise UserError(
                f"project {self.path}: {what}cannot be read, {is_so} damaged or of a layout that is not known here "
                f"({error}); open it in ilastik and save it again"
            ) from error
