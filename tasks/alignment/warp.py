"""Slices put in place: on which canvas, by whole pixels or between them, and which of its pixels are tissue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled
from blockwise.errors import UserError
from tasks.alignment.transforms import Floats, apply, corners, inverse

Interpolation = Literal["whole", "cubic"]


@dataclass(frozen=True)
class Canvas:
    """The part of the common frame that is written.

    Attributes:
        left: x of its first column.
        top: y of its first row.
        width: in pixels.
        height: in pixels.
    """

    left: int
    top: int
    width: int
    height: int


def applied(matrix: Floats, interpolation: Interpolation) -> Floats:
    """The transform that is applied: the shift to whole pixels where nothing is interpolated.

    Raises:
        ValueError: something that is no shift is to be applied without interpolation.
    """
    if interpolation == "cubic":
        return matrix
    if not np.array_equal(matrix[:, :2], np.eye(2)):
        raise ValueError("only shifts can be applied by whole pixels")
    return np.hstack([matrix[:, :2], np.rint(matrix[:, 2:])])


def canvas_of(matrices: Sequence[Floats], sizes: Sequence[tuple[int, int]], kind: Literal["union", "crop"]) -> Canvas:
    """The canvas that holds all of all slices (union), or only what all of them have (crop).

    Args:
        matrices: as they are applied.
        sizes: (width, height) of each slice.
        kind: which of the two.

    Raises:
        UserError: no slice is placed, or there is nothing that all of them have.
    """
    if not len(matrices):
        raise UserError("no slice could be placed, so there is nothing to write")
    placed = np.array([apply(matrix, corners(*size)) for matrix, size in zip(matrices, sizes, strict=True)])
    if kind == "union":
        low, high = np.floor(placed.min((0, 1)) + 1e-6), np.ceil(placed.max((0, 1)) - 1e-6)
    else:
        left, right = placed[:, (0, 2), 0].max(), placed[:, (1, 3), 0].min()
        top, bottom = placed[:, (0, 1), 1].max(), placed[:, (2, 3), 1].min()
        low, high = np.ceil(np.array([left, top]) - 1e-6), np.floor(np.array([right, bottom]) + 1e-6)
    width, height = (high - low + 1).astype(int)
    if width < 1 or height < 1:
        raise UserError("there is no pixel that all slices have; write all that any of them has (canvas: union)")
    return Canvas(int(low[0]), int(low[1]), int(width), int(height))


def put_in_place(
    image: NDArray[Any], matrix: Floats, canvas: Canvas, fill: float, interpolation: Interpolation
) -> NDArray[Any]:
    """A slice on the canvas.

    Args:
        image: (height, width), integers or floats.
        matrix: its transform.
        canvas: the part of the common frame that is returned.
        fill: value where there is no pixel of the slice.
        interpolation: whole pixels, which keeps every grey value, or Keys' cubic (Keys 1981, a = -1/2); edge pixels
        are
            repeated for the neighbours that the latter lacks.

    Returns:
        (canvas.height, canvas.width) of the image's dtype; integers are rounded, half to even, and cut to their
        range.
    """
    found = np.full((canvas.height, canvas.width), fill, image.dtype)
    matrix = applied(matrix, interpolation)
    if interpolation == "whole":
        x, y = int(matrix[0, 2]) - canvas.left, int(matrix[1, 2]) - canvas.top
        rows, columns = _overlap(y, image.shape[0], canvas.height), _overlap(x, image.shape[1], canvas.width)
        found[rows, columns] = image[_shifted(rows, -y), _shifted(columns, -x)]
        return found
    limits = np.iinfo(image.dtype) if image.dtype.kind in "ui" else None
    low, high = (0.0, 0.0) if limits is None else (float(limits.min), float(limits.max))
    _interpolate(image, inverse(matrix), canvas.left, canvas.top, low, high, limits is not None, found)
    return found


def tissue(size: tuple[int, int], matrix: Floats, canvas: Canvas, interpolation: Interpolation) -> NDArray[np.uint8]:
    """1 where a slice of this size has pixels on the canvas, else 0."""
    width, height = size
    ones = np.ones((height, width), np.uint8)
    return put_in_place(ones, matrix, canvas, 0, interpolation)


def _overlap(start: int, length: int, limit: int) -> slice:
    low, high = max(0, start), min(limit, start + length)
    return slice(low, max(low, high))


def _shifted(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by) if part.stop > part.start else slice(0, 0)


@compiled
def _interpolate(
    image: NDArray[Any],
    back: Floats,
    left: int,
    top: int,
    low: float,
    high: float,
    is_whole: bool,
    out: NDArray[Any],
) -> None:
    """Fill in the pixels of ``out`` that lie on the image."""
    height, width = image.shape
    wx, wy = np.empty(4), np.empty(4)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            x = back[0, 0] * (column + left) + back[0, 1] * (row + top) + back[0, 2]
            y = back[1, 0] * (column + left) + back[1, 1] * (row + top) + back[1, 2]
            if not (x >= -0.5 and y >= -0.5 and x <= width - 0.5 and y <= height - 0.5):
                continue
            column0, row0 = int(np.floor(x)), int(np.floor(y))
            _weights(x - column0, wx)
            _weights(y - row0, wy)
            total = 0.0
            for j in range(4):
                along = 0.0
                r = min(max(row0 - 1 + j, 0), height - 1)
                for i in range(4):
                    c = min(max(column0 - 1 + i, 0), width - 1)
                    along += wx[i] * image[r, c]
                total += wy[j] * along
            if is_whole:
                total = min(max(np.rint(total), low), high)
            out[row, column] = total


@compiled
def _weights(t: float, out: Floats) -> None:
    """Of the four neighbours of a place that is t behind the second of them."""
    out[0] = ((-0.5 * t + 1.0) * t - 0.5) * t
    out[1] = (1.5 * t - 2.5) * t * t + 1.0
    out[2] = ((-1.5 * t + 2.0) * t + 0.5) * t
    out[3] = (0.5 * t - 0.5) * t * t


def offsets(matrices: Mapping[int, Floats], sizes: Mapping[int, tuple[int, int]]) -> Floats:
    """By how much the centre of each slice is moved; (n, 2) in pixels, (x, y)."""
    centres = {z: (np.array(sizes[z], float) - 1) / 2 for z in matrices}
    return np.array([apply(matrix, centres[z]) - centres[z] for z, matrix in matrices.items()]).reshape(-1, 2)
