"""From features of objects to their classes, as pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.objects.classification.project import SelectedFeature
from tasks.pixel_classification.forest import Forest, evaluate


def feature_vectors(
    features: Sequence[SelectedFeature], values: Mapping[tuple[str, str], NDArray[Any]]
) -> NDArray[np.float32]:
    """What a classifier sees of objects.

    Args:
        features: in the order of the columns.
        values: of each (plugin, name), (objects, components).

    Returns:
        float32 (objects, columns): each feature with all its components; what is NaN or infinite, or too large for
        a float32, is 0.
    """
    with np.errstate(over="ignore"):  # becomes infinite, and so 0
        columns = [np.asarray(values[f.plugin, f.name]).astype(np.float32) for f in features]
    vectors = np.concatenate(columns, axis=1)
    vectors[~np.isfinite(vectors)] = 0
    return vectors


def classify(
    forest: Forest, n_classes: int, vectors: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Class and probabilities of each object.

    Args:
        forest: the classifier.
        n_classes: how many classes there are; some may have no label.
        vectors: float32 (objects, forest.n_features).

    Returns:
        uint8 (objects,), the class from 1, of equally probable ones the first; and float32 (objects, n_classes).
    """
    probabilities = np.zeros((len(vectors), n_classes), np.float32)
    probabilities[:, list(forest.classes)] = evaluate(forest, vectors)
    return (1 + probabilities.argmax(axis=1)).astype(np.uint8), probabilities
