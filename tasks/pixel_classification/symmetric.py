"""Eigenvalues of small symmetric matrices in closed form."""

from __future__ import annotations

import math

import numpy as np

from blockwise.compiled import inlined


@inlined
def solve_2x2(yy: np.float32, yx: np.float32, xx: np.float32) -> tuple[np.float32, np.float32]:
    """Eigenvalues of a symmetric 2x2 matrix, larger one first; in double, rounded once."""
    p, q, r = np.float64(yy), np.float64(yx), np.float64(xx)
    centre, half = 0.5 * (p + r), 0.5 * (p - r)
    distance = math.sqrt(half * half + q * q)
    return np.float32(centre + distance), np.float32(centre - distance)


@inlined
def solve_3x3(
    zz: np.float32, zy: np.float32, zx: np.float32, yy: np.float32, yx: np.float32, xx: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    """Eigenvalues of a symmetric 3x3 matrix, largest first; in double, rounded once.

    The trigonometric solution of Smith (Communications of the ACM 4(4):168, 1961) without branches and without a
    library's cosine: with h = cos 3t the eigenvalue that stands apart from the other two lies at 2 p cos t from the
    mean, t <= 30 degrees, where cos(acos(h) / 3) is a smooth function of h: a polynomial gives it to 2e-9. The sine
    comes from sin 3t = sin t (4 cos² t - 1), free of cancellation where two eigenvalues meet.
    """
    zy8, zx8, yx8 = np.float64(zy), np.float64(zx), np.float64(yx)
    mean = (np.float64(zz) + np.float64(yy) + np.float64(xx)) * (1.0 / 3.0)
    z8, y8, x8 = np.float64(zz) - mean, np.float64(yy) - mean, np.float64(xx) - mean
    zy2, zx2, yx2 = zy8 * zy8, zx8 * zx8, yx8 * yx8
    p2 = (z8 * z8 + y8 * y8 + x8 * x8 + 2.0 * (zy2 + zx2 + yx2)) * (1.0 / 6.0)
    half_det = 0.5 * (z8 * (y8 * x8 - yx2) - x8 * zy2 - y8 * zx2) + zy8 * zx8 * yx8
    p = math.sqrt(p2)
    per_p3 = 1.0 / (p * p2 + 1e-300)
    rest = p2 * p2 * p2 - half_det * half_det
    rest = rest if rest > 0.0 else np.float64(0.0)
    h = abs(half_det) * per_p3
    h = h if h < 1.0 else np.float64(1.0)
    c = 0.0017648569477158788 - h * 0.0003028542202729437
    c = 0.00938333067262077 + h * (-0.004929691292929874 + h * c)
    c = 0.024604296804947648 + h * (-0.015107275209438269 + h * c)
    c = 0.866025405599564 + h * (0.16666637114459315 + h * (-0.04810444145461758 + h * c))
    side = 1.7320508075688772 * p * (math.sqrt(rest) * per_p3) / (4.0 * c * c - 1.0)
    c *= p
    high = half_det >= 0.0
    apart = mean + 2.0 * c if high else mean - 2.0 * c
    middle = mean - c if high else mean + c
    upper, lower = middle + side, middle - side
    return (
        np.float32(apart if high else upper),
        np.float32(upper if high else lower),
        np.float32(lower if high else apart),
    )
