"""What a step reads, and how to tell later whether it has changed.

A source is looked at once, before a step starts. This snapshot gives each block a *stamp* of what it is about to
read, which goes into the block's marker, and the whole step one *digest*, which goes into its target. Stamps are
taken before the data is read: a change in between makes a stamp too old, so the block is redone, never the other way
round.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from blockwise.grid import Block, Box
from blockwise.identity import array_checksum
from blockwise.stamps import Checksums, FileStates, Snapshot, Unwatched
from blockwise.volume import open_volume

if TYPE_CHECKING:
    from blockwise.step import BlockStep


class Source(Protocol):
    """Something that a step reads."""

    @property
    def name(self) -> str:
        """Its key among the step's inputs."""

    def identity(self) -> Any:
        """What of it goes into the step's fingerprint."""

    def snapshot(self) -> Snapshot:
        """Look at it now."""

    def digest(self) -> str | None:
        """Its digest now, without looking at every block; None where it is not finished."""

    @property
    def address(self) -> str:
        """Where it lies, as errors name it."""

    def forget(self, damaged: Box) -> bool:
        """Have the blocks below a damaged box (of the dataset) computed again; False where nobody can."""


class VolumeInfo(BaseModel):
    """What a volume says about itself before a voxel is read.

    Attributes:
        address: where it lies.
        axes: one letter of ``tczyx`` per axis.
        shape: in voxels, in the order of the axes.
        dtype: numpy's name with byte order.
        chunks: unit of storage, in voxels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]


class RawSource:
    """A volume that is given. Its fingerprint is in its metadata, its stamps are its chunk files' sizes and times.

    Attributes:
        info: the volume.
        axes: the grid's axes.
        watch_files: compare the files' states; False looks at the metadata only.
    """

    name = "raw"

    def __init__(self, info: VolumeInfo, axes: str, watch_files: bool) -> None:
        self.info = info
        self.address = info.address
        self.spatial = tuple(info.axes.index(axis) for axis in axes)
        self.watch_files = watch_files

    def identity(self) -> Mapping[str, Any]:
        """Address, axes, shape, dtype and chunking; never the content."""
        return self.info.model_dump(mode="json")

    def snapshot(self) -> Snapshot:
        """Stat every chunk file once."""
        return FileStates(open_volume(self.info.address), self.spatial) if self.watch_files else Unwatched()

    def digest(self) -> str:
        """Digest over all files' states."""
        return self.snapshot().digest

    def forget(self, damaged: Box) -> bool:
        """A given volume cannot be computed again."""
        return False


class BlocksSource:
    """The output of another step on the same grid. Stamps are the checksums of the blocks that a read box touches."""

    def __init__(self, step: BlockStep) -> None:
        self.step = step
        self.name = step.name
        self.address = step.output().address

    def identity(self) -> str:
        """The other step's fingerprint."""
        return self.step.fingerprint

    def snapshot(self) -> Snapshot:
        """Read the other step's markers."""
        return finished_checksums(self.step)

    def digest(self) -> str | None:
        """The other step's digest as its target has it."""
        target = self.step.read_target()
        return None if target is None else str(target["digest"])

    def forget(self, damaged: Box) -> bool:
        """Drop the target, then the markers of the blocks below the damage."""
        self.step.target_path.unlink(missing_ok=True)
        for block_id in self.step.grid.ids_touching(self.step.output().grid_box(damaged)):
            self.step.markers.remove(block_id)
        return True


def finished_checksums(step: BlockStep) -> Checksums:
    """Checksums of another step's blocks: from the table beside its markers if it is of the present target."""
    target = step.read_target()
    try:
        table = Checksums(step.grid, np.load(step.checksums_path))
    except (OSError, ValueError, EOFError):
        table = None
    if table is not None and target is not None and table.digest == target["digest"]:
        return table
    return Checksums.of(step.grid, step.markers)


class WholeSource(BlocksSource):
    """The output of another step, all of it read by one block."""

    def snapshot(self) -> Snapshot:
        """Read the other step's markers."""
        return _Whole(finished_checksums(self.step).digest)


class _Whole:
    def __init__(self, digest: str) -> None:
        self.digest = digest

    def stamp(self, block: Block, read_box: Box) -> str:
        return self.digest


class TableSource(WholeSource):
    """Rows of another step's table, of which each block reads its own. Stamps are checksums of these rows.

    Attributes:
        rows: path of the ``.npy`` file with the rows of all blocks, one block after the other.
        offsets: path of the ``.npy`` file with the first row of each block by block id, and the number of rows.
    """

    def __init__(self, step: BlockStep, rows: Path, offsets: Path) -> None:
        super().__init__(step)
        self.rows = rows
        self.offsets = offsets

    def snapshot(self) -> Snapshot:
        """Map the table into memory."""
        return _Rows(finished_checksums(self.step).digest, self.rows, self.offsets)


class _Rows:
    def __init__(self, digest: str, rows: Path, offsets: Path) -> None:
        self.digest = digest
        self.rows: NDArray[Any] = np.load(rows, mmap_mode="r")
        self.offsets: NDArray[np.int64] = np.load(offsets)

    def stamp(self, block: Block, read_box: Box) -> str:
        return array_checksum(self.rows[self.offsets[block.id] : self.offsets[block.id + 1]])
