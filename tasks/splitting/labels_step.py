"""Step 8 where touching objects are cut: give each part its number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.outputs import VolumeOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before
from blockwise.upstream import BlocksSource
from blockwise.volume import open_volume
from blockwise.volume_step import Holds, VolumeStep
from tasks.splitting.merge_step import SplitMergeStep
from tasks.splitting.parts_step import BYTES_PER_VOXEL_READ, SplitPartsStep
from tasks.splitting.surroundings import Surroundings


class SplitObjectsStep(VolumeStep):
    """Labels of the parts.

    Attributes:
        parts: the step that tells of the parts of each object.
        merge: the step that has numbered them.
    """

    name: ClassVar[str] = "split_objects"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "labels"

    parts: Before[SplitPartsStep]
    merge: Before[SplitMergeStep]

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    def sources(self) -> tuple[Source, ...]:
        """What is cut, the parts that were found in it, and their numbers.

        Parts and numbers are read of all blocks in which an object may begin that touches this one.
        """
        return (BlocksSource(self.parts.objects), BlocksSource(self.parts), self.merge.rows("lookup"))

    @property
    def halo(self) -> tuple[int, ...]:
        """As far as an object may reach that is cut."""
        return self.parts.halo

    def output(self) -> VolumeOutput:
        """Labels, uint64."""
        return VolumeOutput(self.address, self.grid, self.chunks, "uint64", 0, {}, self.shards)

    def projected_memory(self) -> int:
        """What lies around a block as far as objects reach, the part of each voxel of it, and the labels."""
        around = math.prod(self.grid.largest_read_shape(self.halo))
        return BASE_MEMORY + (BYTES_PER_VOXEL_READ + 8) * around + 16 * math.prod(self.grid.block_shape)

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Labels; labels."""
        return 8 * self.grid.voxels, 8 * self.grid.voxels

    def prepare(self) -> Any:
        """Open the labels, and map the numbers of parts into memory."""
        table = self.merge.output()
        labels = open_volume(self.parts.objects.address)
        return labels, table.mapped("lookup"), table.load("offsets")

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint64]:
        """Compute the labels of one block."""
        labels, lookup, offsets = prepared
        around = self.parts.look_around(block, (labels, None))
        grid = self.parts.grid
        lead = tuple(s for s, axis in zip(block.write_box, grid.axes, strict=True) if axis == "t")
        numbers: dict[tuple[int, int], np.uint64] = {}
        tellers: dict[int, Block] = {}
        for near in (grid.block(i) for i in grid.ids_touching((*lead, *around.box))):
            parts, cut = self.parts.told_by(near)
            numbers.update(zip(parts, lookup[offsets[near.id] : offsets[near.id + 1]], strict=True))
            tellers.update(dict.fromkeys(cut, near))
        found = _numbers_of_whole_objects(around, numbers)
        by_teller: dict[int, list[int]] = {}
        for number in around.touching:
            if (teller := tellers.get(around.name(number))) is not None:
                by_teller.setdefault(teller.id, []).append(number)
        for teller_id, cut_objects in by_teller.items():
            of_voxels = self.parts.parts_of_voxels(grid.block(teller_id))
            for number in cut_objects:
                _fill(found, around, number, of_voxels[around.name(number)], numbers)
        return found.reshape([s.stop - s.start for s in block.write_box])


def _numbers_of_whole_objects(
    around: Surroundings, numbers: Mapping[tuple[int, int], np.uint64]
) -> NDArray[np.uint64]:
    """The numbers of a block's objects that were not cut; 0 elsewhere."""
    whole = np.zeros(len(around.names) + 1, np.uint64)
    for number in around.touching:
        whole[number] = numbers.get((around.name(number), 0), 0)
    return whole[around.labels[around.inner]]


def _fill(
    found: NDArray[np.uint64],
    around: Surroundings,
    number: int,
    of_voxels: NDArray[np.integer],
    numbers: Mapping[tuple[int, int], np.uint64],
) -> None:
    """Write the numbers of an object's parts into the labels of a block.

    Raises:
        ValueError: the parts are not of this object.
    """
    place, inner = around.boxes[number - 1], around.inner
    inside = around.labels[place] == number
    if np.count_nonzero(inside) != len(of_voxels):
        raise ValueError(f"{np.count_nonzero(inside)} voxels, but the parts of {len(of_voxels)}")
    parts = np.zeros(inside.shape, of_voxels.dtype)
    parts[inside] = of_voxels
    name = around.name(number)
    new = np.array([0, *(numbers[name, k] for k in range(1, int(parts.max()) + 1))], np.uint64)
    both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(place, inner, strict=True)]
    of_object, of_block = (
        tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(both, box, strict=True))
        for box in (place, inner)
    )
    target = found[of_block]
    target[inside[of_object]] = new[parts[of_object]][inside[of_object]]
