"""Reads random forests in the layout in which vigra stores them in HDF5."""

from __future__ import annotations

import re
from typing import Any

import h5py
import numpy as np

from tasks.pixel_classification.forest import Forest, Tree, join_trees
from tasks.pixel_classification.project_fields import LayoutError, read_text

CLASSIFIER = "ParallelVigraRfLazyflowClassifier"

ROOT = 2
"""Place of the root in ``topology``; before it stand the numbers of feature columns and of classes."""
THRESHOLD_NODE = 0
"""Five integers: type, address of its parameters, places of the left and right child, feature column."""
LEAF_NODE = 0x40000000
"""Two integers: type, address of its parameters (weight, then the probability of each class)."""
NODE_LENGTHS = {THRESHOLD_NODE: 5, LEAF_NODE: 2}


def read_classifier(group: Any) -> Forest | None:
    """Read what a project stores as its classifier.

    Args:
        group: ``ClassifierForests`` of the project, or None.

    Returns:
        The forest; None where the project holds none.

    Raises:
        LayoutError: it is another kind of classifier, or is damaged.
    """
    if not isinstance(group, h5py.Group):
        return None
    kind = read_text(group, "pickled_type", CLASSIFIER)
    if not re.search(rf"\b{CLASSIFIER}\b", kind):
        name = re.search(r"\n(\w+)\n", kind)
        raise LayoutError(
            f"its classifier is {(name.group(1) if name else kind)!r:.60}, expected {CLASSIFIER}; train it in "
            "ilastik with the default classifier (Parallel Random Forest)"
        )
    if not any(name.startswith("Forest") for name in group):
        return None
    try:
        return read_forest(group)
    except (LayoutError, KeyError, ValueError, IndexError, TypeError) as error:
        raise LayoutError(f"its classifier cannot be read: {error}; train it again in ilastik and save it") from error


def read_forest(group: h5py.Group) -> Forest:
    """Read the forests that a project stores below ``ClassifierForests``.

    Raises:
        LayoutError: something is not laid out as vigra's random forest of threshold nodes.
    """
    trees: list[Tree] = []
    sizes: list[int] = []
    shapes: set[tuple[int, int]] = set()
    for name in sorted(name for name in group if name.startswith("Forest")):
        forest = group[name]
        shape = _shape(forest, name)
        shapes.add(shape)
        members = sorted(member for member in forest if member.startswith("Tree_"))
        trees += [_read_tree(forest[member], shape, f"{name}/{member}") for member in members]
        sizes.append(len(members))
    if len(shapes) != 1 or not trees:
        raise LayoutError(
            f"{len(trees)} trees in forests with different (feature columns, classes): {sorted(shapes)}"
        )
    n_features, n_classes = shapes.pop()
    # Old files do not say which labels the columns stand for; ilastik then counts from 1.
    labels = group["known_labels"][()].tolist() if "known_labels" in group else list(range(1, n_classes + 1))
    if len(labels) != n_classes or min(labels) < 1:
        raise LayoutError(f"known_labels are {labels} for {n_classes} columns")
    return join_trees(trees, tuple(sizes), n_features, tuple(int(label) - 1 for label in labels))


def _shape(forest: h5py.Group, name: str) -> tuple[int, int]:
    """Number of feature columns and of classes, after a look at the options that change a prediction."""
    parameters, options = forest["_ext_param"], forest["_options"]
    if "predict_weighted_" in options and options["predict_weighted_"][0]:
        raise LayoutError(f"{name} weighs its leaves (predict_weighted_), which ilastik never sets")
    if "problem_type_" in parameters and parameters["problem_type_"][0] != 1:
        raise LayoutError(f"{name} is no classification (problem_type_ {parameters['problem_type_'][0]:g})")
    return int(parameters["column_count_"][0]), int(parameters["class_count_"][0])


def _read_tree(group: h5py.Group, shape: tuple[int, int], name: str) -> Tree:
    """Follow a tree from its root; vigra addresses nodes by their place in ``topology``."""
    topology, parameters = _numbers(group, "topology"), _numbers(group, "parameters")
    n_features, n_classes = shape
    if topology[:ROOT] != [n_features, n_classes]:
        raise LayoutError(f"{name}: (feature columns, classes) are {topology[:ROOT]}, expected {list(shape)}")
    places = _places(topology, name)
    number = {place: i for i, place in enumerate(places)}
    count = len(places)
    left, right = list(range(count)), list(range(count))
    feature, threshold, leaf = [-1] * count, [0.0] * count, [[0.0] * n_classes] * count
    for i, place in enumerate(places):
        address = topology[place + 1]
        length = 1 + n_classes if topology[place] == LEAF_NODE else 2
        if not 0 <= address <= len(parameters) - length:
            raise LayoutError(f"{name}: node {place} has its parameters at {address} of {len(parameters)}")
        if topology[place] == LEAF_NODE:
            leaf[i] = parameters[address + 1 : address + 1 + n_classes]
            continue
        left[i], right[i], feature[i] = number[topology[place + 2]], number[topology[place + 3]], topology[place + 4]
        threshold[i] = parameters[address + 1]
        if not 0 <= feature[i] < n_features:
            raise LayoutError(f"{name} tests feature columns beyond its {n_features}")
    return Tree(
        feature=np.array(feature, np.int32),
        threshold=np.array(threshold, np.float64),
        left=np.array(left, np.int32),
        right=np.array(right, np.int32),
        leaf=np.array(leaf, np.float64),
    )


def _numbers(group: h5py.Group, name: str) -> list[Any]:
    """Of a small dataset; each process reads 200 at its start, for which h5py's other ways take thrice as long."""
    dataset = h5py.h5d.open(group.id, name.encode())
    values = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    numbers: list[Any] = values.tolist()  # to take single numbers out of an array costs ten times as much
    return numbers


def _places(topology: list[int], name: str) -> list[int]:
    """Places of all nodes, root first; a child may be stored anywhere after the root, but has one parent."""
    places, seen = [ROOT], {ROOT}
    for place in places:  # grows while we go
        kind = topology[place]
        if kind not in NODE_LENGTHS:
            raise LayoutError(f"{name}: node {place} is of type {kind:#x}, which ilastik never writes")
        if place + NODE_LENGTHS[kind] > len(topology):
            raise LayoutError(f"{name}: node {place} is cut off")
        if kind == THRESHOLD_NODE:
            for child in (topology[place + 2], topology[place + 3]):
                if child in seen or not ROOT < child < len(topology):
                    raise LayoutError(f"{name}: node {place} has a child at {child}")
                seen.add(child)
                places.append(child)
    return places
