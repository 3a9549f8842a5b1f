"""After the features: the class of each object, by the classifier of an ilastik project."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Block, Grid
from blockwise.outputs import FilesOutput
from blockwise.outputs.files import Arrays
from blockwise.step import BASE_MEMORY
from blockwise.upstream import TableSource
from tasks.objects.classification.classify import classify, feature_vectors
from tasks.objects.classification.project import ObjectProject, load_object_project
from tasks.objects.features.features_step import FeaturesStep
from tasks.objects.growing import GrowingArray
from tasks.objects.objects_step import ObjectsStep
from tasks.objects.order import ComponentObjects, time_of


class ClassesSource(TableSource):
    """Classes of objects; the stamp of a block is over those of its own objects."""

    def identity(self) -> str:
        """That there are classes; which they are is in the stamps, so that another one redoes what it changes."""
        return "classes of objects"


class ObjectClassificationStep(ObjectsStep):
    """Class and probabilities of each object, in one job; its own grid has one block.

    Attributes:
        project: path of the ilastik project.
        project_hash: of what decides about its predictions.
        class_names: of all classes.
    """

    name: ClassVar[str] = "object_classification"
    version: ClassVar[int] = 1

    features: FeaturesStep
    project: str
    project_hash: str
    class_names: tuple[str, ...]

    def settings(self) -> Mapping[str, Any]:
        """Of the project its content, not its path; features are a part of it."""
        return {"project content": self.project_hash}

    def provenance(self) -> Mapping[str, Any]:
        """Settings, and the path of the project."""
        return {**super().provenance(), "project_path": self.project}

    def output(self) -> FilesOutput:
        """``classes`` (objects,) uint8, and ``probabilities`` (objects, classes) float32, in the objects' order.

        ``rows`` (rows, 2) int64: label and class of the objects of each block, ascending; ``offsets``: where each
        block's begin.
        """
        return FilesOutput(self.records, ("classes", "probabilities", "rows", "offsets"))

    def rows(self) -> TableSource:
        """Classes of which each block reads those of its own objects."""
        return ClassesSource(self, self.blocks, self.output(), "rows", "offsets")

    @property
    def blocks(self) -> Grid:
        """In which the objects lie."""
        return self.features.grid

    def projected_memory(self) -> int:
        """That of a shard of the objects, however many there are."""
        return BASE_MEMORY + self.bytes_of_a_shard()

    def prepare(self) -> tuple[ComponentObjects, ObjectProject]:
        """Load the classifier, and which object each component belongs to.

        Raises:
            UserError: the project is no longer what it was when the run began.
        """
        project = load_object_project(self.project)
        if project.content_hash != self.project_hash:
            raise UserError(f"project {self.project} was changed while the run was going on; start the run again")
        return super().prepare(), project

    def compute(self, block: Block, prepared: tuple[ComponentObjects, ObjectProject]) -> Arrays:
        """Classify all objects, a shard at a time."""
        known, project = prepared
        n = len(self.class_names)
        scratch = self.records.on_this_machine
        with (
            GrowingArray(scratch, np.uint8) as classes,
            GrowingArray(scratch, np.float32, n) as probabilities,
            GrowingArray(scratch, np.int64, 2) as rows,
        ):
            for objects in self.shards(known):
                found = classify(project.forest, n, feature_vectors(project.features, objects.features))
                classes.append(found[0])
                probabilities.append(found[1])
            offsets = self._add_rows(rows, known, classes.array())
            return {
                "classes": classes.array(),
                "probabilities": probabilities.array(),
                "rows": rows.array(),
                "offsets": offsets,
            }

    def _add_rows(self, rows: GrowingArray, known: ComponentObjects, classes: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Add label and class of the objects of each block; where each block's begin, and how many there are."""
        counts = np.zeros(math.prod(self.blocks.blocks_per_axis) + 1, np.int64)  # blocks that are left out have none
        for part in self.blocks:
            labels = self.features.read(part)["label"]
            places = known.order.places(labels.astype(np.uint64), time_of(self.blocks, part))
            rows.append(np.stack([labels, classes[places].astype(np.int64)], axis=1))
            counts[part.id + 1] = len(labels)
        return np.cumsum(counts)
