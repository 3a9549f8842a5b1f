"""Voxels that lie in a file one after the other, as they are or compressed as a whole, below a header."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index, box_shape
from blockwise.transient import refuse_transient
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing
from blockwise.volume.base import ABSENT, Volume
from blockwise.volume.readers.stream import Compression, Stream

_KINDS = "uif"


@dataclass(frozen=True)
class PlainArray:
    """What a header says about the voxels.

    Attributes:
        path: of the file that holds them.
        offset: of the first voxel, or of the compressed bytes, in bytes.
        skip: decompressed bytes before the first voxel.
        slabs: path and offset of each file, where several hold equal slabs along the first axis, one after the other;
            ``path`` and ``offset`` are then those of the first one. Only without compression.
        order: F where the fastest axis is the first one; only without compression.
        shape: in voxels, the fastest axis last unless ``order`` says otherwise.
        dtype: of a stored voxel, with its byte order.
        axes: names of the axes, or None.
        spacing: distance between voxels, or None.
        compression: of all bytes from the offset on, as one stream; None for none.
        slope: the value of a voxel is slope times what is stored, plus intercept.
        intercept: likewise.
        header: path of the file that describes the voxels, where that is another one.
    """

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str | None = None
    spacing: Spacing | None = None
    compression: Compression | None = None
    slope: float = 1.0
    intercept: float = 0.0
    header: str = ""
    skip: int = 0
    order: Literal["C", "F"] = "C"
    slabs: tuple[tuple[str, int], ...] = ()

    @property
    def is_scaled(self) -> bool:
        """Whether values are not what is stored."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def size(self) -> int:
        """Bytes of all voxels, decompressed."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Path and offset of each file that holds voxels."""
        return self.slabs or ((self.path, self.offset),)


class PlainVolume(Volume):
    """A volume that is mapped, so that any box costs what it holds; a compressed one is read plane by plane.

    A stream has no entry but its beginning: a box costs the decompression of all that lies before it, in the memory
    of one plane. Boxes that are read from the beginning to the end cost one decompression together. Half-precision
    floats become float32, and so do scaled values of 16 bits and less; other scaled values become float64.
    """

    def __init__(self, address: Address, stored: PlainArray) -> None:
        _check(address, stored)
        self.address = address
        self.shape = stored.shape
        self.dtype = _value_type(stored)
        self.axes = stored.axes
        self.spacing = stored.spacing
        self._stored = stored
        self._plane_ndim = 3 if (stored.axes or "").endswith("c") and len(self.shape) > 2 else 2
        self._files = tuple(filter(None, (*(path for path, _ in stored.places), stored.header)))
        if stored.slabs:
            self.chunks = self.shape
        elif stored.compression is None:
            self.chunks = self.shape
            self._mapped = np.memmap(stored.path, stored.dtype, "r", stored.offset, stored.shape, stored.order)
        else:
            lead = len(self.shape) - self._plane_ndim
            self.chunks = (1,) * lead + self.shape[lead:]
            self._stream = Stream(stored.path, stored.offset, stored.compression, stored.skip + stored.size)

    def _read(self, box: Box) -> NDArray[Any]:
        if self._stored.slabs:
            return self._read_slabs(box)
        if self._stored.compression is None:
            return np.ascontiguousarray(self._values(self._mapped[box]))
        ndim = self._plane_ndim
        out = np.empty(box_shape(box), self.dtype)
        planes = out.reshape(-1, *out.shape[-ndim:])
        lead, plane = self.shape[:-ndim], self.shape[-ndim:]
        size = math.prod(plane) * self._stored.dtype.itemsize
        for i, index in enumerate(itertools.product(*(range(s.start, s.stop) for s in box[:-ndim]))):
            number = int(np.ravel_multi_index(index, lead)) if index else 0
            content = np.frombuffer(self._stream.read(self._stored.skip + number * size, size), self._stored.dtype)
            planes[i] = self._values(content.reshape(plane)[box[-ndim:]])
        return out

    def _read_slabs(self, box: Box) -> NDArray[Any]:
        """From each file what lies in it; none stays open, as there may be more than a process may open."""
        out = np.empty(box_shape(box), self.dtype)
        depth = self.shape[0] // len(self._stored.slabs)
        for number in range(box[0].start // depth, -(-box[0].stop // depth)):
            path, offset = self._stored.slabs[number]
            start, stop = max(box[0].start, number * depth), min(box[0].stop, (number + 1) * depth)
            try:
                mapped = np.memmap(path, self._stored.dtype, "r", offset, (depth, *self.shape[1:]))
            except FileNotFoundError as error:
                raise _away(self.address, path) from error
            except ValueError as error:
                raise UserError(f"{self.address}: {path} is cut off: {error}; copy it again") from error
            inside = slice(start - number * depth, stop - number * depth)
            out[start - box[0].start : stop - box[0].start] = self._values(mapped[(inside, *box[1:])])
        return out

    def _values(self, stored: NDArray[Any]) -> NDArray[Any]:
        if not self._stored.is_scaled:
            return stored.astype(self.dtype, copy=False)
        values: NDArray[Any] = stored.astype(np.float64) * self._stored.slope + self._stored.intercept
        return values.astype(self.dtype)

    def verify(self) -> None:
        """Decompress a compressed file to its end, where the checksum stands.

        Raises:
            UserError: it is damaged or cut off.
        """
        if self._stored.compression is not None:
            try:
                self._stream.verify()
            except OSError as error:
                refuse_transient(error, self._stored.path)
                raise UserError(f"{self.address}: {self._stored.path} is damaged: {error}; copy it again") from error

    @property
    def codec(self) -> str:
        """Of all voxels as one stream."""
        return self._stored.compression or ""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Headers hold no attributes; axes and spacing are read from them."""
        return {}

    @property
    def decode_shape(self) -> tuple[int, ...]:
        """Single voxels of a mapped file; all that was compressed as one."""
        return self.shape if self._stored.compression else (1,) * len(self.shape)

    @property
    def companions(self) -> tuple[str, ...]:
        """The files of the voxels, where the header is another one."""
        return tuple(path for path in self._files if path != self.address.path)

    def file_of(self, index: Index) -> str:
        """The file that holds the voxels; of several, the first one."""
        return self._stored.path

    def _fill_states(self, indices: Iterator[Index], states: NDArray[np.int64]) -> None:
        if len(self._files) == 1:
            super()._fill_states(indices, states)
        else:
            states.reshape(-1)[:] = state_of_all(self._files)
            if self._stored.slabs and states.reshape(-1)[0] == ABSENT:
                missing = [path for path in self._files if not os.path.exists(path)]
                raise _away(self.address, (missing or ["a file that is back by now"])[0])


def state_of_all(files: tuple[str, ...]) -> tuple[int, int]:
    """One state for several files that make one volume: another size or time of any of them gives another state."""
    sizes, times = array("q"), array("q")
    for name in files:
        try:
            status = os.stat(name)
        except FileNotFoundError:
            return ABSENT, 0
        sizes.append(status.st_size)
        times.append(status.st_mtime_ns)
    together = hashlib.sha256(sizes.tobytes() + times.tobytes()).digest()[:8]
    return sum(sizes), int.from_bytes(together, "big") >> 1


def _away(address: Address, path: str) -> UserError:
    return UserError(f"{address}: voxels lie in {path}, which is not there; put it back")


def _value_type(stored: PlainArray) -> np.dtype[Any]:
    native = stored.dtype.newbyteorder("=")
    if stored.is_scaled:
        return np.dtype("float32" if native.itemsize <= 2 or native == np.dtype("float32") else "float64")
    return np.dtype("float32") if native == np.dtype("float16") else native


def _check(address: Address, stored: PlainArray) -> None:
    if stored.dtype.kind not in _KINDS or stored.dtype.itemsize > 8:
        raise UserError(f"{address}: holds {stored.dtype.name}; expected integers or floats of at most 64 bits")
    if len(stored.shape) < 2 or min(stored.shape) < 1:
        raise UserError(f"{address}: has the shape {stored.shape}; expected at least two axes with voxels")
    for path, offset in stored.places:
        try:
            found = os.stat(path).st_size
        except OSError as error:
            raise UserError(f"{address}: {path}, which holds the voxels, cannot be read: {error}") from error
        needed = offset + (1 if stored.compression else stored.size // len(stored.places))
        if found < needed:
            raise UserError(
                f"{address}: {path} is cut off: it has {found:,} bytes, the header tells of {needed:,}; copy it again"
            )
