"""A random forest as flat arrays, evaluated tree by tree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled
from blockwise.identity import array_checksum, digest


@dataclass(frozen=True)
class Forest:
    """All trees of a classifier, their nodes in one set of flat arrays.

    A sample goes left iff ``features[feature[node]] < threshold[node]``. The thresholds are float32: the smallest
    float32 that is not below the double in the file, so that comparing float32 features with them decides exactly as
    ilastik's comparison in double does.

    Attributes:
        roots: int32 (trees,); node index at which each tree starts.
        feature: int32 (nodes,); feature column that a node tests, -1 for a leaf.
        threshold: float32 (nodes,); 0 for a leaf.
        left: int32 (nodes,); node index of the left child; the node itself for a leaf.
        right: int32 (nodes,); the same for the right child.
        leaf: float32 (nodes, columns); probabilities at a leaf, 0 for interior nodes.
        sizes: number of trees of each stored forest, in order; they sum to the number of trees.
        n_features: number of feature columns that the forest was trained on.
        classes: class index (from 0) of each probability column.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    leaf: NDArray[np.float32]
    sizes: tuple[int, ...]
    n_features: int
    classes: tuple[int, ...]

    @cached_property
    def checksum(self) -> str:
        """One value for all that decides about predictions."""
        arrays = (self.roots, self.feature, self.threshold, self.left, self.right, self.leaf)
        numbers = f"{self.sizes} {self.n_features} {self.classes}"
        return digest(",".join([numbers, *map(array_checksum, arrays)]))


def round_up(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The smallest float32 that is not below each value."""
    with np.errstate(over="ignore"):  # beyond float32's range infinity is the right answer
        near = values.astype(np.float32)
        above = np.nextafter(near, np.float32(np.inf))
    return np.where(near < values, above, near).astype(np.float32)


def evaluate(forest: Forest, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Class probabilities of samples, as ilastik computes them.

    Each stored forest gives the mean over its trees; these means are combined, weighted by numbers of trees, in
    float32.

    Args:
        forest: the classifier.
        features: float32 (samples, forest.n_features).

    Returns:
        float32 (samples, columns); column j is class ``forest.classes[j]``. All 0 where a feature is NaN.

    Raises:
        ValueError: another number of feature columns.
    """
    if features.shape[1] != forest.n_features:
        raise ValueError(f"{features.shape[1]} feature columns, but the forest was trained on {forest.n_features}")
    out = np.zeros((features.shape[0], forest.leaf.shape[1]), np.float32)
    sizes = np.asarray(forest.sizes, np.int64)
    nodes = (forest.roots, forest.feature, forest.threshold, forest.left, forest.right, forest.leaf)
    _evaluate(np.ascontiguousarray(features), *nodes, sizes, out)
    return out


@compiled
def _evaluate(
    samples: Any,
    roots: Any,
    feature: Any,
    threshold: Any,
    left: Any,
    right: Any,
    leaf: Any,
    sizes: Any,
    out: Any,
) -> None:
    n_columns = leaf.shape[1]
    votes = np.empty(n_columns, np.float32)
    for i in range(samples.shape[0]):
        sample = samples[i]
        if np.isnan(sample).any():
            continue
        tree = 0
        for size in sizes:
            votes[:] = 0
            total = 0.0
            for root in roots[tree : tree + size]:
                node = root
                while feature[node] >= 0:
                    node = left[node] if sample[feature[node]] < threshold[node] else right[node]
                for c in range(n_columns):
                    votes[c] += leaf[node, c]
                    total += leaf[node, c]
            for c in range(n_columns):
                out[i, c] += votes[c] / np.float32(total) * np.float32(size)
            tree += size
        for c in range(n_columns):
            out[i, c] /= np.float32(tree)


@dataclass(frozen=True)
class Tree:
    """Nodes of one tree, root first; children are indices within the tree, thresholds doubles."""

    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    leaf: NDArray[np.float64]


def join_trees(trees: list[Tree], sizes: tuple[int, ...], n_features: int, classes: tuple[int, ...]) -> Forest:
    """Put trees one after the other."""
    starts = np.cumsum([0, *(len(tree.feature) for tree in trees)])[:-1].astype(np.int32)
    return Forest(
        roots=starts,
        feature=np.concatenate([tree.feature for tree in trees]).astype(np.int32),
        threshold=round_up(np.concatenate([tree.threshold for tree in trees])),
        left=np.concatenate([tree.left + start for tree, start in zip(trees, starts, strict=True)]).astype(np.int32),
        right=np.concatenate([tree.right + start for tree, start in zip(trees, starts, strict=True)]).astype(
            np.int32
        ),
        leaf=np.concatenate([tree.leaf for tree in trees]).astype(np.float32),
        sizes=sizes,
        n_features=n_features,
        classes=classes,
    )
