"""How well two segmentations agree, read block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.volume import open_volume
from pipeline.inspecting.overlaps import Overlaps, count_overlaps


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
    return _agreement(count_overlaps(a, b))


def _agreement(overlaps: Overlaps) -> Agreement:
    of_a, rows = np.unique(overlaps.a, return_inverse=True)
    of_b, columns = np.unique(overlaps.b, return_inverse=True)
    split, merge = _variation_of_information(overlaps.voxels, rows, columns)
    seen = overlaps.a != 0
    error, precision, recall = _adapted_rand(overlaps.voxels[seen], rows[seen], columns[seen])
    once = len(of_a) == len(of_b) == len(overlaps)
    zeros = bool(((overlaps.a == 0) == (overlaps.b == 0)).all())
    return Agreement(
        voxels=int(overlaps.voxels.sum()),
        labels_a=int(np.count_nonzero(of_a)),
        labels_b=int(np.count_nonzero(of_b)),
        differing_voxels=int(overlaps.voxels[overlaps.a != overlaps.b].sum()),
        same_partition=once and zeros,
        split=split,
        merge=merge,
        rand_error=error,
        rand_precision=precision,
        rand_recall=recall,
    )


def _variation_of_information(
    voxels: NDArray[np.int64], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[float, float]:
    """H(B | A) and H(A | B) in bits (Meila 2007)."""
    share = voxels / voxels.sum()
    entropies = (float(share @ np.log2(_sizes(voxels, part)[part] / voxels)) for part in (rows, columns))
    return next(entropies), next(entropies)


def _adapted_rand(
    voxels: NDArray[np.int64], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[float, float, float]:
    """Adapted Rand error, precision and recall (Arganda-Carreras 2015); not numbers where no two voxels are together.

    Two empty segmentations agree.
    """
    if not len(voxels):
        return 0.0, 1.0, 1.0
    both, in_a, in_b = (
        np.float64(n @ n - n.sum())
        for n in (voxels.astype(np.float64), _sizes(voxels, rows), _sizes(voxels, columns))
    )
    with np.errstate(invalid="ignore"):
        return float(1 - 2 * both / (in_a + in_b)), float(both / in_a), float(both / in_b)


def _sizes(voxels: NDArray[np.int64], part: NDArray[np.intp]) -> NDArray[np.float64]:
    """Voxels of each part."""
    return np.bincount(part, voxels).astype(np.float64)
