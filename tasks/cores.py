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
from blockwise.sources import BlocksSource, Source
from blockwise.step import BlockStep
from blockwise.volume import open_volume
from tasks.base import BASE_MEMORY, BlockTask
from tasks.connected_components import ConnectedComponentsStep
from tasks.threshold import CORE, ThresholdStep


def label_cores(labels: NDArray[np.uint64], thresholded: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Keep labels where the core is.

    Args:
        labels: of the objects, any shape; 0 where there is none, or where one was dropped.
        thresholded: of the same shape, ``CORE`` in the cores.

    Returns:
        uint64 of the same shape: the labels in the cores, 0 elsewhere.
    """
    return np.where(thresholded == CORE, labels, np.uint64(0))


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
        return BlocksSource(self.objects), BlocksSource(self._threshold)

    def sources(self) -> tuple[Source, ...]:
        """The labels, and the thresholded volume; both are 0 outside the mask of what is computed."""
        return self._sources

    def output(self) -> VolumeOutput:
        """Labels, uint64."""
        return VolumeOutput(self.address, self.grid, self.chunks, "uint64", 0, {}, self.shards)

    def projected_memory(self) -> int:
        """The labels, the thresholded volume, where it is core, and the result."""
        return BASE_MEMORY + 18 * math.prod(self.grid.largest_read_shape(self.halo))

    def bytes_per_block(self) -> tuple[int, int]:
        """Nine bytes a voxel; eight bytes a voxel."""
        return 9 * self.grid.voxels, 8 * self.grid.voxels

    def prepare(self) -> Any:
        """Open the labels and the thresholded volume."""
        return open_volume(self.objects.address), open_volume(self._threshold.address)

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint64]:
        """Compute the cores of one block."""
        labels, thresholded = prepared
        return label_cores(labels.read(block.write_box), thresholded.read(block.write_box))


class CoresTask(BlockTask):
    """Luigi's node for the cores."""
