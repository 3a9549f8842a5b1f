"""At the end: a table with a row for each object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.outputs import FilesOutput, Table
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before, BlockStep
from blockwise.upstream import BlocksSource
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.measures import combine_measures, from_columns
from tasks.components.merge_step import BYTES_PER_COMPONENT, PROJECTED_COMPONENTS_PER_VOXEL, ComponentMergeStep
from tasks.objects.columns import COLUMNS, Objects, columns_of
from tasks.objects.measures_step import MeasuresStep

TABLES_MEMORY = 120_000_000
"""For the libraries that write the tables; measured: 350 MB where there is next to no object."""


LABELS_OF_A_STEP = 1 << 40
"""More than a time step has: objects are told from each other by time step and label."""


class ObjectTableStep(BlockStep):
    """The table of all objects, as CSV and Parquet, in one job; its own grid has one block.

    Attributes:
        faces: the step that has described the components of each block.
        merge: the step that says which object each of them belongs to.
        measures: the step that has measured images below the objects; None where only their shape counts.
        step_um: micrometres from voxel to voxel along each spatial axis; None where that is not known.
    """

    name: ClassVar[str] = "object_table"
    version: ClassVar[int] = 1
    layout: ClassVar[int] = 2
    """1 had no ``FURTHER_COLUMNS``. In a batch the table is a part of an image's result, and another ``version``
    would compute all images again, prediction included."""

    faces: Before[ComponentFacesStep]
    merge: Before[ComponentMergeStep]
    measures: MeasuresStep | None = None
    step_um: tuple[float, ...] | None = None

    def settings(self) -> Mapping[str, Any]:
        """Which columns there may be; where voxels have a size that is known, this."""
        physical = {} if self.step_um is None else {"voxel size in um": list(self.step_um)}
        return {"columns": [function.__name__ for function in COLUMNS], **physical}

    def sources(self) -> tuple[Source, ...]:
        """Components of all blocks, their objects, and measures of these."""
        steps = (self.faces, self.merge, *(() if self.measures is None else (self.measures,)))
        return tuple(map(BlocksSource, steps))

    def output(self) -> FilesOutput:
        """The tables."""
        return FilesOutput(self.records, (), (self.csv, self.parquet), (self.label, self.merge.label))

    @property
    def csv(self) -> Table:
        """The table as CSV."""
        return self._table("csv")

    @property
    def parquet(self) -> Table:
        """The table as Parquet."""
        return self._table("parquet")

    def _table(self, suffix: str) -> Table:
        return Table(self.work, f"objects{'_' * bool(self.variant)}{self.variant}.{suffix}")

    def projected_memory(self) -> int:
        """Grows with components, never with voxels; how many there will be is a guess before they are counted."""
        guess = int(self.faces.grid.voxels * PROJECTED_COMPONENTS_PER_VOXEL)
        # Sums that are exact for floats are long, and become Python's integers in the end.
        numbers = 0 if self.measures is None else sum(max(width, 1) for _, width in self.measures.columns)
        return BASE_MEMORY + TABLES_MEMORY + guess * (BYTES_PER_COMPONENT + 3 * 8 * numbers)

    def prepare(self) -> Any:
        """Load which object each component belongs to."""
        return self.merge.output().load("lookup")

    def compute(self, block: Block, prepared: Any) -> Mapping[str, NDArray[Any]]:
        """Write the tables."""
        # Slow to load: a run with nothing to do is over before.
        from tasks.objects.table import make_table, write_csv, write_parquet

        table = make_table(columns_of(self.objects(prepared)))
        with self.csv.writing() as path:
            write_csv(table, path)
        with self.parquet.writing() as path:
            write_parquet(table, path)
        return {}

    def objects(self, lookup: NDArray[np.uint64]) -> Objects:
        """All objects, and what is known of them; ``lookup`` as the merge has written it."""
        grid = self.faces.grid
        kept = lookup > 0
        components = np.concatenate([self.faces.read_table(block, "components") for block in grid])[kept]
        measures = from_columns(components, self.faces.columns)
        step = math.prod(grid.shape[1:]) if "t" in grid.axes else math.prod(grid.shape)
        keys, groups = np.unique(_keys(measures["first"] // step, lookup[kept]), return_inverse=True)
        objects = combine_measures(measures, groups)
        if self.measures is not None:
            objects |= self._measured(self.measures, keys)
        labels = (keys % LABELS_OF_A_STEP).astype(np.uint64)
        images = () if self.measures is None else self.measures.images
        borders = self.faces.touch_border(objects)
        return Objects(labels, objects, grid.axes, grid.shape, borders, self.step_um, images)

    def _measured(self, step: MeasuresStep, keys: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Measures of the objects with these keys, added up over the blocks."""
        tables = []
        for block in step.grid:
            table = step.read(block)
            time = block.write_box[0].start if "t" in step.grid.axes else 0
            tables.append({"key": _keys(time, table.pop("label")), **table})
        found = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        groups = np.searchsorted(keys, found["key"])
        if not np.array_equal(np.unique(found.pop("key")), keys):
            raise RuntimeError(f"{step.label}: its objects are not those of {self.merge.label}")
        return combine_measures(found, groups)


def _keys(time: NDArray[np.int64] | int, labels: NDArray[Any]) -> NDArray[np.int64]:
    """One number for each object, in the order of their first voxels: none lies in two time steps."""
    return time * LABELS_OF_A_STEP + labels.astype(np.int64)
