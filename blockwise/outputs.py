"""Where a step's blocks are written: a dataset, or a folder of small files."""

from __future__ import annotations

import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.files import read_json, replacing, write_json
from blockwise.grid import Block, Box, Grid
from blockwise.identity import array_checksum, digest
from blockwise.stamps import FileStates, Snapshot
from blockwise.volume import (
    Address,
    DamagedDataError,
    Volume,
    create_volume,
    delete_volume,
    open_volume,
    volume_exists,
)

ATTRIBUTES = "attributes.json"
"""Name of the file that stands for a folder's attributes; it is written last when a folder is made."""

UNREADABLE = (OSError, ValueError, EOFError)
"""What numpy raises for a file that is absent, empty, cut off, or does not begin as it should."""

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")


class Output(Protocol):
    """A place for the results of a step's blocks."""

    @property
    def address(self) -> str:
        """Where it lies, as messages name it."""

    def check_ours(self) -> None:
        """Raise UserError where something lies in this place that no run of ours has written."""

    def found(self) -> Mapping[str, Any] | None:
        """Attributes ``fingerprint`` and ``id`` of what lies there; None where nothing does."""

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Put an empty output there, with these attributes; what lay there (ours) goes."""

    def write(self, block: Block, data: Any) -> str:
        """Write a block's result, and return its checksum."""

    def checksum(self, block: Block) -> str:
        """Read a block's result back, and return its checksum."""

    def grid_box(self, box: Box) -> Box:
        """The grid's part of the box that a DamagedDataError of this output names."""

    def files_stamp(self, block: Block) -> str:
        """Digest over size and time of one block's files; equal to the stamp that ``files`` has for it."""

    def files(self) -> Snapshot:
        """Size and time of all files."""


@dataclass(frozen=True)
class VolumeOutput:
    """A dataset over the grid's axes, with or without channels: axes [t]czyx or [t]zyx.

    Attributes:
        address: of the dataset, ``path.n5:key``.
        grid: of the step that writes.
        chunks: of the grid's axes, in voxels; the block shape is a multiple of it.
        dtype: of one voxel.
        channels: number of channels along an axis ``c`` after t, one a chunk; 0 for no such axis.
        extra: further attributes.
        shards: of the grid's axes, in voxels: several chunks a file, for Zarr 3; None for one chunk a file.
    """

    address: str
    grid: Grid
    chunks: tuple[int, ...]
    dtype: str
    channels: int
    extra: Mapping[str, Any]
    shards: tuple[int, ...] | None = None

    @property
    def axes(self) -> str:
        """Names of the dataset's axes."""
        return "".join(axis for axis in ("tczyx" if self.channels else "tzyx") if axis in (*self.grid.axes, "c"))

    def check_ours(self) -> None:
        """Refuse a dataset or folder that does not carry one of our fingerprints, and a file for a container."""
        container = Address.parse(self.address).path
        if Path(container).is_file():
            raise UserError(f"output {self.address}: {container} is a file, not a container; set another `output`")
        if volume_exists(self.address) and self.found() is None:
            raise UserError(
                f"output {self.address}: something lies there that this pipeline has not written (no attribute "
                "'fingerprint'); it is left alone. Set another `output`, or remove it yourself"
            )

    def found(self) -> Mapping[str, Any] | None:
        """Attributes of the dataset; None where there is none, or one without fingerprint."""
        if not volume_exists(self.address):
            return None
        try:
            attributes = open_volume(self.address).attributes
        except (UserError, RuntimeError, KeyError):
            return None
        return attributes if {"fingerprint", "id"} <= attributes.keys() else None

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Create the dataset, in place of an older one of ours."""
        self.check_ours()
        if volume_exists(self.address):
            delete_volume(self.address)
        try:
            create_volume(
                Address.parse(self.address),
                self._with_channels(self.grid.shape, self.channels),
                self._with_channels(self.chunks, 1),
                self.dtype,
                {"axes": list(self.axes), **self.extra, **attributes},
                shards=None if self.shards is None else self._with_channels(self.shards, 1),
            )
        except (OSError, RuntimeError) as error:
            raise UserError(f"output {self.address}: cannot be created: {error}") from error

    def write(self, block: Block, data: NDArray[Any]) -> str:
        """Write whole chunks; ``data`` has the shape of ``box``.

        Where a region of interest cuts chunks, what lies outside it becomes 0: no other block writes there.
        """
        box = self.box(block.write_box)
        whole = _whole_chunks(box, self._opened.chunks, self._opened.shape)
        margins = [(i.start - o.start, o.stop - i.stop) for i, o in zip(box, whole, strict=True)]
        self._opened.write(whole, np.pad(data, margins) if whole != box else data)
        return array_checksum(data)

    def checksum(self, block: Block) -> str:
        """Read a block back, and return its checksum."""
        return array_checksum(self._opened.read(self.box(block.write_box)))

    def files_stamp(self, block: Block) -> str:
        """Digest over size and time of one block's chunks."""
        return array_checksum(self._opened.file_states(self.box(block.write_box)))

    def files(self) -> Snapshot:
        """Size and time of all chunks."""
        return FileStates(open_volume(self.address), tuple(self.axes.index(axis) for axis in self.grid.axes))

    @cached_property
    def _opened(self) -> Volume:
        """The dataset, opened at the first block: a worker has one output object for all its blocks."""
        return open_volume(self.address, "a")

    def box(self, box: Box, channel: int | None = None) -> Box:
        """A box of the grid in the dataset, with all channels or one of them."""
        first, last = (0, self.channels) if channel is None else (channel, channel + 1)
        return self._with_channels(box, slice(first, last))

    def grid_box(self, box: Box) -> Box:
        """A box of the dataset in the grid: that without channels."""
        return tuple(s for axis, s in zip(self.axes, box, strict=True) if axis != "c")

    def _with_channels(self, values: tuple[T, ...], channels: T) -> tuple[T, ...]:
        """Values of the grid's axes, and one more for the channels at their place, if there are any."""
        named = dict(zip(self.grid.axes, values, strict=True), c=channels)
        return tuple(named[axis] for axis in self.axes)


def _whole_chunks(box: Box, chunks: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    """Enlarge a box to whole chunks, cut at the volume's end."""
    return tuple(
        slice(s.start // c * c, min(-(-s.stop // c) * c, n)) for s, c, n in zip(box, chunks, shape, strict=True)
    )


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

    def check_ours(self) -> None:
        """Lies below the step's own folder, where nobody else writes."""

    def found(self) -> Mapping[str, Any] | None:
        """Attributes as they were given to ``create``."""
        return read_json(self.folder / ATTRIBUTES)

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

    def files(self) -> Snapshot:
        """Size and time of all blocks' files."""
        return _NamedFiles({block_id: _file_state(self.path(block_id)) for block_id in self.grid.ids()})


@dataclass(frozen=True)
class FilesOutput:
    """A few files that one block writes: named arrays as ``.npy``, and tables elsewhere.

    Attributes:
        folder: for the arrays.
        arrays: names of the arrays.
        tables: paths of further files that the step writes itself before it returns the arrays.
    """

    folder: Path
    arrays: tuple[str, ...]
    tables: tuple[Path, ...]

    @property
    def address(self) -> str:
        """The folder."""
        return str(self.folder)

    def check_ours(self) -> None:
        """Refuse to overwrite tables when no run of ours has been in this work folder."""
        for table in self.tables:
            if table.exists() and not self.folder.parent.parent.exists():
                raise UserError(f"{table} exists but was not written by this pipeline; move it, or change `work_dir`")

    def found(self) -> Mapping[str, Any] | None:
        """Attributes as they were given to ``create``."""
        return read_json(self.folder / ATTRIBUTES)

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
            sums = [array_checksum(np.load(self.path(name), mmap_mode="r")) for name in self.arrays]
        except UNREADABLE as error:
            raise DamagedDataError(f"cannot read {self.address}: {error}", self.address, block.write_box) from error
        sums += [digest(table.read_bytes()) for table in self.tables]
        return digest(",".join(sums))

    def grid_box(self, box: Box) -> Box:
        """The box itself: errors name a block's write box."""
        return box

    def files_stamp(self, block: Block) -> str:
        """Size and time of all files."""
        return digest(",".join(_file_state(path) for path in (*map(self.path, self.arrays), *self.tables)))

    def files(self) -> Snapshot:
        """Size and time of all files, which one block has written."""
        return _NamedFiles({0: self.files_stamp(_ONLY_BLOCK)})


def new_attributes(fingerprint: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a new output; ``id`` tells it from another one with the same fingerprint elsewhere."""
    return {"fingerprint": fingerprint, "id": uuid.uuid4().hex, "provenance": dict(provenance)}


def _new_folder(folder: Path, attributes: Mapping[str, Any]) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    write_json(folder / ATTRIBUTES, dict(attributes))


def _arrays_checksum(data: Arrays) -> str:
    return digest(",".join(f"{name}:{array_checksum(data[name])}" for name in sorted(data)))


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

    def stamp(self, block: Block, box: Box) -> str:
        return self.states[block.id]


_ONLY_BLOCK = Block(0, (0,), (slice(0, 1),))
