"""Small files as output: one per block, or a few of one block."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.files import read_json, replacing, write_json
from blockwise.grid import Block, Box, Grid
from blockwise.identity import array_checksum, digest, file_digest
from blockwise.outputs.base import NotOursError
from blockwise.stamps import WrittenFiles
from blockwise.transient import refuse_transient
from blockwise.volume import (
    DamagedDataError,
)

ATTRIBUTES = "attributes.json"
"""Name of the file that stands for a folder's attributes; it is written last when a folder is made."""

UNREADABLE = (OSError, ValueError, EOFError)
"""What numpy raises for a file that is absent, empty, cut off, or does not begin as it should."""

LARGE_FILE = 1 << 22
"""Bytes from which on an array is better not held in memory; to map a small file costs more than to read it."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class FolderOutput:
    """One ``.npz`` file of named arrays per block, in folders of bounded size."""

    folder: Path
    grid: Grid
    per_folder: int = 1000

    @property
    def address(self) -> str:
        """The folder."""
        return str(self.folder)

    def places(self) -> tuple[str, ...]:
        """None but the step's own."""
        return ()

    def check_ours(self) -> None:
        """Lies below the step's own folder, where nobody else writes."""

    def found(self) -> Mapping[str, Any] | None:
        """Attributes as they were given to ``create``."""
        return read_json(self.folder / ATTRIBUTES)

    def description_files(self) -> tuple[Path, ...]:
        """The file of these attributes."""
        return (self.folder / ATTRIBUTES,)

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Begin with an empty folder."""
        _new_folder(self.folder, attributes)

    def path(self, block_id: int) -> Path:
        """File of one block."""
        return self.folder / f"{block_id // self.per_folder:06d}" / f"{block_id}.npz"

    def write(self, block: Block, data: Arrays) -> str:
        """Write named arrays, atomically."""
        with replacing(self.path(block.id)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **dict(data))  # type: ignore[arg-type]
        return _arrays_checksum(data)

    def read(self, block: Block, name: str) -> NDArray[Any]:
        """Read one of a block's arrays; see ``read_all``."""
        return self._read(block, (name,))[name]

    def read_all(self, block: Block) -> dict[str, NDArray[Any]]:
        """Read a block's arrays.

        Raises:
            DamagedDataError: the file is absent or cut off.
        """
        return self._read(block, None)

    def _read(self, block: Block, names: tuple[str, ...] | None) -> dict[str, NDArray[Any]]:
        try:
            with self.path(block.id).open("rb") as file, np.load(file) as data:
                return {name: data[name] for name in names or data.files}
        except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
            _refuse_trouble(error)
            message = f"cannot read {self.path(block.id)}: {error}"
            raise DamagedDataError(message, self.address, block.write_box) from error

    def checksum(self, block: Block) -> str:
        """Read a block's arrays back, and return their checksum."""
        return _arrays_checksum(self.read_all(block))

    def grid_box(self, box: Box) -> Box:
        """The box itself: errors name a block's write box."""
        return box

    def files_stamp(self, block: Block) -> str:
        """Size and time of a block's file."""
        return _file_state(self.path(block.id))

    def files(self) -> WrittenFiles:
        """Size and time of all blocks' files."""
        return _NamedFiles({block_id: _file_state(self.path(block_id)) for block_id in self.grid.ids()})


@dataclass(frozen=True)
class FilesOutput:
    """A few files that one block writes: named arrays as ``.npy``, and tables elsewhere.

    Attributes:
        folder: for the arrays.
        arrays: names of the arrays.
        tables: paths of further files that the step writes itself before it returns the arrays.
        owners: folders; one that is there tells that tables in these places are ours.
    """

    folder: Path
    arrays: tuple[str, ...]
    tables: tuple[Path, ...] = ()
    owners: tuple[Path, ...] = ()

    @property
    def address(self) -> str:
        """The folder."""
        return str(self.folder)

    def places(self) -> tuple[str, ...]:
        """Folders of the tables."""
        return tuple(str(table.parent) for table in self.tables)

    def check_ours(self) -> None:
        """Refuse to overwrite tables when no run of ours has been in this work folder."""
        for table in self.tables:
            if table.exists() and not any(folder.exists() for folder in self.owners):
                raise NotOursError(
                    f"{table} exists but was not written by this pipeline; move it, or choose another place",
                    "work folder",
                )

    def found(self) -> Mapping[str, Any] | None:
        """Attributes as they were given to ``create``."""
        return read_json(self.folder / ATTRIBUTES)

    def description_files(self) -> tuple[Path, ...]:
        """The file of these attributes."""
        return (self.folder / ATTRIBUTES,)

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Begin with an empty folder."""
        _new_folder(self.folder, attributes)

    def path(self, name: str) -> Path:
        """File of one array."""
        return self.folder / f"{name}.npy"

    def write(self, block: Block, data: Arrays) -> str:
        """Write the arrays, each atomically."""
        for name in self.arrays:
            with replacing(self.path(name)) as temporary, temporary.open("wb") as file:
                np.save(file, data[name])
        return self.checksum(block)

    def checksum(self, block: Block) -> str:
        """Read everything back, and return its checksum.

        Raises:
            DamagedDataError: a file is absent or cut off.
        """
        try:
            sums = [array_checksum(_load(self.path(name))) for name in self.arrays]
        except UNREADABLE as error:
            _refuse_trouble(error)
            raise DamagedDataError(f"cannot read {self.address}: {error}", self.address, block.write_box) from error
        sums += [file_digest(table) for table in self.tables]
        return digest(",".join(sums))

    def grid_box(self, box: Box) -> Box:
        """The box itself: errors name a block's write box."""
        return box

    def files_stamp(self, block: Block) -> str:
        """Size and time of all files."""
        return digest(",".join(_file_state(path) for path in (*map(self.path, self.arrays), *self.tables)))

    def files(self) -> WrittenFiles:
        """Size and time of all files, which one block has written."""
        return _NamedFiles({0: self.files_stamp(_ONLY_BLOCK)})


def _load(path: Path) -> NDArray[Any]:
    """An array from its file; a large one is read only where it is looked at."""
    array: NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > LARGE_FILE else None)
    return array


def _new_folder(folder: Path, attributes: Mapping[str, Any]) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    write_json(folder / ATTRIBUTES, dict(attributes))


def _arrays_checksum(data: Arrays) -> str:
    return digest(",".join(f"{name}:{array_checksum(data[name])}" for name in sorted(data)))


def _refuse_trouble(error: Exception) -> None:
    """Raise what is no damage: only a file that is not there, or that was read and cannot be decoded, is."""
    refuse_transient(error)
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
        raise error


def _file_state(path: Path) -> str:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "absent"
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


class _NamedFiles:
    """States of files, by the block that has written them."""

    def __init__(self, states: Mapping[int, str]) -> None:
        self.states = states
        self.digest = digest(",".join(states.values()))

    def stamp(self, block: Block) -> str:
        return self.states[block.id]


_ONLY_BLOCK = Block(0, (0,), (slice(0, 1),))
