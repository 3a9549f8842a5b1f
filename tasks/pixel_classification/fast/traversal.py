"""Random forest on groups of 128 neighbouring voxels: every node that one of them reaches is tested once for all.

A group walks a tree as one: a node's test gives 128 bits, the voxels that pass go left, the others right, and a side
that nobody takes is not visited. The nodes of all trees wait in one queue, so the processor works on many tests at
once and no branch depends on the data. The work grows with the nodes reached by some voxel of the group: one path
a tree where the image is constant, never more than the whole forest, whatever its depth.

Each voxel meets the tests of a plain traversal, no more and no less, so the result is the same to the last bit. The
tests compare either the features or, in bytes, their ranks (see `ranks`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import uint64
from numpy.typing import NDArray

from blockwise.compiled import Integer, inlined, part_of_compiled
from blockwise.machine_code import processor
from tasks.pixel_classification.fast.ranks import NO_RANKS, Ranks, make_ranks
from tasks.pixel_classification.fast.vectors import GROUP, LANES, WORDS, less
from tasks.pixel_classification.forest import Forest

VALUE, THRESHOLD, LEFT, RIGHT = range(4)
TESTS_FOR_RANKS = 160  # of a feature, from which on ranks save more than they cost


@dataclass(frozen=True)
class PackedForest:
    """A forest with the four numbers of an inner node side by side.

    Attributes:
        nodes: int32 (4 * inner nodes,): where the feature's values start in a group (GROUP * feature, or column of
            bytes), bit pattern of the float32 threshold, or limit of the bytes, left child, right child. A child,
            like a root, is the index of its first number or, for a leaf, -1 - outcome.
        roots: int32 (trees,).
        ends: int64 (stored forests,), end of each in the list of trees.
        outcomes: float32 (outcomes, columns, rounded up to a multiple of 4): the different leaves of each tree.
        trees: int32 (outcomes,), the tree of each; of pure leaves none.
        pure: each leaf gives 1 to one column and 0 to the others; outcome k is then column k, of any tree.
        totals: float32 (stored forests,): sum of all columns over the trees, NaN where it depends on the leaves.
        ranks: how features become bytes; without sources the features themselves are compared.
    """

    nodes: NDArray[np.int32]
    roots: NDArray[np.int32]
    ends: NDArray[np.int64]
    outcomes: NDArray[np.float32]
    trees: NDArray[np.int32]
    pure: bool
    totals: NDArray[np.float32]
    ranks: Ranks

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What `streaming` takes: nodes, the same memory as float32, the others, whether the nodes compare ranks."""
        limits, by_ranks = self.nodes.view(np.float32), self.ranks.columns > 0
        return self.nodes, limits, self.roots, self.ends, self.outcomes, self.trees, self.pure, self.totals, by_ranks


def pay(forest: Forest, n_tests: int) -> bool:
    """Whether ranks are worth their making: for many tests, where it takes eight comparisons to test 64 floats.

    With AVX-512 it takes four, and their results are bits already; what remains to be saved is less than ranks cost.
    """
    _, features = processor()
    return n_tests >= TESTS_FOR_RANKS * forest.n_features and "+avx512bw" not in features.split(",")


def pack(forest: Forest, by_ranks: bool | None = None) -> PackedForest:
    """Rearrange a forest for `reach`; by ranks if they `pay`, unless it is given. The results are the same."""
    is_leaf = forest.feature < 0
    leaves = forest.leaf[is_leaf]
    columns = forest.leaf.shape[1]
    pure = bool(((leaves == 0) | (leaves == 1)).all() and (leaves.sum(axis=1) == 1).all())
    if pure:
        outcomes, which, trees = np.eye(columns), leaves.argmax(axis=1), np.empty(0)
    else:
        of_tree = np.searchsorted(forest.roots, np.flatnonzero(is_leaf), side="right") - 1
        found, which = np.unique(np.column_stack([of_tree, leaves]), axis=0, return_inverse=True)
        trees, outcomes = found[:, 0], found[:, 1:]
    code = np.empty(is_leaf.size, np.int32)
    code[is_leaf] = -1 - which.reshape(-1)
    code[~is_leaf] = 4 * np.arange(np.count_nonzero(~is_leaf))
    feature, threshold = forest.feature[~is_leaf], forest.threshold[~is_leaf]
    if by_ranks is None:
        by_ranks = pay(forest, feature.size)
    nodes = np.empty((feature.size, 4), np.int32)
    nodes[:, VALUE], nodes[:, THRESHOLD], ranks = GROUP * feature, threshold.view(np.int32), NO_RANKS
    if by_ranks:
        ranks, column, limit = make_ranks(feature, threshold)
    if ranks.columns:  # none if no threshold is a number
        nodes[:, VALUE], nodes[:, THRESHOLD] = GROUP * column, limit
    nodes[:, LEFT] = code[forest.left[~is_leaf]]
    nodes[:, RIGHT] = code[forest.right[~is_leaf]]
    padded = np.zeros((len(outcomes), -(-columns // 4) * 4), np.float32)
    padded[:, :columns] = outcomes
    ends = np.cumsum(forest.sizes, dtype=np.int64)
    roots, numbers = code[forest.roots], trees.astype(np.int32)
    return PackedForest(nodes.reshape(-1), roots, ends, padded, numbers, pure, _totals(forest), ranks)


def _totals(forest: Forest) -> NDArray[np.float32]:
    """What all leaves on any way through the trees of a stored forest sum to, where float32 knows one sum only."""
    sums = np.cumsum(forest.leaf, axis=1, dtype=np.float64)[:, -1]
    ends = np.cumsum(forest.sizes, dtype=np.int64)
    totals = np.full(ends.size, np.nan, np.float32)
    for k, (first, end) in enumerate(zip(ends - forest.sizes, ends, strict=True)):
        bounds = [*forest.roots, len(sums)][first : end + 1]
        trees = [sums[a:b][forest.feature[a:b] < 0] for a, b in pairwise(bounds)]
        low, high = sum(float(tree.min()) for tree in trees), sum(float(tree.max()) for tree in trees)
        slack = 1e-12 * high * len(trees)  # for the order of the additions
        if np.float32(low - slack) == np.float32(high + slack):
            totals[k] = high
    return totals


@inlined
def _store(members: Any, at: Integer, word_0: Integer, word_1: Integer) -> Any:
    """Returns 1 if a bit is set, else 0."""
    first = uint64(WORDS) * at
    members[first], members[first + uint64(1)] = word_0, word_1
    return uint64((word_0 | word_1) != 0)


@part_of_compiled
def reach(values: Any, everyone: Any, nodes: Any, limits: Any, roots: Any, queue: Any, members: Any) -> Any:
    """Leaves that the voxels of a group arrive at.

    Args:
        values: flat float32, or int8 for ranks; feature, or column, k of voxel i stands at GROUP * k + i.
        everyone: uint64 (WORDS,), bits of the voxels that take part.
        nodes: see PackedForest.
        limits: the same memory, as float32 where the values are.
        roots: of the trees to walk.
        queue: int32 (queue_size,). The nodes to visit wait in it from the front; the leaves reached stay in it, the
            first one at the very end.
        members: uint64 (WORDS * queue_size,), the bits of the voxels that are at each of them.

    Returns:
        Number of leaves reached.
    """
    head, tail, one = uint64(0), uint64(0), uint64(1)
    last = uint64(queue.size - 1)
    leaf, lanes = last, np.int64(LANES)
    for tree in range(roots.size):
        code = roots[tree]
        at = tail if code >= 0 else leaf
        queue[at] = code
        _store(members, at, everyone[0], everyone[1])
        inner = uint64(code >= 0)
        tail += inner
        leaf -= one - inner
    while head < tail:
        node, first = uint64(queue[head]), uint64(WORDS) * head
        here_0, here_1 = members[first], members[first + one]
        head += one
        start, limit = np.int64(nodes[node]), limits[node + uint64(THRESHOLD)]
        passed_0, passed_1 = less(values, start, limit), less(values, start + lanes, limit)
        # a side that nobody takes is written too, and overwritten: cheaper than a branch that is guessed wrong
        code = nodes[node + uint64(LEFT)]
        at = tail if code >= 0 else leaf
        queue[at] = code
        taken = _store(members, at, here_0 & passed_0, here_1 & passed_1)
        inner = uint64(code >= 0) & taken
        tail += inner
        leaf -= taken - inner
        code = nodes[node + uint64(RIGHT)]
        at = tail if code >= 0 else leaf
        queue[at] = code
        taken = _store(members, at, here_0 & ~passed_0, here_1 & ~passed_1)
        inner = uint64(code >= 0) & taken
        tail += inner
        leaf -= taken - inner
    return last - leaf
