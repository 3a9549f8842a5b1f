"""Random forest on groups of 64 neighbouring voxels: every node that one of them reaches is tested once for all.

A group walks a tree as one: a node's test gives 64 bits, the voxels that pass go left, the others right, and a side
that nobody takes is not visited. The nodes of all trees wait in one queue, so the processor works on many tests at
once and no branch depends on the data. The work grows with the nodes reached by some voxel of the group: one path
a tree where the image is constant, never more than the whole forest, whatever its depth.

Each voxel meets the tests of a plain traversal, no more and no less, so the result is the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import uint64
from numpy.typing import NDArray

from blockwise.compiled import Integer, compiled
from tasks.pixel_classification.fast.vectors import LANES, count, less
from tasks.pixel_classification.forest import Forest

VALUE, THRESHOLD, LEFT, RIGHT = range(4)


@dataclass(frozen=True)
class PackedForest:
    """A forest with the four numbers of an inner node side by side.

    Attributes:
        nodes: int32 (4 * inner nodes,): where the feature's values start in a group (64 * feature), bit pattern of
            the float32 threshold, left child, right child. A child, like a root, is the index of its first number or,
            for a leaf, -1 - outcome.
        roots: int32 (trees,).
        outcomes: float32 (outcomes, columns): the different leaves there are.
        pure: each leaf gives 1 to one column and 0 to the others; outcome k is then column k.
    """

    nodes: NDArray[np.int32]
    roots: NDArray[np.int32]
    outcomes: NDArray[np.float32]
    pure: bool

    @property
    def queue_size(self) -> int:
        """Entries that the queue of `reach` needs."""
        return self.nodes.size // 2 + self.roots.size + 2


def pack(forest: Forest) -> PackedForest:
    """Rearrange a forest for `reach`."""
    is_leaf = forest.feature < 0
    leaves = forest.leaf[is_leaf]
    columns = forest.leaf.shape[1]
    pure = bool(((leaves == 0) | (leaves == 1)).all() and (leaves.sum(axis=1) == 1).all())
    outcomes: NDArray[np.float32]
    if pure:
        outcomes, which = np.eye(columns, dtype=np.float32), leaves.argmax(axis=1)
    else:
        outcomes, which = np.unique(leaves, axis=0, return_inverse=True)
    code = np.empty(is_leaf.size, np.int32)
    code[is_leaf] = -1 - which.reshape(-1)
    code[~is_leaf] = 4 * np.arange(np.count_nonzero(~is_leaf))
    nodes = np.empty((np.count_nonzero(~is_leaf), 4), np.int32)
    nodes[:, VALUE] = LANES * forest.feature[~is_leaf]
    nodes[:, THRESHOLD] = forest.threshold[~is_leaf].view(np.int32)
    nodes[:, LEFT] = code[forest.left[~is_leaf]]
    nodes[:, RIGHT] = code[forest.right[~is_leaf]]
    return PackedForest(nodes.reshape(-1), code[forest.roots], outcomes, pure)


@compiled
def reach(values: Any, everyone: Integer, nodes: Any, thresholds: Any, roots: Any, queue: Any, members: Any) -> Any:
    """Leaves that the voxels of a group arrive at.

    Args:
        values: flat float32; feature k of voxel i stands at 64 k + i.
        everyone: bits of the voxels that take part.
        nodes: see PackedForest.
        thresholds: the same memory as float32.
        roots: of the trees to walk.
        queue: int32 (queue_size,). The nodes to visit wait in it from the front; the leaves reached stay in it, the
            first one at the very end.
        members: uint64 (queue_size,), the bits of the voxels that are at each of them.

    Returns:
        Number of leaves reached.
    """
    head, tail, one = uint64(0), uint64(0), uint64(1)
    last = uint64(queue.size - 1)
    leaf = last
    for tree in range(roots.size):
        code = roots[tree]
        at = tail if code >= 0 else leaf
        queue[at], members[at] = code, everyone
        inner = uint64(code >= 0)
        tail += inner
        leaf -= one - inner
    while head < tail:
        node, here = uint64(queue[head]), members[head]
        head += one
        passed = less(values, np.int64(nodes[node]), thresholds[node + uint64(THRESHOLD)])
        # a side that nobody takes is written too, and overwritten: cheaper than a branch that is guessed wrong
        code, some = nodes[node + uint64(LEFT)], here & passed
        at = tail if code >= 0 else leaf
        queue[at], members[at] = code, some
        taken = uint64(some != 0)
        inner = uint64(code >= 0) & taken
        tail += inner
        leaf -= taken - inner
        code, some = nodes[node + uint64(RIGHT)], here & ~passed
        at = tail if code >= 0 else leaf
        queue[at], members[at] = code, some
        taken = uint64(some != 0)
        inner = uint64(code >= 0) & taken
        tail += inner
        leaf -= taken - inner
    return last - leaf


@compiled
def count_votes(counts: Any, queue: Any, members: Any, found: Integer) -> None:
    """Votes of at most 255 trees with pure leaves: uint8 counts, outcome k of voxel i at 64 k + i."""
    counts[:] = 0
    for i in range(queue.size - found, queue.size):
        count(counts, LANES * (-1 - np.int64(queue[i])), members[i])


@compiled
def add_probabilities(sums: Any, totals: Any, outcomes: Any, queue: Any, members: Any, found: Integer) -> None:
    """Add the leaves that one tree gave to float32 sums (columns, 64) and float64 totals (64,) of all columns."""
    for i in range(queue.size - found, queue.size):
        outcome = outcomes[-1 - queue[i]]
        for column in range(outcome.size):
            value = outcome[column]
            for lane in range(LANES):
                if (members[i] >> uint64(lane)) & uint64(1):
                    sums[column, lane] += value
                    totals[lane] += value
