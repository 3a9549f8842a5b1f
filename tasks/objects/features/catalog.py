"""ilastik's standard object features: their names, how many values they have, what must be added up for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from blockwise.errors import UserError

STANDARD = "Standard Object Features"
"""ilastik's name of the plugin whose features are computed here."""

BINS = 64
"""Of a histogram."""

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

Region = Literal["object", "neighborhood", "both"]
"""Voxels that a feature looks at: the object's, those around it, or all of these."""

SUFFIXES: dict[Region, str] = {
    "object": "",
    "neighborhood": " in neighborhood",
    "both": " in object and neighborhood",
}
"""What ilastik adds to the names of features of a region, both those in projects and those that are shown."""

Size = Literal["one", "channels", "channel pairs", "axes", "axis pairs", "bins", "quantiles"]


@dataclass(frozen=True)
class Feature:
    """One of ilastik's features.

    Attributes:
        name: as it stands in projects, such as ``Mean in neighborhood``.
        shown: as ilastik shows it, and calls the columns of its tables, such as ``Mean Intensity in neighborhood``.
        size: how many values it has; see ``values``.
        power: the highest power of the image's values that is added up for it; 0 for none.
        extremes: needs the least and the greatest value.
        products: needs the sums of products of coordinates.
        cross: needs the sums of products of two channels.
        histogram: needs counts of values.
        region: that it looks at.
        channels: of images that have it: ``one``, ``several``, or ``any``.
        plugin: ilastik's name of the plugin.
    """

    name: str
    shown: str
    size: Size
    power: int = 0
    extremes: bool = False
    products: bool = False
    cross: bool = False
    histogram: bool = False
    region: Region = "object"
    channels: Literal["any", "one", "several"] = "any"
    plugin: str = STANDARD

    @property
    def base(self) -> str:
        """The name without its region."""
        return self.name.removesuffix(SUFFIXES[self.region])

    @property
    def key(self) -> tuple[str, str]:
        """Plugin and name; in this order ilastik sorts the columns of its classifier."""
        return self.plugin, self.name

    def values(self, axes: int, channels: int) -> int:
        """How many values an object has of it, given the numbers of spatial axes and of channels."""
        sizes: dict[Size, int] = {
            "one": 1,
            "channels": channels,
            "channel pairs": channels**2,
            "axes": axes,
            "axis pairs": axes**2,
            "bins": BINS,
            "quantiles": len(QUANTILES),
        }
        return sizes[self.size]

    def columns_of(self, count: int) -> list[str]:
        """Names of the columns of so many values, as ilastik's tables have them: several are numbered."""
        return [self.shown] if count == 1 else [f"{self.shown}_{i}" for i in range(count)]

    def is_of(self, channels: int) -> bool:
        """Whether images with so many channels have it."""
        return self.channels == "any" or (self.channels == "one") == (channels == 1)


_AROUND = (
    Feature("Mean", "Mean Intensity", "channels", power=1),
    Feature("Variance", "Variance of Intensity", "channels", power=2),
    Feature("Skewness", "Skewness of Intensity", "channels", power=3),
    Feature("Kurtosis", "Kurtosis of Intensity", "channels", power=4),
    Feature("Histogram", "Histogram of Intensity", "bins", extremes=True, histogram=True, channels="one"),
    Feature(
        "Covariance", "Covariance of Channel Intensity", "channel pairs", power=2, cross=True, channels="several"
    ),
    Feature("Minimum", "Minimum intensity", "channels", extremes=True),
    Feature("Maximum", "Maximum intensity", "channels", extremes=True),
    Feature("Sum", "Total Intensity", "channels", power=1),
)
"""Those that ilastik has for the neighbourhood as well."""

_OF_OBJECTS = (
    Feature("Count", "Size in pixels", "one"),
    Feature("Quantiles", "Quantiles of Intensity", "quantiles", extremes=True, histogram=True, channels="one"),
    Feature("RegionCenter", "Center of the object", "axes"),
    Feature("RegionRadii", "Radii of the object", "axes", products=True),
    Feature("RegionAxes", "Principal components of the object", "axis pairs", products=True),
    Feature("Coord<Minimum>", "Bounding Box Minimum", "axes"),
    Feature("Coord<Maximum>", "Bounding Box Maximum", "axes"),
    Feature("Coord<PowerSum<1>>", "Coord<PowerSum<1>>", "axes"),
    Feature("Central<PowerSum<2>>", "Central<PowerSum<2>>", "channels", power=2),
    Feature("Central<PowerSum<3>>", "Central<PowerSum<3>>", "channels", power=3),
    Feature("Central<PowerSum<4>>", "Central<PowerSum<4>>", "channels", power=4),
)


def _of_region(feature: Feature, region: Region) -> Feature:
    suffix = SUFFIXES[region]
    return replace(feature, name=feature.name + suffix, shown=feature.shown + suffix, region=region)


_REGIONS: tuple[Region, ...] = ("neighborhood", "both")

FEATURES: dict[str, Feature] = {
    feature.name: feature
    for feature in (
        *_OF_OBJECTS,
        *_AROUND,
        *(_of_region(feature, region) for region in _REGIONS for feature in _AROUND),
    )
}
"""All features that are computed here, by their names in projects."""


def chosen_features(names: Iterable[str], channels: int, plugin: str = STANDARD) -> tuple[Feature, ...]:
    """Features by their names in projects, in ilastik's order, each once.

    Args:
        names: such as ``Mean in neighborhood``; vigra's blanks before ``>`` do not count.
        channels: of the image.
        plugin: ilastik's name of the plugin.

    Raises:
        UserError: one is not computed here, or not for images with so many channels; names are suggested.
    """
    found = {}
    for given in names:
        name = given.replace(" >", ">")
        if plugin != STANDARD or name not in FEATURES:
            raise UserError(_unknown(given, plugin))
        feature = FEATURES[name]
        if not feature.is_of(channels):
            wanted = "one channel" if feature.channels == "one" else "several channels"
            raise UserError(f"{given}: ilastik has it for images with {wanted} only; this one has {channels}")
        found[name] = feature
    return tuple(found[name] for name in sorted(found))


def _unknown(name: str, plugin: str) -> str:
    if plugin != STANDARD:
        return f"{name}: of ilastik's plugin {plugin!r}, which is not computed here; only {STANDARD!r} are"
    close = difflib.get_close_matches(name, FEATURES, n=3)
    meant = f"did you mean {' or '.join(map(repr, close))}?" if close else f"these are: {', '.join(sorted(FEATURES))}"
    return f"{name!r}: not among the object features that are computed here; {meant}"
