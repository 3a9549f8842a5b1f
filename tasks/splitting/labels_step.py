"""Step 8 where touching objects are cut: cut those of each block again, and give each part its number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block, Box
from blockwise.outputs import VolumeOutput
from blockwise.sources import Source
from blockwise.step import Before
from blockwise.upstream import BlocksSource
from blockwise.volume_step import Holds, VolumeStep
from tasks.splitting.merge_step import SplitMergeStep
from tasks.splitting.parts_step import SplitPartsStep
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
        """What is cut, the parts that were found in it, and their numbers."""
        return (*self.parts.sources(), BlocksSource(self.parts), self.merge.rows("lookup"))

    @property
    def halo(self) -> tuple[int, ...]:
        """As far as an object may reach that is cut."""
        return self.parts.halo

    def reads(self, block: Block) -> Mapping[str, Box]:
        """As the parts' step; the parts of all blocks in which an object may begin that touches this one."""
        around = self.read_box(block)
        return dict.fromkeys(self.inputs, around) | dict(self.parts.reads(block))

    def output(self) -> VolumeOutput:
        """Labels, uint64."""
        return VolumeOutput(self.address, self.grid, self.chunks, "uint64", 0, {}, self.shards)

    def projected_memory(self) -> int:
        """As to find the parts, and the labels."""
        return self.parts.projected_memory() + 16 * math.prod(self.grid.block_shape)

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Labels; labels."""
        return 8 * self.grid.voxels, 8 * self.grid.voxels

    def prepare(self) -> Any:
        """Open what is cut, and map the numbers of parts into memory."""
        table = self.merge.output()
        return self.parts.prepare(), np.load(table.path("lookup"), mmap_mode="r"), np.load(table.path("offsets"))

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint64]:
        """Compute the labels of one block."""
        opened, lookup, offsets = prepared
        around = self.parts.look_around(block, opened)
        grid = self.parts.grid
        lead = tuple(s for s, axis in zip(block.write_box, grid.axes, strict=True) if axis == "t")
        near = (grid.block(i) for i in grid.ids_touching((*lead, *around.box)))
        numbers = self.parts.new_labels(near, lookup, offsets)
        found = np.zeros(around.labels[around.inner].shape, np.uint64)
        self._fill(found, block, around, numbers, opened)
        return found.reshape([s.stop - s.start for s in block.write_box])

    def _fill(
        self,
        found: NDArray[np.uint64],
        block: Block,
        around: Surroundings,
        numbers: Mapping[Any, np.uint64],
        opened: Any,
    ) -> None:
        """Give the objects that were not cut their numbers in one go, the others part by part."""
        whole = np.zeros(len(around.names) + 1, np.uint64)
        cut = []
        for number in around.touching:
            name = around.name(number)
            if (name, 0) in numbers:
                whole[number] = numbers[name, 0]
            else:
                cut.append(number)
        found[...] = whole[around.labels[around.inner]]
        for number in cut:
            parts = self.parts.parts(block, around, number, opened)
            names = [np.uint64(0), *(numbers[around.name(number), k] for k in range(1, int(parts.max()) + 1))]
            place, box = around.boxes[number - 1], around.inner
            both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(place, box, strict=True)]
            of_object = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(both, place, strict=True))
            of_block = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(both, box, strict=True))
            new = np.array(names, np.uint64)[parts[of_object]]
            found[of_block] = np.where(new > 0, new, found[of_block])
