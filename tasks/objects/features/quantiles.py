"""Quantiles out of a histogram, as vigra interpolates them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled
from tasks.objects.features.catalog import BINS, QUANTILES

_WANTED = np.array(QUANTILES)


def bin_scale(low: Any, high: Any) -> Any:
    """Bins per unit of the values; where all values are the same, as vigra has it, the range is a hair wide."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    width = np.where(high > low, high - low, BINS * np.finfo(np.float64).eps)
    return BINS / width


def quantiles(
    counts: NDArray[np.int64],
    least: NDArray[np.float64],
    greatest: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The quantiles of ``QUANTILES``, each interpolated between the values at which bins begin and end.

    Args:
        counts: the histograms, int64 (objects, 64).
        least: the least value of each object.
        greatest: the greatest one.
        low: where the first bin begins, for each object.
        high: where the last bin ends.

    Returns:
        float64 (objects, 7); NaN where nothing was counted. 0 % and 100 % are the least and the greatest value.
    """
    scale = bin_scale(low, high)
    found = np.full((len(counts), len(QUANTILES)), np.nan)
    _interpolate(counts, (least - low) * scale, (greatest - low) * scale, found)
    found /= scale[:, None]
    found += low[:, None]
    counted = counts.sum(axis=1) > 0
    found[counted, 0], found[counted, -1] = least[counted], greatest[counted]
    return found


@compiled
def _interpolate(counts: Any, least: Any, greatest: Any, found: Any) -> None:
    """In units of bins: along a line through the numbers of values below key points."""
    bins = counts.shape[1]
    places, below = np.empty(2 * bins + 2), np.empty(2 * bins + 2)
    for i in range(len(counts)):
        total = counts[i].sum()
        if total == 0:
            continue
        places[0], below[0] = least[i], 0.0
        last, passed = 0, 0
        for k in range(bins):
            if counts[i, k] == 0:
                continue
            if places[last] <= k:
                last += 1
                places[last], below[last] = k, passed
            passed += counts[i, k]
            last += 1
            places[last], below[last] = k + 1, passed
        places[last], below[last] = greatest[i], total
        at = 0
        for q in range(len(_WANTED)):
            wanted = total * _WANTED[q]
            while at < last - 1 and below[at + 1] < wanted:
                at += 1
            step = below[at + 1] - below[at]
            part = (wanted - below[at]) / step if step > 0 else 0.0
            found[i, q] = places[at] + part * (places[at + 1] - places[at])
