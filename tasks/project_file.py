"""The file of an ilastik project: opened for whoever reads a part of it; what is wrong with it is said in one way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py

from blockwise.errors import UserError
from blockwise.records import in_store, open_records
from blockwise.volume.hdf5_heaps import endless_heap


@dataclass(frozen=True)
class ProjectFile:
    """A project's file in one state, so that what was read of it can be kept until it changes.

    Attributes:
        path: of the ``.ilp`` file, or its address in a store.
        here: path on this machine: the same, or of a copy.
        device: with ``inode``, which file it is.
        inode: likewise.
        size: in bytes.
        modified_ns: time of its last change.
    """

    path: str
    here: str
    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def at(cls, path: str) -> ProjectFile:
        """The file as it is now; what lies in a store is fetched, where this version of it is not here yet.

        Raises:
            UserError: there is none, or it may not be looked at.
        """
        here = _fetched(path) if in_store(path) else path
        try:
            status = os.stat(here)
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"project {path}: there is no such file (looked from {Path.cwd()})") from None
        except OSError as error:
            raise UserError(f"project {path}: cannot be read: {error.strerror}") from error
        return cls(path, here, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    @contextlib.contextmanager
    def opened(self, part: str = "") -> Iterator[h5py.File]:
        """Open it; whatever h5py, or the body, stumbles over is told of this file.

        Args:
            part: what is read, for people, such as ``its threshold``.

        Raises:
            UserError: it is no project, is damaged, or of another layout; or as the body says.
        """
        if Path(self.here).is_dir() or not h5py.is_hdf5(self.here):
            raise UserError(f"project {self.path}: is not an HDF5 file, so not an ilastik project; is it cut off?")
        if (place := endless_heap(self.here)) is not None:
            raise UserError(
                f"project {self.path}: is damaged, the texts at byte {place:,} have no end; copy it again, or "
                "open it in ilastik and save it again"
            )
        try:
            with h5py.File(self.here, "r", locking=False) as file:
                yield file
        except UserError:
            raise
        except Exception as error:
            what, is_so = (f"{part} ", "the file is") if part else ("", "it is")
            raise UserError(
                f"project {self.path}: {what}cannot be read, {is_so} damaged or of a layout that is not known here "
                f"({error}); open it in ilastik and save it again"
            ) from error


def _fetched(address: str) -> str:
    """Path of a copy of a project that lies in a store.

    Raises:
        UserError: there is none, or the store says so.
    """
    path, mark, options = address.partition("?")
    folder, _, name = path.rpartition("/")
    if not folder.partition("://")[2].partition("/")[2]:
        raise UserError(f"project {address}: must lie below a prefix, as s3://bucket/projects/{name} does")
    try:
        return str(open_records(f"{folder}{mark}{options}").file(name))
    except FileNotFoundError:
        raise UserError(f"project {address}: there is no such object") from None
    except UserError as error:
        raise UserError(f"project {address}: {error}") from error
