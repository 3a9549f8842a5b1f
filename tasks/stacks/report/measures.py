"""What small pictures of slices tell before and after they are put in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.alignment.features import Features
from tasks.alignment.pairs import correlation, overlay
from tasks.alignment.transforms import Floats, apply, compose, inverse, translation

MOST_PAIRS = 100
Look = Callable[[int], Features]


def sampled(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of some numbers, spread evenly."""
    places = np.unique(np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int))
    return [numbers[i] for i in places]


def likeness_at(features: Look, matrices: Mapping[int, Floats], distance: int) -> tuple[float, float]:
    """Mean correlation of slices that are so far from each other: as they are centred on each other, and aligned."""
    before, after = [], []
    for z in sampled([z for z in matrices if z + distance in matrices], MOST_PAIRS):
        first, second = features(z), features(z + distance)
        before.append(correlation(*overlay(first, second, _centred(first, second))))
        placed = compose(inverse(matrices[z]), matrices[z + distance])
        after.append(correlation(*overlay(first, second, placed)))
    return _mean(before), _mean(after)


def _mean(values: list[float]) -> float:
    good = [value for value in values if np.isfinite(value)]
    return float(np.mean(good)) if good else float("nan")


def _centred(first: Features, second: Features) -> Floats:
    return translation(*(_middle(first) - _middle(second)))


def cuts(
    features: Look, matrices: Mapping[int, Floats], numbers: Sequence[int], axis: str
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """A cut through the middle along ``x`` or ``y`` and all slices, before and after; a row for each slice."""
    whole = features(numbers[0])
    middle = _middle(whole)
    height, width = whole.look.shape
    points = np.tile((np.array([width, height], float) - 1) / 2, (width if axis == "x" else height, 1))
    points[:, "xy".index(axis)] = np.arange(len(points))
    points = apply(whole.look_to_slice, points)
    rows: tuple[list[NDArray[np.int8]], list[NDArray[np.int8]]] = ([], [])
    inverse_first = matrices[numbers[0]]
    for z in numbers:
        look = features(z)
        rows[0].append(_values(look, points - middle + _middle(look)))
        rows[1].append(_values(look, apply(inverse(matrices[z]), apply(inverse_first, points))))
    return np.array(rows[0]), np.array(rows[1])


def _middle(features: Features) -> Floats:
    """Of the part of a slice that was looked at, (x, y) in its pixels."""
    size = np.array(features.look.shape[::-1], float)
    return apply(features.look_to_slice, (size - 1) / 2)


def _values(look: Features, points: Floats) -> NDArray[np.int8]:
    """Of the small picture, nearest neighbours, at points of the slice; 0 outside."""
    places = np.rint(apply(inverse(look.look_to_slice), points)).astype(int)
    height, width = look.look.shape
    inside = (places >= 0).all(1) & (places < (width, height)).all(1)
    found = np.zeros(len(points), np.int8)
    found[inside] = look.look[places[inside, 1], places[inside, 0]]
    return found
