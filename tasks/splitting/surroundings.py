"""The objects that touch a block, whole: the block is grown until none of them leaves it, or is too large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box, relative
from tasks.objects.image_measures import dense_labels

FIRST_REACH = 16
"""Voxels by which a block is grown at first, on the sides over which objects leave it."""


@dataclass(frozen=True)
class Surroundings:
    """A block and what lies around it.

    Attributes:
        box: what was read, in voxels of the volume.
        inner: the block within it.
        labels: uint32, dense numbers of the labels, 0 for none; of the box's shape.
        names: uint64, the label of each dense number from 1.
        boxes: of each dense number from 1, within the box.
        touching: dense numbers of the objects that touch the block, ascending.
        too_large: those of them that fit into no box of the largest shape.
    """

    box: Box
    inner: Box
    labels: NDArray[np.uint32]
    names: NDArray[np.uint64]
    boxes: list[Box]
    touching: tuple[int, ...]
    too_large: frozenset[int]

    def whole(self) -> Iterator[int]:
        """Dense numbers of the objects that are not too large."""
        return (number for number in self.touching if number not in self.too_large)

    def name(self, number: int) -> int:
        """Label of an object."""
        return int(self.names[number - 1])

    def place(self, number: int) -> Box:
        """Bounding box of an object in the volume."""
        return tuple(
            slice(s.start + o.start, s.stop + o.start) for s, o in zip(self.boxes[number - 1], self.box, strict=True)
        )


def look_around(
    read: Callable[[Box], NDArray[np.uint64]], block: Box, domain: Box, largest: tuple[int, ...]
) -> Surroundings:
    """Read the objects that touch a block.

    Args:
        read: gives labels of a box.
        block: the box of the block.
        domain: what there is.
        largest: shape of the largest box of an object that is cut; the block is grown by no more.

    Returns:
        Objects that are not too large lie in it whole, each with the voxels around it as far as the domain has any.
    """
    reach = [[0, 0] for _ in block]
    box, labels = block, read(block)
    touching = np.unique(labels)
    touching = touching[touching > 0]
    while sides := _open_sides(labels, box, domain, touching, largest, reach):
        for axis, side in sides:
            reach[axis][side] = min(largest[axis], max(FIRST_REACH, 2 * reach[axis][side]))
        box = tuple(
            slice(max(s.start - low, d.start), min(s.stop + high, d.stop))
            for s, d, (low, high) in zip(block, domain, reach, strict=True)
        )
        labels = read(box)
    return _described(labels, box, block, touching, largest)


def _open_sides(
    labels: NDArray[np.uint64],
    box: Box,
    domain: Box,
    touching: NDArray[np.uint64],
    largest: tuple[int, ...],
    reach: list[list[int]],
) -> list[tuple[int, int]]:
    """Sides (axis, 0 for the lower and 1 for the upper) over which an object may go on that is not too large yet."""
    on_sides = {}
    for axis, (s, d) in enumerate(zip(box, domain, strict=True)):
        ends = (s.start > d.start, s.stop < d.stop)
        for side, place in ((0, 0), (1, -1)):
            found = np.intersect1d(np.unique(labels.take(place, axis)), touching)
            on_sides[axis, side] = ends[side], found
    too_large = np.concatenate(
        [
            np.intersect1d(on_sides[axis, 0][1], on_sides[axis, 1][1])
            for axis, s in enumerate(box)
            if s.stop - s.start > largest[axis]
        ]
        or [touching[:0]]
    )
    return [
        (axis, side)
        for (axis, side), (is_open, found) in on_sides.items()
        if is_open and reach[axis][side] < largest[axis] and len(np.setdiff1d(found, too_large))
    ]


def _described(
    labels: NDArray[np.uint64], box: Box, block: Box, touching: NDArray[np.uint64], largest: tuple[int, ...]
) -> Surroundings:
    from scipy.ndimage import find_objects

    dense, names = dense_labels(labels)
    boxes = find_objects(dense)
    numbers = tuple(int(n) + 1 for n in np.searchsorted(names, touching))
    too_large = frozenset(
        n for n in numbers if any(s.stop - s.start > m for s, m in zip(boxes[n - 1], largest, strict=True))
    )
    return Surroundings(box, relative(block, box), dense, names, boxes, numbers, too_large)
