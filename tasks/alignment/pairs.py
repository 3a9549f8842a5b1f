"""How one slice lies on another: an estimate from key points, and evidence for or against it.

Key points are matched by Lowe's ratio test, a model is found by RANSAC (Fischler and Bolles 1981) and made exact by
iteratively reweighted least squares (Geman-McClure) over all matches. Whether it is right is asked of other things
than the key points: how the pictures look on each other, and, where that is not clear (an artefact) or little of them
lies on each other (a jump), of phase correlation (Kuglin and Hines 1975).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.alignment.features import Features
from tasks.alignment.transforms import FEWEST_POINTS, Floats, Model, apply, compose, fit, identity, inverse

RATIO = 0.85
"""A match is nearer than this to its second best, as a ratio of distances."""
TOLERANCE = 3.0
"""Pixels, of the picture in which key points were found, by which an inlier may be off."""
SCALE = 1.5
"""Pixels, as above, from which on a match counts less."""
ROUNDS = 10
BATCH, MOST_SAMPLES = 100, 2000
CONFIDENCE = 0.999
CELLS = 4
"""Cells along each side of a slice in which inliers are counted."""
MARGIN = 8
"""Pixels of the small pictures that at least overlap along each axis."""


@dataclass(frozen=True)
class Gate:
    """What a pair must show to count.

    Attributes:
        inliers: fewest matches that fit.
        cells: fewest of 16 cells of the slice in which some of them lie.
        stretch: the linear part's singular values lie between 1 / stretch and stretch.
        likeness: smallest correlation of the pictures on each other, between -1 and 1.
        doubt: likeness below which phase correlation must agree, as at an artefact.
        jump: part of the smaller slice, between 0 and 1, that lies on the other; where it is less, phase correlation
            must agree, however alike that part looks.
        disagreement: most pixels, of the small pictures, by which it may be off.
    """

    inliers: int = 12
    cells: int = 4
    stretch: float = 1.2
    likeness: float = 0.25
    doubt: float = 0.5
    jump: float = 0.8
    disagreement: float = 2.0


GATE = Gate()


@dataclass(frozen=True)
class Pair:
    """How a slice lies on another.

    Attributes:
        matrix: takes the second slice into the first; 2 x 3.
        matches: number of matched key points.
        inliers: number of those that fit.
        cells: number of 16 cells of the second slice that hold some of them.
        residual: root mean square of the inliers' distances, in pixels of the slice.
        likeness: correlation of the pictures on each other; NaN where they do not overlap.
        refused: why the pair does not count; empty where it does.
    """

    matrix: Floats
    matches: int
    inliers: int
    cells: int
    residual: float
    likeness: float
    refused: str


def estimate_pair(first: Features, second: Features, model: Model, gate: Gate = GATE) -> Pair:
    """Find how ``second`` lies on ``first``; the same result on every run and machine for the same features."""
    source, target = match(first, second)
    unit = float(max(first.factor, second.factor))
    matrix = ransac(source, target, model, TOLERANCE * unit)
    if matrix is None:
        return Pair(
            identity(), len(source), 0, 0, float("nan"), float("nan"), f"{len(source)} matches, none of a kind"
        )
    matrix = refine(source, target, matrix, model, SCALE * unit)
    distances = np.hypot(*(apply(matrix, source) - target).T)
    fits = distances < TOLERANCE * unit
    inliers = int(fits.sum())
    cells = _cells(source[fits], second.size)
    residual = float(np.sqrt(np.mean(distances[fits] ** 2))) if inliers else float("nan")
    likeness = float("nan")
    refused = _too_few(inliers, cells, matrix, gate)
    if not refused:
        likeness, refused = _looked_at(first, second, matrix, gate)
    return Pair(matrix, len(source), inliers, cells, residual, likeness, refused)


def match(first: Features, second: Features) -> tuple[Floats, Floats]:
    """Points of the second slice, and the points of the first that look alike; (n, 2) each."""
    if len(first.descriptors) < 2 or not len(second.descriptors):
        return np.zeros((0, 2)), np.zeros((0, 2))
    # Sums of whole numbers below 2 ** 24: exact in float32, in whatever order a library adds them.
    a, b = second.descriptors.astype(np.float32), first.descriptors.astype(np.float32)
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
    best = squares.argmin(1)
    rows = np.arange(len(a))
    nearest = squares[rows, best]
    squares[rows, best] = np.inf
    clear = nearest < RATIO**2 * squares.min(1)
    return second.points[clear], first.points[best[clear]]


def ransac(source: Floats, target: Floats, model: Model, tolerance: float) -> Floats | None:
    """The transform that most matches agree with, from samples of as few points as define one; None without any."""
    size = FEWEST_POINTS[model]
    if len(source) < size:
        return None
    random = np.random.RandomState(0)  # its numbers are the same in every version of numpy
    best, most, tried = None, size - 1 if size > 1 else 0, 0
    needed: float = MOST_SAMPLES
    while tried < min(needed, MOST_SAMPLES):
        samples = random.randint(0, len(source), (BATCH, size))
        tried += BATCH
        matrices = fit(source[samples], target[samples], np.ones((BATCH, size)), model)
        counts = _fitting(matrices, source, target, tolerance)
        winner = int(counts.argmax())
        if counts[winner] > most:
            best, most = matrices[winner], int(counts[winner])
            missed = 1 - min((most / len(source)) ** size, 1 - 1e-12)
            needed = np.log(1 - CONFIDENCE) / np.log(missed)
    return best


def _fitting(matrices: Floats, source: Floats, target: Floats, tolerance: float) -> NDArray[np.intp]:
    """How many points each of some transforms puts where they belong; axis by axis, for sums over pairs are slow."""
    squares = np.zeros((len(matrices), len(source)))
    for i in range(2):
        a, b, shift = (column[:, None] for column in matrices[:, i].T)
        off = a * source[:, 0]
        off += b * source[:, 1]
        off += shift
        off -= target[:, i]
        off *= off
        squares += off
    counts: NDArray[np.intp] = np.count_nonzero(squares < tolerance**2, axis=1)
    return counts


def refine(source: Floats, target: Floats, matrix: Floats, model: Model, scale: float) -> Floats:
    """Fit to all matches, each weighted by how well it fits."""
    for _ in range(ROUNDS):
        squares = ((apply(matrix, source) - target) ** 2).sum(1)
        better = fit(source, target, 1 / (1 + squares / scale**2) ** 2, model)
        if not np.isfinite(better).all():
            return matrix
        matrix = better
    return matrix


def _cells(points: Floats, size: tuple[int, int]) -> int:
    places = np.clip(np.floor(points / np.array(size, float) * CELLS), 0, CELLS - 1).astype(int)
    return len({(int(x), int(y)) for x, y in places})


def _too_few(inliers: int, cells: int, matrix: Floats, gate: Gate) -> str:
    if inliers < gate.inliers:
        return f"{inliers} matches fit, fewer than {gate.inliers}"
    if cells < gate.cells:
        return f"what fits lies in {cells} of {CELLS**2} parts of the slice, fewer than {gate.cells}"
    stretches = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if stretches.max() > gate.stretch or stretches.min() < 1 / gate.stretch:
        return f"it would stretch the slice by {stretches.max():.2f} and {stretches.min():.2f}"
    return ""


def _looked_at(first: Features, second: Features, matrix: Floats, gate: Gate) -> tuple[float, str]:
    """How alike the pictures are on each other, and why that is not enough."""
    one, other = overlay(first, second, matrix)
    if min(one.shape) < MARGIN:
        return float("nan"), "the slices hardly overlap"
    likeness = correlation(one, other)
    if not likeness >= gate.likeness:
        return likeness, f"the slices look alike by {likeness:.2f} on each other, less than {gate.likeness}"
    if likeness < gate.doubt or _shared(first, second, one.shape) < gate.jump:
        off = float(np.hypot(*phase_shift(one, other)))
        if off > gate.disagreement:
            return likeness, f"phase correlation says that it is off by {off:.1f} pixels of a small picture"
    return likeness, ""


def _shared(first: Features, second: Features, overlap: tuple[int, ...]) -> float:
    """Part of the smaller slice that lies on the other; of ``overlap``, in pixels of the first small picture."""
    areas = [features.look.size * features.look_factor**2 for features in (first, second)]
    return math.prod(overlap) * first.look_factor**2 / min(areas)


def overlay(first: Features, second: Features, matrix: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """The part of the first small picture where the second lies on it, and the second, moved; two of one shape."""
    from scipy.ndimage import map_coordinates  # slow to load

    back = compose(inverse(second.look_to_slice), compose(inverse(matrix), first.look_to_slice))
    height, width = first.look.shape
    y, x = np.mgrid[:height, :width].astype(float)
    u = back[0, 0] * x + back[0, 1] * y + back[0, 2]
    v = back[1, 0] * x + back[1, 1] * y + back[1, 2]
    inside = (u >= 0) & (v >= 0) & (u <= second.look.shape[1] - 1) & (v <= second.look.shape[0] - 1)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return np.zeros((0, 0)), np.zeros((0, 0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    moved = map_coordinates(second.look.astype(np.float32), [v[part], u[part]], order=1, mode="nearest")
    kept = inside[part]
    return np.where(kept, first.look[part], 0).astype(np.float64), np.where(kept, moved, 0).astype(np.float64)


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Normalised correlation, of what is not 0 in both (outside, pictures are); NaN without any."""
    both = (one != 0) & (other != 0)
    if both.sum() < MARGIN**2:
        return float("nan")
    a, b = one[both] - one[both].mean(), other[both] - other[both].mean()
    size = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size > 0 else float("nan")


def phase_shift(one: NDArray[Any], other: NDArray[Any]) -> tuple[int, int]:
    """Whole pixels (x, y) by which ``other`` would have to be moved to lie on ``one``, by phase correlation.

    Frequencies are half whitened: those of the tissue count more than those of the noise.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2  # slow to load

    taper = np.outer(np.hanning(one.shape[0]), np.hanning(one.shape[1]))
    shape = [next_fast_len(2 * n, real=True) for n in one.shape]
    product = rfft2(one * taper, shape) * np.conj(rfft2(other * taper, shape))
    size = np.sqrt(np.abs(product))
    peaks = irfft2(product / np.where(size > 0, size, 1), shape)
    y, x = np.unravel_index(int(peaks.argmax()), peaks.shape)
    return tuple(int(n - s if n > s // 2 else n) for n, s in ((x, shape[1]), (y, shape[0])))  # type: ignore[return-value]
