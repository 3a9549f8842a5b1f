"""What can be exported: a volume, other orders and parts of it, and the simple segmentation of probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box
from blockwise.volume import Spacing
from tasks.simple_segmentation import most_probable


class Content(Protocol):
    """Something with voxels; every volume is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """In voxels."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one voxel."""

    @property
    def axes(self) -> str | None:
        """Names of the axes, some of ``tczyx``."""

    @property
    def spacing(self) -> Spacing | None:
        """Distance between voxels."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is best read at once, in voxels."""

    def read(self, box: Box) -> NDArray[Any]:
        """The voxels in a box."""


class SimpleSegmentation:
    """The most probable class of each voxel, counted from 1 as ilastik does; of equals the first.

    Args:
        probabilities: of all classes.
        inside: which voxels of a box, without channels, have a class; the others are 0. None for all.

    Attributes:
        shape: that of the probabilities without their channels.
        dtype: uint8.
        axes: those of the probabilities without ``c``.
        chunks: likewise.
        spacing: likewise.
    """

    def __init__(self, probabilities: Content, inside: Callable[[Box], NDArray[np.bool_]] | None = None) -> None:
        axes = probabilities.axes or ""
        if "c" not in axes:
            raise UserError(f"a simple segmentation needs probabilities with channels, found axes {axes!r}")
        self._probabilities = probabilities
        self._inside = inside
        self._channel = axes.index("c")
        self.shape = self._spatial(probabilities.shape)
        self.dtype = np.dtype("uint8")
        self.axes: str | None = axes.replace("c", "")
        self.chunks = self._spatial(probabilities.chunks)
        self.spacing = probabilities.spacing.along(axes, self.axes or "") if probabilities.spacing else None

    def _spatial(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return lengths[: self._channel] + lengths[self._channel + 1 :]

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Classes in a box; all channels of it are read."""
        channels = slice(0, self._probabilities.shape[self._channel])
        data = self._probabilities.read((*box[: self._channel], channels, *box[self._channel :]))
        return most_probable(np.moveaxis(data, self._channel, 0), self._inside and self._inside(box))


class Arranged:
    """Content with its axes in another order, and some of them fixed at one place.

    Attributes:
        shape: in voxels, in the order of ``axes``.
        dtype: of one voxel.
        axes: names of the axes that are not fixed.
        chunks: in voxels.
        spacing: distance between voxels.
    """

    def __init__(self, content: Content, axes: str, fixed: Mapping[str, int] | None = None) -> None:
        fixed = fixed or {}
        self._content = content
        self._source_axes = content.axes or axes
        self._fixed = fixed
        self.axes = "".join(axis for axis in axes if axis not in fixed)
        self.shape = tuple(content.shape[self._source_axes.index(axis)] for axis in self.axes)
        self.chunks = tuple(content.chunks[self._source_axes.index(axis)] for axis in self.axes)
        self.dtype = content.dtype
        self.spacing = self.spacing_of(self.axes)

    def spacing_of(self, axes: str) -> Spacing | None:
        """The spacing along some axes."""
        return self._content.spacing.along(self._source_axes, axes) if self._content.spacing else None

    def read(self, box: Box) -> NDArray[Any]:
        """The voxels in a box, in the order of ``axes``."""
        named = dict(zip(self.axes, box, strict=True))
        source = tuple(
            slice(self._fixed[axis], self._fixed[axis] + 1) if axis in self._fixed else named[axis]
            for axis in self._source_axes
        )
        data = self._content.read(source)
        place = {axis: i for i, axis in enumerate(self._source_axes)}
        order = [place[axis] for axis in self.axes] + [place[axis] for axis in self._fixed]
        return data.transpose(order).reshape([s.stop - s.start for s in box])
