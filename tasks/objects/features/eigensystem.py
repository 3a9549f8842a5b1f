"""Eigenvalues and eigenvectors of small symmetric matrices: the same bits on every processor, with vigra's signs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled

ROTATIONS = 50
"""Most QL iterations for an eigenvalue; two or three are usual."""


def eigensystems(matrices: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues and eigenvectors, the largest eigenvalue first.

    Householder's reduction and the QL method with implicit shifts, as EISPACK's ``tred2`` and ``tql2`` and after them
    JAMA (public domain) and vigra do it: signs of eigenvectors follow from the order of the operations, and LAPACK's
    would differ from ilastik's.

    Args:
        matrices: symmetric, (matrices, n, n).

    Returns:
        float64 (matrices, n), descending, and (matrices, n, n), eigenvectors as columns. NaN where it does not
        converge, which finite matrices do.
    """
    vectors = np.array(matrices, np.float64, order="C")
    values = np.empty(vectors.shape[:2])
    _solve(vectors, values)
    return values, vectors


@compiled
def _solve(vectors: Any, values: Any) -> None:
    n = vectors.shape[1]
    off = np.empty(n)
    for i in range(len(vectors)):
        _to_tridiagonal(vectors[i], values[i], off)
        if _diagonalize(vectors[i], values[i], off):
            _sort(vectors[i], values[i])
        else:
            for j in range(n):
                values[i, j] = np.nan
                for k in range(n):
                    vectors[i, j, k] = np.nan


@compiled
def _to_tridiagonal(a: Any, d: Any, e: Any) -> None:
    """Householder's reduction: diagonal ``d``, beside it ``e[1:]``, and what ``a`` was turned by."""
    n = len(d)
    for j in range(n):
        d[j] = a[n - 1, j]
    for i in range(n - 1, 0, -1):
        scale = h = 0.0
        for k in range(i):
            scale += abs(d[k])
        if scale == 0.0:
            e[i] = d[i - 1]
            for j in range(i):
                d[j] = a[i - 1, j]
                a[i, j] = 0.0
                a[j, i] = 0.0
        else:
            for k in range(i):
                d[k] /= scale
                h += d[k] * d[k]
            f = d[i - 1]
            g = -math.sqrt(h) if f > 0 else math.sqrt(h)
            e[i] = scale * g
            h -= f * g
            d[i - 1] = f - g
            _turn(a, d, e, i, h)
        d[i] = h
    for i in range(n - 1):
        a[n - 1, i] = a[i, i]
        a[i, i] = 1.0
        h = d[i + 1]
        if h != 0.0:
            for k in range(i + 1):
                d[k] = a[k, i + 1] / h
            for j in range(i + 1):
                g = 0.0
                for k in range(i + 1):
                    g += a[k, i + 1] * a[k, j]
                for k in range(i + 1):
                    a[k, j] -= g * d[k]
        for k in range(i + 1):
            a[k, i + 1] = 0.0
    for j in range(n):
        d[j] = a[n - 1, j]
        a[n - 1, j] = 0.0
    a[n - 1, n - 1] = 1.0
    e[0] = 0.0


@compiled
def _turn(a: Any, d: Any, e: Any, i: Any, h: Any) -> None:
    """Apply the reflection of row ``i`` to what is left of the matrix."""
    for j in range(i):
        e[j] = 0.0
    for j in range(i):
        f = d[j]
        a[j, i] = f
        g = e[j] + a[j, j] * f
        for k in range(j + 1, i):
            g += a[k, j] * d[k]
            e[k] += a[k, j] * f
        e[j] = g
    f = 0.0
    for j in range(i):
        e[j] /= h
        f += e[j] * d[j]
    half = f / (h + h)
    for j in range(i):
        e[j] -= half * d[j]
    for j in range(i):
        f, g = d[j], e[j]
        for k in range(j, i):
            a[k, j] -= f * e[k] + g * d[k]
        d[j] = a[i - 1, j]
        a[i, j] = 0.0


@compiled
def _diagonalize(z: Any, d: Any, e: Any) -> Any:
    """The QL method; whether it converges."""
    n = len(d)
    for i in range(1, n):
        e[i - 1] = e[i]
    e[n - 1] = 0.0
    shifted, largest, eps = 0.0, 0.0, 2.0**-52
    for l in range(n):  # noqa: E741  # the name that all descriptions of the method have
        largest = max(largest, abs(d[l]) + abs(e[l]))
        m = l
        while m < n - 1 and abs(e[m]) > eps * largest:
            m += 1
        rotations = 0
        while m > l:
            rotations += 1
            if rotations > ROTATIONS or not np.isfinite(e[l]):
                return False
            g = d[l]
            p = (d[l + 1] - g) / (2.0 * e[l])
            r = math.sqrt(p * p + 1.0)
            if p < 0:
                r = -r
            d[l] = e[l] / (p + r)
            d[l + 1] = e[l] * (p + r)
            h = g - d[l]
            for i in range(l + 2, n):
                d[i] -= h
            shifted += h
            _rotate(z, d, e, l, m)
            if abs(e[l]) <= eps * largest:
                break
        d[l] += shifted
        e[l] = 0.0
    return True


@compiled
def _rotate(z: Any, d: Any, e: Any, l: Any, m: Any) -> None:  # noqa: E741
    """One implicit QL step from ``m`` up to ``l``."""
    dl1, el1 = d[l + 1], e[l + 1]
    p = d[m]
    c, c2, c3 = 1.0, 1.0, 1.0
    s, s2 = 0.0, 0.0
    for i in range(m - 1, l - 1, -1):
        c3, c2, s2 = c2, c, s
        g = c * e[i]
        h = c * p
        r = math.sqrt(p * p + e[i] * e[i])
        e[i + 1] = s * r
        s = e[i] / r
        c = p / r
        p = c * d[i] - s * g
        d[i + 1] = h + s * (c * g + s * d[i])
        for k in range(len(d)):
            h = z[k, i + 1]
            z[k, i + 1] = s * z[k, i] + c * h
            z[k, i] = c * z[k, i] - s * h
    p = -s * s2 * c3 * el1 * e[l] / dl1
    e[l] = s * p
    d[l] = c * p


@compiled
def _sort(z: Any, d: Any) -> None:
    """Bring the largest eigenvalue to the front, and so on."""
    n = len(d)
    for i in range(n - 1):
        k = i
        for j in range(i + 1, n):
            if d[j] > d[k]:
                k = j
        if k != i:
            d[i], d[k] = d[k], d[i]
            for j in range(n):
                z[j, i], z[j, k] = z[j, k], z[j, i]
