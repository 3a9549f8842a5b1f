"""From pairs to where every slice lies, and what to say of those that could not be placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blockwise.errors import UserError
from tasks.alignment.drift import without_drift
from tasks.alignment.solve import Link, solve
from tasks.alignment.transforms import Floats, Model
from tasks.alignment.warp import offsets

SHOWN = 5
Size = tuple[int, int]


@dataclass(frozen=True)
class Estimate:
    """An accepted pair, by the numbers of its slices; see ``Link``."""

    first: int
    second: int
    matrix: Floats
    unit: float


@dataclass(frozen=True)
class Wish:
    """How slices are to be placed.

    Attributes:
        model: of the transforms.
        ridge: see ``solve``; None for the model's own.
        anchors: transforms that are given, by the numbers of slices.
        drift: see ``without_drift``.
        drift_slices: see ``without_drift``.
        allow_parts: place a stack that falls apart all the same, each part by itself.
    """

    model: Model
    ridge: float | None = None
    anchors: Mapping[int, Floats] | None = None
    drift: str = "keep"
    drift_slices: float = 50.0
    allow_parts: bool = False


@dataclass(frozen=True)
class Placement:
    """Where slices lie.

    Attributes:
        matrices: of the slices that are placed, by number.
        lost: numbers of usable slices that no pair holds.
        parts: numbers of slices that hang together, the largest part first.
        residuals: of each estimate, root mean square over four points, in pixels.
    """

    matrices: dict[int, Floats]
    lost: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]
    residuals: tuple[float, ...]


def place(sizes: Mapping[int, Size], estimates: Sequence[Estimate], wish: Wish) -> Placement:
    """Place slices.

    Args:
        sizes: (width, height) of each usable slice, by number, ascending.
        estimates: accepted pairs of them.
        wish: how.

    Raises:
        UserError: the stack falls apart, nothing holds it together, or an anchor is of a slice that is not usable.
    """
    numbers = list(sizes)
    at = {z: i for i, z in enumerate(numbers)}
    anchors = dict(wish.anchors or {})
    if unknown := [z for z in anchors if z not in at]:
        raise UserError(f"slice {', '.join(map(str, unknown))} is anchored, but is missing, blank or left out")
    links = [Link(at[e.first], at[e.second], e.matrix, e.unit) for e in estimates]
    solution = solve(
        [sizes[z] for z in numbers], links, wish.model, wish.ridge, 1.0, {at[z]: m for z, m in anchors.items()}
    )
    parts = [tuple(numbers[i] for i in part) for part in solution.components if len(part) > 1]
    lost = [numbers[part[0]] for part in solution.components if len(part) == 1]
    if len(numbers) == 1:
        parts, lost = [tuple(numbers)], []
    if not wish.allow_parts:
        _refuse_parts(parts, lost, len(numbers), set(anchors))
    held = sorted(z for part in parts for z in part)
    matrices = {z: solution.matrices[at[z]] for z in held}
    shifts = offsets(matrices, sizes)
    moved = without_drift(shifts, np.array(held, float), wish.drift, wish.drift_slices) - shifts
    for z, by in zip(held, moved, strict=True):
        matrices[z] = np.hstack([matrices[z][:, :2], matrices[z][:, 2:] + by[:, None]])
    return Placement(matrices, tuple(sorted(lost)), tuple(parts), tuple(map(float, solution.residuals)))


def _refuse_parts(parts: list[tuple[int, ...]], lost: list[int], count: int, anchored: set[int]) -> None:
    if not parts:
        raise UserError(
            f"none of the {count} slices that can be used looks like another: no pair of neighbours was accepted. "
            "Look at the pairs' table for the reasons; are these slices of one stack, in the right order?"
        )
    if len(parts) > 1 and not all(anchored.intersection(part) for part in parts):
        listed = "; ".join(_range(part) for part in sorted(parts)[:SHOWN])
        raise UserError(
            f"the stack falls into {len(parts)} parts that no accepted pair of slices holds together: {listed}. Look "
            "at the pairs between them in the pairs' table; then anchor a slice of each part, or allow parts"
        )
    if len(lost) > count / 2:
        raise UserError(
            f"{len(lost)} of {count} slices that can be used look like none of their neighbours, such as "
            f"{', '.join(map(str, sorted(lost)[:SHOWN]))}; only {_range(parts[0])} hang together. Are these slices "
            "of one stack, in the right order?"
        )


def _range(part: Sequence[int]) -> str:
    return f"{min(part)} to {max(part)} ({len(part)} slices)"
