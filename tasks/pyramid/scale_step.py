"""One scale of a dataset, made of the scale before it, block by block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Block, Box, box_shape, relative
from blockwise.outputs import VolumeOutput
from blockwise.sources import RawSource, Source
from blockwise.step import BASE_MEMORY, Before
from blockwise.upstream import BlocksSource
from blockwise.volume import Volume, open_volume
from blockwise.volume.containers.metadata import written_dtype
from blockwise.volume.decoding import check_decodes
from blockwise.volume.info import VolumeInfo
from blockwise.volume_step import Holds, VolumeStep
from tasks.pyramid.coarser import Method, coarser, compile_for
from tasks.pyramid.layouts import Image, Layout, scale_attributes


class ScaleStep(VolumeStep):
    """A scale of a dataset, or of the raw volume; with factors of 1 a copy of it.

    What lies outside the region of interest and the mask is 0, and counts as such in windows that reach over borders.

    Attributes:
        before: the step that makes the scale before; None where that is the raw volume.
        raw: the raw volume; None where ``before`` is given.
        factors: voxels of the scale before along one of this one, 1 or 2 per axis of the grid.
        method: what a voxel is of those that it stands for.
        number: of the scale; 0 is the finest.
        group_layout: of the group that it lies in.
        image: what there is to say of all scales.
        chunks_of_all_channels: a chunk holds all channels, as viewers want it, not one.
    """

    name: ClassVar[str] = "scale"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "scale"

    before: Before[VolumeStep] | None = None
    raw: VolumeInfo | None = None
    factors: tuple[int, ...]
    method: Method
    number: int
    group_layout: Layout
    image: Image
    chunks_of_all_channels: bool = False

    def settings(self) -> Mapping[str, Any]:
        """Factors and method."""
        return {"factors": list(self.factors), "method": self.method}

    @property
    def _given(self) -> VolumeInfo:
        if self.raw is None:
            raise RuntimeError(f"{self.label}: there is neither a step nor a volume before it")
        return self.raw

    @cached_property
    def _source(self) -> Source:
        if self.before is not None:
            return BlocksSource(self.before)
        return RawSource(self._given, self.grid.axes, watch_files=self.change_detection == "files")

    def sources(self) -> tuple[Source, ...]:
        """The scale before."""
        return (self._source,)

    def reads(self, block: Block) -> Mapping[str, Box]:
        """All that the block's voxels stand for."""
        (name,) = self.inputs
        return {name: self._below(block.write_box)}

    def _below(self, box: Box) -> Box:
        """What of the scale before lies below a box, and was computed."""
        domain = tuple(map(slice, (0,) * len(box), self._lengths)) if self.before is None else self.before.grid.domain
        return tuple(
            slice(max(s.start * f, d.start), min(s.stop * f, d.stop))
            for s, f, d in zip(box, self.factors, domain, strict=True)
        )

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        """Shape of the scale before, along the grid's axes."""
        if self.before is not None:
            return self.before.grid.shape
        return tuple(self._given.shape[self._given.axes.index(axis)] for axis in self.grid.axes)

    def output(self) -> VolumeOutput:
        """As the scale before, with its channels."""
        dtype, channels = self._holds
        extra = scale_attributes(self.group_layout, self.image, self.number)
        return VolumeOutput(
            self.address,
            self.grid,
            self.chunks,
            dtype,
            channels,
            extra,
            self.shards,
            is_scale=True,
            chunks_of_all_channels=self.chunks_of_all_channels,
        )

    @cached_property
    def _holds(self) -> tuple[str, int]:
        """Type, and number of channels."""
        if self.before is not None:
            before = self.before.output()
            return before.dtype, before.channels
        info = self._given
        return written_dtype(np.dtype(info.dtype)).name, info.shape[info.axes.index("c")] if "c" in info.axes else 0

    def projected_memory(self) -> int:
        """The block, and what lies below one of its chunks as read and in order."""
        dtype, channels = self._holds
        per_voxel = max(1, channels) * np.dtype(dtype).itemsize
        below = math.prod(min(c * f, n) for c, f, n in zip(self.chunks, self.factors, self._lengths, strict=True))
        return BASE_MEMORY + per_voxel * (2 * math.prod(self.grid.block_shape) + 3 * below)

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """All channels, once."""
        dtype, channels = self._holds
        written = self.grid.voxels * max(1, channels) * np.dtype(dtype).itemsize
        return written * math.prod(self.factors), written

    def make_ready(self) -> None:
        """Check the raw volume, where it is read.

        Raises:
            UserError: nothing of it can be decoded; a slice of a stack differs; a compressed file is damaged.
        """
        if self.before is None:
            volume = open_volume(self._given.address)
            check_decodes(volume)
            volume.verify()

    def prepare(self) -> Volume:
        """Open the scale before, and have the loops compiled."""
        dtype, _ = self._holds
        if max(self.factors) > 1:
            compile_for(np.dtype(dtype), self.method)
        return open_volume(self._source.address)

    def compute(self, block: Block, prepared: Volume) -> NDArray[Any]:
        """Compute one block, chunk by chunk, so that no more of the scale before is held than lies below a chunk."""
        output = self.output()
        factors = output.box(tuple(slice(0, f) for f in self.factors), 0)
        found = np.zeros(box_shape(output.box(block.write_box)), output.dtype)
        for piece in self._pieces(block.write_box):
            data = self._read(prepared, piece)
            larger = coarser(data, box_shape(factors), self.method)
            found[relative(output.box(piece), output.box(block.write_box))] = larger
        return found

    def _pieces(self, box: Box) -> Iterator[Box]:
        """Parts of a box that lie in one chunk each."""
        cuts = [
            [slice(max(i, s.start), min(i + c, s.stop)) for i in range(s.start // c * c, s.stop, c)]
            for s, c in zip(box, self.chunks, strict=True)
        ]
        return itertools.product(*cuts)

    def _read(self, volume: Volume, box: Box) -> NDArray[Any]:
        """All voxels below a box, of the output's axes; 0 where nothing was computed."""
        computed = self._below(box)
        whole = tuple(
            slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(box, self.factors, self._lengths, strict=True)
        )
        output = self.output()
        if self.before is not None:
            data = volume.read(self.before.output().box(computed))
        else:
            data = self._read_given(volume, computed)
        if computed == whole:
            return data
        margins = [
            (c.start - w.start, w.stop - c.stop) for c, w in zip(output.box(computed), output.box(whole), strict=True)
        ]
        return np.pad(data, margins)

    def _read_given(self, volume: Volume, box: Box) -> NDArray[Any]:
        """A box of the raw volume with all channels, in the order of the output's axes."""
        info, axes = self._given, self.output().axes
        named = dict(zip(self.grid.axes, box, strict=True))
        channels = slice(0, max(1, self._holds[1]))
        data = volume.read(tuple(channels if axis == "c" else named[axis] for axis in info.axes))
        if data.dtype.kind not in "iufb":
            raise UserError(f"raw {info.address}: holds {data.dtype}; expected integers or floats")
        return data.transpose([info.axes.index(axis) for axis in axes]).astype(self._holds[0], copy=False)
