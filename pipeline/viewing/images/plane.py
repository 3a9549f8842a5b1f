"""One plane of a run as a picture, drawn as the viewer draws it at first: raw voxels, and the classes over them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box
from pipeline.viewing.colours import Colour
from pipeline.viewing.images.layers import Layer
from pipeline.viewing.images.scales import Scale
from pipeline.viewing.state import OPACITY

MOST_PIXELS = 1024
"""Of the picture along an axis: more than a cross-section has on most screens."""


@dataclass(frozen=True)
class Plane:
    """A plane across z and what of it is seen.

    Attributes:
        middle: voxel in the middle, by axis.
        pixel: voxels along a pixel, by axis x and y.
        limits: values of the raw volume that are black and white; None where they are not known.
    """

    middle: Mapping[str, float]
    pixel: Mapping[str, float]
    limits: tuple[float, float] | None

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Plane:
        """The cross-section of x and y that a viewer shows in a state, as ``first_state`` makes it."""
        sizes = {axis: size for axis, (size, _) in state["dimensions"].items()}
        unit = min(size for axis, size in sizes.items() if axis != "t")  # of the scale: the smallest of all voxels
        limits = state["layers"][0]["shaderControls"]["normalized"].get("range")  # the raw volume lies below all
        return cls(
            dict(zip(sizes, state["position"], strict=True)),
            {axis: state["crossSectionScale"] * unit / sizes[axis] for axis in "xy"},
            None if limits is None else tuple(limits),
        )

    def scale(self, layer: Layer) -> int:
        """Number of the coarsest scale of a layer whose voxels are no larger than pixels."""
        fits = [
            all(scale.factors[layer.axes.index(axis)] <= max(1.0, self.pixel[axis]) for axis in "xy")
            for scale in layer.scales
        ]
        return max(i for i, fit in enumerate(fits) if fit)

    def box(self, layer: Layer, scale: Scale) -> Box:
        """What of a layer is seen, in voxels of one of its scales: one plane, all channels."""
        return tuple(
            self._range(*one) for one in zip(layer.axes, scale.factors, scale.shape(layer.shape), strict=True)
        )

    def size(self, layer: Layer, scale: Scale) -> tuple[float, float]:
        """Width and height, in pixels, of what is seen of a layer."""
        box = dict(zip(layer.axes, zip(self.box(layer, scale), scale.factors, strict=True), strict=True))
        width, height = ((box[axis][0].stop - box[axis][0].start) * box[axis][1] / self.pixel[axis] for axis in "xy")
        return width, height

    def _range(self, axis: str, factor: int, length: int) -> slice:
        if axis == "c":
            return slice(0, length)
        middle = self.middle[axis] / factor
        reach = MOST_PIXELS / 2 * self.pixel[axis] / factor if axis in self.pixel else 0.0
        start = max(0, math.floor(middle - reach))
        return slice(start, max(start + 1, min(length, math.ceil(middle + reach))))


def drawn(
    raw: NDArray[Any], limits: tuple[float, float], classes: NDArray[Any] | None, colours: Sequence[Colour]
) -> bytes:
    """The picture, as PNG.

    Args:
        raw: (y, x), or channels first.
        limits: values that are black and white.
        classes: (c, y, x) probabilities from 0 to 1, or from 0 to the largest value of an unsigned type; or None.
        colours: of the classes.
    """
    low, high = limits
    red_green_blue = list(_red_green_blue(raw))
    seen = np.stack([np.clip((channel - low) / (high - low), 0.0, 1.0) for channel in red_green_blue], axis=-1)
    if classes is not None:
        shares = classes.astype(np.float32)
        if classes.dtype.kind == "u":
            shares /= np.iinfo(classes.dtype).max
        mixed = np.einsum("cyx,ck->yxk", shares, np.array(colours) / 255.0)
        alpha = OPACITY * np.minimum(shares.sum(axis=0), 1.0)[..., None]
        seen = (1.0 - alpha) * seen + alpha * np.minimum(mixed, 1.0)
    return bytes(imagecodecs.png_encode(np.round(255.0 * np.nan_to_num(seen)).astype(np.uint8), level=1))


def _red_green_blue(raw: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    """Three channels: those of a raw volume, whose further ones are not seen; of one alone, that one as grey."""
    channels = [*raw] if raw.ndim == 3 else [raw]
    for i in range(3):
        if len(channels) == 1:
            yield channels[0].astype(np.float32)
        else:
            yield channels[i].astype(np.float32) if i < len(channels) else np.full(raw.shape[1:], -np.inf, np.float32)
