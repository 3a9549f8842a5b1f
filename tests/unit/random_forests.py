"""Forests and projects made up from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.pixel_classification.features import Feature
from tasks.pixel_classification.forest import Forest, Tree, join_trees
from tasks.pixel_classification.project import Project


def random_tree(rng: np.random.Generator, values: NDArray[Any], columns: int, leaves: int, pure: bool) -> Tree:
    """A tree of random shape whose thresholds are values that occur, so that ties are met.

    Args:
        rng: source of randomness.
        values: float32 (samples, features).
        columns: classes.
        leaves: number of leaves.
        pure: each leaf has one class.
    """
    count = 2 * leaves - 1
    tree = Tree(
        feature=np.full(count, -1, np.int32),
        threshold=np.zeros(count),
        left=np.arange(count, dtype=np.int32),
        right=np.arange(count, dtype=np.int32),
        leaf=np.zeros((count, columns)),
    )
    ends = [0]
    for split in range(leaves - 1):
        node = ends.pop(rng.integers(len(ends)))
        feature = rng.integers(values.shape[1])
        threshold = values[rng.integers(len(values)), feature]
        tree.feature[node] = feature
        tree.threshold[node] = threshold if np.isfinite(threshold) else 0.0
        children = [2 * split + 1, 2 * split + 2]
        rng.shuffle(children)
        tree.left[node], tree.right[node] = children
        ends += children
    for node in ends:
        tree.leaf[node] = np.eye(columns)[rng.integers(columns)] if pure else rng.dirichlet(np.ones(columns))
    return tree


def random_forest(
    rng: np.random.Generator, values: NDArray[Any], sizes: tuple[int, ...], columns: int, leaves: int, pure: bool
) -> Forest:
    """A forest of trees of 1 to ``leaves`` leaves; its columns are classes in random order, one class is left out."""
    trees = [random_tree(rng, values, columns, int(rng.integers(1, leaves + 1)), pure) for _ in range(sum(sizes))]
    classes = tuple(int(i) for i in rng.permutation(columns + 1)[:columns])
    return join_trees(trees, sizes, values.shape[1], classes)


def project(features: tuple[Feature, ...], forest: Forest, n_channels: int) -> Project:
    """A project that has not been in a file."""
    names = tuple(f"class {i}" for i in range(max(forest.classes) + 1))
    return Project("made.ilp", "1.4.0", names, "zyxc", n_channels, features, forest, (), ())
