"""From what was added up of each object to the values of its features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from tasks.components.measures import Measures
from tasks.objects.exact_sums import ACCUMULATORS, values_of, whole_numbers
from tasks.objects.features import moments
from tasks.objects.features.accumulators import PARTS_OF, PRODUCT_LIMBS, limbs_of
from tasks.objects.features.catalog import Feature, Region
from tasks.objects.features.eigensystem import eigensystems
from tasks.objects.features.moments import Floats, Whole
from tasks.objects.features.quantiles import quantiles

FeatureValues = Mapping[tuple[str, str], NDArray[np.float64]]
"""By plugin and name: float64 (objects, values)."""


@dataclass(frozen=True)
class Accumulated:
    """What is known of the same objects, put together over all blocks.

    Attributes:
        measures: ``voxels``, ``start``, ``stop`` and ``sums``, see ``tasks.components.measures``, and what
            ``Accumulators.columns`` and ``histogram_columns`` name.
        axes: number of spatial axes, in the order z, y, x.
        dtype: of the image.
        channels: of the image.
        range: least and greatest value of all objects of the image (of a time step), float64 (objects, 2): where
            histograms of objects begin and end; needed for quantiles.
    """

    measures: Measures
    axes: int
    dtype: str
    channels: int
    range: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))

    @cached_property
    def voxels(self) -> Whole:
        """How many, as Python's integers."""
        found: Whole = self.measures["voxels"].astype(object)
        return found

    def whole(self, name: str, limbs: int) -> list[Whole]:
        """Sums out of their limbs, (objects,) for each that stands side by side."""
        stored = self.measures[name]
        return [whole_numbers(stored[:, i : i + limbs]) for i in range(0, stored.shape[1], limbs)]


@dataclass(frozen=True)
class _Statistics:
    """Of a region, by channels."""

    known: Accumulated
    region: Region

    @property
    def parts(self) -> tuple[str, ...]:
        return PARTS_OF[self.region]

    @cached_property
    def count(self) -> Whole:
        """Voxels of the region."""
        known = self.known
        found = [
            known.voxels if part == "object" else known.measures["around_count"].astype(object) for part in self.parts
        ]
        return found[0] if len(found) == 1 else found[0] + found[1]

    @cached_property
    def unit(self) -> int:
        """How many units of sums make 1."""
        return 1 << -ACCUMULATORS[self.known.dtype].exponent

    @cached_property
    def odd(self) -> NDArray[np.bool_]:
        """Where values are no numbers, (objects, channels)."""
        found = np.zeros((len(self.count), self.known.channels), bool)
        for part in self.parts:
            if f"{part}_odd" in self.known.measures:
                found |= self.known.measures[f"{part}_odd"] > 0
        return found

    def _summed(self, name: str, power: int) -> list[Whole]:
        limbs = limbs_of(self.known.dtype, power)
        found = [self.known.whole(f"{part}_{name}", limbs) for part in self.parts]
        return found[0] if len(found) == 1 else [a + b for a, b in zip(*found, strict=True)]

    @cached_property
    def _powers(self) -> dict[int, list[Whole]]:
        return {}

    def sums(self, channel: int, power: int) -> dict[int, Whole]:
        """Sums of powers of a channel, up to one."""
        for p in range(1, power + 1):
            if p not in self._powers:
                self._powers[p] = self._summed(f"power{p}", p)
        return {p: self._powers[p][channel] for p in range(1, power + 1)}

    def extreme(self, name: str) -> Floats:
        """``min`` or ``max``, (objects, channels); NaN where the region is empty."""
        reduce = np.minimum if name == "min" else np.maximum
        keys = [self.known.measures[f"{part}_{name}"] for part in self.parts]
        found = values_of(keys[0] if len(keys) == 1 else reduce(*keys), self.known.dtype).astype(np.float64)
        found[(self.count == 0).astype(bool)] = np.nan
        return found

    def covariances(self) -> Floats:
        """Between channels, row by row, (objects, channels**2)."""
        n = self.known.channels
        found = np.empty((len(self.count), n, n))
        cross = dict(zip(combinations(range(n), 2), self._summed("cross", 2), strict=True))
        for i, j in combinations_with_replacement(range(n), 2):
            products = self.sums(i, 2)[2] if i == j else cross[i, j]
            a, b = self.sums(i, 1)[1], self.sums(j, 1)[1]
            found[:, i, j] = found[:, j, i] = moments.covariance(self.count, a, b, products, self.unit)
            found[self.odd[:, i] | self.odd[:, j], i, j] = np.nan
            found[self.odd[:, i] | self.odd[:, j], j, i] = np.nan
        return found.reshape(-1, n * n)

    def of_channel(self, name: str, channel: int) -> Floats:
        """One of the statistics that each channel has."""
        power = {"Mean": 1, "Sum": 1, "Variance": 2, "Skewness": 3, "Kurtosis": 4}.get(name) or int(name[-3])
        sums = self.sums(channel, power)
        if name == "Sum":
            return moments.quotient(sums[1], np.full(len(self.count), self.unit, object))
        if name == "Skewness":
            return moments.skewness(self.count, sums)
        if name == "Kurtosis":
            return moments.kurtosis(self.count, sums)
        if name.startswith("Central"):
            return moments.central_sum(self.count, sums, self.unit, power)
        return (moments.mean if name == "Mean" else moments.variance)(self.count, sums, self.unit)

    def intensity(self, name: str) -> Floats:
        """A feature of the values, (objects, values)."""
        if name == "Covariance":
            return self.covariances()
        if name in ("Minimum", "Maximum"):
            found = self.extreme(name[:3].lower())
        else:
            found = np.stack([self.of_channel(name, c) for c in range(self.known.channels)], axis=1)
        found[self.odd] = np.nan
        return found


def feature_values(features: Iterable[Feature], known: Accumulated) -> FeatureValues:
    """Values of features.

    Args:
        features: of ``FEATURES``.
        known: of n objects, what the features need.

    Returns:
        For each feature float64 (n, values), in ilastik's order: coordinates x, y, z, channels in theirs. What is not
        defined is NaN (ilastik's classifier takes 0 for it), such as the skewness of equal values, or what is said of
        values where one is no number.
    """
    statistics: dict[Region, _Statistics] = {}
    shape = _Shape(known)
    found = {}
    for feature in features:
        region = statistics.setdefault(feature.region, _Statistics(known, feature.region))
        if feature.histogram:
            found[feature.key] = _counted(feature, region)
        elif (values := shape.feature(feature.name)) is not None:
            found[feature.key] = values
        else:
            found[feature.key] = region.intensity(feature.base)
    return found


def _counted(feature: Feature, statistics: _Statistics) -> Floats:
    known = statistics.known
    counts = known.measures[f"{feature.region}_histogram"]
    if feature.base == "Histogram":
        found = counts.astype(np.float64)
    else:
        extremes = (statistics.extreme("min")[:, 0], statistics.extreme("max")[:, 0])
        found = quantiles(counts, *extremes, *known.range.T)
    found[statistics.odd[:, 0]] = np.nan
    return found


class _Shape:
    """Features of objects' voxels, whatever the image."""

    def __init__(self, known: Accumulated) -> None:
        self.known = known

    def feature(self, name: str) -> Floats | None:
        """One of them, (objects, values), coordinates in the order x, y, z; None of others."""
        measures = self.known.measures
        if name == "Count":
            return measures["voxels"].astype(np.float64)[:, None]
        if name in ("Coord<Minimum>", "Coord<Maximum>"):
            corner = measures["start" if name == "Coord<Minimum>" else "stop"]
            return corner[:, ::-1].astype(np.float64)
        if name == "Coord<PowerSum<1>>":
            return measures["sums"][:, ::-1].astype(np.float64)
        if name == "RegionCenter":
            sums = measures["sums"][:, ::-1].astype(object)
            return np.stack([moments.quotient(column, self.known.voxels) for column in sums.T], axis=1)
        if name == "RegionRadii":
            # Rounding may leave a little less than nothing of a line's width.
            scatter = np.maximum(self._eigensystems[0], 0)
            return np.sqrt(scatter / measures["voxels"][:, None])
        if name == "RegionAxes":
            return self._eigensystems[1].reshape(len(self.known.voxels), self.known.axes**2)
        return None

    @cached_property
    def _eigensystems(self) -> tuple[Floats, Floats]:
        """Of the sums of products of coordinates less their means."""
        known, n = self.known, self.known.axes
        products = known.whole("object_products", PRODUCT_LIMBS)
        sums = known.measures["sums"].astype(object).T
        scatter = np.empty((len(known.voxels), n, n))
        for (i, j), product in zip(combinations_with_replacement(range(n), 2), products, strict=True):
            exact = known.voxels * product - sums[i] * sums[j]
            x, y = n - 1 - i, n - 1 - j
            scatter[:, x, y] = scatter[:, y, x] = moments.quotient(exact, known.voxels)
        return eigensystems(scatter)
