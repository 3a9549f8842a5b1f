"""Where neighbourhoods are cut at bounding boxes: the boxes of whole objects, which no single block knows."""

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
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.measures import from_columns
from tasks.components.merge_step import PROJECTED_COMPONENTS_PER_VOXEL, ComponentMergeStep
from tasks.objects.features.neighbourhood import Margin, grown
from tasks.objects.order import ComponentObjects, ObjectOrder


@dataclass(frozen=True)
class ObjectBoxes:
    """Bounding boxes of all objects.

    Attributes:
        order: of the objects.
        boxes: int64 (objects, spatial axes, 2), first voxel and the one after the last.
    """

    order: ObjectOrder
    boxes: NDArray[np.int64]

    def grown(self, labels: NDArray[np.uint64], time: int, margin: Margin) -> NDArray[np.int64]:
        """Boxes of labels of one time step, grown by a margin: int64 (labels, 3, 2); an image is one slice."""
        boxes = np.asarray(self.boxes[self.order.places(labels, time)])
        if boxes.shape[1] == 2:
            boxes = np.concatenate([np.tile([[[0, 1]]], (len(boxes), 1, 1)), boxes], axis=1)
        return grown(boxes[..., 0], boxes[..., 1], margin)


class ObjectBoxesStep(BlockStep):
    """Bounding boxes of whole objects, in one job; its own grid has one block.

    Attributes:
        faces: the step that has described the components of each block.
        merge: the step that says which object each of them belongs to.
    """

    name: ClassVar[str] = "object_boxes"
    version: ClassVar[int] = 1

    faces: Before[ComponentFacesStep]
    merge: Before[ComponentMergeStep]

    def settings(self) -> Mapping[str, Any]:
        """None of its own."""
        return {}

    def sources(self) -> tuple[Source, ...]:
        """Components of all blocks, and their objects."""
        return BlocksSource(self.faces), BlocksSource(self.merge)

    def output(self) -> FilesOutput:
        """The boxes, and where those of each time step begin."""
        return FilesOutput(self.records, ("boxes", "starts"))

    def projected_memory(self) -> int:
        """Six numbers for each object; how many there will be is a guess before they are counted."""
        guess = int(self.faces.grid.voxels * PROJECTED_COMPONENTS_PER_VOXEL)
        return BASE_MEMORY + 2 * 48 * guess

    def compute(self, block: Block, prepared: Any) -> Arrays:
        """Put the boxes of all components together."""
        objects = ComponentObjects.read(self.merge)
        return {"boxes": self.boxes_of(objects), "starts": objects.order.starts}

    def boxes_of(self, objects: ComponentObjects) -> NDArray[np.int64]:
        """The boxes of all objects, int64 (objects, spatial axes, 2)."""
        boxes = np.empty((objects.order.count, len(self.faces.spatial), 2), np.int64)
        boxes[..., 0], boxes[..., 1] = np.iinfo(np.int64).max, 0
        for part, kept, places in objects.blocks():
            known = from_columns(self.faces.read_table(part, "components")[kept], self.faces.columns)
            np.minimum.at(boxes[..., 0], places, known["start"])
            np.maximum.at(boxes[..., 1], places, known["stop"])
        return boxes

    def load(self) -> ObjectBoxes:
        """What ``compute`` has written; the boxes are mapped into memory."""
        output = self.output()
        return ObjectBoxes(
            ObjectOrder(output.load("starts"), self.merge.restart_every is not None), output.mapped("boxes")
        )
