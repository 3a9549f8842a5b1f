"""Channels of a raw volume, as steps read them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from blockwise.grid import Box
from blockwise.sources import RawSource, Source
from blockwise.step import Before
from blockwise.upstream import BlocksSource
from blockwise.volume import Volume
from blockwise.volume.info import VolumeInfo
from blockwise.volume_step import VolumeStep
from tasks.pixel_classification.axes import to_zyxc


class MadeSource(BlocksSource):
    """A raw volume that another step makes: its blocks that are damaged can be made again."""

    def __init__(self, step: VolumeStep) -> None:
        super().__init__(step)
        self.name = "raw"


class RawChannels(BaseModel):
    """Some channels of a volume that is given.

    Attributes:
        info: the volume.
        channels: in the order in which they are read.
        axes: those of the grid whose boxes are read.
        made_by: the step that makes the volume, whose grid has these axes; None where it is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    info: VolumeInfo
    channels: tuple[int, ...]
    axes: str
    made_by: Before[VolumeStep] | None = None

    @property
    def dtype(self) -> str:
        """Type of a voxel, without byte order."""
        return np.dtype(self.info.dtype).name

    @property
    def bytes_per_voxel(self) -> int:
        """Of all channels, as stored."""
        return len(self.channels) * np.dtype(self.info.dtype).itemsize

    def source(self, *, watch_files: bool) -> Source:
        """The volume as something that a step reads."""
        if self.made_by is not None:
            return MadeSource(self.made_by)
        return RawSource(self.info, self.axes, watch_files)

    def read(self, volume: Volume, box: Box) -> NDArray[Any]:
        """Read a box of the grid that is one time step thick; zyxc, dtype as stored."""
        boxes = dict(zip(self.axes, box, strict=True))
        data = volume.read(tuple(self._range if axis == "c" else boxes[axis] for axis in self.info.axes))
        return to_zyxc(data, self.info.axes)[..., [c - self._range.start for c in self.channels]]

    @cached_property
    def _range(self) -> slice:
        return slice(min(self.channels), max(self.channels) + 1)
