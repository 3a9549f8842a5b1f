"""A dataset as output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Block, Box, Grid
from blockwise.identity import array_checksum
from blockwise.outputs.base import NotOursError
from blockwise.stamps import FileStates, WrittenFiles
from blockwise.volume import (
    Address,
    DamagedMetadataError,
    Volume,
    create_volume,
    delete_volume,
    description_files,
    open_volume,
    stored_attributes,
    volume_exists,
)

T = TypeVar("T")


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
        is_scale: it is one of the scales of an image, whose group tells what they are.
        chunks_of_all_channels: a chunk holds all channels, not one.
    """

    address: str
    grid: Grid
    chunks: tuple[int, ...]
    dtype: str
    channels: int
    extra: Mapping[str, Any]
    shards: tuple[int, ...] | None = None
    is_scale: bool = False
    chunks_of_all_channels: bool = False

    @property
    def axes(self) -> str:
        """Names of the dataset's axes."""
        return "".join(axis for axis in ("tczyx" if self.channels else "tzyx") if axis in (*self.grid.axes, "c"))

    def places(self) -> tuple[str, ...]:
        """The container, unless it lies in a store."""
        address = Address.parse(self.address)
        return () if address.is_remote else (address.location,)

    def check_ours(self) -> None:
        """Refuse a dataset or folder that does not carry one of our fingerprints, and a file for a container."""
        container = Address.parse(self.address).location
        if Path(container).is_file():
            raise NotOursError(f"output {self.address}: {container} is a file, not a container; choose another place")
        if volume_exists(self.address) and self.found() is None:
            raise NotOursError(
                f"output {self.address}: something lies there that this pipeline has not written (no attribute "
                "'fingerprint'); it is left alone. Remove it yourself, or choose another place"
            )

    def found(self) -> Mapping[str, Any] | None:
        """Attributes of the dataset; None where there is none, or one without fingerprint."""
        return found_dataset(self.address)

    def description_files(self) -> tuple[Path, ...]:
        """Files of the dataset's metadata."""
        return description_files(self.address)

    def other_storage(self) -> str:
        """How the dataset that lies there is cut into files, where that is not as it would be made; for people.

        Chunks change no voxel, so a dataset is not made anew for them.
        """
        volume = open_volume(self.address)
        files = self._with_channels(self.shards or self.chunks, self._channels_in_chunk)
        chunks = self._with_channels(self.chunks, self._channels_in_chunk)
        if _cut(files, volume.shape) == _cut(volume.chunks, volume.shape) and _cut(chunks, volume.shape) == _cut(
            volume.decode_shape, volume.shape
        ):
            return ""
        found = _storage_text(volume.decode_shape, volume.chunks)
        return f"{self.address} has {found}, the configuration says {_storage_text(chunks, files)}"

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Create the dataset, in place of an older one of ours."""
        self.check_ours()
        if volume_exists(self.address):
            delete_volume(self.address)
        try:
            create_volume(
                Address.parse(self.address),
                self._with_channels(self.grid.shape, self.channels),
                self._with_channels(self.chunks, self._channels_in_chunk),
                self.dtype,
                {"axes": list(self.axes), **self.extra, **attributes},
                shards=None if self.shards is None else self._with_channels(self.shards, self._channels_in_chunk),
                is_scale=self.is_scale,
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

    def files(self) -> WrittenFiles:
        """Size and time of all chunks."""
        return _Chunks(FileStates(open_volume(self.address), tuple(self.axes.index(a) for a in self.grid.axes)))

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

    @property
    def _channels_in_chunk(self) -> int:
        return self.channels if self.chunks_of_all_channels else 1

    def _with_channels(self, values: tuple[T, ...], channels: T) -> tuple[T, ...]:
        """Values of the grid's axes, and one more for the channels at their place, if there are any."""
        named = dict(zip(self.grid.axes, values, strict=True), c=channels)
        return tuple(named[axis] for axis in self.axes)


class _Chunks:
    """Size and time of the files below each block's write box."""

    def __init__(self, states: FileStates) -> None:
        self.states = states
        self.digest = states.digest

    def stamp(self, block: Block) -> str:
        return self.states.stamp(block.write_box)


def found_dataset(address: str) -> Mapping[str, Any] | None:
    """Attributes of a dataset of ours; None where there is none, or one without fingerprint.

    Raises:
        UserError: what lies there cannot be looked at, now or by this user: that is no reason to take it for gone.
    """
    try:
        attributes = stored_attributes(address)
    except DamagedMetadataError:
        return None
    if attributes is None:
        return None
    return attributes if {"fingerprint", "id"} <= attributes.keys() else None


def _cut(chunks: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks as far as the volume reaches: longer ones are written as such by some formats."""
    return tuple(map(min, chunks, shape))


def _storage_text(chunks: tuple[int, ...], files: tuple[int, ...]) -> str:
    shards = "" if files == chunks else f" in shards {'x'.join(map(str, files))}"
    return f"chunks {'x'.join(map(str, chunks))}{shards}"


def _whole_chunks(box: Box, chunks: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    """Enlarge a box to whole chunks, cut at the volume's end."""
    return tuple(
        slice(s.start // c * c, min(-(-s.stop // c) * c, n)) for s, c, n in zip(box, chunks, shape, strict=True)
    )
