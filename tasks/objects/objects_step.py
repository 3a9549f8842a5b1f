"""Steps that look at all objects with all that is known of them: a shard at a time, in one job."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.sources import Source
from blockwise.step import Before, BlockStep
from blockwise.upstream import BlocksSource
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.measures import Measures
from tasks.components.merge_step import PROJECTED_COMPONENTS_PER_VOXEL, ComponentMergeStep
from tasks.objects.columns import Objects
from tasks.objects.features.catalog import Feature, chosen_features
from tasks.objects.features.features_step import FeaturesStep
from tasks.objects.features.histograms_step import HistogramsStep
from tasks.objects.features.values import Accumulated, FeatureValues, feature_values
from tasks.objects.measures_step import MeasuresStep
from tasks.objects.order import ComponentObjects, time_of
from tasks.objects.shards import BUFFER_BYTES, Rows, RowSource, combined_by_shards, objects_of_a_shard

BYTES_PER_FEATURE_VALUE = 600
"""While sums are Python's integers: a few of them for each value."""

RowStep = MeasuresStep | FeaturesStep | HistogramsStep


class ObjectsStep(BlockStep):
    """Looks at all objects; its own grid has one block.

    Attributes:
        faces: the step that has described the components of each block.
        merge: the step that says which object each of them belongs to.
        measures: the step that has measured images below the objects; None where only their shape counts.
        features: the step that has added up what features need; None for none.
        histograms: the step that has counted values; None where no feature is made of histograms.
        chosen: names of the features that are looked at.
    """

    faces: Before[ComponentFacesStep]
    merge: Before[ComponentMergeStep]
    measures: MeasuresStep | None = None
    features: FeaturesStep | None = None
    histograms: HistogramsStep | None = None
    chosen: tuple[str, ...] = ()

    @property
    def row_steps(self) -> tuple[RowStep, ...]:
        """Steps with rows of objects, of each block."""
        return tuple(step for step in (self.measures, self.features, self.histograms) if step is not None)

    def sources(self) -> tuple[Source, ...]:
        """Components of all blocks, their objects, and measures of these."""
        ranges = () if self.histograms is None else (self.histograms.ranges,)
        return tuple(map(BlocksSource, (self.faces, self.merge, *self.row_steps, *ranges)))

    @property
    def chosen_features(self) -> tuple[Feature, ...]:
        """The features that are looked at, in ilastik's order."""
        return () if self.features is None else chosen_features(self.chosen, len(self.features.raw.channels))

    def bytes_of_a_shard(self) -> int:
        """At the most, for measures of objects and for what is made of them; a guess where little is known."""
        sources = [
            RowSource("", self.faces.columns, list),
            *(RowSource("", step.columns, list) for step in self.row_steps),
        ]
        guess = int(self.faces.grid.voxels * PROJECTED_COMPONENTS_PER_VOXEL)
        objects = min(guess, objects_of_a_shard(sources))
        values = 0
        if self.features is not None:
            axes, channels = self.features.axes, len(self.features.raw.channels)
            values = sum(feature.values(axes, channels) for feature in self.chosen_features)
        rows = 8 * sum(source.width for source in sources)
        return objects * (4 * rows + BYTES_PER_FEATURE_VALUE * values) + min(6 * BUFFER_BYTES, 6 * rows * guess)

    def prepare(self) -> Any:
        """Map the table of which object each component belongs to into memory."""
        return ComponentObjects.read(self.merge)

    def shards(self, known: ComponentObjects) -> Iterator[Objects]:
        """All objects, in their order, and what is known of them; one empty shard where there are none."""
        order = known.order
        sources = [
            RowSource(self.faces.label, self.faces.columns, lambda: self._components(known)),
            *(RowSource(step.label, step.columns[1:], _rows_of(step, known)) for step in self.row_steps),
        ]
        per_shard = objects_of_a_shard(sources)
        folder = self._scratch
        parts = [combined_by_shards(source, order.count, per_shard, folder) for source in sources]
        for shard, tables in enumerate(zip(*parts, strict=True)):
            begin = shard * per_shard
            places = np.arange(begin, begin + len(tables[0]["voxels"]))
            measures = {name: values for table in tables for name, values in table.items()}
            yield self._objects(order.labels(places), begin, measures)

    @property
    def _scratch(self) -> Path:
        """Folder on this machine for rows that are dealt to shards; it goes when the step is begun anew."""
        return self.records.on_this_machine / "data"

    def _components(self, known: ComponentObjects) -> Iterator[Rows]:
        for block, kept, places in known.blocks():
            yield places, self.faces.read_table(block, "components")[kept]

    def _objects(self, labels: NDArray[np.uint64], begin: int, measures: Measures) -> Objects:
        grid = self.faces.grid
        return Objects(
            label=labels,
            measures=measures,
            axes=grid.axes,
            shape=grid.shape,
            touches_border=self.faces.touch_border(measures),
            images=() if self.measures is None else self.measures.images,
            begin=begin,
            chosen=self.chosen_features,
            features=self._feature_values(measures),
        )

    def _feature_values(self, measures: Measures) -> FeatureValues:
        step = self.features
        if step is None:
            return {}
        # One slice is an image: z does not count.
        axes = step.axes
        shape = {name: measures[name][:, -axes:] for name in ("start", "stop", "sums")}
        accumulated = Accumulated({**measures, **shape}, axes, step.raw.dtype, len(step.raw.channels))
        if self.histograms is not None:
            grid = self.faces.grid
            times = measures["first"] // math.prod(grid.shape[1:]) if "t" in grid.axes else 0 * measures["first"]
            ranges = self.histograms.ranges.load().global_[times]
            accumulated = Accumulated(**{**vars(accumulated), "range": ranges})
        return feature_values(self.chosen_features, accumulated)


def _rows_of(step: RowStep, known: ComponentObjects) -> Any:
    """Reads the rows of a step."""

    def read() -> Iterable[Rows]:
        for block in step.grid:
            rows = step.output().read(block, "objects")
            yield known.order.places(rows[:, 0].astype(np.uint64), time_of(step.grid, block)), rows[:, 1:]

    return read
