"""A volume with larger voxels: means of intensities, modes of labels."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiling_once
from tasks.pyramid import kernels

Method = Literal["mean", "mode"]
"""What a larger voxel is of those that it stands for."""

DESCRIPTIONS: dict[Method, str] = {
    "mean": "mean, in double precision and rounded once; integers half to even",
    "mode": "the most frequent value, of equals the smallest that is not 0",
}
"""In words, for metadata."""

_SUMS = {"uint8": "uint16", "uint16": "uint32", "uint32": "uint64", "float32": "float64", "float64": "float64"}
"""Types in which windows are added up; uint64 has none that is wide enough."""


def coarser(data: NDArray[Any], factors: tuple[int, ...], method: Method) -> NDArray[Any]:
    """Make voxels larger.

    Args:
        data: integers, or for means float32 or float64; any axes. It begins where a larger voxel begins.
        factors: 1 or 2 for each axis; 1 for all but the last three.
        method: ``mean``: in double precision, rounded once, integers half to even; a window is added up along y,
            then z, then x. ``mode``: the most frequent value, of equals the smallest that is not 0. Where an axis
            ends with half a window, of what there is.

    Returns:
        The same dtype, every length divided by its factor and rounded up. Each value depends on its window alone.

    Raises:
        ValueError: other factors, or a type that is not known.
    """
    if not set(factors) <= {1, 2} or set(factors[:-3]) - {1} or len(factors) != data.ndim:
        raise ValueError(f"factors {factors} of an array of shape {data.shape}")
    shape = tuple(-(-n // f) for n, f in zip(data.shape, factors, strict=True))
    missing = max(0, 3 - data.ndim)
    lengths, target = ((1,) * missing + part for part in (data.shape, shape))
    in_three = ((1,) * missing + factors)[-3:]
    # Loops are compiled for one kind of array: contiguous, aligned, writable, of this machine's byte order.
    source = np.require(data, data.dtype.newbyteorder("="), ["C", "A", "W"]).reshape(-1, *lengths[-3:])
    if set(in_three) == {1}:
        return source.reshape(shape)
    make = _mean if method == "mean" else _mode
    return make(source, np.empty((len(source), *target[-3:]), source.dtype), in_three).reshape(shape)


def compile_for(dtype: np.dtype[Any], method: Method) -> None:
    """Have the loops for a type ready, which takes a second or two where they are compiled for the first time."""
    _compile(dtype.newbyteorder("=").name, method)


@functools.cache
def _compile(dtype: str, method: Method) -> None:
    with compiling_once(Path(__file__).parent, f"{method}-{dtype}"):
        coarser(np.zeros((2, 2, 2), dtype), (2, 2, 2), method)


def _mean(source: NDArray[Any], target: NDArray[Any], factors: tuple[int, ...]) -> NDArray[Any]:
    kind = source.dtype
    if kind.kind == "i":  # moved up by half the range, which is even, so that halves are rounded as they were
        unsigned, half = np.dtype(f"u{kind.itemsize}"), 1 << (8 * kind.itemsize - 1)
        _mean(source.view(unsigned) ^ unsigned.type(half), target.view(unsigned), factors)
        target.view(unsigned)[...] ^= unsigned.type(half)
        return target
    if kind == np.uint64:
        kernels.mean_uint64(source, target, factors)
        return target
    if kind.name not in _SUMS:
        raise ValueError(f"no means of {kind}")
    sums = np.empty(source.shape[-1], _SUMS[kind.name])
    getattr(kernels, f"mean_{kind.name}")(source, target, factors, sums)
    return target


def _mode(source: NDArray[Any], target: NDArray[Any], factors: tuple[int, ...]) -> NDArray[Any]:
    kind = source.dtype
    if kind.kind not in "iu":
        raise ValueError(f"no modes of {kind}")
    unsigned = np.dtype(f"u{kind.itemsize}")  # of labels none is below 0
    window = np.empty(kernels.LARGEST_WINDOW, unsigned)
    getattr(kernels, f"mode_{unsigned.name}")(source.view(unsigned), target.view(unsigned), factors, window)
    return target
