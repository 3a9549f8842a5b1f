"""Beside the chain: counts of the image's values below the objects of each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled, inlined
from blockwise.grid import Block
from blockwise.sources import Source
from blockwise.upstream import BlocksSource
from tasks.components.measures import MeasureColumns, from_columns, side_by_side
from tasks.objects.features.accumulators import histogram_columns
from tasks.objects.features.around_step import AroundStep, View
from tasks.objects.features.catalog import BINS, Region, chosen_features
from tasks.objects.features.neighbourhood import Margin, neighbours
from tasks.objects.features.quantiles import bin_scale
from tasks.objects.features.ranges_step import Ranges, ValueRangesStep
from tasks.objects.order import time_of


class HistogramsStep(AroundStep):
    """Histograms of each block by itself, of images with one channel.

    Attributes:
        ranges: the step that knows where they begin and end.
    """

    name: ClassVar[str] = "object_histograms"
    version: ClassVar[int] = 1

    ranges: ValueRangesStep

    def settings(self) -> Mapping[str, Any]:
        """Of which voxels; the bins are ilastik's."""
        return {**self.margin_settings(), "histograms": [name for name, _ in self.columns[1:]]}

    @property
    def columns(self) -> MeasureColumns:
        """Of a row."""
        features = chosen_features(self.ranges.features.features, len(self.raw.channels))
        return (("label", 0), *histogram_columns(features))

    def sources(self) -> tuple[Source, ...]:
        """Where histograms begin and end as well."""
        return (*super().sources(), BlocksSource(self.ranges))

    def prepare(self) -> Any:
        """Load the ranges as well."""
        return super().prepare(), self.ranges.load()

    def compute(self, block: Block, prepared: Any) -> dict[str, NDArray[Any]]:
        """Count the values of one block: a row for each object of whose regions anything lies in it, int64."""
        opened, ranges = prepared
        view = self.view(block, opened)
        time = time_of(self.grid, block)
        values = view.channels[0].astype(np.float64)
        measures = {"label": view.names.astype(np.int64)}
        touched = np.bincount(view.below, minlength=len(view.names) + 1)[1:] > 0
        for name, _ in self.columns[1:]:
            region: Region = name.rpartition("_")[0]  # type: ignore[assignment]
            counts = np.zeros((len(view.names), BINS), np.int64)
            counted = ranges.of(region, view.names, time)
            if region != "neighborhood":
                count_below(counts, view.below, values, counted)
            if region != "object" and self.around is not None:
                count_around(counts, view, self.around, values, counted)
            measures[name] = counts
            touched |= counts.any(axis=1)
        return {"objects": side_by_side(measures, self.columns)[touched]}

    def read(self, block: Block) -> dict[str, NDArray[np.int64]]:
        """What ``compute`` has written of a block, by the names of ``columns``."""
        return from_columns(self.output().read(block, "objects"), self.columns)


def count_below(
    counts: NDArray[np.int64], labels: NDArray[np.uint32], values: NDArray[np.float64], ranges: Ranges
) -> None:
    """Count the values of all voxels for the objects that they belong to.

    Args:
        counts: of n objects, int64 (n, 64), to which is added.
        labels: 0 for none, then 1 to n, (voxels,).
        values: (voxels,); those that are no numbers are left out.
        ranges: where the first bin of each object begins and the last one ends, (n, 2).
    """
    _count_below(counts, labels, values, ranges[:, 0].copy(), bin_scale(*ranges.T))


@compiled
def _count_below(counts: Any, labels: Any, values: Any, low: Any, scale: Any) -> None:
    for i in range(labels.size):
        if labels[i]:
            _count(counts, np.int64(labels[i]) - 1, values[i], low, scale)


@inlined
def _count(counts: Any, row: Any, value: Any, low: Any, scale: Any) -> None:
    # As vigra: first the bins of a unit, then how many of them; the greatest value counts for the last one.
    place = scale[row] * (value - low[row])
    if np.isfinite(place):
        counts[row, min(np.int64(place), counts.shape[1] - 1)] += 1


def count_around(
    counts: NDArray[np.int64], view: View, margin: Margin, values: NDArray[np.float64], ranges: Ranges
) -> None:
    """Count the values of the neighbours of each object of a view; as ``count_below``."""
    _count_around(
        *(view.labels, view.boxes, view.core, view.limits, view.inside),
        *(np.array(margin.pitch), np.array(margin.reach), margin.distance),
        *(counts, values, ranges[:, 0].copy(), bin_scale(*ranges.T)),
    )


@compiled
def _count_around(
    labels: Any,
    boxes: Any,
    core: Any,
    limits: Any,
    inside: Any,
    pitch: Any,
    reach: Any,
    distance: Any,
    counts: Any,
    values: Any,
    low: Any,
    scale: Any,
) -> None:
    near = np.empty(labels.shape, np.int32)
    found = np.empty(inside.size, np.int64)
    for row in range(len(boxes)):
        number = neighbours(
            labels, row + 1, boxes[row], core, limits[row], pitch, reach, distance, inside, near, found
        )
        for k in range(number):
            _count(counts, row, values[found[k]], low, scale)
