"""At the end: labels and the classes of objects -> the class of each voxel's object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.outputs import VolumeOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before
from blockwise.upstream import BlocksSource
from blockwise.volume import open_volume
from blockwise.volume_step import Holds, VolumeStep, giving
from tasks.objects.classification.classification_step import ObjectClassificationStep

BYTES_PER_VOXEL = 14
"""Labels as they are stored and as they are read, and classes."""
PIECE = 1 << 18
"""Voxels that are looked up at once: where no two neighbours have the same label, that takes 60 bytes for each."""
PIECE_BYTES = 60 * PIECE


def classes_of_voxels(labels: NDArray[np.uint64], known: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Put the class of each object in the place of its label.

    Args:
        labels: of a block, any shape; 0 is background.
        known: int64 (objects, 2), labels in ascending order, each with its class, 1 to 255.

    Returns:
        uint8 of the same shape; 0 in the background.

    Raises:
        ValueError: a label is not known.
    """
    flat, table = labels.ravel(), np.concatenate([np.zeros((1, 2), np.int64), known])
    classes = np.empty(flat.shape, np.uint8)
    for start in range(0, flat.size, PIECE):
        classes[start : start + PIECE] = _looked_up(flat[start : start + PIECE], table)
    return classes.reshape(labels.shape)


def _looked_up(labels: NDArray[np.uint64], table: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Classes of some voxels in a row, from a table whose first line is the background's."""
    # Neighbours mostly have the same label: only where runs begin is there anything to look up.
    begins = np.flatnonzero(np.concatenate(([True], labels[1:] != labels[:-1])))
    wanted = labels[begins].astype(np.int64)
    places = np.minimum(np.searchsorted(table[:, 0], wanted), len(table) - 1)
    if (unknown := table[places, 0] != wanted).any():
        raise ValueError(f"object {wanted[unknown][0]} has no class; {len(table) - 1} objects are known here")
    return np.repeat(table[places, 1].astype(np.uint8), np.diff(begins, append=len(labels)))


class ObjectClassesStep(VolumeStep):
    """The class of the object that each voxel lies in, ilastik's "Object Predictions".

    Attributes:
        objects: the step that labels the objects.
        classification: the step that knows their classes.
    """

    name: ClassVar[str] = "object_classes"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "classes"

    objects: Annotated[Before[VolumeStep], giving("labels")]
    classification: Before[ObjectClassificationStep]

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    @cached_property
    def _sources(self) -> tuple[Source, ...]:
        return (BlocksSource(self.objects), self.classification.rows())

    def sources(self) -> tuple[Source, ...]:
        """The labels, and of each block the classes of the objects that touch it."""
        return self._sources

    def output(self) -> VolumeOutput:
        """Classes from 1, uint8; 0 outside of objects."""
        extra = {"classes": list(self.classification.class_names)}
        return VolumeOutput(self.address, self.grid, self.chunks, "uint8", 0, extra, self.shards)

    def projected_memory(self) -> int:
        """Labels and classes of a block."""
        return BASE_MEMORY + PIECE_BYTES + BYTES_PER_VOXEL * math.prod(self.grid.block_shape)

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Labels; a byte a voxel."""
        return 8 * self.grid.voxels, self.grid.voxels

    def prepare(self) -> Any:
        """Open the labels, and map the classes into memory."""
        table = self.classification.output()
        return open_volume(self.objects.address), table.mapped("rows"), table.load("offsets")

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint8]:
        """Compute the classes of one block."""
        volume, rows, offsets = prepared
        return classes_of_voxels(volume.read(block.write_box), rows[offsets[block.id] : offsets[block.id + 1]])
