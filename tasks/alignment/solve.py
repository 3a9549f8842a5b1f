"""Where all slices lie: one robust fit to the estimates of all pairs.

Gauss-Newton over four points per pair, with a Cauchy loss that narrows from ``WIDEST`` to ``loss`` pixels, and a
ridge that pulls the rotation (rigid) or the stretch (affine) of each slice to none where the pairs do not say
otherwise: a slow twist or stretch, which tissue that runs obliquely makes up, is mostly taken out so. The equations
are banded, as slices have pairs with their next neighbours only: time and memory grow linearly with slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.alignment.transforms import (
    Floats,
    Integers,
    Model,
    compose,
    identity,
    inverse,
    nearest_rotation,
    rotation_angle,
)

PARAMETERS: dict[Model, int] = {"translation": 2, "rigid": 3, "affine": 6}
RIDGE: dict[Model, float] = {"translation": 0.0, "rigid": 0.03, "affine": 0.1}
"""(noise of a pair / size of a deformation that is expected) squared, both in pixels at the slice's ``RADIUS``."""
RADIUS = 1 / np.sqrt(3)
"""Of half a side: four points there weigh as the whole square does."""
WEIGHTS = {1: 1.0, 2: 0.7}
FARTHER = 0.5
"""Weight of a pair by how many slices on its second is; of those that are farther."""
WIDEST, NARROWING = 8.0, 0.6
ROUNDS_AT_LAST = 12


@dataclass(frozen=True)
class Link:
    """An accepted pair.

    Attributes:
        first: place of its first slice among the slices.
        second: place of the second.
        matrix: takes the second slice into the first.
        unit: pixels of the slices along one pixel of the estimate.
    """

    first: int
    second: int
    matrix: Floats
    unit: float = 1.0


@dataclass
class Solution:
    """Where slices lie.

    Attributes:
        matrices: of each slice, (n, 2, 3).
        residuals: of each link, root mean square over its four points, in pixels.
        components: places of slices that hang together, the largest first, each ascending.
    """

    matrices: Floats
    residuals: Floats
    components: list[list[int]] = field(default_factory=list)


def solve(
    sizes: Sequence[tuple[int, int]],
    links: Sequence[Link],
    model: Model,
    ridge: float | None = None,
    loss: float = 1.0,
    anchors: Mapping[int, Floats] | None = None,
) -> Solution:
    """Find where all slices lie.

    Args:
        sizes: (width, height) of each slice, in pixels.
        links: accepted pairs.
        model: of all transforms.
        ridge: see ``RIDGE``; None for the model's own.
        loss: pixels of the estimate from which on a pair counts less.
        anchors: slices, by place, whose transforms are given. In a part of the stack without one the first slice
            stays where it is.
    """
    ridge = RIDGE[model] if ridge is None else ridge
    fixed = dict(anchors or {})
    parts = components(len(sizes), links)
    for part in parts:
        if not any(place in fixed for place in part):
            fixed[part[0]] = identity()
    matrices = _started(len(sizes), links, fixed)
    system = _System(np.array(sizes, float), links, model, ridge, fixed)
    width = max(WIDEST, loss)
    while width > loss:
        matrices = system.step(matrices, width)
        width = max(loss, width * NARROWING)
    for _ in range(ROUNDS_AT_LAST):
        matrices = system.step(matrices, loss)
    return Solution(matrices, system.residuals(matrices), parts)


def components(count: int, links: Iterable[Link]) -> list[list[int]]:
    """Groups of slices that links hold together, the largest first."""
    from scipy.sparse import coo_array  # slow to load
    from scipy.sparse.csgraph import connected_components

    ends = np.array([(link.first, link.second) for link in links], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count))
    number, labels = connected_components(graph, directed=False)
    groups = [np.flatnonzero(labels == i).tolist() for i in range(number)]
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def _started(count: int, links: Sequence[Link], fixed: Mapping[int, Floats]) -> Floats:
    """A first guess: slices put one onto the other, by the nearest pairs that there are."""
    matrices = np.tile(identity(), (count, 1, 1))
    known = dict.fromkeys(fixed)
    for place, matrix in fixed.items():
        matrices[place] = matrix
    neighbours: dict[int, list[tuple[int, int, Floats]]] = {}
    for link in links:
        far = abs(link.second - link.first)
        neighbours.setdefault(link.first, []).append((far, link.second, link.matrix))
        neighbours.setdefault(link.second, []).append((far, link.first, inverse(link.matrix)))
    queue = sorted(known)
    for place in queue:  # grows while it is gone through
        for _, other, matrix in sorted(neighbours.get(place, []), key=lambda item: item[:2]):
            if other not in known:
                known[other] = None
                matrices[other] = compose(matrices[place], matrix)
                queue.append(other)
    return matrices


class _System:
    """The equations of one step, for slices with centres c: A x = L (x - c) + t."""

    def __init__(
        self, sizes: Floats, links: Sequence[Link], model: Model, ridge: float, fixed: Mapping[int, Floats]
    ) -> None:
        self.model, self.ridge = model, ridge
        self.first = np.array([link.first for link in links], int)
        self.second = np.array([link.second for link in links], int)
        self.units = np.array([link.unit for link in links], float)
        self.weights = np.array([WEIGHTS.get(abs(link.second - link.first), FARTHER) for link in links], float)
        self.centres = (sizes - 1) / 2
        radii = RADIUS * sizes / 2
        self.squared_radii = (radii**2).sum(1)
        signs = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], float)
        points = self.centres[:, None] + signs * radii[:, None]
        pairs = np.array([link.matrix for link in links], float).reshape(-1, 2, 3)
        self.points = points[self.second]
        self.moved = np.einsum("kij,knj->kni", pairs[:, :, :2], self.points) + pairs[:, None, :, 2]
        free = [place for place in range(len(sizes)) if place not in fixed]
        self.column = np.full(len(sizes), -1)
        self.column[free] = np.arange(len(free))
        self.free = np.array(free, int)

    def errors(self, matrices: Floats) -> Floats:
        """How far apart four points of each link are; (links, 4, 2)."""
        one, other = matrices[self.first], matrices[self.second]
        on_first = np.einsum("kij,knj->kni", one[:, :, :2], self.moved) + one[:, None, :, 2]
        on_second = np.einsum("kij,knj->kni", other[:, :, :2], self.points) + other[:, None, :, 2]
        found: Floats = on_first - on_second
        return found

    def residuals(self, matrices: Floats) -> Floats:
        """Root mean square of these distances, of each link."""
        found: Floats = np.sqrt((self.errors(matrices) ** 2).sum(2).mean(1))
        return found

    def step(self, matrices: Floats, width: float) -> Floats:
        """One step of Gauss-Newton with Cauchy weights of this width, in pixels of the estimate."""
        if not len(self.free):
            return matrices
        errors = self.errors(matrices)
        rms = np.sqrt((errors**2).sum(2).mean(1)) / self.units
        weights = self.weights / (1 + (rms / width) ** 2) / self.units**2
        size = PARAMETERS[self.model]
        by_first = self._slopes(matrices, self.first, self.moved)
        by_second = -self._slopes(matrices, self.second, self.points)
        band = _Band(len(self.free), size, self._reach())
        flat = errors.reshape(len(errors), 8)
        for slopes, places in ((by_first, self.first), (by_second, self.second)):
            band.add_gradient(self.column[places], np.einsum("k,kan,ka->kn", weights, slopes, flat))
            band.add(self.column[places], self.column[places], np.einsum("k,kan,kam->knm", weights, slopes, slopes))
        band.add(
            self.column[self.first],
            self.column[self.second],
            np.einsum("k,kan,kam->knm", weights, by_first, by_second),
        )
        self._pull(matrices, band)
        return self._moved(matrices, band.solve())

    def _reach(self) -> int:
        both = (self.column[self.first] >= 0) & (self.column[self.second] >= 0)
        return int(np.abs(self.column[self.first] - self.column[self.second])[both].max(initial=0))

    def _slopes(self, matrices: Floats, places: Integers, points: Floats) -> Floats:
        """By how much points move with each parameter of their slice; (links, 8, parameters)."""
        offset = points - self.centres[places][:, None]
        slopes = np.zeros((*points.shape, PARAMETERS[self.model]))
        slopes[:, :, 0, 0] = slopes[:, :, 1, 1] = 1
        if self.model == "rigid":
            turned = np.einsum("kij,knj->kni", matrices[places][:, :, :2], offset)
            slopes[:, :, 0, 2], slopes[:, :, 1, 2] = -turned[..., 1], turned[..., 0]
        elif self.model == "affine":
            slopes[:, :, 0, 2:4] = slopes[:, :, 1, 4:6] = offset
        return slopes.reshape(len(points), 8, -1)

    def _pull(self, matrices: Floats, band: _Band) -> None:
        """Add the ridge."""
        if self.model == "translation" or not self.ridge:
            return
        linear = matrices[self.free][:, :, :2]
        size = PARAMETERS[self.model]
        strength = 4 * self.ridge * self.squared_radii[self.free] / self._unit() ** 2
        columns = np.arange(len(self.free))
        if self.model == "rigid":
            away = rotation_angle(linear)[:, None]
        else:
            away = (linear - nearest_rotation(linear)).reshape(-1, 4)
            strength = strength / 2  # |dL|^2 r^2 of four entries, r^2 being the sum over both axes
        kept = np.zeros((len(self.free), size, size))
        pull = np.zeros((len(self.free), size))
        for i in range(2, size):
            kept[:, i, i] = strength
            pull[:, i] = strength * away[:, i - 2]
        band.add(columns, columns, kept)
        band.add_gradient(columns, pull)

    def _unit(self) -> float:
        return float(np.median(self.units)) if len(self.units) else 1.0

    def _moved(self, matrices: Floats, change: Floats) -> Floats:
        """Matrices after a change of their parameters, (free, parameters)."""
        found = matrices.copy()
        centres = self.centres[self.free]
        linear = found[self.free][:, :, :2]
        shift = np.einsum("kij,kj->ki", linear, centres) + found[self.free][:, :, 2] + change[:, :2]
        if self.model == "rigid":
            cos, sin = np.cos(change[:, 2]), np.sin(change[:, 2])
            turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
            linear = nearest_rotation(turn @ linear)
        elif self.model == "affine":
            linear = linear + change[:, 2:].reshape(-1, 2, 2)
        found[self.free, :, :2] = linear
        found[self.free, :, 2] = shift - np.einsum("kij,kj->ki", linear, centres)
        return found


class _Band:
    """A symmetric banded matrix of blocks, and a gradient."""

    def __init__(self, count: int, size: int, reach: int) -> None:
        self.size = size
        self.upper = np.zeros((size * (reach + 1), size * count))
        self.gradient = np.zeros((count, size))

    def add_gradient(self, columns: Integers, values: Floats) -> None:
        kept = columns >= 0
        np.add.at(self.gradient, columns[kept], values[kept])

    def add(self, rows: Integers, columns: Integers, values: Floats) -> None:
        """Add blocks; of those off the diagonal only one of the two that mirror each other is given."""
        kept = (rows >= 0) & (columns >= 0)
        for i in range(self.size):
            for j in range(self.size):
                row, column = rows[kept] * self.size + i, columns[kept] * self.size + j
                # Where a block is below the diagonal its mirror image is kept.
                low, high = np.minimum(row, column), np.maximum(row, column)
                on_diagonal = rows[kept] == columns[kept]
                use = ~on_diagonal | (row <= column)
                place = len(self.upper) - 1 + low - high
                np.add.at(self.upper, (place[use], high[use]), values[kept][use, i, j])

    def solve(self) -> Floats:
        """The change that makes the gradient vanish; (count, size)."""
        from scipy.linalg import solveh_banded  # slow to load

        self.upper[-1] += 1e-9 * (1 + self.upper[-1])  # slices that no link holds stay where they are
        change: Floats = -solveh_banded(self.upper, self.gradient.ravel()).reshape(self.gradient.shape)
        return change
