"""The mask of a threshold that is tried at a coarser scale: an approximation, made of coarser probabilities.

No block is computed for it, and nothing of the finest scale is read where a pyramid is finished. It is not what a
pyramid of the mask would be: a threshold of means is no mean of thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box, relative
from pipeline.viewing.images.layers import Layer
from pipeline.viewing.images.scales import Scale
from tasks.ilastik_smoothing import reach
from tasks.threshold import TRUNCATE, ThresholdStep, smooth_and_threshold


@dataclass(frozen=True)
class CoarseMask:
    """See ``Approximation``.

    Attributes:
        source: the layer of the probabilities.
        step: that makes the mask.
    """

    source: Layer
    step: ThresholdStep

    def halo(self, scale: Scale) -> tuple[int, ...]:
        """See ``Approximation``."""
        of_axes = dict(zip(self.step.grid.axes, self._sigma(scale), strict=True))
        sigma = [of_axes.get(axis, 0.0) for axis in self.source.axes]
        if self.step.like == "ilastik":
            return tuple(reach(s) for s in sigma)
        return tuple(int(TRUNCATE * s + 0.5) for s in sigma)

    def compute(self, probabilities: NDArray[Any], box: Box, read_box: Box, scale: Scale) -> NDArray[np.uint8]:
        """See ``Approximation``."""
        step, axes = self.step, self.source.axes
        channels = np.moveaxis(probabilities, axes.index("c"), 0) if "c" in axes else probabilities[np.newaxis]
        interior = tuple(s for axis, s in zip(axes, relative(box, read_box), strict=True) if axis != "c")
        # What a mask leaves out has no probability of any class.
        inside = None if step.mask is None else np.any(channels > 0, axis=0, keepdims=True)[0]
        of_core = None if step.core_channel is None else channels[step.core_channel]
        return smooth_and_threshold(
            channels[step.channel],
            self._sigma(scale),
            step.threshold,
            interior,
            inside,
            step.core,
            of_core,
            step.like,
        )

    def _sigma(self, scale: Scale) -> tuple[float, ...]:
        """Standard deviations in voxels of the scale, whose means have smoothed by themselves already."""
        factors = dict(zip(self.source.axes, scale.factors, strict=True))
        return tuple(
            coarser_sigma(sigma, factors[axis])
            for axis, sigma in zip(self.step.grid.axes, self.step.sigma, strict=True)
        )


def coarser_sigma(sigma: float, factor: int) -> float:
    """A Gaussian's standard deviation in voxels that are means of so many.

    The mean of n voxels has the variance (n^2 - 1) / 12 of its own; variances add up.

    >>> coarser_sigma(3.0, 1), coarser_sigma(0.3, 4)
    (3.0, 0.0)
    >>> round(coarser_sigma(2.0, 2), 3)
    0.968
    """
    return math.sqrt(max(0.0, sigma**2 - (factor**2 - 1) / 12)) / factor
