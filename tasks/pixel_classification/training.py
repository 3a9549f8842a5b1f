"""Trains the classifier of a project that holds labels only, as ilastik does at the start of a headless run."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.identity import array_checksum, digest
from blockwise.records import Records
from tasks.pixel_classification.features import StructureTensor, compute_features, n_channels
from tasks.pixel_classification.forest import Forest, Tree, join_trees
from tasks.pixel_classification.project import Project, load_project
from tasks.pixel_classification.training_images import image_states, read_pieces

N_TREES = 100


def open_project(path: str) -> Project:
    """Read a project, and where it holds labels only, look at its training images; once while they do not change.

    Raises:
        UserError: as ``load_project``; or a training image cannot be read, or the labels are too few.
    """
    project = load_project(path)
    if project.forest is not None or not project.features:
        return project
    if len(project.labels) < len(project.classes):
        raise UserError(
            f"project {path}: {len(project.labels)} labelled voxels for {len(project.classes)} classes; label more "
            "in ilastik and save it"
        )
    states = image_states(project)
    return _with_images.__wrapped__(project, "") if states is None else _with_images(project, states)


@lru_cache(maxsize=4)
def _with_images(project: Project, states: str) -> Project:
    """The project with what its training images decide; kept, because small images ask for it each."""
    checksums, kinds = [], set()
    for piece in read_pieces(project):
        checksums.append(array_checksum(piece.image))
        n_z, channels = piece.image.shape[0], piece.image.shape[3]
        kinds.add((channels, n_channels(project.features, channels, n_z)))
    if len(kinds) != 1:
        raise UserError(
            f"project {project.path}: its labelled images differ in (channels, feature channels): {sorted(kinds)}; "
            "remove the labels from those of the wrong kind"
        )
    channels, n_features = kinds.pop()
    from importlib.metadata import version

    # Another release of the trainer may grow other trees from the same labels.
    images = digest(",".join([version("scikit-learn"), *checksums]))
    return replace(project, n_channels=channels, n_features=n_features, images=images)


def trained(project: Project, seed: int, structure_tensor: StructureTensor = "fastfilters") -> Project:
    """The project with a classifier: its own, else one trained on its labels.

    The same project, images and seed give the same bytes, whatever the machine.

    Args:
        project: as ``open_project`` gives it.
        seed: of the random choices, 0 to 2**32 - 1.
        structure_tensor: see ``features.compute_features``; the features must be those of the prediction.

    Raises:
        UserError: a training image cannot be read.
    """
    return replace(project, forest=project.forest or _grow(project, seed, structure_tensor))


def _grow(project: Project, seed: int, structure_tensor: StructureTensor) -> Forest:
    rows, labels = [], []
    for piece in read_pieces(project):
        pixels = piece.image.astype(np.float32)
        features = compute_features(pixels, project.features, structure_tensor, piece.interior)
        rows.append(features[tuple(piece.places.T)])
        labels.append(piece.labels)
    return train(np.concatenate(rows), np.concatenate(labels), seed)


def trained_once(project: Project, seed: int, structure_tensor: StructureTensor, kept: Records) -> Project:
    """As ``trained``, but the classifier is kept, for the other processes of this run and for later runs.

    Args:
        project: as ``open_project`` gives it.
        seed: see ``trained``.
        structure_tensor: see ``trained``.
        kept: the classifiers.
    """
    if project.forest is not None:
        return project
    key = f"{project.content_hash}-{seed}-{structure_tensor}.npz"
    state = kept.state(key)
    if state is None:
        content = io.BytesIO()
        np.savez_compressed(content, **asdict(_grow(project, seed, structure_tensor)))
        kept.put(key, content.getbuffer())
        state = kept.state(key)
    return _with_classifier(project, kept, key, state)


@lru_cache(maxsize=4)
def _with_classifier(project: Project, kept: Records, key: str, state: str | None) -> Project:
    """The project with a stored classifier; remembered, so that engines are made once."""
    with np.load(kept.file(key)) as stored:
        fields = dict(stored)
    sizes, classes = tuple(fields.pop("sizes").tolist()), tuple(fields.pop("classes").tolist())
    return replace(
        project, forest=Forest(sizes=sizes, classes=classes, n_features=int(fields.pop("n_features")), **fields)
    )


def train(features: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> Forest:
    """Grow a random forest like ilastik's default.

    100 trees, each on a bootstrap sample, grown until leaves are pure, Gini impurity, round(sqrt(features)) features
    tried at each node (L. Breiman, Random Forests, Machine Learning 45:5, 2001).

    Args:
        features: float32 (voxels, features).
        labels: (voxels,); class, from 1.
        seed: of the random choices.
    """
    from sklearn.ensemble import RandomForestClassifier  # takes a second to load, and most projects need no training

    n_tried = max(1, math.floor(math.sqrt(features.shape[1]) + 0.5))
    grown = RandomForestClassifier(
        N_TREES, criterion="gini", max_features=n_tried, bootstrap=True, random_state=seed, n_jobs=1
    ).fit(features, labels)
    trees = [tree_of_sklearn(estimator.tree_) for estimator in grown.estimators_]
    return join_trees(trees, (N_TREES,), features.shape[1], tuple(int(label) - 1 for label in grown.classes_))


def tree_of_sklearn(tree: Any) -> Tree:
    """Take over a tree of scikit-learn, with the same decision for every float32.

    There a sample goes left iff ``feature <= threshold``, here iff ``feature < threshold``: the thresholds become the
    next larger doubles.
    """
    is_leaf = tree.children_left < 0
    itself = np.arange(tree.node_count)
    return Tree(
        feature=np.where(is_leaf, -1, tree.feature).astype(np.int32),
        threshold=np.where(is_leaf, 0.0, np.nextafter(tree.threshold, np.inf)),
        left=np.where(is_leaf, itself, tree.children_left).astype(np.int32),
        right=np.where(is_leaf, itself, tree.children_right).astype(np.int32),
        leaf=np.where(is_leaf[:, None], tree.value[:, 0, :], 0.0),
    )
