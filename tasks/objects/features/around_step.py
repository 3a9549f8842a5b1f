"""Blocks of labelled objects with the image below them, and as far around as their neighbourhood reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled, load_linker
from blockwise.grid import Block, Box, box_shape, box_size
from blockwise.mask import open_mask
from blockwise.outputs import FolderOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before, BlockStep
from blockwise.upstream import BlocksSource
from blockwise.volume import open_volume
from blockwise.volume_step import VolumeStep, giving
from tasks.channels import RawChannels
from tasks.objects.features.boxes_step import ObjectBoxesStep
from tasks.objects.features.neighbourhood import Margin
from tasks.objects.image_measures import dense_labels
from tasks.objects.order import time_of

WINDOW_BYTES = 36
"""Of a voxel that is read: its label as stored and numbered through, where runs begin, and a squared distance."""

CORE_BYTES = 24
"""Of a voxel of the block: whether it counts, its place among neighbours, and labels once more."""


@dataclass(frozen=True)
class View:
    """A block, as (z, y, x); an image is one slice.

    Attributes:
        labels: 0 for none, then 1 to n, uint32 (z, y, x): of the block, and what lies around it.
        names: their labels, uint64 (n,).
        boxes: first voxel and the one after the last of each object in ``labels``, int64 (n, 3, 2).
        core: the block in it, int64 (3, 2).
        below: labels of the block, uint32 (voxels,).
        channels: of the image in the block, (voxels,) each.
        inside: which voxels of the block may be neighbours, bool (voxels,).
        limits: where neighbours of each object may be, as ``boxes``.
        origin: the block's first voxel in the volume, (3,).
    """

    labels: NDArray[np.uint32]
    names: NDArray[np.uint64]
    boxes: NDArray[np.int64]
    core: NDArray[np.int64]
    below: NDArray[np.uint32]
    channels: list[NDArray[Any]]
    inside: NDArray[np.bool_]
    limits: NDArray[np.int64]
    origin: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the block."""
        return tuple(int(n) for n in self.core[:, 1] - self.core[:, 0])


class AroundStep(BlockStep):
    """What is known of objects and their neighbourhoods, block by block.

    Attributes:
        objects: the step that labels the objects.
        raw: channels of the raw volume.
        margin: how far the neighbourhood reaches, in voxels per spatial axis; None where nothing looks at it.
        boxes: the step that knows the objects' bounding boxes; None where these do not matter.
    """

    objects: Annotated[Before[VolumeStep], giving("labels")]
    raw: RawChannels
    margin: tuple[int, ...] | None = None
    boxes: ObjectBoxesStep | None = None

    @property
    def around(self) -> Margin | None:
        """The margin along z, y and x."""
        if self.margin is None:
            return None
        return Margin(self.margin if len(self.margin) == 3 else (max(self.margin), *self.margin))

    def margin_settings(self) -> Mapping[str, Any]:
        """What can change the result."""
        return {"channels": list(self.raw.channels), **({} if self.margin is None else {"margin": list(self.margin)})}

    def sources(self) -> tuple[Source, ...]:
        """The labels and the image; of neighbourhoods the mask of what is computed, and objects' bounding boxes."""
        raw = self.raw.source(watch_files=self.change_detection == "files")
        around = () if self.margin is None else self.mask_sources()
        boxes = () if self.boxes is None else (BlocksSource(self.boxes),)
        return (BlocksSource(self.objects), raw, *around, *boxes)

    def reads(self, block: Block) -> Mapping[str, Box]:
        """The labels with what lies around them; of the image, and of whatever else, what lies in the block."""
        around = self.read_box(block)
        return {
            name: around if source.label == self.objects.label else block.write_box
            for name, source in self.inputs.items()
        }

    @property
    def halo(self) -> tuple[int, ...]:
        """As far as an object may be from its neighbours."""
        if self.around is None:
            return (0,) * len(self.grid.axes)
        reach = dict(zip("zyx", self.around.reach, strict=True))
        return tuple(reach.get(axis, 0) for axis in self.grid.axes)

    def output(self) -> FolderOutput:
        """One file per block."""
        return FolderOutput(self.records, self.grid)

    @property
    def number_bytes(self) -> int:
        """Of a voxel of the block, for values as they are added up."""
        return len(self.raw.channels) * 8

    def projected_memory(self) -> int:
        """Labels with what lies around them, and the image."""
        core = math.prod(self.grid.block_shape) * (CORE_BYTES + 2 * self.raw.bytes_per_voxel + self.number_bytes)
        return BASE_MEMORY + core + WINDOW_BYTES * math.prod(self.grid.largest_read_shape(self.halo))

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Labels and images; a few numbers for each object."""
        return self.grid.voxels * (8 + self.raw.bytes_per_voxel), 0

    def prepare(self) -> Any:
        """Open the labels, the image and the mask; map the boxes into memory."""
        load_linker()
        mask = None if self.margin is None else open_mask(self.mask, self.grid)
        boxes = None if self.boxes is None else self.boxes.load()
        return open_volume(self.objects.address), open_volume(self.raw.info.address), mask, boxes

    def view(self, block: Block, prepared: Any) -> View:
        """A block with what lies around it; ``prepared`` as ``prepare`` gives it."""
        volume, raw, mask, boxes = prepared
        spatial = [i for i, axis in enumerate(self.grid.axes) if axis != "t"]
        read = self.read_box(block)
        flat = (1,) * (3 - len(spatial))
        window, shape = ((*flat, *(box_shape(box)[i] for i in spatial)) for box in (read, block.write_box))
        begin = np.array([0] * len(flat) + [block.write_box[i].start - read[i].start for i in spatial])
        labels, names = dense_labels(volume.read(read).reshape(window))
        core = np.stack([begin, begin + shape], axis=1)
        values = self.raw.read(raw, block.write_box)
        size = box_size(block.write_box)
        inside = np.ones(size, bool) if mask is None else mask.read(block.write_box).reshape(size)
        limits = np.broadcast_to(core, (len(names), 3, 2))
        if boxes is not None and self.around is not None:
            corner = np.array([0] * len(flat) + [read[i].start for i in spatial])
            limits = boxes.grown(names, time_of(self.grid, block), self.around) - corner[:, None]
        return View(
            labels,
            names,
            boxes_of(labels, len(names)),
            core,
            np.ascontiguousarray(labels[tuple(slice(*ends) for ends in core)]).ravel(),
            [values[..., i].ravel() for i in range(values.shape[-1])],
            inside,
            np.ascontiguousarray(limits),
            (0,) * len(flat) + tuple(block.write_box[i].start for i in spatial),
        )


def boxes_of(labels: NDArray[np.uint32], count: int) -> NDArray[np.int64]:
    """First voxel, and the one after the last, of the objects 1 to ``count`` of (z, y, x): int64 (count, 3, 2)."""
    found = np.empty((count, 3, 2), np.int64)
    found[:, :, 0], found[:, :, 1] = max(labels.shape), 0
    _boxes_of(labels, found)
    return found


@compiled
def _boxes_of(labels: Any, found: Any) -> None:
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                if labels[z, y, x]:
                    box = found[np.int64(labels[z, y, x]) - 1]
                    box[0, 0], box[0, 1] = min(box[0, 0], z), max(box[0, 1], z + 1)
                    box[1, 0], box[1, 1] = min(box[1, 0], y), max(box[1, 1], y + 1)
                    box[2, 0], box[2, 1] = min(box[2, 0], x), max(box[2, 1], x + 1)
