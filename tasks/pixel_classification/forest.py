"""A random forest as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
