"""Gaussian smoothing of a block for one scale, from which that scale's features are computed.

Each output voxel is the same sequence of float32 operations as in the reference engine: along z, then y, then x,
from the centre outwards. Only the rows that the result needs are computed, and the passes along y and x share a row
that stays in the cache. Rows are computed `LINE` voxels at a time, also where they end within these: what is computed
beyond a row's end is written over, or never read, and what is read there is memory that was set aside for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import uint64
from numpy.typing import NDArray

from blockwise.compiled import Integer, compiled
from tasks.pixel_classification.fast.vectors import LINE, fetch, weigh

Volume = NDArray[np.float32]
SLICES = 8  # that are smoothed together
CACHE_LINE = 16  # floats
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def mirrored(start: int, stop: int, size: int) -> NDArray[np.int64]:
    """Indices start..stop along an axis, those outside 0..size reflected without repeating the border voxel."""
    if size == 1:
        return np.zeros(stop - start, np.int64)
    index = np.abs(np.arange(start, stop, dtype=np.int64)) % (2 * size - 2)
    return np.where(index < size, index, 2 * size - 2 - index)


def with_room(n: int) -> NDArray[np.float32]:
    """Memory for a number of voxels, and for what is read or written behind the last one."""
    return np.empty(n + LINE, np.float32)


@compiled
def _weigh_line(
    out: Any, at: Integer, n: Integer, src: Any, taps: Any, starts: Any, line: Integer, offset: Integer
) -> None:
    """Correlate n voxels across lines: ``starts[line]`` is where the middle one starts in `src`, less `offset`."""
    for i in range(0, n, LINE):
        weigh(out, at + i, src, starts, line, offset + i, taps)


@compiled
def _mirror_ends(line: Any, inside: Any, xs: Any) -> None:
    """Fill a line's ends, outside `inside`, from the places `xs` that they mirror."""
    for x in range(inside[0]):
        line[x] = line[xs[x]]
    for x in range(inside[1], xs.size):
        line[x] = line[xs[x]]


@compiled
def _smooth(
    raw: Any, shape: Any, taps: Any, zs: Any, ys: Any, xs: Any, needed: Any, in_2d: bool, corner: Any, out: Any
) -> None:
    """See `presmooth`.

    `SLICES` slices at a time go through all passes, so that what lies between the pass along z and the others stays
    in the cache. It reads rows of many slices in turn, which no processor foresees: they are fetched a row ahead.

    Args:
        raw: flat float32 with room, `shape` voxels.
        shape: int64 (3,).
        taps: of the kernel, 0..r.
        zs: starts in `raw` of the result's slices and of r more on each side; `ys` likewise, of rows in a slice.
        ys: see zs.
        xs: for each voxel of a line of the result and r more on each side, the place in that line that it mirrors.
        needed: first and last + 1 of the rows that are needed; the first voxel of a row that is needed; first and
            last + 1 voxel of a line that it mirrors nowhere.
        in_2d: smooth each z slice by itself.
        corner: place of the result in `out`.
        out: float32 (z, y, x).
    """
    r = taps.size - 1
    n_z, n_y, n_x = zs.size - 2 * r, ys.size - 2 * r, xs.size - 2 * r
    row, left, inside = shape[2], needed[2], needed[3:]
    width, plane = inside[1] - inside[0], shape[1] * shape[2] + LINE
    between = np.zeros(1 if in_2d else SLICES * plane, np.float32)
    line = np.zeros(xs.size + 2 * LINE, np.float32)
    smooth = np.zeros(n_x + LINE, np.float32)
    places, result = np.arange(xs.size), out.reshape(-1)
    for first in range(0, n_z, SLICES):
        slices = min(SLICES, n_z - first)
        if not in_2d:
            for y in range(needed[0], needed[1]):
                at = y * row + left
                for z in range(first, first + 2 * r + slices):
                    for x in range(0, width, CACHE_LINE):
                        fetch(raw, zs[z] + at + row + x)
                for z in range(slices):
                    _weigh_line(between, z * plane + at, width, raw, taps, zs, r + first + z, at)
        for z in range(first, first + slices):
            source, start = (raw, zs[r + z]) if in_2d else (between, (z - first) * plane)
            for y in range(n_y):
                _weigh_line(line, inside[0], width, source, taps, ys, r + y, start + left)
                _mirror_ends(line, inside, xs)
                _weigh_line(smooth, np.int64(0), n_x, line, taps, places, r, np.int64(0))
                at = uint64(((corner[0] + z) * out.shape[1] + corner[1] + y) * out.shape[2] + corner[2])
                for x in range(uint64(n_x)):
                    result[at + x] = smooth[x]


def presmooth(
    raw: NDArray[np.float32],
    shape: tuple[int, int, int],
    taps: NDArray[np.float32],
    box: Box,
    in_2d: bool,
    corner: tuple[int, int, int],
    out: Volume,
) -> None:
    """Smooth a part of a volume, mirrored at its borders.

    Args:
        raw: flat float32, made by `with_room`.
        shape: (z, y, x) of the volume in it.
        taps: even kernel, taps 0..r.
        box: (start, stop) per axis of the part, within the volume.
        in_2d: smooth each z slice by itself.
        corner: where in `out` the part's first voxel goes.
        out: C-contiguous float32 (z, y, x).
    """
    r = taps.size - 1
    zs, ys, xs = (mirrored(a - r, b + r, n) for (a, b), n in zip(box, shape, strict=True))
    start, stop, left, right = box[2][0] - r, box[2][1] + r, int(xs.min()), int(xs.max()) + 1
    if left != max(start, 0) or right != min(stop, shape[2]):
        raise AssertionError(f"a line of {shape[2]} voxels mirrors {start}..{stop} to {left}..{right}")
    needed = np.array([ys.min(), ys.max() + 1, left, left - start, right - start], np.int64)
    starts_z, starts_y = zs * (shape[1] * shape[2]), ys * shape[2]
    at = np.array(corner, np.int64)
    _smooth(raw, np.array(shape, np.int64), taps, starts_z, starts_y, xs - start, needed, in_2d, at, out)
