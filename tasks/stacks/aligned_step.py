"""Step 5 of an alignment: slices put in place, and beside them where there is tissue; slab by slab."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import load_linker
from blockwise.grid import Block, Box, box_shape
from blockwise.outputs import VolumeOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before
from blockwise.upstream import BlocksSource
from blockwise.volume_step import Holds, VolumeStep
from tasks.alignment.warp import Canvas, Interpolation, put_in_place, tissue
from tasks.stacks.alignment_step import AlignmentStep, TransformsSource


class PlacedStep(VolumeStep):
    """A dataset over the canvas, made of slices and their transforms; block by block, each a slab of whole slices.

    Attributes:
        alignment: the step that has found the transforms.
        canvas: left, top, width and height, in pixels of the common frame.
        interpolation: how slices are put in place.
    """

    alignment: Before[AlignmentStep]
    canvas: tuple[int, int, int, int]
    interpolation: Interpolation

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result."""
        return {"canvas": list(self.canvas), "interpolation": self.interpolation, "first": self.first}

    def sources(self) -> tuple[Source, ...]:
        """Transforms, and what is known of the slices, the checksums of their pixels among it."""
        return (TransformsSource(self.alignment, self.interpolation), BlocksSource(self.alignment.slices))

    @property
    def first(self) -> int:
        """Number of the slice that lies at 0 along z."""
        return int(self.alignment.slices.grid.domain[0].start)

    def reads(self, block: Block) -> Mapping[str, Box]:
        """The slices of the slab, by their numbers."""
        z = block.write_box[0]
        return dict.fromkeys(self.inputs, (slice(z.start + self.first, z.stop + self.first),))

    @property
    def area(self) -> Canvas:
        """The canvas."""
        return Canvas(*self.canvas)

    def prepare(self) -> Any:
        """Load the transforms, and the compiler."""
        load_linker()
        return self.alignment.placed()


class AlignedStep(PlacedStep):
    """The aligned volume.

    Attributes:
        dtype: of the slices.
        fill: grey value where there is no slice.
    """

    name: ClassVar[str] = "aligned"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "image"

    dtype: str
    fill: float = 0.0

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result."""
        return {**super().settings(), "dtype": self.dtype, "fill": self.fill}

    def output(self) -> VolumeOutput:
        """Grey values, of the type of the slices."""
        extra = {"first_slice": self.first, "canvas": list(self.canvas)}
        return VolumeOutput(self.address, self.grid, self.chunks, self.dtype, 0, extra, self.shards)

    def projected_memory(self) -> int:
        """A slab, twice while it is compressed, and one slice as it is read and as it is moved."""
        itemsize = np.dtype(self.dtype).itemsize
        slab = math.prod(min(b, n) for b, n in zip(self.grid.block_shape, self.grid.shape, strict=True))
        return BASE_MEMORY + 2 * slab * itemsize + 3 * itemsize * max(self.alignment.slices.voxels, 1)

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """The slices; the volume."""
        size = np.dtype(self.dtype).itemsize
        return len(self.alignment.slices.files) * self.alignment.slices.voxels * size, self.grid.voxels * size

    def compute(self, block: Block, prepared: Any) -> NDArray[Any]:
        """Put the slices of one slab in place."""
        matrices, _ = prepared
        slab = np.full(box_shape(block.write_box), self.fill, self.dtype)
        for i, z in enumerate(range(block.write_box[0].start + self.first, block.write_box[0].stop + self.first)):
            if z in matrices:
                image = self.alignment.slices.read(z, self.alignment.slices.facts(z))
                slab[i] = put_in_place(image, matrices[z], self.area, self.fill, self.interpolation)
        return slab


class TissueStep(PlacedStep):
    """Where the aligned volume holds pixels of slices: 1 there, else 0."""

    name: ClassVar[str] = "tissue"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "mask"

    def sources(self) -> tuple[Source, ...]:
        """Transforms, with the sizes of slices."""
        return (TransformsSource(self.alignment, self.interpolation),)

    def output(self) -> VolumeOutput:
        """The mask, uint8."""
        return VolumeOutput(
            self.address, self.grid, self.chunks, "uint8", 0, {"first_slice": self.first}, self.shards
        )

    def projected_memory(self) -> int:
        """A slab, twice while it is compressed, and one slice."""
        slab = math.prod(min(b, n) for b, n in zip(self.grid.block_shape, self.grid.shape, strict=True))
        return BASE_MEMORY + 2 * slab + 3 * max(self.alignment.slices.voxels, 1)

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Next to nothing; the mask."""
        return 0, self.grid.voxels

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint8]:
        """Mark the pixels of one slab."""
        matrices, sizes = prepared
        slab = np.zeros(box_shape(block.write_box), np.uint8)
        for i, z in enumerate(range(block.write_box[0].start + self.first, block.write_box[0].stop + self.first)):
            if z in matrices:
                slab[i] = tissue(sizes[z], matrices[z], self.area, self.interpolation)
        return slab
