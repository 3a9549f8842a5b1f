"""Results of other steps as something that a step reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box, Grid
from blockwise.identity import array_checksum
from blockwise.outputs import FilesOutput
from blockwise.stamps import Checksums, Snapshot
from blockwise.step import CHECKSUMS, BlockStep


class BlocksSource:
    """The output of another step. Stamps are the checksums of the blocks that a box of its grid touches."""

    def __init__(self, step: BlockStep) -> None:
        self.step = step
        self.name = step.name
        self.label = step.label
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

    def touched(self) -> list[Box]:
        """Write boxes of the other step's blocks whose files are no longer those that their markers vouch for."""
        if self.step.change_detection == "metadata":
            return []
        files = self.step.output().files()
        target = self.step.read_target()
        if target is not None and target["files"] == files.digest:
            return []
        blocks = ((marker, self.step.grid.block(marker.block)) for marker in self.step.markers)
        return [block.write_box for marker, block in blocks if marker.files != files.stamp(block)]

    def forget(self, damaged: Box) -> bool:
        """Drop the target, then the markers of the blocks below the damage."""
        self.step.forget_target()
        for block_id in self.step.grid.ids_touching(self.step.output().grid_box(damaged)):
            self.step.markers.remove(block_id)
        return True


def finished_checksums(step: BlockStep) -> Checksums:
    """Checksums of another step's blocks: from the table beside its markers if it is of the present target."""
    target = step.read_target()
    try:
        table = Checksums(step.grid, np.load(step.records.file(CHECKSUMS)))
    except (OSError, ValueError, EOFError):
        table = None
    if table is not None and target is not None and table.digest == target["digest"]:
        return table
    return Checksums.of(step.grid, step.markers)


class TableSource(BlocksSource):
    """Rows of another step's table. Stamps are the checksums of the rows of the blocks that a box touches.

    Attributes:
        grid: of the blocks that rows belong to.
        output: has the table.
        rows: name of the array with the rows of all blocks, one block after the other.
        offsets: name of the array with the first row of each block by block id, and the number of rows.
    """

    def __init__(self, step: BlockStep, grid: Grid, output: FilesOutput, rows: str, offsets: str) -> None:
        super().__init__(step)
        self.grid = grid
        self.output = output
        self.rows = rows
        self.offsets = offsets

    def snapshot(self) -> Snapshot:
        """Map the table into memory."""
        rows, offsets = self.output.mapped(self.rows), self.output.load(self.offsets)
        return _Rows(finished_checksums(self.step).digest, self.grid, rows, offsets)


class _Rows:
    def __init__(self, digest: str, grid: Grid, rows: NDArray[Any], offsets: NDArray[np.int64]) -> None:
        self.digest = digest
        self.grid = grid
        self.rows = rows
        self.offsets = offsets

    def stamp(self, box: Box) -> str:
        parts = [self.rows[self.offsets[i] : self.offsets[i + 1]] for i in self.grid.ids_touching(box)]
        return array_checksum(parts[0] if len(parts) == 1 else np.concatenate(parts))
