"""What moves slowly along a stack: kept, or taken out of the shifts.

Pictures cannot tell a drift of the stage from tissue that runs obliquely; who uses this knows which it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.alignment.transforms import Floats

REACH = 4.0
"""The Gaussian ends after this many sigmas."""


def without_drift(shifts: Floats, numbers: NDArray[np.float64], drift: str, slices: float) -> Floats:
    """Shifts of slices without what is slow.

    Args:
        shifts: (n, 2), in pixels.
        numbers: (n,), along z.
        drift: ``keep``; ``linear``: without the line that fits best; ``highpass``: without a Gaussian mean.
        slices: sigma of this mean, in slices.

    Returns:
        (n, 2).
    """
    if drift == "keep" or len(shifts) < 2:
        return shifts
    if drift == "linear":
        z = numbers - numbers.mean()
        slope = (shifts * z[:, None]).sum(0) / (z * z).sum()
        return np.asarray(shifts - shifts.mean(0) - z[:, None] * slope)
    return np.asarray(shifts - _means(shifts, numbers, slices))


def _means(shifts: Floats, numbers: NDArray[np.float64], slices: float) -> Floats:
    """Weighted means over neighbours, of what there is; gaps weigh nothing."""
    found = np.empty_like(shifts)
    for i, z in enumerate(numbers):
        near = slice(*np.searchsorted(numbers, (z - REACH * slices, z + REACH * slices + 1e-9)))
        weights = np.exp(-0.5 * ((numbers[near] - z) / slices) ** 2)
        found[i] = (weights[:, None] * shifts[near]).sum(0) / weights.sum()
    return found
