"""Transforms of slices, their algebra, and how well points define one.

A transform is a float64 matrix of 2 x 3, in the order (x, y) = (column, row), with integers at the *centres* of
pixels, and forward: ``A[:, :2] @ (x, y) + A[:, 2]`` is where a pixel of the raw slice comes to lie.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Model = Literal["translation", "rigid", "affine"]
Floats = NDArray[np.float64]
Integers = NDArray[np.signedinteger[Any]]

FEWEST_POINTS: dict[Model, int] = {"translation": 1, "rigid": 2, "affine": 3}
"""How many pairs of points define a transform."""


def identity() -> Floats:
    """The transform that moves nothing."""
    return np.eye(2, 3)


def translation(x: float, y: float) -> Floats:
    """A shift, in pixels."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def apply(matrix: Floats, points: Floats) -> Floats:
    """Move points; (..., 2) in the order (x, y)."""
    moved: Floats = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def compose(outer: Floats, inner: Floats) -> Floats:
    """The transform that moves as ``inner`` and then as ``outer`` does."""
    return np.hstack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]])


def inverse(matrix: Floats) -> Floats:
    """The transform that moves back.

    Raises:
        numpy.linalg.LinAlgError: it flattens the plane.
    """
    back = np.linalg.inv(matrix[:, :2])
    return np.hstack([back, -back @ matrix[:, 2:]])


def corners(width: float, height: float) -> Floats:
    """Centres of a slice's corner pixels; (4, 2)."""
    return np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], float)


def nearest_rotation(linear: Floats) -> Floats:
    """The rotation that is nearest to linear parts of (..., 2, 2), by the least squares of their entries."""
    angle = rotation_angle(linear)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def rotation_angle(linear: Floats) -> Any:
    """Angle of the nearest rotation, in radians, from x to y."""
    return np.arctan2(linear[..., 1, 0] - linear[..., 0, 1], linear[..., 0, 0] + linear[..., 1, 1])


def fit(source: Floats, target: Floats, weights: Floats, model: Model) -> Floats:
    """The transforms of a model that take points nearest to other points, by weighted least squares.

    Args:
        source: (..., n, 2).
        target: of the same shape.
        weights: (..., n).
        model: what kind of transform; with fewer points than define it, or all on a line, the result may hold NaN.

    Returns:
        (..., 2, 3).
    """
    total = weights.sum(-1)[..., None]
    share = (weights / np.where(total > 0, total, np.nan))[..., None]
    p_mean, q_mean = (share * source).sum(-2), (share * target).sum(-2)
    p, q = source - p_mean[..., None, :], target - q_mean[..., None, :]
    linear = _linear_part(p, q, share, model)
    shift = q_mean - (linear @ p_mean[..., None])[..., 0]
    return np.concatenate([linear, shift[..., None]], -1)


def _linear_part(p: Floats, q: Floats, share: Floats, model: Model) -> Floats:
    """Of centred points."""
    if model == "translation":
        return np.broadcast_to(np.eye(2), (*p.shape[:-2], 2, 2))
    cross = np.swapaxes(share * q, -1, -2) @ p
    if model == "rigid":
        return nearest_rotation(cross)
    spread = np.swapaxes(share * p, -1, -2) @ p
    a, b, d = spread[..., 0, 0], spread[..., 0, 1], spread[..., 1, 1]
    size = a * d - b * b
    size = np.where(size > 1e-9 * (a + d) ** 2, size, np.nan)[..., None, None]
    back = np.stack([np.stack([d, -b], -1), np.stack([-b, a], -1)], -2) / size
    return np.asarray(cross @ back)
