"""Beside the objects, with hysteresis: each object's label in the voxels of its cores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.outputs import VolumeOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, BlockStep
from blockwise.upstream import BlocksSource, TableSource
from blockwise.volume import open_volume
from tasks.components.faces_step import LABELLING_BYTES_PER_VOXEL
from tasks.components.labels_step import ConnectedComponentsStep, apply_lookup
from tasks.threshold import CORE, ThresholdStep


class CoresStep(BlockStep):
    """Labels of the objects' cores.

    Attributes:
        objects: the step that labels the objects.
        address: output dataset.
    """

    name: ClassVar[str] = "cores"
    version: ClassVar[int] = 1

    objects: ConnectedComponentsStep
    address: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    @property
    def _threshold(self) -> ThresholdStep:
        return self.objects.merge.faces.threshold

    @cached_property
    def _sources(self) -> tuple[Source, ...]:
        merge = self.objects.merge
        table = merge.output()
        found: tuple[Source, ...] = BlocksSource(self.objects), BlocksSource(self._threshold)
        if merge.faces.core_sizes:
            found += (TableSource(merge, table.path("core_lookup"), table.path("core_offsets")),)
        return found

    def sources(self) -> tuple[Source, ...]:
        """The labels, and the thresholded volume, both 0 outside the mask of what is computed; which cores fit."""
        return self._sources

    def output(self) -> VolumeOutput:
        """Labels, uint64."""
        return VolumeOutput(self.address, self.grid, self.chunks, "uint64", 0, {}, self.shards)

    def projected_memory(self) -> int:
        """The labels, the thresholded volume, where it is core, and the result; what labelling the cores needs."""
        per_voxel = 18 + (LABELLING_BYTES_PER_VOXEL if self.objects.merge.faces.core_sizes else 0)
        return BASE_MEMORY + per_voxel * math.prod(self.grid.largest_read_shape(self.halo))

    def bytes_per_block(self) -> tuple[int, int]:
        """Nine bytes a voxel; eight bytes a voxel."""
        return 9 * self.grid.voxels, 8 * self.grid.voxels

    def prepare(self) -> Any:
        """Open the labels and the thresholded volume; map the table of the cores that fit into memory."""
        table = None
        if self.objects.merge.faces.core_sizes:
            output = self.objects.merge.output()
            table = np.load(output.path("core_lookup"), mmap_mode="r"), np.load(output.path("core_offsets"))
        return open_volume(self.objects.address), open_volume(self._threshold.address), table

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint64]:
        """Compute the cores of one block."""
        labels, thresholded, table = prepared
        objects: NDArray[np.uint64] = labels.read(block.write_box)
        is_core = thresholded.read(block.write_box) == CORE
        if table is not None:
            lookup, offsets = table
            faces = self.objects.merge.faces
            cores = faces.label_cores(is_core.reshape([is_core.shape[i] for i in faces.spatial]))
            fits = apply_lookup(cores, lookup[offsets[block.id] : offsets[block.id + 1]])
            is_core = fits.reshape(is_core.shape) != 0
        return np.where(is_core, objects, np.uint64(0))
