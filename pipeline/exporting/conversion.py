"""Voxels into another type, refusing what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.volume.containers.metadata import written_dtype

_TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


def target_dtype(name: str | None, source: np.dtype[Any]) -> np.dtype[Any]:
    """The type that is asked for, by default that of the source.

    Raises:
        UserError: no such type.
    """
    if name is None:
        return written_dtype(source)
    if name not in _TYPES:
        raise UserError(f"dtype {name!r} is not known; known are {', '.join(_TYPES)}")
    return np.dtype(name)


def converted(
    data: NDArray[Any], dtype: np.dtype[Any], scale: tuple[float, float] | None, where: str
) -> NDArray[Any]:
    """Voxels in another type.

    Args:
        data: any shape.
        dtype: of the result.
        scale: values that become the smallest and largest of an integer ``dtype``, in between linear and rounded,
            such as (0, 1) for probabilities; None to keep values as they are.
        where: what is converted, for messages.

    Raises:
        UserError: a value does not fit, or fractions would be lost.
    """
    widens = data.dtype.kind == "f" and np.can_cast(data.dtype, dtype, "safe")
    if widens or data.dtype == dtype or not data.size:
        return data.astype(dtype, copy=False)
    low, high = data.min(), data.max()
    if scale is not None and dtype.kind in "iu":
        return _scaled(data, dtype, scale, (float(low), float(high)), where)
    if data.dtype.kind == "f" and dtype.kind in "iu":
        raise UserError(
            f"{where}: {data.dtype} values do not go into {dtype} as they are; give the range that becomes the "
            f"whole of {dtype} (0 to 1 for probabilities), or export float32"
        )
    first, last = _limits(data.dtype, dtype)
    if low < first or high > last:
        raise UserError(
            f"{where}: values reach from {low} to {high}, {dtype} holds {first} to {last}; choose a larger type"
        )
    return data.astype(dtype)


def _limits(source: np.dtype[Any], dtype: np.dtype[Any]) -> tuple[float | int, float | int]:
    """Smallest and largest value that keeps its value in ``dtype``."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    if source.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    exact = 2 ** (np.finfo(dtype).nmant + 1)  # beyond it not every whole number is a float
    return -exact, exact


def _scaled(
    data: NDArray[Any], dtype: np.dtype[Any], scale: tuple[float, float], found: tuple[float, float], where: str
) -> NDArray[Any]:
    if found[0] < scale[0] or found[1] > scale[1] or not np.isfinite(found).all():
        raise UserError(
            f"{where}: values reach from {found[0]:g} to {found[1]:g}, outside of the range {scale[0]:g} to "
            f"{scale[1]:g}"
        )
    limits = np.iinfo(dtype)
    unit = (data.astype(np.float64) - scale[0]) / (scale[1] - scale[0])
    return np.rint(limits.min + unit * (limits.max - limits.min)).astype(dtype)
