"""What every format offers: a shape, boxes to read, chunks to write, and the state of the files below."""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index, box_shape
from blockwise.volume.address import Address

ABSENT = -1
"""Size of a file that does not exist (N5 and Zarr leave out chunks of zeros)."""


class DamagedDataError(Exception):
    """A dataset whose stored bytes cannot be decoded.

    Attributes:
        address: of the dataset.
        box: the box, in voxels of the dataset, in which the damage lies.
    """

    def __init__(self, message: str, address: str, box: Box) -> None:
        super().__init__(message)
        self.address = address
        self.box = box


@dataclass(frozen=True)
class _DamagedPiece:
    file: str
    box: Box


class Volume(ABC):
    """A dataset in a container.

    Attributes:
        address: where it lies.
        shape: in voxels, axis order as stored.
        dtype: of one voxel.
        chunks: unit of storage, in voxels; the shape itself for formats without chunks.
        axes: names of the axes from the dataset's own metadata, or None where it says nothing.
    """

    address: Address
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    axes: str | None

    def read(self, box: Box) -> NDArray[Any]:
        """Read a box, in voxels; the result has the box's shape and the volume's dtype.

        Raises:
            DamagedDataError: a chunk cannot be decoded.
        """
        try:
            return self._read(box)
        except (OSError, RuntimeError) as error:
            damaged = self._first_damaged(box)
            if damaged is None:  # gone at the second look: somebody was writing, or the file system hiccuped
                return self._read(box)
            message = f"{self.address}: cannot read {damaged.file}: {error}"
            raise DamagedDataError(message, str(self.address), damaged.box) from error

    @abstractmethod
    def _read(self, box: Box) -> NDArray[Any]:
        """Read a box; OSError or RuntimeError where stored bytes cannot be decoded."""

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write whole chunks (cut at the volume's end); ``data`` has the box's shape and the volume's dtype."""
        raise UserError(f"{self.address}: this format is read only; use an output of .n5")

    @property
    @abstractmethod
    def attributes(self) -> Mapping[str, Any]:
        """The dataset's attributes."""

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Voxels that lie in one file: a chunk, a shard, or the whole dataset."""
        return self.shape

    @abstractmethod
    def file_of(self, index: Index) -> str:
        """Path of the file that holds the ``file_shape``-sized piece at an index."""

    def file_states(self, box: Box | None = None) -> NDArray[np.int64]:
        """Size in bytes and modification time in nanoseconds of each file below a box (default: all).

        Returns:
            int64 (files along axis 0, ..., 2); size ``ABSENT`` and time 0 where there is no file.
        """
        box = box or tuple(slice(0, n) for n in self.shape)
        ranges = [range(s.start // f, -(-s.stop // f)) for s, f in zip(box, self.file_shape, strict=True)]
        states = np.empty((*map(len, ranges), 2), np.int64)
        flat = states.reshape(-1, 2)
        for i, index in enumerate(itertools.product(*ranges)):
            try:
                status = os.stat(self.file_of(index))
                flat[i] = status.st_size, status.st_mtime_ns
            except FileNotFoundError:
                flat[i] = ABSENT, 0
        return states

    def _first_damaged(self, box: Box) -> _DamagedPiece | None:
        ranges = [range(s.start // f, -(-s.stop // f)) for s, f in zip(box, self.file_shape, strict=True)]
        for index in itertools.product(*ranges):
            piece = tuple(
                slice(max(s.start, i * f), min(s.stop, (i + 1) * f))
                for s, i, f in zip(box, index, self.file_shape, strict=True)
            )
            try:
                self._read(piece)
            except (OSError, RuntimeError):
                return _DamagedPiece(self.file_of(index), piece)
        return None

    def check_aligned(self, box: Box, data: NDArray[Any]) -> None:
        """Refuse writes that would share a chunk with another block: they lose data when blocks run at once."""
        if data.shape != box_shape(box):
            raise ValueError(f"{self.address}: data of shape {data.shape} for a box of shape {box_shape(box)}")
        for s, c, n in zip(box, self.chunks, self.shape, strict=True):
            if s.start % c or (s.stop % c and s.stop != n):
                raise ValueError(f"{self.address}: box {box} does not consist of whole chunks {self.chunks}")
