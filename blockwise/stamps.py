"""The state of things at one moment, for each block: what it reads, and what files it has written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block, Box, Grid
from blockwise.identity import array_checksum, digest
from blockwise.records.markers import Marker
from blockwise.volume import ABSENT, Volume


class Snapshot(Protocol):
    """The state, at one moment, of something that a step reads."""

    @property
    def digest(self) -> str:
        """One value for all of it."""

    def stamp(self, box: Box) -> str:
        """One value for a part of it; the box is one of the grid of what is read."""


class WrittenFiles(Protocol):
    """The state, at one moment, of the files that a step's blocks have written."""

    @property
    def digest(self) -> str:
        """One value for all of them."""

    def stamp(self, block: Block) -> str:
        """One value for those of a block."""


class FileStates:
    """Size and time of the files of a dataset.

    Attributes:
        spatial: place of each grid axis among the dataset's axes; of other axes (channels) all files count.
    """

    def __init__(self, volume: Volume, spatial: tuple[int, ...]) -> None:
        self.volume = volume
        self.states = volume.file_states()
        self.spatial = spatial
        self.file_shape = tuple(volume.file_shape[axis] for axis in spatial)
        self.digest = array_checksum(self.states)
        self._everything = [slice(None)] * self.states.ndim

    def stamp(self, box: Box) -> str:
        """Digest over the files below a box."""
        region = self._everything.copy()
        for axis, s, f in zip(self.spatial, box, self.file_shape, strict=True):
            region[axis] = slice(s.start // f, -(-s.stop // f))
        return array_checksum(self.states[tuple(region)])

    def first_absent(self) -> str:
        """Name of the first file that is not there; empty where all are."""
        absent = np.argwhere(self.states[..., 0] == ABSENT)
        return self.volume.file_of(tuple(map(int, absent[0]))) if len(absent) else ""

    def vanished_since(self, before: FileStates) -> list[str]:
        """Files that were there, and are not any more."""
        if self.states.shape != before.states.shape:
            return []
        gone = np.argwhere((self.states[..., 0] == ABSENT) & (before.states[..., 0] != ABSENT))
        return [self.volume.file_of(tuple(map(int, index))) for index in gone]


UNWATCHED = "metadata only"
"""Stands for the state of files that nobody looks at."""


def differs(recorded: str | None, present: str | None) -> bool:
    """Whether something has changed since its state was recorded; what nobody looks at has not."""
    return present not in (UNWATCHED, recorded)


class Unwatched:
    """Files that nobody looks at, as ``change_detection: metadata`` says."""

    digest = UNWATCHED

    def stamp(self, box: Box) -> str:
        """The same for every box."""
        return self.digest


class Checksums:
    """What the blocks of a step have written, from its markers."""

    def __init__(self, grid: Grid, checksums: NDArray[np.bytes_]) -> None:
        self.grid = grid
        self.checksums = checksums
        self.digest = array_checksum(checksums)

    @classmethod
    def of(cls, grid: Grid, markers: Iterable[Marker]) -> Checksums:
        """Take them from markers."""
        # By index of the block, so that what a box touches is one slice; empty where a block is not done.
        checksums = np.zeros(grid.blocks_per_axis, "S32")
        flat = checksums.reshape(-1)
        for marker in markers:
            flat[marker.block] = marker.checksum.encode()
        return cls(grid, checksums)

    def stamp(self, box: Box) -> str:
        """Digest over the checksums of the blocks that a box touches."""
        touched = tuple(slice(s.start // b, -(-s.stop // b)) for s, b in zip(box, self.grid.block_shape, strict=True))
        return digest(self.checksums[touched].tobytes())
