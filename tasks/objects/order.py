"""The order of all objects: by time step and label, which is that of their first voxels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block, Grid
from tasks.components.merge_step import ComponentMergeStep


@dataclass(frozen=True)
class ObjectOrder:
    """Places of objects, from 0.

    Attributes:
        starts: place of the first object of each time step, and the number of objects, int64 (time steps + 1,); of
            labels that go on over time there is one.
        restarts: labels count from 1 in each time step.
    """

    starts: NDArray[np.int64]
    restarts: bool = False

    @property
    def count(self) -> int:
        """How many objects there are."""
        return int(self.starts[-1])

    def places(self, labels: NDArray[np.uint64], time: int) -> NDArray[np.int64]:
        """Places of labels of one time step."""
        return labels.astype(np.int64) - 1 + (self.starts[time] if self.restarts else 0)

    def labels(self, places: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Labels of objects."""
        if not self.restarts:
            return (places + 1).astype(np.uint64)
        steps = np.searchsorted(self.starts, places, side="right") - 1
        return (places - self.starts[steps] + 1).astype(np.uint64)


def time_of(grid: Grid, block: Block) -> int:
    """Time step of a block, from 0; blocks are one time step thick."""
    return block.write_box[0].start if "t" in grid.axes else 0


@dataclass(frozen=True)
class ComponentObjects:
    """Which object each component belongs to.

    Attributes:
        grid: of the blocks that hold the components.
        lookup: label of each component's object, 0 if it was dropped, uint64; may be mapped.
        offsets: where the components of each block begin, by block id.
        order: of the objects.
    """

    grid: Grid
    lookup: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    order: ObjectOrder

    @classmethod
    def of(
        cls, merge: ComponentMergeStep, lookup: NDArray[np.uint64], offsets: NDArray[np.int64]
    ) -> ComponentObjects:
        """From the tables that a merge has written."""
        grid = merge.faces.grid
        if merge.restart_every is None:
            order = ObjectOrder(np.array([0, lookup.max(initial=0)], np.int64))
            return cls(grid, lookup, offsets, order)
        counts = np.zeros(grid.shape[0], np.int64)
        for block in grid:
            time = time_of(grid, block)
            counts[time] = max(counts[time], int(lookup[offsets[block.id] : offsets[block.id + 1]].max(initial=0)))
        return cls(grid, lookup, offsets, ObjectOrder(np.concatenate([[0], np.cumsum(counts)]), restarts=True))

    @classmethod
    def read(cls, merge: ComponentMergeStep) -> ComponentObjects:
        """From a merge's files; the larger table is mapped into memory."""
        return cls.of(merge, merge.output().mapped("lookup"), merge.output().load("offsets"))

    def blocks(self) -> Iterator[tuple[Block, NDArray[np.bool_], NDArray[np.int64]]]:
        """Of each block, which of its components belong to an object, and the places of these objects."""
        for block in self.grid:
            labels = np.asarray(self.lookup[self.offsets[block.id] : self.offsets[block.id + 1]])
            kept = labels > 0
            yield block, kept, self.order.places(labels[kept], time_of(self.grid, block))
