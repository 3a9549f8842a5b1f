"""Small records as output: one per block, or a few of one block."""

from __future__ import annotations

import errno
import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block, Box, Grid
from blockwise.identity import array_checksum, digest, file_digest
from blockwise.outputs.base import NotOursError
from blockwise.outputs.npz import array_of, arrays_of
from blockwise.outputs.table import Table
from blockwise.records import Records, read_json, write_json
from blockwise.stamps import WrittenFiles
from blockwise.transient import refuse_transient
from blockwise.volume import (
    DamagedDataError,
)

ATTRIBUTES = "attributes.json"
"""Name of the record with an output's attributes; it is written last when an output is made."""

DATA = "data"
"""Prefix of what a step has written, among its records."""

ABSENT = "absent"
"""State of what is not there."""

UNREADABLE = (OSError, ValueError, EOFError)
"""What numpy raises for a file that is absent, empty, cut off, or does not begin as it should."""

LARGE_FILE = 1 << 22
"""Bytes from which on an array is better not held in memory; to map a small file costs more than to read it."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class FolderOutput:
    """One ``.npz`` record of named arrays per block.

    Attributes:
        records: those of the step.
        grid: its blocks.
        prefix: below which all lies.
        per_folder: most blocks that have a prefix in common.
    """

    records: Records
    grid: Grid
    prefix: str = DATA
    per_folder: int = 1000

    @property
    def address(self) -> str:
        """Where it lies."""
        return self.records.place(self.prefix)

    def places(self) -> tuple[str, ...]:
        """None but the step's own."""
        return ()

    def check_ours(self) -> None:
        """Lies among the step's own records, where nobody else writes."""

    def found(self) -> Mapping[str, Any] | None:
        """Attributes as they were given to ``create``."""
        return read_json(self.records, f"{self.prefix}/{ATTRIBUTES}")

    def description_files(self) -> tuple[Path, ...]:
        """The file of these attributes."""
        file = self.records.local(f"{self.prefix}/{ATTRIBUTES}")
        return () if file is None else (file,)

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Begin with nothing."""
        _begin(self.records, self.prefix, attributes)

    def key(self, block_id: int) -> str:
        """Key of the record of one block."""
        return f"{self.prefix}/{block_id // self.per_folder:06d}/{block_id}.npz"

    def write(self, block: Block, data: Arrays) -> str:
        """Write named arrays, atomically."""
        content = io.BytesIO()
        np.savez_compressed(content, **dict(data))  # type: ignore[arg-type]
        self.records.put(self.key(block.id), content.getbuffer())
        return _arrays_checksum(data)

    def read(self, block: Block, name: str) -> NDArray[Any]:
        """Read one of a block's arrays; see ``read_all``."""
        return self._read(block, (name,))[name]

    def read_several(self, block: Block, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """Read some of a block's arrays; see ``read_all``."""
        return self._read(block, names)

    def read_all(self, block: Block) -> dict[str, NDArray[Any]]:
        """Read a block's arrays.

        Raises:
            DamagedDataError: the record is absent or cut off.
        """
        return self._read(block, None)

    def _read(self, block: Block, names: tuple[str, ...] | None) -> dict[str, NDArray[Any]]:
        key = self.key(block.id)
        try:
            content = self.records.get(key)
            if content is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return arrays_of(content, names)
        except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
            _refuse_trouble(error)
            message = f"cannot read {self.records.place(key)}: {error}"
            raise DamagedDataError(message, self.address, block.write_box) from error

    def checksum(self, block: Block) -> str:
        """Read a block's arrays back, and return their checksum."""
        return _arrays_checksum(self.read_all(block))

    def grid_box(self, box: Box) -> Box:
        """The box itself: errors name a block's write box."""
        return box

    def files_stamp(self, block: Block) -> str:
        """State of a block's record."""
        return self.records.state(self.key(block.id)) or ABSENT

    def files(self) -> WrittenFiles:
        """States of all blocks' records."""
        keys = {self.key(block_id): block_id for block_id in self.grid.ids()}
        found = self.records.states(keys)
        return _NamedFiles({block_id: found.get(key, ABSENT) for key, block_id in keys.items()})


@dataclass(frozen=True)
class FilesOutput:
    """A few pieces that one block writes: named arrays as ``.npy`` records, and tables elsewhere.

    Attributes:
        records: those of the step.
        arrays: names of the arrays.
        tables: further records, for people, that the step writes itself before it returns the arrays.
        owners: prefixes among the tables' records; one that is there tells that tables in these places are ours.
        prefix: below which the arrays lie.
    """

    records: Records
    arrays: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    owners: tuple[str, ...] = ()
    prefix: str = DATA

    @property
    def address(self) -> str:
        """Where the arrays lie."""
        return self.records.place(self.prefix)

    def places(self) -> tuple[str, ...]:
        """Folders of the tables."""
        paths = (table.records.local(table.key) for table in self.tables)
        return tuple(str(path.parent) for path in paths if path is not None)

    def check_ours(self) -> None:
        """Refuse to overwrite tables when no run of ours has been in this work folder."""
        for table in self.tables:
            if table.state() is not None and not any(map(table.records.holds, self.owners)):
                raise NotOursError(
                    f"{table} exists but was not written by this pipeline; move it, or choose another place",
                    "work folder",
                )

    def found(self) -> Mapping[str, Any] | None:
        """Attributes as they were given to ``create``."""
        return read_json(self.records, f"{self.prefix}/{ATTRIBUTES}")

    def description_files(self) -> tuple[Path, ...]:
        """The file of these attributes."""
        file = self.records.local(f"{self.prefix}/{ATTRIBUTES}")
        return () if file is None else (file,)

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Begin with nothing."""
        _begin(self.records, self.prefix, attributes)

    def key(self, name: str) -> str:
        """Key of the record of one array."""
        return f"{self.prefix}/{name}.npy"

    def load(self, name: str) -> NDArray[Any]:
        """Read an array.

        Raises:
            FileNotFoundError: it is not there.
        """
        return array_of(self.records.file(self.key(name)).read_bytes())

    def mapped(self, name: str) -> NDArray[Any]:
        """An array of which a large one is read only where it is looked at.

        Raises:
            FileNotFoundError: it is not there.
        """
        return _load(self.records.file(self.key(name)))

    def write(self, block: Block, data: Arrays) -> str:
        """Write the arrays, each atomically."""
        for name in self.arrays:
            with self.records.writing(self.key(name)) as path, path.open("wb") as file:
                np.save(file, data[name])
        return self.checksum(block)

    def checksum(self, block: Block) -> str:
        """Read everything back, and return its checksum.

        Raises:
            DamagedDataError: an array or a table is absent or cut off.
        """
        try:
            sums = [array_checksum(_load(self.records.file(self.key(name)))) for name in self.arrays]
        except UNREADABLE as error:
            _refuse_trouble(error)
            raise DamagedDataError(f"cannot read {self.address}: {error}", self.address, block.write_box) from error
        sums += [file_digest(table.file()) for table in self.tables]
        return digest(",".join(sums))

    def grid_box(self, box: Box) -> Box:
        """The box itself: errors name a block's write box."""
        return box

    def files_stamp(self, block: Block) -> str:
        """State of all arrays and tables."""
        arrays = (self.records.state(self.key(name)) or ABSENT for name in self.arrays)
        return digest(",".join((*arrays, *(table.state() or ABSENT for table in self.tables))))

    def files(self) -> WrittenFiles:
        """State of all arrays and tables, which one block has written."""
        return _NamedFiles({0: self.files_stamp(_ONLY_BLOCK)})


def _load(path: Path) -> NDArray[Any]:
    """An array from its file; a large one is read only where it is looked at."""
    if path.stat().st_size <= LARGE_FILE:
        return array_of(path.read_bytes())
    array: NDArray[Any] = np.load(path, mmap_mode="r")
    return array


def _begin(records: Records, prefix: str, attributes: Mapping[str, Any]) -> None:
    records.clear(prefix)
    write_json(records, f"{prefix}/{ATTRIBUTES}", dict(attributes))


def _arrays_checksum(data: Arrays) -> str:
    return digest(",".join(f"{name}:{array_checksum(data[name])}" for name in sorted(data)))


def _refuse_trouble(error: Exception) -> None:
    """Raise what is no damage: only a file that is not there, or that was read and cannot be decoded, is."""
    refuse_transient(error)
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
        raise error


class _NamedFiles:
    """States of files, by the block that has written them."""

    def __init__(self, states: Mapping[int, str]) -> None:
        self.states = states
        self.digest = digest(",".join(states.values()))

    def stamp(self, block: Block) -> str:
        return self.states[block.id]


_ONLY_BLOCK = Block(0, (0,), (slice(0, 1),))
