"""What the trees of a forest give the voxels of a group, from the leaves that they arrive at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import uint64

from blockwise.compiled import Integer, compiled
from tasks.pixel_classification.fast.traversal import reach
from tasks.pixel_classification.fast.vectors import GROUP, LANES, WORDS, add_4, count, put

MOST_VOTES = 255  # that a count can hold
TREES = 16  # that are walked at once at most where leaves are impure
TOGETHER = 4096  # inner nodes of trees that are walked at once, so that their queue stays in the cache


@compiled
def count_votes(counts: Any, queue: Any, members: Any, found: Integer) -> None:
    """Votes of at most 255 trees with pure leaves: uint8 counts, outcome k of voxel i at GROUP * k + i."""
    counts[:] = 0
    for i in range(queue.size - found, queue.size):
        first = GROUP * (-1 - np.int64(queue[i]))
        for word in range(WORDS):
            count(counts, first + LANES * word, members[WORDS * i + word])


@compiled
def find_leaves(trees: Any, first: Integer, queue: Any, members: Any, found: Integer, leaves: Any) -> None:
    """Which leaf of each tree a voxel has arrived at.

    Args:
        trees: int32 (outcomes,), the tree of each outcome.
        first: of the trees that were walked.
        queue: see `reach`.
        members: see there.
        found: leaves reached; at most one of a tree for each voxel, so that a byte can number them.
        leaves: outcomes, int32 (GROUP * TREES,), receives the outcomes that were found of each tree in turn; which,
            uint8 of the same size, for each tree and voxel the number of its outcome among these; counts, uint8
            (TREES,).
    """
    outcomes, which, counts = leaves
    which[:] = 0
    counts[:] = 0
    for i in range(queue.size - found, queue.size):
        outcome = -1 - np.int64(queue[i])
        tree = np.int64(trees[outcome]) - first
        number = counts[tree]
        counts[tree] += np.uint8(1)
        outcomes[GROUP * tree + number] = outcome
        for word in range(WORDS):
            put(which, GROUP * tree + LANES * word, members[WORDS * i + word], number)


@compiled
def add_probabilities(sums: Any, outcomes: Any, trees: Integer, leaves: Any) -> None:
    """Add what some trees have given to the sums of a group, tree by tree.

    Args:
        sums: flat float32; as many numbers as a row of `outcomes` has for each voxel.
        outcomes: float32 (outcomes, columns, rounded up to a multiple of 4).
        trees: number of the trees.
        leaves: see `find_leaves`.
    """
    found, which, _ = leaves
    width, flat = outcomes.shape[1], outcomes.reshape(-1)
    for tree in range(uint64(trees)):
        start = uint64(GROUP) * tree
        for column in range(0, width, 4):
            for lane in range(uint64(GROUP)):
                row = width * np.int64(found[start + uint64(which[start + lane])])
                add_4(sums, width * np.int64(lane) + column, flat, row + column)


@compiled
def add_totals(totals: Any, outcomes: Any, columns: Integer, trees: Integer, leaves: Any) -> None:
    """Add the columns of the leaves that `find_leaves` has found, one after the other, to float64 totals."""
    found, which, _ = leaves
    for tree in range(trees):
        for lane in range(GROUP):
            outcome = outcomes[found[GROUP * tree + which[GROUP * tree + lane]]]
            for column in range(columns):
                totals[lane] += outcome[column]


@compiled
def vote_of_forest(group: Any, forest: Any, first: Integer, end: Integer, known: Any, scratch: Any, out: Any) -> None:
    """Add what the trees from `first` to `end`, a stored forest, give the voxels of a group; see `vote`."""
    values, columns, bits = group
    nodes, limits, roots, _, outcomes, trees, pure, _, by_ranks = forest
    queue, members, counts, sums, totals, leaves = scratch
    width = outcomes.shape[1]
    sums[:] = 0
    totals[:] = 0
    step = min(MOST_VOTES if pure else TREES, max(1, 4 * TOGETHER * roots.size // max(1, nodes.size)))
    for tree in range(first, end, step):
        some = roots[tree : min(tree + step, end)]
        if by_ranks:
            found = reach(columns, bits, nodes, nodes, some, queue, members)
        else:
            found = reach(values, bits, nodes, limits, some, queue, members)
        if pure:
            count_votes(counts, queue, members, found)
            for i in range(counts.size):
                sums[i] += np.float32(counts[i])
        else:
            find_leaves(trees, tree, queue, members, found, leaves)
            add_probabilities(sums, outcomes, some.size, leaves)
            if np.isnan(known):
                add_totals(totals, outcomes, out.shape[0], some.size, leaves)
    weight = np.float32(end - first)
    for column in range(out.shape[0]):
        for i in range(GROUP):
            if pure:
                out[column, i] += sums[column * GROUP + i] / known * weight
            else:
                total = np.float32(totals[i]) if np.isnan(known) else known
                out[column, i] += sums[i * width + column] / total * weight


@compiled
def vote(group: Any, forest: Any, scratch: Any, out: Any) -> None:
    """Probabilities (columns, GROUP) of a group; 0 for voxels without their bit.

    The operations and their order are those of `tasks.pixel_classification.forest.evaluate`. Counts of votes are
    whole numbers, so for trees with pure leaves their order does not matter.

    Args:
        group: values, columns and bits of `gather`.
        forest: arrays of a PackedForest.
        scratch: see `group_buffers`.
        out: float32 (columns, GROUP).
    """
    bits, ends, totals = group[2], forest[3], forest[7]
    out[:] = 0
    if not (bits[0] | bits[1]):
        return
    first = np.int64(0)
    for k in range(ends.size):
        vote_of_forest(group, forest, first, ends[k], totals[k], scratch, out)
        first = ends[k]
    trees = np.float32(first)
    for column in range(out.shape[0]):
        share = out[column]
        for i in range(uint64(GROUP)):
            share[i] = share[i] / trees
        for word in range(WORDS):
            if ~bits[word]:
                for i in range(LANES):
                    if not (bits[word] >> uint64(i)) & uint64(1):
                        share[LANES * word + i] = np.float32(0)
