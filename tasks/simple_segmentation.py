"""Beside the chain of steps: probabilities -> the most probable class of each voxel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.mask import open_mask
from blockwise.outputs import VolumeOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before
from blockwise.upstream import BlocksSource
from blockwise.volume import open_volume
from blockwise.volume_step import Holds, VolumeStep, giving


def most_probable(probabilities: NDArray[Any], inside: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """The most probable class of each voxel.

    Args:
        probabilities: classes first, at most 255 of them.
        inside: voxels that have a class; None for all.

    Returns:
        uint8 of the voxels' shape: classes counted from 1 as ilastik does, of equals the first; 0 outside.
    """
    # Class by class: argmax along the first axis copies everything, and its places are eight bytes long.
    largest = probabilities[0].copy()
    classes: NDArray[np.uint8] = np.ones(largest.shape, np.uint8)
    for number, values in enumerate(probabilities[1:], 2):
        np.copyto(classes, np.uint8(number), where=values > largest)
        np.maximum(largest, values, out=largest)
    return classes if inside is None else np.where(inside, classes, np.uint8(0))


class SimpleSegmentationStep(VolumeStep):
    """The most probable class, ilastik's "Simple Segmentation".

    Attributes:
        probabilities: the step that makes them, of all classes.
        classes: their names.
    """

    name: ClassVar[str] = "simple_segmentation"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "classes"

    probabilities: Annotated[Before[VolumeStep], giving("probabilities")]
    classes: tuple[str, ...]

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    @cached_property
    def _sources(self) -> tuple[Source, ...]:
        return (BlocksSource(self.probabilities), *self.mask_sources())

    def sources(self) -> tuple[Source, ...]:
        """The probabilities, and the mask."""
        return self._sources

    def output(self) -> VolumeOutput:
        """Classes from 1, uint8."""
        extra = {"classes": list(self.classes)}
        return VolumeOutput(self.address, self.grid, self.chunks, "uint8", 0, extra, self.shards)

    def projected_memory(self) -> int:
        """Probabilities of all classes, the largest, where a class is larger, and the result; chunks being read."""
        per_voxel = self._read_per_voxel + np.dtype(self.probabilities.output().dtype).itemsize + 6
        return BASE_MEMORY + per_voxel * math.prod(self.grid.largest_read_shape(self.halo))

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Probabilities of all classes; a byte a voxel."""
        return self.grid.voxels * self._read_per_voxel, self.grid.voxels

    @property
    def _read_per_voxel(self) -> int:
        stored = self.probabilities.output()
        return stored.channels * np.dtype(stored.dtype).itemsize

    def prepare(self) -> Any:
        """Open the probabilities and the mask."""
        return open_volume(self.probabilities.address), open_mask(self.mask, self.grid)

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint8]:
        """Compute the classes of one block."""
        volume, mask = prepared
        stored = self.probabilities.output()
        probabilities = np.moveaxis(volume.read(stored.box(block.write_box)), stored.axes.index("c"), 0)
        return most_probable(probabilities, mask and mask.read(block.write_box))
