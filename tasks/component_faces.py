"""Step 3: label each block in memory; keep what joins components across blocks, not the labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.mask import open_mask
from blockwise.outputs import FolderOutput
from blockwise.sources import BlocksSource, Source
from blockwise.step import BlockStep
from blockwise.volume import open_volume
from tasks.base import BASE_MEMORY, BlockTask
from tasks.component_labels import face_labels, label_components, measure_components, pack, unpack_faces
from tasks.threshold import ThresholdStep

LABELLING_BYTES_PER_VOXEL = 24
"""Mask, labels, cc3d's tables, and the running maximum that finds first voxels."""


class ComponentFacesStep(BlockStep):
    """Components of each block by itself.

    Attributes:
        threshold: the step that makes the mask.
        foreground: 1: objects are what the mask holds; 0: objects are its zeros.
        connectivity: neighbours of a voxel: 6, 18, 26 in 3D; 4, 8 in 2D.
    """

    name: ClassVar[str] = "component_faces"
    version: ClassVar[int] = 2

    threshold: ThresholdStep
    foreground: int
    connectivity: int

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result."""
        return {"foreground": self.foreground, "connectivity": self.connectivity}

    @cached_property
    def _source(self) -> BlocksSource:
        return BlocksSource(self.threshold)

    def sources(self) -> tuple[Source, ...]:
        """The thresholded volume, and the mask of what is computed."""
        return (self._source, *self.mask_sources())

    def output(self) -> FolderOutput:
        """One file per block."""
        return FolderOutput(self.folder / "data", self.grid)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Places of the spatial axes in the grid; time steps are labelled each by itself."""
        return tuple(i for i, axis in enumerate(self.grid.axes) if axis != "t")

    def projected_memory(self) -> int:
        """The mask and what labelling needs."""
        return BASE_MEMORY + LABELLING_BYTES_PER_VOXEL * math.prod(self.grid.largest_read_shape(self.halo))

    def bytes_per_block(self) -> tuple[int, int]:
        """The mask; two faces per axis, two bytes a voxel."""
        voxels = self.grid.voxels
        return voxels, sum(4 * voxels // self.grid.block_shape[axis] for axis in self.spatial)

    def prepare(self) -> Any:
        """Open the thresholded volume and the mask."""
        return open_volume(self.threshold.address), open_mask(self.mask, self.grid)

    def labels(self, block: Block, prepared: Any) -> NDArray[Any]:
        """Labels of one block, spatial axes only; ``prepared`` as ``prepare`` gives it."""
        thresholded, mask = prepared
        shape = [block.write_box[i].stop - block.write_box[i].start for i in self.spatial]
        inside = None if mask is None else mask.read(block.write_box).reshape(shape)
        values = thresholded.read(block.write_box).reshape(shape)
        return label_components(values, self.foreground, self.connectivity, inside)

    def compute(self, block: Block, prepared: Any) -> dict[str, NDArray[Any]]:
        """Describe the components of one block."""
        labels = self.labels(block, prepared)
        origin = tuple(block.write_box[i].start for i in self.spatial)
        shape = tuple(self.grid.shape[i] for i in self.spatial)
        measures = measure_components(labels, origin, shape)
        if "t" in self.grid.axes:
            measures["first"] = measures["first"] + block.write_box[0].start * math.prod(shape)
        return pack(measures, face_labels(labels))

    def read_components(self, block: Block) -> NDArray[np.int64]:
        """Read what ``compute`` has written of a block's components."""
        components: NDArray[np.int64] = self.output().read(block, "components")
        return components

    def read_faces(self, block: Block) -> dict[str, NDArray[Any]]:
        """Read what ``compute`` has written of a block's faces."""
        shape = tuple(block.write_box[i].stop - block.write_box[i].start for i in self.spatial)
        return unpack_faces(self.output().read(block, "faces"), shape)


class ComponentFacesTask(BlockTask):
    """Luigi's node for the components of each block."""
