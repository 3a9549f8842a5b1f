"""A random forest as flat arrays: read from vigra's layout, evaluated tree by tree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from blockwise.identity import array_checksum, digest
from tasks.pixel_classification.compiled import compiled

THRESHOLD_NODE = 0
LEAF_NODE = 0x40000000
ROOT = 2


class ForestLayoutError(Exception):
    """A stored forest is not laid out as this module reads it."""


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
    near = values.astype(np.float32)
    return np.where(near < values, np.nextafter(near, np.float32(np.inf)), near).astype(np.float32)


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


def read_forest(group: h5py.Group) -> Forest:
    """Read the forests that a project stores below ``ClassifierForests``.

    Raises:
        ForestLayoutError: something is not laid out as vigra's random forest of threshold nodes.
    """
    names = sorted(name for name in group if name.startswith("Forest"))
    trees: list[Tree] = []
    sizes: list[int] = []
    columns: set[int] = set()
    labels: list[int] = []
    for name in names:
        forest = group[name]
        parameters = forest["_ext_param"]
        columns.add(int(parameters["column_count_"][0]))
        own = [int(label) for label in parameters["labels"][()]]
        if labels and own != labels:
            raise ForestLayoutError(f"{name} knows the labels {own}, others {labels}")
        labels = own
        members = sorted(member for member in forest if member.startswith("Tree_"))
        trees += [_read_tree(forest[member], len(own), f"{name}/{member}") for member in members]
        sizes.append(len(members))
    if len(columns) != 1:
        raise ForestLayoutError(f"its forests have different numbers of feature columns: {sorted(columns)}")
    if "known_labels" in group:
        labels = [int(label) for label in group["known_labels"][()]]
    return join_trees(trees, tuple(sizes), columns.pop(), tuple(label - 1 for label in labels))


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


def _read_tree(group: h5py.Group, n_classes: int, name: str) -> Tree:
    """Follow a tree from its root; vigra addresses nodes by their place in ``topology``."""
    topology, parameters = group["topology"][()], group["parameters"][()]
    if int(topology[1]) != n_classes:
        raise ForestLayoutError(f"{name} has {topology[1]} classes, expected {n_classes}")
    places, number = [ROOT], {ROOT: 0}
    for place in places:  # grows while we go
        if topology[place] == THRESHOLD_NODE:
            for child in (int(topology[place + 2]), int(topology[place + 3])):
                if child in number or not ROOT < child < len(topology):
                    raise ForestLayoutError(f"{name}: node {place} has a child at {child}")
                number[child] = len(places)
                places.append(child)
        elif topology[place] != LEAF_NODE:
            raise ForestLayoutError(
                f"{name}: node {place} is of type {topology[place]:#x}, which ilastik never writes"
            )
    is_leaf = topology[places] == LEAF_NODE
    count = len(places)
    tree = Tree(
        feature=np.full(count, -1, np.int32),
        threshold=np.zeros(count),
        left=np.arange(count, dtype=np.int32),
        right=np.arange(count, dtype=np.int32),
        leaf=np.zeros((count, n_classes)),
    )
    for i, place in enumerate(places):
        address = int(topology[place + 1])
        if is_leaf[i]:
            tree.leaf[i] = parameters[address + 1 : address + 1 + n_classes]
        else:
            tree.left[i], tree.right[i] = number[int(topology[place + 2])], number[int(topology[place + 3])]
            tree.feature[i] = topology[place + 4]
            tree.threshold[i] = parameters[address + 1]
    return tree
