"""Between which values histograms count: known when the extremes of all objects are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.outputs import FilesOutput
from blockwise.outputs.files import Arrays
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before, BlockStep
from blockwise.upstream import BlocksSource
from tasks.components.merge_step import PROJECTED_COMPONENTS_PER_VOXEL, ComponentMergeStep
from tasks.objects.exact_sums import values_of
from tasks.objects.features.accumulators import PARTS_OF
from tasks.objects.features.catalog import Region, chosen_features
from tasks.objects.features.features_step import FeaturesStep
from tasks.objects.order import ComponentObjects, ObjectOrder, time_of

Ranges = NDArray[np.float64]
"""Least and greatest value, (things, 2); both 0 where there is none."""


@dataclass(frozen=True)
class ValueRanges:
    """Where histograms begin and end.

    Attributes:
        order: of the objects.
        global_: of all objects of each time step, (time steps, 2): for histograms of objects.
        of_objects: of the region of each object, (objects, 2), for histograms of regions with a neighbourhood.
    """

    order: ObjectOrder
    global_: Ranges
    of_objects: Mapping[Region, Ranges]

    def of(self, region: Region, labels: NDArray[np.uint64], time: int) -> Ranges:
        """Ranges of the histograms of labels of one time step, (labels, 2)."""
        if region == "object":
            return np.tile(self.global_[time], (len(labels), 1))
        return np.asarray(self.of_objects[region][self.order.places(labels, time)])


class ValueRangesStep(BlockStep):
    """Least and greatest values of the image, in one job; its own grid has one block.

    Attributes:
        features: the step that has found the extremes of each block.
        merge: the step that has numbered the objects.
    """

    name: ClassVar[str] = "value_ranges"
    version: ClassVar[int] = 1

    features: FeaturesStep
    merge: Before[ComponentMergeStep]

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {"regions": list(self.regions)}

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions with a neighbourhood that have histograms of their own range."""
        chosen = chosen_features(self.features.features, len(self.features.raw.channels))
        return tuple(sorted({one.region for one in chosen if one.histogram and one.region != "object"}))

    def sources(self) -> tuple[Source, ...]:
        """Extremes of all blocks, and the objects."""
        return BlocksSource(self.features), BlocksSource(self.merge)

    def output(self) -> FilesOutput:
        """Ranges, and where the objects of each time step begin."""
        return FilesOutput(self.records, ("global", "starts", *self.regions))

    def projected_memory(self) -> int:
        """Two numbers for each object and region; how many there will be is a guess before they are counted."""
        guess = int(self.features.grid.voxels * PROJECTED_COMPONENTS_PER_VOXEL)
        return BASE_MEMORY + 48 * guess * len(self.regions)

    def compute(self, block: Block, prepared: Any) -> Arrays:
        """The ranges; voxels of the background count for none."""
        ranges = self.ranges_of(ComponentObjects.read(self.merge).order)
        of_objects: dict[str, Ranges] = dict(ranges.of_objects)  # type: ignore[arg-type]
        return {"global": ranges.global_, "starts": ranges.order.starts, **of_objects}

    def ranges_of(self, order: ObjectOrder) -> ValueRanges:
        """Put the extremes of all blocks together."""
        step, grid = self.features, self.features.grid
        steps = grid.shape[0] if "t" in grid.axes else 1
        of_image, found = _nothing(steps), {region: _nothing(order.count) for region in self.regions}
        for part in grid:
            rows, time = step.read(part), time_of(grid, part)
            places = order.places(rows["label"].astype(np.uint64), time)
            if "object_min" in rows:
                _extend(of_image, np.full(len(places), time), rows["object_min"], rows["object_max"])
            for region in self.regions:
                for name in PARTS_OF[region]:
                    _extend(found[region], places, rows[f"{name}_min"], rows[f"{name}_max"])
        dtype = step.raw.dtype
        return ValueRanges(
            order, _values(of_image, dtype), {region: _values(keys, dtype) for region, keys in found.items()}
        )

    def load(self) -> ValueRanges:
        """What ``compute`` has written; what each object has of its own is mapped into memory."""
        output = self.output()
        order = ObjectOrder(output.load("starts"), self.merge.restart_every is not None)
        return ValueRanges(order, output.load("global"), {region: output.mapped(region) for region in self.regions})


def _nothing(count: int) -> NDArray[np.int64]:
    limits = np.iinfo(np.int64)
    return np.tile(np.array([limits.max, limits.min]), (count, 1))


def _extend(
    keys: NDArray[np.int64], places: NDArray[np.int64], least: NDArray[np.int64], greatest: NDArray[np.int64]
) -> None:
    """Take in the extremes of one channel."""
    np.minimum.at(keys[:, 0], places, least[:, 0])
    np.maximum.at(keys[:, 1], places, greatest[:, 0])


def _values(keys: NDArray[np.int64], dtype: str) -> Ranges:
    is_any = keys[:, :1] <= keys[:, 1:]
    return values_of(np.where(is_any, keys, 0), dtype).astype(np.float64)
