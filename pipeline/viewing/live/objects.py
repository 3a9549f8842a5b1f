"""Objects of what is visible: components of a box of a mask, until the run has made those of the whole volume."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box
from tasks.components.labelling import label_components
from tasks.threshold import CORE, CORE_OUTSIDE


def provisional_objects(
    mask: NDArray[np.uint8],
    foreground: int,
    connectivity: int,
    inside: NDArray[np.bool_] | None,
    goes_on: tuple[tuple[bool, bool], ...],
    sizes: tuple[int, int | None] = (0, None),
    *,
    cores: bool = False,
) -> NDArray[np.uint32]:
    """Components of a box as far as the box tells.

    Args:
        mask: (z, y, x) or (y, x): 0, 1, ``CORE`` and ``CORE_OUTSIDE``.
        foreground: 1 for components of what is not 0, 0 for those of the zeros.
        connectivity: see ``label_components``.
        inside: voxels that may belong to an object, of the same shape; None for all.
        goes_on: for each axis, whether the volume goes on below and above the box.
        sizes: least and largest of an object, in voxels; None for no largest. What touches a face of the box beyond
            which the volume goes on is kept whatever its size here.
        cores: keep only objects that hold a core within the box.

    Returns:
        uint32 of the mask's shape; 0 is background, objects count from 1 in raster order of their first voxels.
    """
    # Where a core reaches out of what is above the threshold there is no object.
    labels = label_components(np.where(mask == CORE_OUTSIDE, 0, mask), foreground, connectivity, inside)
    counts = np.bincount(labels.ravel())
    kept = (counts >= sizes[0]) & (counts <= (np.inf if sizes[1] is None else sizes[1]))
    kept[_touching(labels, goes_on)] = True
    if cores:
        with_core = np.zeros(len(counts), bool)
        with_core[np.unique(labels[mask == CORE])] = True
        kept &= with_core
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.uint32)
    found: NDArray[np.uint32] = numbers[labels]
    return found


def _touching(labels: NDArray[Any], goes_on: tuple[tuple[bool, bool], ...]) -> NDArray[Any]:
    faces = [
        labels.take(index, axis).ravel()
        for axis, sides in enumerate(goes_on)
        for index, open_ in zip((0, -1), sides, strict=True)
        if open_
    ]
    return np.unique(np.concatenate(faces)) if faces else np.empty(0, np.int64)


def visible_box(shape: tuple[int, ...], box: Box, block: tuple[int, ...], most_voxels: int) -> Box:
    """Whole blocks of what is visible: cut to the volume, and to so many voxels around its middle.

    Args:
        shape: of the volume, in voxels.
        box: what is visible; may reach beyond the volume, or lie outside.
        block: shape of a block.
        most_voxels: in the result; but never less than one block.

    >>> visible_box((100, 100), (slice(-20, 30), slice(40, 90)), (10, 10), 800)
    (slice(0, 30, None), slice(60, 80, None))
    """
    middles = [min(max((s.start + s.stop) // 2, 0), n - 1) for s, n in zip(box, shape, strict=True)]
    first = [min(max(s.start, 0), m) // b for s, m, b in zip(box, middles, block, strict=True)]
    last = [max(min(s.stop, n), m + 1) for s, m, n in zip(box, middles, shape, strict=True)]
    ranges = [[f, -(-stop // b)] for f, stop, b in zip(first, last, block, strict=True)]
    centres = [m // b for m, b in zip(middles, block, strict=True)]

    def size() -> int:
        parts = (min(r[1] * b, n) - r[0] * b for r, b, n in zip(ranges, block, shape, strict=True))
        return int(np.prod(list(parts), dtype=object))

    while size() > most_voxels and any(r[1] - r[0] > 1 for r in ranges):
        lengths = [(r[1] - r[0]) * b if r[1] - r[0] > 1 else 0 for r, b in zip(ranges, block, strict=True)]
        axis = lengths.index(max(lengths))
        r = ranges[axis]
        if centres[axis] - r[0] >= r[1] - 1 - centres[axis]:
            r[0] += 1
        else:
            r[1] -= 1
    return tuple(slice(r[0] * b, min(r[1] * b, n)) for r, b, n in zip(ranges, block, shape, strict=True))
