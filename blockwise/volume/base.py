"""What every format offers: a shape, boxes to read, chunks to write, and the state of the files below."""

from __future__ import annotations

import errno
import hashlib
import itertools
import math
import os
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError, printable
from blockwise.grid import Box, Index, box_shape
from blockwise.transient import error_number, refuse_transient
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing
from blockwise.volume.links import FilesBelow
from blockwise.volume.steady import read_steadily

ABSENT = -1
"""Size of a file that does not exist (N5 and Zarr leave out chunks of zeros)."""


_NO_FILES = (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Errors of paths that lead to no file whatever happens: links in a circle, a file where a folder should be."""

MOST_FILES = 1 << 30
"""More files than a dataset can have: what a damaged header says would fill the memory."""


def as_int63(content: bytes) -> int:
    """Any bytes as a number that int64 holds; different bytes give different numbers, as far as people live."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


class DamagedDataError(Exception):
    """A dataset whose stored bytes cannot be decoded.

    Attributes:
        address: of the dataset.
        box: the box, in voxels of the dataset, in which the damage lies.
    """

    def __init__(self, message: str, address: str, box: Box) -> None:
        super().__init__(printable(message))
        self.address = address
        self.box = box

    def __reduce__(self) -> tuple[type[DamagedDataError], tuple[str, str, Box]]:
        """So that it travels between processes with its box."""
        return type(self), (str(self), self.address, self.box)


class Volume(ABC):
    """A dataset in a container.

    Attributes:
        address: where it lies.
        shape: in voxels, axis order as stored.
        dtype: of one voxel.
        chunks: the smallest unit that can be written by itself, in voxels: a chunk, or a whole shard; the shape
            itself for formats without chunks.
        axes: names of the axes from the dataset's own metadata, or None where it says nothing.
        spacing: distance between voxels from the dataset's own metadata, or None where it says nothing.
    """

    address: Address
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    axes: str | None
    spacing: Spacing | None = None

    def read(self, box: Box) -> NDArray[Any]:
        """Read a box, in voxels; the result has the box's shape and the volume's dtype.

        Raises:
            DamagedDataError: a chunk cannot be decoded.
            ShortFailureError: the file system or the store has trouble at the moment.
            UserError: the store denied the request or did not answer.
            OSError: the system refused a file; this says nothing about what it holds.
        """
        if self.address.is_remote:
            return self._read_or_blame(box)
        return read_steadily(self, str(self.address), box, self._read_or_blame)

    def _read_or_blame(self, box: Box) -> NDArray[Any]:
        """Read a box; where that fails, find the chunk that is at fault."""
        try:
            return self._read(box)
        except (OSError, RuntimeError) as error:
            self._refuse_trouble(error)
            damaged = self._first_damaged(box)
            if damaged is None:  # gone at the second look: somebody was writing, or the file system hiccuped
                return self._read(box)
            index = tuple(s.start // f for s, f in zip(damaged, self.file_shape, strict=True))
            message = f"{self.address}: cannot read {self.file_of(index)}: {error}"
            raise DamagedDataError(message, str(self.address), damaged) from error

    @abstractmethod
    def _read(self, box: Box) -> NDArray[Any]:
        """Read a box; OSError or RuntimeError where stored bytes cannot be decoded."""

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write whole chunks (cut at the volume's end); ``data`` has the box's shape and the volume's dtype."""
        raise UserError(f"{self.address}: this format is read only; use an output of .n5 or .zarr")

    def verify(self) -> None:
        """Look for defects that are too dear to look for on every opening; to be called once, before any work.

        Raises:
            UserError: a slice of a stack is missing or differs in size; all of them are named.
        """
        return

    @property
    @abstractmethod
    def attributes(self) -> Mapping[str, Any]:
        """The dataset's attributes."""

    @property
    def codec(self) -> str:
        """How voxels are compressed, in the words of the file; empty where they are not, or nothing says it."""
        return ""

    @property
    def decode_shape(self) -> tuple[int, ...]:
        """Voxels that must be decoded together to read one of them; 1 per axis where single voxels can be fetched."""
        return self.chunks

    def read_amplification(self, block_shape: tuple[int, ...]) -> float:
        """Voxels decoded per voxel read, for blocks of this shape on multiples of it.

        Near 1 where chunks are not larger than blocks. Where whole slices are decoded for every block it is the
        number of blocks in a slice: reading the volume then costs that many times its size, and ``ingest`` pays.
        """
        ratio = 1.0
        for n, unit, block in zip(self.shape, self.decode_shape, block_shape, strict=True):
            ratio *= max(1.0, min(unit, n) / min(block, n))
        return ratio

    @property
    def slicewise(self) -> bool:
        """Whether every block costs the decoding of whole yx planes, because nothing smaller can be decoded."""
        if len(self.shape) < 2:
            return False
        axes = self.axes or ""
        plane = [axes.index(a) for a in "yx"] if {"y", "x"} <= set(axes) else [-2, -1]
        return all(self.shape[axis] > 1 and self.decode_shape[axis] >= self.shape[axis] for axis in plane)

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Voxels that lie in one file: a chunk, a shard, or the whole dataset."""
        return self.shape

    @abstractmethod
    def file_of(self, index: Index) -> str:
        """Path or URL of the file that holds the ``file_shape``-sized piece at an index."""

    @property
    def has_file_states(self) -> bool:
        """Whether ``file_states`` can tell a rewritten file; not so for stores without entity tags."""
        return True

    def file_indices(self) -> Iterator[Index]:
        """Places of all files."""
        return itertools.product(*(range(-(-n // f)) for n, f in zip(self.shape, self.file_shape, strict=True)))

    def file_states(self, box: Box | None = None) -> NDArray[np.int64]:
        """Size in bytes and modification time in nanoseconds of each file below a box (default: all).

        Returns:
            int64 (files along axis 0, ..., 2); size ``ABSENT`` and time 0 where there is no file. Object stores
            give 0 and 63 bits of the object's entity tag or generation instead; where ``has_file_states`` is False,
            all is 0, so that comparing states finds no change. Where there are ``companions``, the second number is
            63 bits of a digest over all files.

        Raises:
            UserError: a companion is not there, or a link leads nowhere.
        """
        box = box or tuple(slice(0, n) for n in self.shape)
        ranges = [range(s.start // f, -(-s.stop // f)) for s, f in zip(box, self.file_shape, strict=True)]
        if (count := math.prod(map(len, ranges))) > MOST_FILES:
            raise UserError(
                f"{self.address}: its shape {self.shape} would lie in {count:,} files; is what it says about itself "
                "right?"
            )
        states = np.empty((*map(len, ranges), 2), np.int64)
        try:
            self._fill_states(itertools.product(*ranges), states.reshape(-1, 2))
        except OSError as error:
            if error.errno not in _NO_FILES:
                raise
            raise UserError(f"{self.address}: {error.filename}: {error.strerror}; put it right") from error
        return states

    @property
    def companions(self) -> tuple[str, ...]:
        """Further files that voxels lie in: linked, virtual, of a set. Every piece depends on all of them."""
        return ()

    def absent_pieces(self, states: NDArray[np.int64]) -> tuple[int, int]:
        """How many files, or planes of a file, are not there and are read as fill values, and of how many.

        Args:
            states: of all files, as ``file_states`` gives them.
        """
        return int((states[..., 0] == ABSENT).sum()), states[..., 0].size

    def _fill_states(self, indices: Iterator[Index], states: NDArray[np.int64]) -> None:
        found = array("q")  # numpy takes half a microsecond for each number
        files = FilesBelow(self.address)
        for index in indices:
            status = files.status_of(self.file_of(index))
            if status is None:
                found.append(ABSENT)
                found.append(0)
            else:
                found.append(status.st_size)
                found.append(status.st_mtime_ns)
        states.reshape(-1)[:] = np.frombuffer(found, np.int64)
        if self.companions:
            others = [self._state_of(path) for path in self.companions]
            for state in states:
                state[1] = as_int63(repr((int(state[1]), others)).encode())

    def _state_of(self, companion: str) -> tuple[int, int]:
        try:
            status = os.stat(companion)
        except FileNotFoundError as error:
            raise UserError(f"{self.address}: voxels lie in {companion}, which is not there; put it back") from error
        return status.st_size, status.st_mtime_ns

    def refuse_dangling_links(self, box: Box) -> None:
        """Look for chunks of a box, in a folder, that links have led away.

        Raises:
            UserError: a link leads nowhere.
        """
        files = FilesBelow(self.address)
        for index in self.chunk_indices(box):
            files.status_of(self.file_of(index))

    def _first_damaged(self, box: Box) -> Box | None:
        for _, piece in self.pieces(box):
            try:
                self._read(piece)
            except (OSError, RuntimeError) as error:
                self._refuse_trouble(error)
                return piece
        return None

    def _refuse_trouble(self, error: OSError | RuntimeError) -> None:
        """Raise what is no damage: only bytes that were read and cannot be decoded are."""
        refuse_transient(error, str(self.address))
        if error_number(error) is not None:
            raise error

    def chunk_indices(self, box: Box) -> Iterator[Index]:
        """Indices of the chunks that a box touches, in raster order."""
        ranges = [range(s.start // c, -(-s.stop // c)) for s, c in zip(box, self.chunks, strict=True)]
        return itertools.product(*ranges)

    def pieces(self, box: Box) -> Iterator[tuple[Index, Box]]:
        """The chunks that a box touches, in raster order: the index of each, and what of it lies in the box."""
        for index in self.chunk_indices(box):
            yield (
                index,
                tuple(
                    slice(max(s.start, i * c), min(s.stop, (i + 1) * c))
                    for s, i, c in zip(box, index, self.chunks, strict=True)
                ),
            )

    def check_aligned(self, box: Box, data: NDArray[Any]) -> None:
        """Refuse writes that would share a chunk with another block: they lose data when blocks run at once."""
        if data.shape != box_shape(box):
            raise ValueError(f"{self.address}: data of shape {data.shape} for a box of shape {box_shape(box)}")
        for s, c, n in zip(box, self.chunks, self.shape, strict=True):
            if s.start % c or (s.stop % c and s.stop != n):
                raise ValueError(f"{self.address}: box {box} does not consist of whole chunks {self.chunks}")
