"""Voxels counted by pair of labels, two volumes read block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box
from blockwise.volume import Volume

VOXELS_AT_ONCE = 1 << 24
VOXELS_COUNTED_AT_ONCE = 1 << 20
"""Fewer than are read: counting takes up to 100 bytes for each, reading 2 to 16."""


@dataclass(frozen=True)
class Overlaps:
    """Voxels by pair of labels.

    Attributes:
        a: labels in A, uint64 (pairs,).
        b: labels in B, uint64 (pairs,).
        voxels: how many have both, int64 (pairs,).
    """

    a: NDArray[np.uint64]
    b: NDArray[np.uint64]
    voxels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.voxels)


def count_overlaps(a: Volume, b: Volume) -> Overlaps:
    """Count voxels by pair of labels, each pair once, sorted by a, then b.

    Memory is that of a slab and of twice the distinct pairs; time goes with voxels and pairs, not with their product.

    Args:
        a: labels, integers of any dtype (negative ones are taken modulo 2**64).
        b: the same, of the same shape.
    """
    return _sum_all(_parts(a, b))


def _parts(a: Volume, b: Volume) -> Iterator[Overlaps]:
    for box in _slabs(a.shape, a.chunks):
        in_a, in_b = a.read(box).ravel(), b.read(box).ravel()
        for start in range(0, in_a.size, VOXELS_COUNTED_AT_ONCE):
            piece = slice(start, start + VOXELS_COUNTED_AT_ONCE)
            yield _summed([_runs(in_a[piece].astype(np.uint64), in_b[piece].astype(np.uint64))])


def _slabs(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[Box]:
    """Boxes of whole chunks, of a size that memory takes, that tile a volume."""
    sizes = list(chunks)
    for axis in reversed(range(len(shape))):
        room = max(1, VOXELS_AT_ONCE // max(1, int(np.prod(sizes))))
        sizes[axis] = min(shape[axis], sizes[axis] * room)
    steps = (range(0, n, size) for n, size in zip(shape, sizes, strict=True))
    for start in itertools.product(*steps):
        yield tuple(slice(s, min(s + size, n)) for s, size, n in zip(start, sizes, shape, strict=True))


def _runs(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> Overlaps:
    """Runs of equal pairs in the order of voxels: in a segmentation far fewer than voxels, and sooner sorted."""
    changes = np.empty(a.size, np.bool_)
    changes[:1] = True
    np.logical_or(a[1:] != a[:-1], b[1:] != b[:-1], out=changes[1:])
    begins = np.flatnonzero(changes)
    return Overlaps(a[begins], b[begins], np.diff(begins, append=a.size))


def _sum_all(parts: Iterable[Overlaps]) -> Overlaps:
    """Sum up parts of any number.

    A new total is made when as much has come as the total holds: so two rows are sorted for each that comes, however
    many parts there are.
    """
    nothing: NDArray[Any] = np.empty(0, np.uint64)
    total = Overlaps(nothing, nothing, nothing.astype(np.int64))
    waiting: list[Overlaps] = []
    rows = 0
    for part in parts:
        waiting.append(part)
        rows += len(part)
        if rows >= max(len(total), VOXELS_COUNTED_AT_ONCE):
            total, waiting, rows = _summed([total, *waiting]), [], 0
    return _summed([total, *waiting])


def _summed(parts: list[Overlaps]) -> Overlaps:
    """One row for each pair, sorted by a, then b."""
    a, b, voxels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("a", "b", "voxels"))
    order = np.lexsort((b, a))
    runs = _runs(a[order], b[order])
    begins = np.cumsum(runs.voxels) - runs.voxels
    return Overlaps(runs.a, runs.b, np.add.reduceat(voxels[order], begins) if len(begins) else voxels)
