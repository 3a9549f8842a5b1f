"""Step 5: label each block again, and give each component the number of its object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.outputs import VolumeOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY
from blockwise.volume_step import Holds, VolumeStep
from tasks.components.faces_step import LABELLING_BYTES_PER_VOXEL, ComponentFacesStep
from tasks.components.merge_step import ComponentMergeStep


def apply_lookup(labels: NDArray[Any], lookup: NDArray[Any]) -> NDArray[np.uint64]:
    """Replace labels by objects.

    Args:
        labels: of one block, any shape; 0 is background.
        lookup: the object of the labels 1, 2, ..., or any other number from 0.

    Returns:
        uint64 of the same shape.

    Raises:
        ValueError: the table is not of this block.
    """
    if int(labels.max(initial=0)) != len(lookup):
        raise ValueError(f"{int(labels.max(initial=0))} components, but a lookup table of {len(lookup)}")
    objects: NDArray[np.uint64] = np.concatenate((np.zeros(1, np.uint64), lookup.astype(np.uint64)))[labels]
    return objects


class ConnectedComponentsStep(VolumeStep):
    """Final labels.

    Attributes:
        faces: the step that labels each block.
        merge: the step that joins its components.
    """

    name: ClassVar[str] = "connected_components"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "labels"

    faces: ComponentFacesStep
    merge: ComponentMergeStep

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    def sources(self) -> tuple[Source, ...]:
        """What the blocks' components are made of, and of the lookup table the rows of the block."""
        return (*self.faces.sources(), self.merge.rows("lookup"))

    def output(self) -> VolumeOutput:
        """Labels, uint64."""
        return VolumeOutput(self.address, self.grid, self.chunks, "uint64", 0, {}, self.shards)

    def projected_memory(self) -> int:
        """What labelling needs, and the labels."""
        voxels = math.prod(self.grid.largest_read_shape(self.halo))
        return BASE_MEMORY + voxels * (LABELLING_BYTES_PER_VOXEL + 8)

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """The mask; eight bytes a voxel."""
        voxels = self.grid.voxels
        return voxels, 8 * voxels

    def prepare(self) -> Any:
        """Open what is labelled, and map the lookup table into memory."""
        table = self.merge.output()
        return self.faces.prepare(), table.mapped("lookup"), table.load("offsets")

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint64]:
        """Compute the final labels of one block."""
        labelled, lookup, offsets = prepared
        labels = self.faces.labels(block, labelled)
        objects = apply_lookup(labels, lookup[offsets[block.id] : offsets[block.id + 1]])
        return objects.reshape([s.stop - s.start for s in block.write_box])
