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

from tasks.pixel_classification.compiled import compiled
from tasks.pixel_classification.fast.lanes import LANES, count, less
from tasks.pixel_classification.forest import Forest

FEATURE, THRESHOLD, LEFT, RIGHT = range(4)


@dataclass(frozen=True)
class PackedForest:
    """A forest with the four numbers of an inner node side by side.

    Attributes:
        nodes: int32 (inner nodes, 4): feature, bit pattern of the float32 threshold, left, right. A child, like a
            root, is the row of an inner node or, below 0, -1 - outcome of a leaf.
        roots: int32 (trees,).
        outcomes: float32 (outcomes, columns): the different leaves there are.
        pure: each leaf gives 1 to one column and 0 to the others; outcome k is then column k.
    """

    nodes: NDArray[np.int32]
    roots: NDArray[np.int32]
    outcomes: NDArray[np.float32]
    pure: bool


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
    code[~is_leaf] = np.arange(np.count_nonzero(~is_leaf))
    nodes = np.empty((np.count_nonzero(~is_leaf), 4), np.int32)
    nodes[:, FEATURE] = forest.feature[~is_leaf]
    nodes[:, THRESHOLD] = forest.threshold[~is_leaf].view(np.int32)
    nodes[:, LEFT] = code[forest.left[~is_leaf]]
    nodes[:, RIGHT] = code[forest.right[~is_leaf]]
    return PackedForest(nodes, code[forest.roots], outcomes, pure)


@compiled
def reach(
    values: Any,
    start: int,
    everyone: int,
    nodes: Any,
    thresholds: Any,
    roots: Any,
    queue: Any,
    members: Any,
    leaves: Any,
    arrivals: Any,
) -> int:
    """Leaves that the voxels of a group arrive at.

    Args:
        values: flat float32; feature k of the group stands at start + 64 k.
        start: see values.
        everyone: bits of the voxels that take part.
        nodes: int32 (nodes, 4), see PackedForest.
        thresholds: the same memory as float32.
        roots: of the trees to walk.
        queue: int32 (nodes + trees + 1,), working memory.
        members: uint64, the same size, working memory.
        leaves: int32 (leaves + 1,), receives the codes of the leaves reached.
        arrivals: uint64, the same size, receives the bits of the voxels that arrived there.

    Returns:
        Number of leaves reached.
    """
    head, tail, found, one = uint64(0), uint64(0), uint64(0), uint64(1)
    for tree in range(roots.size):
        code = roots[tree]
        queue[tail], members[tail], leaves[found], arrivals[found] = code, everyone, code, everyone
        tail += uint64(code >= 0)
        found += uint64(code < 0)
    while head < tail:
        node, here = uint64(queue[head]), members[head]
        head += one
        passed = less(values, start + LANES * nodes[node, FEATURE], thresholds[node, THRESHOLD])
        # written at both ends, kept at one: cheaper than a branch that is guessed wrong
        code, some = nodes[node, LEFT], here & passed
        queue[tail], members[tail], leaves[found], arrivals[found] = code, some, code, some
        tail += uint64((some != 0) & (code >= 0))
        found += uint64((some != 0) & (code < 0))
        code, some = nodes[node, RIGHT], here & ~passed
        queue[tail], members[tail], leaves[found], arrivals[found] = code, some, code, some
        tail += uint64((some != 0) & (code >= 0))
        found += uint64((some != 0) & (code < 0))
    return found


@compiled
def count_votes(counts: Any, leaves: Any, arrivals: Any, found: int) -> None:
    """Votes of trees with pure leaves: uint16 counts, outcome k of voxel i at 64 k + i."""
    counts[:] = 0
    for i in range(found):
        count(counts, LANES * (-1 - np.int64(leaves[i])), arrivals[i])


@compiled
def add_probabilities(sums: Any, outcomes: Any, leaves: Any, arrivals: Any, found: int) -> None:
    """Add the leaves of one tree to float32 sums (columns, 64)."""
    for i in range(found):
        outcome = outcomes[-1 - leaves[i]]
        for column in range(outcome.size):
            value = outcome[column]
            for lane in range(LANES):
                if (arrivals[i] >> uint64(lane)) & uint64(1):
                    sums[column, lane] += value
