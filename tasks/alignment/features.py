"""What is known of one slice for its comparison with others: key points, and how it looks on a small scale.

Key points and descriptors are SIFT's (Lowe 2004), as OpenCV computes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError

Floats = NDArray[np.float64]

KEY_POINTS = 1500
CONTRAST = 0.02
TAILS = (0.5, 99.5)
"""Percentiles between which grey values are stretched to 8 bit."""
FINE, COARSE = 1.0, 12.0
"""Sigmas, in pixels, between which structures lie that are compared."""
SMALLEST = 16
"""Shortest side, in pixels, of what has key points."""
LOOK_SIDE = 512
"""Longest side of the small picture that is compared."""
LOOK_SCALE = 32
"""Steps of the small picture per standard deviation: int8 holds four of these."""


@dataclass(frozen=True)
class Features:
    """Of one slice.

    Attributes:
        points: (n, 2) float64, (x, y) of the key points in pixels of the slice.
        descriptors: (n, 128) uint8.
        look: int8, the slice between ``FINE`` and ``COARSE`` in ``LOOK_SCALE`` steps per standard deviation, coarser
            than the slice by ``look_factor``.
        factor: how much coarser than the slice the picture was in which key points were found.
        look_factor: see ``look``.
        size: (width, height) of the slice, in pixels.
        origin: (left, top) of the part of the slice that was looked at, in pixels.
    """

    points: Floats
    descriptors: NDArray[np.uint8]
    look: NDArray[np.int8]
    factor: int
    look_factor: int
    size: tuple[int, int]
    origin: tuple[int, int] = (0, 0)

    @property
    def look_to_slice(self) -> Floats:
        """The transform from pixels of the small picture to those of the slice; 2 x 3."""
        shift = np.array(self.origin, float) + (self.look_factor - 1) / 2
        return np.column_stack([np.eye(2) * self.look_factor, shift])


def stretch(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values as 8 bit, the ``TAILS`` at 0 and 255; an image without contrast is 0."""
    low, high = np.percentile(image, TAILS)
    if not high > low:
        return np.zeros(image.shape, np.uint8)
    scaled = (image.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    grey: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    return grey


def coarser(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """Means of squares of pixels; what is left over at the far ends is cut off.

    Pixel x of the result lies at ``factor * x + (factor - 1) / 2`` of the image.
    """
    if factor == 1:
        return image
    height, width = (n // factor for n in image.shape)
    squares = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    means: NDArray[np.float32] = squares.mean((1, 3), dtype=np.float32)
    return means


def to_full_size(points: Floats, factor: int) -> Floats:
    """Points of a coarser image in pixels of the slice."""
    return points * factor + (factor - 1) / 2


def band_pass(image: NDArray[Any]) -> NDArray[np.float32]:
    """Structures between ``FINE`` and ``COARSE``; float32 of the same shape and unit."""
    from scipy.ndimage import gaussian_filter  # slow to load

    values = image.astype(np.float32)
    found: NDArray[np.float32] = gaussian_filter(values, FINE, mode="nearest") - gaussian_filter(
        values, COARSE, mode="nearest"
    )
    return found


def find_features(
    image: NDArray[Any], largest: int = 1024, box: tuple[tuple[int, int], tuple[int, int]] | None = None
) -> Features:
    """Find the key points of a slice.

    Args:
        image: (height, width), integers or floats.
        largest: longest side, in pixels, of the picture in which they are looked for.
        box: (start, stop) along y and x, in pixels, of the part of the slice that counts; None for all of it.

    Returns:
        What was found; nothing of a part that is smaller than ``SMALLEST``.

    Raises:
        UserError: OpenCV is not installed.
    """
    height, width = image.shape
    (top, bottom), (left, right) = box or ((0, height), (0, width))
    part = image[top:bottom, left:right]
    if min(part.shape) < SMALLEST:
        return Features(
            np.zeros((0, 2)), np.zeros((0, 128), np.uint8), np.zeros((0, 0), np.int8), 1, 1, (width, height)
        )
    factor = max(1, math.ceil(max(part.shape) / largest))
    grey = stretch(coarser(part, factor))
    points, descriptors = _sift(grey)
    more = max(1, math.ceil(max(grey.shape) / LOOK_SIDE))
    look = band_pass(coarser(grey, more))
    spread = float(look.std())
    steps = np.rint(np.clip(look * (LOOK_SCALE / spread if spread > 0 else 0), -127, 127)).astype(np.int8)
    return Features(
        points=to_full_size(points, factor) + np.array([left, top], float),
        descriptors=descriptors,
        look=steps,
        factor=factor,
        look_factor=factor * more,
        size=(width, height),
        origin=(left, top),
    )


def _sift(grey: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.uint8]]:
    cv2 = load_opencv()
    found, descriptors = cv2.SIFT_create(nfeatures=KEY_POINTS, contrastThreshold=CONTRAST).detectAndCompute(
        grey, None
    )
    if not found:
        return np.zeros((0, 2)), np.zeros((0, 128), np.uint8)
    # Descriptors are whole numbers of one byte, whatever the type in which OpenCV gives them.
    return np.array([point.pt for point in found], float), np.asarray(descriptors).astype(np.uint8)


def load_opencv() -> Any:
    """OpenCV, told to use one thread.

    Raises:
        UserError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "to find out how slices lie, OpenCV is needed, which is not installed here; install it with "
            "`pip install 'blockwise-ilastik[alignment]'` (or `pip install opencv-python-headless`), or give "
            "the transforms"
        ) from error
    cv2.setNumThreads(1)
    return cv2
