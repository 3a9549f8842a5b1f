"""Beside the chain: what images hold below each object of a block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.outputs import FolderOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before, BlockStep
from blockwise.upstream import BlocksSource
from blockwise.volume import open_volume
from blockwise.volume_step import VolumeStep, giving
from tasks.channels import RawChannels
from tasks.components.measures import MeasureColumns, from_columns, side_by_side
from tasks.objects.image_measures import Image, dense_labels, measure_image

BYTES_PER_VOXEL = 40
"""Labels as stored and numbered through, where their runs begin, and one channel as whole numbers of 64 bits."""


class MeasuresStep(BlockStep):
    """Measures of images below the objects, of each block by itself.

    Attributes:
        objects: the step that labels the objects.
        raw: channels of the raw volume that are measured; None for none.
        probabilities: the step whose probabilities are measured; None for none.
        classes: the classes that it writes, as the project counts them.
    """

    name: ClassVar[str] = "measures"
    version: ClassVar[int] = 1

    objects: Annotated[Before[VolumeStep], giving("labels")]
    raw: RawChannels | None = None
    probabilities: Annotated[Before[VolumeStep], giving("probabilities")] | None = None
    classes: tuple[int, ...] = ()

    def settings(self) -> Mapping[str, Any]:
        """Which channels of the raw volume, and what is measured; of what else, stands among the inputs."""
        channels = {} if self.raw is None else {"channels": list(self.raw.channels)}
        return {**channels, "measures": [name for name, _ in self.columns]}

    def sources(self) -> tuple[Source, ...]:
        """The labels, and the images."""
        raw = () if self.raw is None else (self.raw.source(watch_files=self.change_detection == "files"),)
        probabilities = () if self.probabilities is None else (BlocksSource(self.probabilities),)
        return (BlocksSource(self.objects), *raw, *probabilities)

    def output(self) -> FolderOutput:
        """One file per block."""
        return FolderOutput(self.records, self.grid)

    @property
    def images(self) -> tuple[Image, ...]:
        """What is measured."""
        found = () if self.raw is None else (Image("intensity", self.raw.dtype, self.raw.channels),)
        if self.probabilities is None:
            return found
        return (*found, Image("probability", self.probabilities.output().dtype, self.classes))

    @property
    def columns(self) -> MeasureColumns:
        """What is known of each object."""
        return (("label", 0), *(measure for image in self.images for measure in image.layout))

    @property
    def _image_bytes(self) -> int:
        """Of a voxel, all channels."""
        return sum(len(image.channels) * np.dtype(image.dtype).itemsize for image in self.images)

    def projected_memory(self) -> int:
        """The labels and the images, which are read in another order of axes than they are measured in."""
        per_voxel = BYTES_PER_VOXEL + 2 * self._image_bytes
        return BASE_MEMORY + per_voxel * math.prod(self.grid.largest_read_shape(self.halo))

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Labels and images; a few numbers for each object."""
        return self.grid.voxels * (8 + self._image_bytes), 0

    def prepare(self) -> Any:
        """Open the labels and the images."""
        for image in self.images:  # reads what is compiled, so that no block pays for it
            measure_image(image, np.zeros(1, np.uint32), [np.zeros(1, image.dtype)] * len(image.channels))
        raw = self.raw and open_volume(self.raw.info.address)
        probabilities = self.probabilities and open_volume(self.probabilities.address)
        return open_volume(self.objects.address), raw, probabilities

    def compute(self, block: Block, prepared: Any) -> dict[str, NDArray[Any]]:
        """Measure one block: a row for each of its objects, int64, columns as ``columns`` names them."""
        volume, raw, probabilities = prepared
        labels, numbers = dense_labels(volume.read(block.write_box))
        measures: dict[str, NDArray[np.int64]] = {"label": numbers.astype(np.int64)}
        if self.raw is not None:
            image = self.raw.read(raw, block.write_box)
            channels = [image[..., i].reshape(labels.shape) for i in range(image.shape[-1])]
            measures |= measure_image(self.images[0], labels, channels)
        if self.probabilities is not None:
            stored = self.probabilities.output()
            values = probabilities.read(stored.box(block.write_box))
            channels = [part.reshape(labels.shape) for part in np.moveaxis(values, stored.axes.index("c"), 0)]
            measures |= measure_image(self.images[-1], labels, channels)
        return {"objects": side_by_side(measures, self.columns)}

    def read(self, block: Block) -> dict[str, NDArray[np.int64]]:
        """What ``compute`` has written of a block, by the names of ``columns``."""
        return from_columns(self.output().read(block, "objects"), self.columns)
