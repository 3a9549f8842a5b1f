"""At the end: a table with a row for each object."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.outputs import FilesOutput, Table
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before
from blockwise.upstream import BlocksSource
from tasks.objects.classification.classification_step import ObjectClassificationStep
from tasks.objects.columns import COLUMNS, Classes, Objects, columns_of
from tasks.objects.objects_step import ObjectsStep
from tasks.objects.order import ComponentObjects

TABLES_MEMORY = 120_000_000
"""For the libraries that write the tables; measured: 350 MB where there is next to no object."""


class ObjectTableStep(ObjectsStep):
    """The table of all objects, as CSV and Parquet, in one job; its own grid has one block.

    Attributes:
        step_um: micrometres from voxel to voxel along each spatial axis; None where that is not known.
        classification: the step that has classified the objects; None where none has.
    """

    name: ClassVar[str] = "object_table"
    version: ClassVar[int] = 1
    layout: ClassVar[int] = 2
    """1 had no ``FURTHER_COLUMNS``. In a batch the table is a part of an image's result, and another ``version``
    would compute all images again, prediction included."""

    step_um: tuple[float, ...] | None = None
    classification: Before[ObjectClassificationStep] | None = None

    def settings(self) -> Mapping[str, Any]:
        """Which columns there may be; where voxels have a size that is known, this; features, if there are any."""
        physical = {} if self.step_um is None else {"voxel size in um": list(self.step_um)}
        features = {"features": list(self.chosen)} if self.chosen else {}
        classes = {} if self.classification is None else {"classes": list(self.classification.class_names)}
        return {"columns": [function.__name__ for function in COLUMNS], **physical, **features, **classes}

    def sources(self) -> tuple[Source, ...]:
        """The objects' classes as well, if there are any."""
        classes = () if self.classification is None else (BlocksSource(self.classification),)
        return (*super().sources(), *classes)

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
        """That of a shard of the objects: however many there are."""
        return BASE_MEMORY + TABLES_MEMORY + self.bytes_of_a_shard()

    def prepare(self) -> Any:
        """What is known of the objects; loads pyarrow, which is slow and no block's work."""
        importlib.import_module("tasks.objects.table")
        return super().prepare()

    def compute(self, block: Block, prepared: Any) -> Mapping[str, NDArray[Any]]:
        """Write the tables."""
        # Slow to load: a run with nothing to do is over before.
        from tasks.objects.table import write_tables

        with self.csv.writing() as csv, self.parquet.writing() as parquet:
            write_tables(self.columns(prepared), csv, parquet)
        return {}

    def columns(self, known: ComponentObjects) -> Iterator[Mapping[str, NDArray[Any]]]:
        """All columns, a shard of the objects at a time."""
        for objects in self.shards(known):
            yield columns_of(replace(objects, step_um=self.step_um, classes=self._classes(objects)))

    def _classes(self, objects: Objects) -> Classes | None:
        """Of a shard of the objects."""
        if self.classification is None:
            return None
        shard = slice(objects.begin, objects.begin + len(objects.label))
        table = self.classification.output()
        found = (np.asarray(table.mapped(name)[shard]) for name in ("classes", "probabilities"))
        return Classes(self.classification.class_names, *found)
