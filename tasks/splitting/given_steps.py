"""In place of the steps that cut objects: a label image that is given says which voxels are one object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Block, Box
from blockwise.sources import RawSource, Source
from blockwise.step import BASE_MEMORY, Before, BlockStep
from blockwise.upstream import BlocksSource
from blockwise.volume import open_volume
from blockwise.volume.info import VolumeInfo
from tasks.channels import RawChannels
from tasks.components.labels_step import apply_lookup
from tasks.components.measures import from_columns, measure_components, side_by_side
from tasks.objects.image_measures import dense_labels
from tasks.splitting.labels_step import SplitObjectsStep
from tasks.splitting.parts_step import SplitPartsStep

BYTES_PER_VOXEL = 60
"""The given labels as stored and as whole numbers, the mask, labels numbered through, and where their runs begin."""


class GivenLabelsSource(RawSource):
    """A label image that is given."""

    name = label = "labels"


def in_order(numbers: NDArray[np.uint32], names: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Number objects anew, in the order in which they appear.

    Args:
        numbers: 0 for none, then 1 to n, each of which appears.
        names: of these, (n,).

    Returns:
        Both, in the new order.
    """
    flat = numbers.ravel()
    begins = np.flatnonzero(np.diff(flat, prepend=0))  # to look at runs is enough
    found, places = np.unique(flat[begins], return_index=True)
    order = found[np.argsort(places)]
    order = order[order > 0]
    new = np.zeros(len(names) + 1, np.uint32)
    new[order] = np.arange(1, len(names) + 1)
    return new[numbers], names[order - 1]


class GivenPartsStep(SplitPartsStep):
    """The objects of a label image in each block; an object is what has one label, wherever it lies.

    Attributes:
        given: the label image.
    """

    version: ClassVar[int] = 1

    given: VolumeInfo

    def settings(self) -> Mapping[str, Any]:
        """None but that they are given."""
        return {"method": "labels"}

    def sources(self) -> tuple[Source, ...]:
        """The label image, and where it counts."""
        given = GivenLabelsSource(self.given, self.grid.axes, self.change_detection == "files")
        return given, BlocksSource(self.thresholded)

    @property
    def halo(self) -> tuple[int, ...]:
        """None."""
        return (0,) * len(self.grid.axes)

    def reads(self, block: Block) -> Mapping[str, Box]:
        """What lies in the block."""
        return dict.fromkeys(self.inputs, block.write_box)

    def projected_memory(self) -> int:
        """Labels of a block."""
        return BASE_MEMORY + BYTES_PER_VOXEL * math.prod(self.grid.block_shape)

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """The label image and the mask; a few numbers for each object."""
        return self.grid.voxels * (1 + np.dtype(self.given.dtype).itemsize), 0

    def prepare(self) -> Any:
        """Open both."""
        return open_volume(self.given.address), open_volume(self.thresholded.address)

    def objects_of(self, block: Block, prepared: Any) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
        """Objects of a block, spatial axes only, numbered in the order of their first voxels; and their labels.

        Raises:
            UserError: a label is negative, or too large.
        """
        volume, mask = prepared
        channels = RawChannels(info=self.given, channels=(0,), axes=self.grid.axes)
        shape = self._shape(block)
        labels = channels.read(volume, block.write_box)[..., 0].reshape(shape)
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < 2**63:
            raise UserError(
                f"prediction.probabilities {self.given.address}: labels reach from {labels.min()} to {labels.max()} "
                f"in {self.title(block.id)}, expected 0 to 2**63 - 1; number the objects anew"
            )
        inside = mask.read(block.write_box).reshape(shape) > 0
        return in_order(*dense_labels(np.where(inside, labels, 0).astype(np.uint64)))

    def compute(self, block: Block, prepared: Any) -> dict[str, NDArray[Any]]:
        """Describe the objects of one block: ``components``, int64, columns as ``columns`` names them."""
        labels, names = self.objects_of(block, prepared)
        shape = tuple(self.grid.shape[i] for i in self.spatial)
        measures = measure_components(labels, tuple(block.write_box[i].start for i in self.spatial), shape)
        if "t" in self.grid.axes:
            measures["first"] = measures["first"] + block.write_box[0].start * math.prod(shape)
        none = np.zeros(len(names), np.int64)
        own = {"whole": names.astype(np.int64), "part": none, "uncut": none}
        return {"components": side_by_side({**measures, **own}, self.columns)}


class GivenObjectsStep(SplitObjectsStep):
    """Labels of the objects of a label image, numbered as all objects are.

    Attributes:
        parts: the step that tells of the objects of each block.
    """

    version: ClassVar[int] = 1

    parts: Before[GivenPartsStep]

    def sources(self) -> tuple[Source, ...]:
        """The label image, where it counts, and the objects' numbers."""
        return (*self.parts.sources(), self.merge.rows("lookup"))

    @property
    def halo(self) -> tuple[int, ...]:
        """None."""
        return self.parts.halo

    def reads(self, block: Block) -> Mapping[str, Box]:
        """What lies in the block."""
        return BlockStep.reads(self, block)

    def projected_memory(self) -> int:
        """Labels of a block, and those that are written."""
        return self.parts.projected_memory() + 8 * math.prod(self.grid.block_shape)

    def prepare(self) -> Any:
        """Open what is read, and map the objects' numbers into memory."""
        table = self.merge.output()
        return self.parts.prepare(), table.mapped("lookup"), table.load("offsets")

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint64]:
        """Compute the labels of one block.

        Raises:
            ValueError: the objects are not those that were told of.
        """
        opened, lookup, offsets = prepared
        labels, names = self.parts.objects_of(block, opened)
        told = from_columns(self.parts.read_table(block, "components"), self.parts.columns)["whole"]
        if not np.array_equal(told, names.astype(np.int64)):
            raise ValueError(f"{len(names)} objects, but {len(told)} others were told of")
        found = apply_lookup(labels, lookup[offsets[block.id] : offsets[block.id + 1]])
        return found.reshape([s.stop - s.start for s in block.write_box])
