"""The file of an ilastik project: opened for whoever reads a part of it; what is wrong with it is said in one way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py

from blockwise.errors import UserError
from blockwise.volume.hdf5_heaps import endless_heap


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
