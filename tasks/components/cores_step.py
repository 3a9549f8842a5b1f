"""Beside the objects, with hysteresis: each object's label in the voxels of its cores."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
from tasks.components.faces_step import LABELLING_BYTES_PER_VOXEL
from tasks.components.labelling import label_components, load_labelling
from tasks.components.labels_step import apply_lookup
from tasks.components.merge_step import ComponentMergeStep
from tasks.threshold import CORE


class CoresStep(VolumeStep):
    """Labels of the objects' cores.

    Attributes:
        objects: the step that labels the objects.
        thresholded: the step that marks the cores.
        connectivity: neighbours of a voxel, as those of the objects; needed where ``fitting`` is given.
        fitting: the step that knows which cores have the wanted size; None where all count.
    """

    name: ClassVar[str] = "cores"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "labels"

    objects: Annotated[Before[VolumeStep], giving("labels")]
    thresholded: Annotated[Before[VolumeStep], giving("mask")]
    connectivity: int
    fitting: ComponentMergeStep | None = None

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    def sources(self) -> tuple[Source, ...]:
        """The labels, and the thresholded volume, both 0 outside the mask of what is computed; which cores fit."""
        fitting = () if self.fitting is None else (self.fitting.rows("core_lookup"),)
        return (BlocksSource(self.objects), BlocksSource(self.thresholded), *fitting)

    def output(self) -> VolumeOutput:
        """Labels, uint64."""
        return VolumeOutput(self.address, self.grid, self.chunks, "uint64", 0, {}, self.shards)

    def projected_memory(self) -> int:
        """The labels, the thresholded volume, where it is core, and the result; what labelling the cores needs."""
        per_voxel = 18 + (0 if self.fitting is None else LABELLING_BYTES_PER_VOXEL)
        return BASE_MEMORY + per_voxel * math.prod(self.grid.largest_read_shape(self.halo))

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Nine bytes a voxel; eight bytes a voxel."""
        return 9 * self.grid.voxels, 8 * self.grid.voxels

    def prepare(self) -> Any:
        """Open the labels and the thresholded volume; map the table of the cores that fit into memory."""
        table = None
        if self.fitting is not None:
            load_labelling()
            output = self.fitting.output()
            table = output.mapped("core_lookup"), output.load("core_offsets")
        return open_volume(self.objects.address), open_volume(self.thresholded.address), table

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint64]:
        """Compute the cores of one block."""
        labels, thresholded, table = prepared
        objects: NDArray[np.uint64] = labels.read(block.write_box)
        # With cores that reach out of the objects all of their voxels count; outside objects labels are 0.
        is_core = thresholded.read(block.write_box) >= CORE
        if table is not None:
            lookup, offsets = table
            spatial = [n for axis, n in zip(self.grid.axes, is_core.shape, strict=True) if axis != "t"]
            cores = label_components(is_core.reshape(spatial), 1, self.connectivity)
            fits = apply_lookup(cores, lookup[offsets[block.id] : offsets[block.id + 1]])
            is_core = fits.reshape(is_core.shape) != 0
        return np.where(is_core, objects, np.uint64(0))
