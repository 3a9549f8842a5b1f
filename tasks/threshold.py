"""Step 2: probabilities of one class -> Gaussian -> mask."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block, Box, box_shape, grow, relative
from blockwise.mask import open_mask
from blockwise.outputs import VolumeOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before
from blockwise.upstream import BlocksSource
from blockwise.volume import Volume, open_volume
from blockwise.volume_step import Holds, VolumeStep, giving
from tasks.ilastik_smoothing import reach, smooth_as_ilastik
from tasks.smoothing.gaussian import smoothed_part

Like = Literal["skimage", "ilastik"]
"""Whose threshold is meant: scikit-image's Gaussian and ``>``, or that of ilastik's threshold applet and ``>=``."""

TRUNCATE = 4.0
"""The Gaussian ends after this many sigmas."""

CORE = 2
"""Value of the thresholded volume in the core of hysteresis; 1 elsewhere above the final threshold."""

CORE_OUTSIDE = 3
"""Value, in ilastik's hysteresis of two classes, where a core reaches out of what is above the final threshold."""


def smooth(
    probabilities: NDArray[Any], sigma: tuple[float, ...], interior: Box, inside: NDArray[np.bool_] | None = None
) -> NDArray[Any]:
    """Smooth with a Gaussian.

    Args:
        probabilities: any axes; float32 as it is, uint8 as 0..255 for 0..1. Where the array ends the edge value is
            repeated.
        sigma: standard deviation per axis, in voxels.
        interior: the part to return.
        inside: voxels that count, of the same shape; None for all. The result is then the weighted mean of what
            lies inside alone (normalised convolution: Knutsson and Westin 1993), so that the mask's border, like the
            volume's, draws values neither up nor down. It means nothing outside.

    Returns:
        float32 (float64 for uint8) of the interior's shape.
    """
    if inside is None:
        return _gaussian(probabilities, sigma, interior)
    kept = np.where(inside, probabilities, probabilities.dtype.type(0))
    # Where all neighbours lie inside the weight is exactly 1, being rounded to float32 after each axis.
    weight = _gaussian(inside.astype(np.float32), sigma, interior)
    return _gaussian(kept, sigma, interior) / np.where(inside[interior], weight, np.float32(1))


def _gaussian(values: NDArray[Any], sigma: tuple[float, ...], interior: Box) -> NDArray[Any]:
    if values.dtype == np.float32:
        return smoothed_part(values, sigma, TRUNCATE, interior)
    from skimage.filters import gaussian  # slow to load: a run with nothing to do is over before

    smoothed: NDArray[Any] = gaussian(values, sigma=sigma, mode="nearest", truncate=TRUNCATE)[interior]
    return smoothed


def smooth_and_threshold(
    probabilities: NDArray[Any],
    sigma: tuple[float, ...],
    threshold: float,
    interior: Box,
    inside: NDArray[np.bool_] | None = None,
    core: float | None = None,
    core_probabilities: NDArray[Any] | None = None,
    like: Like = "skimage",
) -> NDArray[np.uint8]:
    """Smooth a block and cut it at a threshold.

    Args:
        probabilities: see ``smooth``. Holds ``interior`` and, around it, what the Gaussian reaches.
        sigma: standard deviation per axis, in voxels.
        threshold: the result is 1 where the smoothed value is greater.
        interior: the part to return.
        inside: see ``smooth``; the result is 0 outside.
        core: second threshold; the result is ``CORE`` where the smoothed value is greater as well.
        core_probabilities: of another class, that of the cores, of the same shape; None for the same. ``core`` is
            then compared with this class alone, and ``threshold`` with the sum of both, each smoothed by itself, as
            ilastik does.
        like: whose threshold is meant. As ilastik's the values are smoothed by ``smooth_as_ilastik``, with ``inside``
            0 outside, and compared in float32; equal to a threshold is above it. Cores, whose sizes count, may reach
            out of the objects there: the result is ``CORE_OUTSIDE`` where they do.

    Returns:
        uint8, equal to that of the whole volume: each value depends on the same neighbours in the same order.
    """
    exceeds = np.greater if like == "skimage" else np.greater_equal
    smoothed, of_core = smoothed_values(probabilities, sigma, interior, inside, core_probabilities, like)
    above: NDArray[np.bool_] = exceeds(smoothed, threshold)
    if inside is not None:
        above &= inside[interior]
    found = above.astype(np.uint8)
    if core is not None:
        in_core = exceeds(of_core, core)
        found[above & in_core] = CORE
        if like == "ilastik":
            found[in_core & ~above & (True if inside is None else inside[interior])] = CORE_OUTSIDE
    return found


def smoothed_values(
    probabilities: NDArray[Any],
    sigma: tuple[float, ...],
    interior: Box,
    inside: NDArray[np.bool_] | None = None,
    core_probabilities: NDArray[Any] | None = None,
    like: Like = "skimage",
) -> tuple[NDArray[Any], NDArray[Any]]:
    """What objects and cores are cut at their thresholds; see ``smooth_and_threshold``."""
    smoothing = smooth if like == "skimage" else _smooth_as_ilastik
    smoothed = smoothing(probabilities, sigma, interior, inside)
    if core_probabilities is None:
        return smoothed, smoothed
    of_core = smoothing(core_probabilities, sigma, interior, inside)
    return smoothed + of_core, of_core


def load_smoothing(dtypes: Iterable[str], sigma: tuple[float, ...], like: Like = "skimage") -> None:
    """Read what is compiled for ``smoothed_values`` of probabilities of these types, so that no block pays for it."""
    whole = (slice(0, 1),) * len(sigma)
    for dtype in dtypes:
        smoothed_values(np.zeros((1,) * len(sigma), dtype), sigma, whole, like=like)


def _smooth_as_ilastik(
    probabilities: NDArray[Any], sigma: tuple[float, ...], interior: Box, inside: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    kept = probabilities if inside is None else np.where(inside, probabilities, probabilities.dtype.type(0))
    return smooth_as_ilastik(kept, sigma)[interior]


class ThresholdStep(VolumeStep):
    """Smooth and threshold.

    Attributes:
        probabilities: the step that makes them.
        class_index: class to take, from 0, as the project counts them.
        channel: of the probabilities, that holds this class.
        sigma: standard deviation of the Gaussian, in voxels, per axis of the grid (0 along t).
        threshold: smoothed probability above which the mask is 1.
        core: smoothed probability above which it is ``CORE``; None without hysteresis.
        core_class: class of the cores where it is another one; see ``smooth_and_threshold``.
        core_channel: of the probabilities, that holds the class of the cores; None where there is none.
        like: whose threshold is meant; see ``smooth_and_threshold``.
    """

    name: ClassVar[str] = "threshold"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "mask"

    probabilities: Annotated[Before[VolumeStep], giving("probabilities")]
    class_index: int
    channel: int
    sigma: tuple[float, ...]
    threshold: float
    core: float | None = None
    core_class: int | None = None
    core_channel: int | None = None
    like: Like = "skimage"

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result."""
        optional: dict[str, Any] = {} if self.core is None else {"core": self.core}
        if self.core_class is not None:
            optional["core_class"] = self.core_class
        if self.like != "skimage":
            optional["as"] = self.like
        return {"class": self.class_index, "sigma": list(self.sigma), "threshold": self.threshold, **optional}

    def sources(self) -> tuple[Source, ...]:
        """The probabilities, and the mask; both with halo."""
        return (BlocksSource(self.probabilities), *self.mask_sources())

    def output(self) -> VolumeOutput:
        """The mask, uint8."""
        return VolumeOutput(self.address, self.grid, self.chunks, "uint8", 0, {}, self.shards)

    @cached_property
    def halo(self) -> tuple[int, ...]:
        """What the Gaussian reaches."""
        if self.like == "ilastik":
            return tuple(map(reach, self.sigma))
        return tuple(int(TRUNCATE * sigma + 0.5) for sigma in self.sigma)

    def projected_memory(self) -> int:
        """Probabilities, two arrays of the Gaussian, and the result; twice the arrays, and weights, with a mask.

        With another class for the cores its probabilities, the first class smoothed, and the sum.
        """
        itemsize = self._itemsize
        smoothed = 4 if itemsize == 4 else 8
        voxels = math.prod(self.grid.largest_read_shape(self.halo))
        per_voxel = itemsize + 3 * smoothed + (0 if self.mask is None else 24)
        if self.core_channel is not None:
            per_voxel += itemsize + 2 * smoothed
        return BASE_MEMORY + voxels * per_voxel

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """Probabilities of one class, or two, with halo; a mask."""
        voxels = self.grid.voxels
        itemsize = self._itemsize * (1 if self.core_channel is None else 2)
        return int(voxels * (1 + self.grid.halo_waste(self.halo)) * itemsize), voxels

    @property
    def _itemsize(self) -> int:
        """Bytes of a probability."""
        return np.dtype(self.probabilities.output().dtype).itemsize

    def prepare(self) -> Any:
        """Open the probabilities and the mask."""
        # Weights of a mask are float32.
        load_smoothing({self.probabilities.output().dtype, "float32"}, self.sigma, self.like)
        return open_volume(self.probabilities.address), open_mask(self.mask, self.grid)

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint8]:
        """Compute the mask of one block."""
        probabilities, interior, inside, of_core = self._around(block.write_box, prepared)
        return smooth_and_threshold(
            probabilities, self.sigma, self.threshold, interior, inside, self.core, of_core, self.like
        )

    def heights(self, box: Box, prepared: Any) -> NDArray[Any]:
        """What was compared with the threshold in a box of the grid; ``prepared`` as ``prepare`` gives it."""
        probabilities, interior, inside, of_core = self._around(box, prepared)
        return smoothed_values(probabilities, self.sigma, interior, inside, of_core, self.like)[0]

    def _around(self, box: Box, prepared: Any) -> tuple[NDArray[Any], Box, Any, NDArray[Any] | None]:
        """Probabilities of a box with what the Gaussian reaches, the box within, the mask, those of the cores."""
        volume, mask = prepared
        read_box = grow(box, self.halo, self.read_domain)
        probabilities = self._read(volume, read_box, self.channel)
        of_core = None if self.core_channel is None else self._read(volume, read_box, self.core_channel)
        return probabilities, relative(box, read_box), mask and mask.read(read_box), of_core

    def _read(self, volume: Volume, read_box: Box, channel: int) -> NDArray[Any]:
        """Probabilities of one class, of the grid's axes."""
        return volume.read(self.probabilities.output().box(read_box, channel)).reshape(box_shape(read_box))
