"""Step 6 where touching objects are cut: into which parts each object falls, told by the block in which it begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from blockwise.grid import Block, Box, grow
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before
from blockwise.upstream import BlocksSource
from blockwise.volume import Volume, open_volume
from blockwise.volume_step import VolumeStep, giving
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.measures import (
    MeasureColumns,
    component_columns,
    from_columns,
    measure_components,
    side_by_side,
)
from tasks.splitting.cutting import cut_by_distance, cut_by_seeds
from tasks.splitting.surroundings import Surroundings, look_around
from tasks.threshold import CORE, ThresholdStep

BYTES_PER_VOXEL_READ = 28
"""Labels as stored and numbered through, and where their runs begin."""
BYTES_PER_VOXEL_CUT = 120
"""Distances with the places of the nearest voxels outside, their reconstruction, what is flooded, and the queue."""


class Cut(BaseModel):
    """How objects are cut.

    Attributes:
        method: ``distance``: where they are thin; ``seeds``: so that each part has one core; ``labels``: as a label
            image says.
        h: of the distance; see ``cut_by_distance``.
        largest: shape of the largest bounding box of an object that is cut, in voxels, per spatial axis.
        min_seed: smallest core that counts, in voxels.
        max_seed: largest one; None for no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    method: Literal["distance", "seeds", "labels"]
    h: float
    largest: tuple[int, ...]
    min_seed: int = 0
    max_seed: int | None = None

    def settings(self) -> Mapping[str, Any]:
        """What can change the result."""
        if self.method == "distance":
            return {"method": self.method, "h": self.h, "largest box": list(self.largest)}
        sizes = {"smallest seed": self.min_seed, "largest seed": self.max_seed}
        return {"method": self.method, **sizes, "largest box": list(self.largest)}


class SplitPartsStep(ComponentFacesStep):
    """The parts of each object, by the block that holds the object's first voxel.

    An object that is too large is told by each block that it touches; it stays whole.

    Attributes:
        objects: the step that labels whole objects.
        cut: how they are cut.
        flooded: for ``seeds``: the step whose smoothed probabilities are flooded, and which marks the cores.
    """

    name: ClassVar[str] = "split_parts"
    version: ClassVar[int] = 1

    objects: Annotated[Before[VolumeStep], giving("labels")]
    cut: Cut
    flooded: Before[ThresholdStep] | None = None

    def settings(self) -> Mapping[str, Any]:
        """How objects are cut."""
        return {**self.cut.settings(), "connectivity": self.connectivity}

    def sources(self) -> tuple[Source, ...]:
        """The labels; for ``seeds`` what is flooded too."""
        if self.flooded is None:
            return (BlocksSource(self.objects),)
        return (BlocksSource(self.objects), BlocksSource(self.flooded), *self.flooded.sources())

    @property
    def halo(self) -> tuple[int, ...]:
        """An object that touches a block, and is cut, reaches no farther."""
        return tuple(0 if axis == "t" else n for axis, n in zip(self.grid.axes, self._largest, strict=True))

    @property
    def _largest(self) -> tuple[int, ...]:
        """Per axis of the grid."""
        return (1,) * ("t" in self.grid.axes) + self.cut.largest

    def reads(self, block: Block) -> Mapping[str, Box]:
        """The labels, and the cores, as far as an object may reach; what is flooded as far as it is smoothed."""
        around = self.read_box(block)
        found = dict.fromkeys(self.inputs, around)
        if self.flooded is not None:
            smoothed = grow(around, self.flooded.halo, self.read_domain)
            found |= dict.fromkeys(self.flooded.inputs, smoothed)
        return found

    @property
    def columns(self) -> MeasureColumns:
        """Of a part: as of a component; its object's label, its number in it (0 for all of it), 1 if too large."""
        return (*component_columns(len(self.spatial)), ("whole", 0), ("part", 0), ("uncut", 0))

    def projected_memory(self) -> int:
        """What lies around a block as far as objects reach, and one object of the largest box."""
        around = math.prod(self.grid.largest_read_shape(self.halo))
        lengths = (self.grid.domain[i].stop - self.grid.domain[i].start for i in self.spatial)
        cut = math.prod(min(n, most) for n, most in zip(self.cut.largest, lengths, strict=True))
        return BASE_MEMORY + BYTES_PER_VOXEL_READ * around + BYTES_PER_VOXEL_CUT * cut

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Labels, most of them once; a few numbers for each object."""
        return 8 * self.grid.voxels, 0

    def prepare(self) -> Any:
        """Open the labels, and what is flooded."""
        flooded = self.flooded and (open_volume(self.flooded.address), self.flooded.prepare())
        return open_volume(self.objects.address), flooded

    def compute(self, block: Block, prepared: Any) -> dict[str, NDArray[Any]]:
        """Find the parts of the objects that begin in a block.

        Returns:
            ``components``: measures of the parts side by side, int64. Of the objects that fall into several parts
            ``cut``: label and number of voxels, int64 (objects, 2); and ``parts``: the part of each voxel, one object
            after the other, in raster order, so that nobody has to cut them again.
        """
        around = self.look_around(block, prepared)
        width = sum(max(n, 1) for _, n in self.columns)
        rows, cut, flat = [np.empty((0, width), np.int64)], [], [np.empty(0, np.uint8)]
        for number in around.touching:
            if number in around.too_large:
                rows.append(self._row_of_what_stays_whole(block, around, number))
            elif self._begins_in(block, around, number):
                parts = self._parts(block, around, number, prepared)
                origin = tuple(s.start for s in around.place(number))
                rows.append(self._rows(block, parts, origin, around.name(number), is_cut=True))
                if (count := int(parts.max())) > 1:
                    of_voxels = parts[parts > 0].astype(np.min_scalar_type(count))
                    cut.append((around.name(number), len(of_voxels)))
                    flat.append(of_voxels)
        return {
            "components": np.concatenate(rows),
            "cut": np.array(cut, np.int64).reshape(-1, 2),
            "parts": np.concatenate(flat),
        }

    def look_around(self, block: Block, prepared: Any) -> Surroundings:
        """The objects that touch a block, whole; spatial axes only."""
        volume: Volume = prepared[0]
        lead = tuple(s for s, axis in zip(block.write_box, self.grid.axes, strict=True) if axis == "t")

        def read(box: Box) -> NDArray[np.uint64]:
            labels: NDArray[np.uint64] = volume.read((*lead, *box))
            return labels.reshape([s.stop - s.start for s in box])

        write_box, domain = (tuple(box[i] for i in self.spatial) for box in (block.write_box, self.grid.domain))
        return look_around(read, write_box, domain, self.cut.largest)

    def _begins_in(self, block: Block, around: Surroundings, number: int) -> bool:
        """Whether the first voxel of a whole object, in raster order, lies in the block."""
        inside = around.labels[around.boxes[number - 1]] == number
        first = np.unravel_index(int(inside.argmax()), inside.shape)
        begins = [int(f) + s.start for f, s in zip(first, around.place(number), strict=True)]
        box = [block.write_box[i] for i in self.spatial]
        return all(s.start <= b < s.stop for s, b in zip(box, begins, strict=True))

    def _parts(self, block: Block, around: Surroundings, number: int, prepared: Any) -> NDArray[np.uint32]:
        """The parts of a whole object, in its bounding box."""
        inside = around.labels[around.boxes[number - 1]] == number
        place = around.place(number)
        if self.flooded is None:
            domain = [self.grid.domain[i] for i in self.spatial]
            walls = tuple((s.start == d.start, s.stop == d.stop) for s, d in zip(place, domain, strict=True))
            return cut_by_distance(inside, self.connectivity, self.cut.h, walls)
        lead = tuple(s for s, axis in zip(block.write_box, self.grid.axes, strict=True) if axis == "t")
        thresholded, smoothed = prepared[1]
        seeds = thresholded.read((*lead, *place)).reshape(inside.shape) == CORE
        heights = self.flooded.heights((*lead, *place), smoothed).reshape(inside.shape)
        return cut_by_seeds(inside, seeds, heights, self.connectivity, self.cut.min_seed, self.cut.max_seed)

    def _row_of_what_stays_whole(self, block: Block, around: Surroundings, number: int) -> NDArray[np.int64]:
        """Measures of what lies in the block of an object that is too large."""
        inner = (around.labels[around.inner] == number).astype(np.uint32)
        origin = tuple(block.write_box[i].start for i in self.spatial)
        return self._rows(block, inner, origin, around.name(number), is_cut=False)

    def _rows(
        self, block: Block, parts: NDArray[np.uint32], origin: tuple[int, ...], whole: int, *, is_cut: bool
    ) -> NDArray[np.int64]:
        """Measures of the parts of one object, side by side."""
        shape = tuple(self.grid.shape[i] for i in self.spatial)
        measures = measure_components(parts, origin, shape)
        if "t" in self.grid.axes:
            measures["first"] = measures["first"] + block.write_box[0].start * math.prod(shape)
        count = len(measures["voxels"])
        own = {
            "whole": np.full(count, whole, np.int64),
            "part": np.arange(1, count + 1) if count > 1 else np.zeros(count, np.int64),
            "uncut": np.full(count, not is_cut, np.int64),
        }
        return side_by_side({**measures, **own}, self.columns)

    def told_by(self, block: Block) -> tuple[list[tuple[int, int]], list[int]]:
        """What a block tells of: label and number in the object of each part; labels of objects of several parts."""
        known = from_columns(self.read_table(block, "components"), self.columns)
        parts = list(zip(known["whole"].tolist(), known["part"].tolist(), strict=True))
        return parts, self.read_table(block, "cut")[:, 0].tolist()

    def parts_of_voxels(self, block: Block) -> dict[int, NDArray[np.integer]]:
        """By label of the objects of several parts that a block tells of: the part of each voxel, in raster order."""
        cut, flat = self.read_table(block, "cut"), self.output().read(block, "parts")
        stops = np.cumsum(cut[:, 1])
        return {label: flat[b - n : b] for (label, n), b in zip(cut.tolist(), stops.tolist(), strict=True)}
