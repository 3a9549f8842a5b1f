"""Step 2: probabilities of one class -> Gaussian -> mask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from skimage.filters import gaussian

from blockwise.grid import Block, Box, box_shape, relative
from blockwise.outputs import VolumeOutput
from blockwise.sources import BlocksSource
from blockwise.step import BlockStep
from blockwise.volume import open_volume
from tasks.base import BASE_MEMORY, BlockTask
from tasks.prediction import PredictionStep

TRUNCATE = 4.0
"""The Gaussian ends after this many sigmas."""


def smooth_and_threshold(
    probabilities: NDArray[Any], sigma: tuple[float, ...], threshold: float, interior: Box
) -> NDArray[np.uint8]:
    """Smooth a block and cut it at a threshold.

    Args:
        probabilities: any axes; float32 as it is, uint8 as 0..255 for 0..1. Holds ``interior`` and, around it, what
            the Gaussian reaches; where the array ends the edge value is repeated, as it is at the volume's border.
        sigma: standard deviation per axis, in voxels.
        threshold: the mask is 1 where the smoothed value is greater.
        interior: the part to return.

    Returns:
        uint8 mask, equal to that of the whole volume: each value depends on the same neighbours in the same order.
    """
    smoothed = gaussian(probabilities, sigma=sigma, mode="nearest", truncate=TRUNCATE)
    mask: NDArray[np.uint8] = (smoothed[interior] > threshold).astype(np.uint8)
    return mask


class ThresholdStep(BlockStep):
    """Smooth and threshold.

    Attributes:
        prediction: the step that makes the probabilities.
        class_index: class to take, from 0, as the project counts them.
        sigma: standard deviation of the Gaussian, in voxels, per axis of the grid (0 along t).
        threshold: smoothed probability above which the mask is 1.
        address: output dataset.
    """

    name: ClassVar[str] = "threshold"
    version: ClassVar[int] = 1

    prediction: PredictionStep
    class_index: int
    sigma: tuple[float, ...]
    threshold: float
    address: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result."""
        return {"class": self.class_index, "sigma": list(self.sigma), "threshold": self.threshold}

    @cached_property
    def _source(self) -> BlocksSource:
        return BlocksSource(self.prediction)

    def sources(self) -> tuple[BlocksSource, ...]:
        """The probabilities."""
        return (self._source,)

    def output(self) -> VolumeOutput:
        """The mask, uint8."""
        return VolumeOutput(self.address, self.grid, self.chunks, "uint8", 0, {}, self.shards)

    @property
    def halo(self) -> tuple[int, ...]:
        """What the Gaussian reaches."""
        return tuple(int(TRUNCATE * sigma + 0.5) for sigma in self.sigma)

    def projected_memory(self) -> int:
        """Probabilities, two arrays of the Gaussian, and the mask."""
        itemsize = np.dtype(self.prediction.dtype).itemsize
        voxels = math.prod(self.grid.largest_read_shape(self.halo))
        return BASE_MEMORY + voxels * (itemsize + 3 * (4 if itemsize == 4 else 8))

    def bytes_per_block(self) -> tuple[int, int]:
        """Probabilities of one class with halo; a mask."""
        voxels = math.prod(s.stop - s.start for s in self.grid.domain)
        itemsize = np.dtype(self.prediction.dtype).itemsize
        return int(voxels * (1 + self.grid.halo_waste(self.halo)) * itemsize), voxels

    def prepare(self) -> Any:
        """Open the probabilities."""
        return open_volume(self.prediction.address)

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint8]:
        """Compute the mask of one block."""
        read_box = self.read_box(block)
        channel = self.prediction.classes.index(self.class_index)
        box = self.prediction.output().box(read_box, channel)
        probabilities = prepared.read(box).reshape(box_shape(read_box))
        return smooth_and_threshold(probabilities, self.sigma, self.threshold, relative(block.write_box, read_box))


class ThresholdTask(BlockTask):
    """Luigi's node for the threshold."""
