"""How well two segmentations agree, read block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from skimage.metrics import adapted_rand_error, variation_of_information

from blockwise.errors import UserError
from blockwise.grid import Box
from blockwise.volume import Volume, open_volume

VOXELS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Agreement:
    """Comparison of two label volumes A and B.

    Attributes:
        voxels: number of voxels compared.
        labels_a: number of labels in A, 0 not counted.
        labels_b: the same for B.
        differing_voxels: voxels whose label is not the same number.
        same_partition: A and B are equal up to renumbering, 0 staying 0.
        split: first part of the variation of information, H(B | A), in bits: what B splits.
        merge: second part, H(A | B), in bits: what B merges.
        rand_error: adapted Rand error, voxels that are 0 in A left out.
        rand_precision: precision of the pairs of voxels.
        rand_recall: their recall.
    """

    voxels: int
    labels_a: int
    labels_b: int
    differing_voxels: int
    same_partition: bool
    split: float
    merge: float
    rand_error: float
    rand_precision: float
    rand_recall: float


def compare(address_a: str, address_b: str) -> Agreement:
    """Compare two label volumes of the same shape.

    Raises:
        UserError: a volume is missing, the shapes differ, or there are no integers in them.
    """
    a, b = open_volume(address_a), open_volume(address_b)
    if a.shape != b.shape:
        raise UserError(f"{address_a} has shape {a.shape}, but {address_b} has {b.shape}; they cannot be compared")
    for volume in (a, b):
        if volume.dtype.kind not in "iu":
            raise UserError(f"{volume.address} holds {volume.dtype}; labels are integers")
    return _agreement(_overlaps(a, b))


def _overlaps(a: Volume, b: Volume) -> pd.DataFrame:
    """Count voxels by pair of labels: columns a, b, voxels, each pair once."""
    total = pd.DataFrame({"a": np.empty(0, np.uint64), "b": np.empty(0, np.uint64), "voxels": np.empty(0, np.int64)})
    for box in _slabs(a.shape, a.chunks):
        part = pd.DataFrame({"a": _flat(a, box), "b": _flat(b, box)})
        counted = part.value_counts().rename("voxels").reset_index()
        total = pd.concat([total, counted]).groupby(["a", "b"])["voxels"].sum().reset_index()
    return total


def _flat(volume: Volume, box: Box) -> NDArray[np.uint64]:
    return volume.read(box).astype(np.uint64).ravel()


def _slabs(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[Box]:
    """Boxes of whole chunks, of a size that memory takes, that tile a volume."""
    sizes = list(chunks)
    for axis in reversed(range(len(shape))):
        room = max(1, VOXELS_AT_ONCE // max(1, int(np.prod(sizes))))
        sizes[axis] = min(shape[axis], sizes[axis] * room)
    steps = (range(0, n, size) for n, size in zip(shape, sizes, strict=True))
    for start in itertools.product(*steps):
        yield tuple(slice(s, min(s + size, n)) for s, size, n in zip(start, sizes, shape, strict=True))


def _agreement(pairs: pd.DataFrame) -> Agreement:
    table = _contingency(pairs)
    none = np.empty(0, np.uint64)  # asked for even where a table is given
    split, merge = variation_of_information(none, none, table=table / table.sum())
    # With a table that has no row for label 0, ignore_labels would drop a real label.
    foreground = _contingency(pairs[pairs["a"] != 0])
    error, precision, recall = (
        adapted_rand_error(none, none, table=foreground, ignore_labels=()) if foreground.nnz else (0, 1, 1)
    )
    once = pairs["a"].is_unique and pairs["b"].is_unique
    zeros = ((pairs["a"] == 0) == (pairs["b"] == 0)).all()
    return Agreement(
        voxels=int(pairs["voxels"].sum()),
        labels_a=int((pairs["a"].unique() != 0).sum()),
        labels_b=int((pairs["b"].unique() != 0).sum()),
        differing_voxels=int(pairs.loc[pairs["a"] != pairs["b"], "voxels"].sum()),
        same_partition=bool(once and zeros),
        split=float(split),
        merge=float(merge),
        rand_error=float(error),
        rand_precision=float(precision),
        rand_recall=float(recall),
    )


def _contingency(pairs: pd.DataFrame) -> Any:
    rows, _ = pd.factorize(pairs["a"])
    columns, _ = pd.factorize(pairs["b"])
    return csr_array(coo_array((pairs["voxels"].to_numpy(np.float64), (rows, columns))))
