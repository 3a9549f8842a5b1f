"""What is added up for each object, so that its features are exact: whole numbers, put together over blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.components.measures import MeasureColumns
from tasks.objects.exact_sums import ACCUMULATORS, LIMB_BITS
from tasks.objects.features.catalog import BINS, Feature, Region

FLOAT_BITS = 277
"""Of the largest float32 over the smallest one above 0, of which all are whole multiples."""

COUNT_BITS = 45
"""Of the number of voxels that an object may have."""

PRODUCT_LIMBS = 2
"""Of a sum of products of two coordinates: for 2**45 voxels, and axes of up to 2**25."""

Part = Literal["object", "around"]
"""Voxels that are added up by themselves: those of the object, and those of its neighbourhood without it."""

PARTS: tuple[Part, ...] = ("object", "around")

PARTS_OF: dict[Region, tuple[Part, ...]] = {
    "object": ("object",),
    "neighborhood": ("around",),
    "both": ("object", "around"),
}


def limbs_of(dtype: str, power: int) -> int:
    """Limbs of 32 bits that hold a sum of powers of an image's values; the highest one has room for 64."""
    bits = FLOAT_BITS if ACCUMULATORS[dtype].is_float else 8 * np.dtype(dtype).itemsize
    return max(0, math.ceil((power * bits + COUNT_BITS + 1 - 64) / LIMB_BITS)) + 1


@dataclass(frozen=True)
class Sums:
    """What is added up of one part.

    Attributes:
        power: the highest power of values; 0 for none.
        extremes: the least and the greatest value.
        cross: products of each two channels.
        counts: how many voxels; of an object this is known anyway.
    """

    power: int = 0
    extremes: bool = False
    cross: bool = False
    counts: bool = False

    @property
    def reads_image(self) -> bool:
        """Whether any of this needs the image."""
        return self.power > 0 or self.extremes


@dataclass(frozen=True)
class Accumulators:
    """The sums and extremes of some features.

    Attributes:
        dtype: of the image, without byte order.
        channels: of the image.
        axes: number of spatial axes.
        object: of the objects' own voxels.
        around: of their neighbourhoods.
        products: of the coordinates of the objects' voxels.
    """

    dtype: str
    channels: int
    axes: int
    object: Sums
    around: Sums
    products: bool

    @classmethod
    def of(cls, features: Iterable[Feature], dtype: str, channels: int, axes: int) -> Accumulators:
        """Those that these features need."""
        features = tuple(features)

        def sums(part: Part) -> Sums:
            wanted = [feature for feature in features if part in PARTS_OF[feature.region]]
            return Sums(
                max((feature.power for feature in wanted), default=0),
                any(feature.extremes for feature in wanted),
                any(feature.cross for feature in wanted),
                part == "around" and bool(wanted),
            )

        products = any(feature.products for feature in features)
        return cls(dtype, channels, axes, sums("object"), sums("around"), products)

    def sums(self, part: Part) -> Sums:
        """What is added up of a part."""
        return self.object if part == "object" else self.around

    @property
    def columns(self) -> MeasureColumns:
        """Names and widths, as ``side_by_side`` stores them; ``COMBINE`` says by the last word how they are merged.

        For each part, ``object`` or ``around``: ``count``; ``power1`` ... sums of powers in limbs, channel after
        channel; ``cross``, likewise of channels (0, 1), (0, 2), ...; ``min`` and ``max``, as keys of ``values_of``;
        of floats ``odd``, how many values are no numbers. ``object_products``: sums of products of the coordinates
        (z, z), (z, y), ..., in limbs.
        """
        found: list[tuple[str, int]] = []
        if self.products:
            found.append(("object_products", PRODUCT_LIMBS * self.axes * (self.axes + 1) // 2))
        for part in PARTS:
            sums, n = self.sums(part), self.channels
            if sums.counts:
                found.append((f"{part}_count", 0))
            for power in range(1, sums.power + 1):
                found.append((f"{part}_power{power}", n * limbs_of(self.dtype, power)))
            if sums.cross:
                found.append((f"{part}_cross", n * (n - 1) // 2 * limbs_of(self.dtype, 2)))
            if sums.extremes:
                found += [(f"{part}_min", n), (f"{part}_max", n)]
            if sums.reads_image and ACCUMULATORS[self.dtype].is_float:
                found.append((f"{part}_odd", n))
        return tuple(found)


def histogram_columns(features: Iterable[Feature]) -> MeasureColumns:
    """Counts of values, which are added up when it is known between which values: for each region that needs them."""
    regions = {feature.region for feature in features if feature.histogram}
    return tuple((f"{region}_histogram", BINS) for region in sorted(regions))
