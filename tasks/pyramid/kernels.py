"""Loops that make voxels larger: the mean and the mode of windows of up to 2 x 2 x 2 voxels.

A window is cut off where the volume ends: it then holds one voxel along that axis, not two. So every window holds 1,
2, 4 or 8 voxels, and means need shifts only. A result depends on the voxels of its window alone, not on its place.

The loops are written once, for all types; below each stands the function that is compiled for one type alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from blockwise.compiled import Integer, compiled, part_of_compiled

LARGEST_WINDOW = 8


@part_of_compiled
def _sum_rows(source: Any, i: Integer, zs: tuple[Integer, Integer], ys: tuple[Integer, Integer], sums: Any) -> int:
    """Sums over a window's rows, voxel by voxel; the number of rows is 2 to the power of the result."""
    z0, z1 = zs
    y0, y1 = ys
    kind = sums.dtype.type
    if z1 - z0 == 2 and y1 - y0 == 2:
        for x in range(sums.size):
            near = kind(source[i, z0, y0, x]) + kind(source[i, z0, y0 + 1, x])
            sums[x] = near + (kind(source[i, z0 + 1, y0, x]) + kind(source[i, z0 + 1, y0 + 1, x]))
        return 2
    if z1 - z0 == 1 and y1 - y0 == 1:
        for x in range(sums.size):
            sums[x] = source[i, z0, y0, x]
        return 0
    for x in range(sums.size):
        sums[x] = kind(source[i, z0, y0, x]) + kind(source[i, z1 - 1, y1 - 1, x])
    return 1


@part_of_compiled
def _window(k: Integer, factor: Integer, length: Integer) -> tuple[Integer, Integer]:
    """First voxel and stop of a window along an axis."""
    return k * factor, min((k + 1) * factor, length)


@part_of_compiled
def _rounded(total: Any, halvings: Any, one: Any) -> Any:
    """A sum divided by 2 to some power, rounded half to even; ``one`` has the sum's type."""
    if halvings == 0:
        return total
    below_half = (one << (halvings - one)) - one
    return (total + below_half + ((total >> halvings) & one)) >> halvings


@part_of_compiled
def _mean_of_integers(source: Any, target: Any, factors: tuple[Integer, ...], sums: Any, one: Any) -> None:
    fz, fy, fx = factors
    _, depth, height, width = source.shape
    for i in range(target.shape[0]):
        for z in range(target.shape[1]):
            for y in range(target.shape[2]):
                rows = one * _sum_rows(source, i, _window(z, fz, depth), _window(y, fy, height), sums)
                if fx == 1:
                    for x in range(width):
                        target[i, z, y, x] = _rounded(sums[x], rows, one)
                    continue
                for x in range(width // 2):
                    target[i, z, y, x] = _rounded(sums[2 * x] + sums[2 * x + 1], rows + one, one)
                if width % 2:
                    target[i, z, y, width // 2] = _rounded(sums[width - 1], rows, one)


@compiled
def mean_uint8(source: Any, target: Any, factors: tuple[Integer, ...], sums: Any) -> None:
    """Means of uint8; sums are uint16."""
    _mean_of_integers(source, target, factors, sums, np.uint16(1))


@compiled
def mean_uint16(source: Any, target: Any, factors: tuple[Integer, ...], sums: Any) -> None:
    """Means of uint16; sums are uint32."""
    _mean_of_integers(source, target, factors, sums, np.uint32(1))


@compiled
def mean_uint32(source: Any, target: Any, factors: tuple[Integer, ...], sums: Any) -> None:
    """Means of uint32; sums are uint64."""
    _mean_of_integers(source, target, factors, sums, np.uint64(1))


@part_of_compiled
def _mean_of_floats(source: Any, target: Any, factors: tuple[Integer, ...], sums: Any) -> None:
    fz, fy, fx = factors
    _, depth, height, width = source.shape
    kind = target.dtype.type
    for i in range(target.shape[0]):
        for z in range(target.shape[1]):
            for y in range(target.shape[2]):
                rows = _sum_rows(source, i, _window(z, fz, depth), _window(y, fy, height), sums)
                part = 1.0 / (1 << rows)
                if fx == 1:
                    for x in range(width):
                        target[i, z, y, x] = kind(sums[x] * part)
                    continue
                for x in range(width // 2):
                    target[i, z, y, x] = kind((sums[2 * x] + sums[2 * x + 1]) * (0.5 * part))
                if width % 2:
                    target[i, z, y, width // 2] = kind(sums[width - 1] * part)


@compiled
def mean_float32(source: Any, target: Any, factors: tuple[Integer, ...], sums: Any) -> None:
    """Means of float32; sums are float64."""
    _mean_of_floats(source, target, factors, sums)


@compiled
def mean_float64(source: Any, target: Any, factors: tuple[Integer, ...], sums: Any) -> None:
    """Means of float64; sums are float64."""
    _mean_of_floats(source, target, factors, sums)


@compiled
def mean_uint64(source: Any, target: Any, factors: tuple[Integer, ...]) -> None:
    """Means of uint64: whole parts and remainders are added apart, since no wider type holds their sum."""
    fz, fy, fx = factors
    _, depth, height, width = source.shape
    one = np.uint64(1)
    for i in range(target.shape[0]):
        for z in range(target.shape[1]):
            z0, z1 = _window(z, fz, depth)
            for y in range(target.shape[2]):
                y0, y1 = _window(y, fy, height)
                for x in range(target.shape[3]):
                    x0, x1 = _window(x, fx, width)
                    halvings = np.uint64((z1 - z0 - 1) + (y1 - y0 - 1) + (x1 - x0 - 1))
                    low_bits = (one << halvings) - one
                    whole, rest = np.uint64(0), np.uint64(0)
                    for zz in range(z0, z1):
                        for yy in range(y0, y1):
                            for xx in range(x0, x1):
                                value = source[i, zz, yy, xx]
                                whole += value >> halvings
                                rest += value & low_bits
                    whole += rest >> halvings
                    rest &= low_bits
                    # Of the remainder's double, so that half a window of one voxel needs no fraction.
                    twice, all_ = rest + rest, one << halvings
                    if twice > all_ or (twice == all_ and whole & one):
                        whole += one
                    target[i, z, y, x] = whole


@part_of_compiled
def _is_before(value: Any, other: Any) -> Any:
    """Which of two different values wins where both are as frequent: the smaller one that is not 0."""
    return other == 0 or (value != 0 and value < other)


@part_of_compiled
def _most_frequent(window: Any, count: Integer) -> Any:
    """The most frequent of the first values; of equals see ``_is_before``."""
    best, votes = window[0], 0
    for i in range(count):
        value, found = window[i], 0
        for j in range(count):
            found += window[j] == value
        if found > votes or (found == votes and value != best and _is_before(value, best)):
            best, votes = value, found
    return best


@part_of_compiled
def _most_frequent_of_8(window: Any) -> Any:
    """As ``_most_frequent``, with a length that the compiler knows."""
    best, votes = window[0], 0
    for i in range(8):
        value, found = window[i], 0
        for j in range(8):
            found += window[j] == value
        if found > 4:
            return value
        if found > votes or (found == votes and value != best and _is_before(value, best)):
            best, votes = value, found
    return best


@part_of_compiled
def _mode(source: Any, target: Any, factors: tuple[Integer, ...], window: Any) -> None:
    fz, fy, fx = factors
    _, depth, height, width = source.shape
    for i in range(target.shape[0]):
        for z in range(target.shape[1]):
            z0, z1 = _window(z, fz, depth)
            for y in range(target.shape[2]):
                y0, y1 = _window(y, fy, height)
                is_full = z1 - z0 == 2 and y1 - y0 == 2 and fx == 2
                full = width // 2 if is_full else 0
                for x in range(full):
                    a, b = source[i, z0, y0, 2 * x], source[i, z0, y0, 2 * x + 1]
                    c, d = source[i, z0, y0 + 1, 2 * x], source[i, z0, y0 + 1, 2 * x + 1]
                    e, f = source[i, z0 + 1, y0, 2 * x], source[i, z0 + 1, y0, 2 * x + 1]
                    g, h = source[i, z0 + 1, y0 + 1, 2 * x], source[i, z0 + 1, y0 + 1, 2 * x + 1]
                    if ((a ^ b) | (a ^ c) | (a ^ d) | (a ^ e) | (a ^ f) | (a ^ g) | (a ^ h)) == 0:
                        target[i, z, y, x] = a
                        continue
                    window[0], window[1], window[2], window[3] = a, b, c, d
                    window[4], window[5], window[6], window[7] = e, f, g, h
                    target[i, z, y, x] = _most_frequent_of_8(window)
                for x in range(full, target.shape[3]):
                    count = 0
                    x0, x1 = _window(x, fx, width)
                    for zz in range(z0, z1):
                        for yy in range(y0, y1):
                            for xx in range(x0, x1):
                                window[count] = source[i, zz, yy, xx]
                                count += 1
                    target[i, z, y, x] = _most_frequent(window, count)


@compiled
def mode_uint8(source: Any, target: Any, factors: tuple[Integer, ...], window: Any) -> None:
    """Modes of uint8."""
    _mode(source, target, factors, window)


@compiled
def mode_uint16(source: Any, target: Any, factors: tuple[Integer, ...], window: Any) -> None:
    """Modes of uint16."""
    _mode(source, target, factors, window)


@compiled
def mode_uint32(source: Any, target: Any, factors: tuple[Integer, ...], window: Any) -> None:
    """Modes of uint32."""
    _mode(source, target, factors, window)


@compiled
def mode_uint64(source: Any, target: Any, factors: tuple[Integer, ...], window: Any) -> None:
    """Modes of uint64."""
    _mode(source, target, factors, window)
