"""Beside the chain: what is added up for the features of the objects of each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled
from blockwise.grid import Block
from tasks.components.measures import MeasureColumns, from_columns, side_by_side
from tasks.objects.features.accumulators import Accumulators
from tasks.objects.features.around_step import AroundStep, View
from tasks.objects.features.catalog import chosen_features
from tasks.objects.features.coordinate_products import coordinate_products
from tasks.objects.features.neighbourhood import Margin, neighbours
from tasks.objects.features.power_sums import PowerSums, add_below, add_voxel, as_numbers


class FeaturesStep(AroundStep):
    """Sums and extremes of each block by itself, for the features of objects.

    Attributes:
        features: their names, as projects have them.
    """

    name: ClassVar[str] = "object_features"
    version: ClassVar[int] = 1

    features: tuple[str, ...]

    def settings(self) -> Mapping[str, Any]:
        """What is added up, whatever features need it."""
        return {**self.margin_settings(), "sums": [name for name, _ in self.accumulators.columns]}

    @property
    def axes(self) -> int:
        """Number of spatial axes; one slice is an image."""
        spatial = [n for axis, n in zip(self.grid.axes, self.grid.shape, strict=True) if axis != "t"]
        return 2 if len(spatial) == 3 and spatial[0] == 1 else len(spatial)

    @property
    def accumulators(self) -> Accumulators:
        """What is added up."""
        channels = len(self.raw.channels)
        return Accumulators.of(chosen_features(self.features, channels), self.raw.dtype, channels, self.axes)

    @property
    def columns(self) -> MeasureColumns:
        """Of a row."""
        return (("label", 0), *self.accumulators.columns)

    def compute(self, block: Block, prepared: Any) -> dict[str, NDArray[Any]]:
        """Add up what lies in one block.

        Returns:
            ``objects``: a row for each object that has a voxel, or a neighbour, in the block, int64, columns as
            ``columns`` names them.
        """
        view = self.view(block, prepared)
        known = self.accumulators
        numbers = as_numbers(view.channels)
        count, channels = len(view.names), len(view.channels)
        sums = PowerSums.zero(known.dtype, known.object, channels, count)
        add_below(sums, view.below, numbers)
        measures = {"label": view.names.astype(np.int64), **sums.measures("object")}
        if known.products:
            measures["object_products"] = coordinate_products(view.below, view.shape, view.origin, known.axes, count)
        touched = sums.count > 0
        if self.around is not None:
            sums = PowerSums.zero(known.dtype, known.around, channels, count)
            add_around(sums, view, self.around, numbers)
            measures |= sums.measures("around")
            touched |= sums.count > 0
        return {"objects": side_by_side(measures, self.columns)[touched]}

    def read(self, block: Block) -> dict[str, NDArray[np.int64]]:
        """What ``compute`` has written of a block, by the names of ``columns``."""
        return from_columns(self.output().read(block, "objects"), self.columns)


def add_around(sums: PowerSums, view: View, margin: Margin, numbers: NDArray[np.int64]) -> None:
    """Add the neighbours of each object of a view; ``numbers`` as ``as_numbers`` gives them."""
    _add_around(
        *(view.labels, view.boxes, view.core, view.limits, view.inside),
        *(np.array(margin.pitch), np.array(margin.reach), margin.distance),
        *(numbers, *sums.kind, *sums.arrays, sums.count),
    )


@compiled
def _add_around(
    labels: Any,
    boxes: Any,
    core: Any,
    limits: Any,
    inside: Any,
    pitch: Any,
    reach: Any,
    distance: Any,
    numbers: Any,
    is_float: Any,
    is_narrow: Any,
    power: Any,
    starts: Any,
    powers: Any,
    cross: Any,
    pairs: Any,
    extremes: Any,
    count: Any,
) -> None:
    near = np.empty(labels.shape, np.int32)
    found = np.empty(inside.size, np.int64)
    buffer = np.empty(4, np.uint64)
    for row in range(len(boxes)):
        count[row] = neighbours(
            labels, row + 1, boxes[row], core, limits[row], pitch, reach, distance, inside, near, found
        )
        for k in range(count[row]):
            add_voxel(
                found[k], row, buffer, numbers, is_float, is_narrow, power, starts, powers, cross, pairs, extremes
            )
