"""Voxels around objects: those nearer than a margin, as ilastik measures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiled

FAR = 2**30
"""A squared distance that is larger than any that counts."""

LARGEST_MARGIN = 2**14


@dataclass(frozen=True)
class Margin:
    """How far the neighbourhood of an object reaches.

    ilastik looks at the object's bounding box, grown by the margin of each axis and cut at the image's border. In it
    the neighbourhood are the voxels outside the object whose distance to it is below the largest entry of the
    margin, where a step along an axis is as long as that entry over the axis's own, rounded down.

    Attributes:
        voxels: per spatial axis, in the order z, y, x; 1 to ``LARGEST_MARGIN``.
    """

    voxels: tuple[int, ...]

    @property
    def distance(self) -> int:
        """Voxels of the neighbourhood are nearer than this."""
        return max(self.voxels)

    @property
    def pitch(self) -> tuple[int, ...]:
        """Length of a step along each axis."""
        return tuple(self.distance // n for n in self.voxels)

    @property
    def reach(self) -> tuple[int, ...]:
        """Most voxels along each axis from one of the neighbourhood to the object's nearest one."""
        return tuple((self.distance - 1) // pitch for pitch in self.pitch)

    @property
    def boxes_matter(self) -> bool:
        """Whether a voxel may be near enough, and outside of the grown bounding box."""
        return any(reach > n for reach, n in zip(self.reach, self.voxels, strict=True))


@compiled
def neighbours(
    labels: Any,
    number: Any,
    box: Any,
    core: Any,
    limit: Any,
    pitch: Any,
    reach: Any,
    distance: Any,
    inside: Any,
    near: Any,
    found: Any,
) -> Any:
    """Places of the voxels of a block's core that are in the neighbourhood of an object.

    Args:
        labels: of a block and what lies around it, (z, y, x).
        number: of the object among them.
        box: its bounding box in them, int64 (3, 2), first voxel and the one after the last.
        core: the block, int64 (3, 2).
        limit: where the neighbourhood may be, int64 (3, 2).
        pitch: of ``Margin``, int64 (3,).
        reach: likewise.
        distance: likewise.
        inside: voxels of the core that count, bool (voxels,).
        near: for what is computed, int32, as large as ``labels``.
        found: int64, as large as the core; filled with places in the flattened core.

    Returns:
        How many there are.
    """
    region, source = np.empty((3, 2), np.int64), np.empty((3, 2), np.int64)
    for a in range(3):
        region[a, 0] = max(box[a, 0] - reach[a], core[a, 0], limit[a, 0])
        region[a, 1] = min(box[a, 1] + reach[a], core[a, 1], limit[a, 1])
        source[a, 0] = max(box[a, 0], region[a, 0] - reach[a])
        source[a, 1] = min(box[a, 1], region[a, 1] + reach[a])
        if region[a, 0] >= region[a, 1]:
            return 0
    _along_x(labels, number, region, source, pitch[2], near)
    last = np.empty(max(labels.shape[0], labels.shape[1]), np.int32)
    for z in range(source[0, 0], source[0, 1]):
        for x in range(region[2, 0], region[2, 1]):
            _along(near[z, :, x], region[1], source[1], pitch[1], reach[1], last)
    count, (height, width) = 0, (core[1, 1] - core[1, 0], core[2, 1] - core[2, 0])
    for y in range(region[1, 0], region[1, 1]):
        for x in range(region[2, 0], region[2, 1]):
            _along(near[:, y, x], region[0], source[0], pitch[0], reach[0], last)
            for z in range(region[0, 0], region[0, 1]):
                if 0 < near[z, y, x] < distance * distance:
                    place = ((z - core[0, 0]) * height + y - core[1, 0]) * width + x - core[2, 0]
                    if inside[place]:
                        found[count] = place
                        count += 1
    return count


@compiled
def _along_x(labels: Any, number: Any, region: Any, source: Any, pitch: Any, near: Any) -> None:
    """Squared distances along x to the object's nearest voxel, in the rows that hold any of it."""
    for z in range(source[0, 0], source[0, 1]):
        for y in range(source[1, 0], source[1, 1]):
            for x in range(region[2, 0], region[2, 1]):
                near[z, y, x] = FAR
            steps = -1
            for x in range(min(source[2, 0], region[2, 0]), region[2, 1]):
                if source[2, 0] <= x < source[2, 1] and labels[z, y, x] == number:
                    steps = 0
                elif steps >= 0:
                    steps += pitch
                if steps >= 0 and x >= region[2, 0]:
                    near[z, y, x] = min(FAR, steps * steps)
            steps = -1
            for x in range(max(source[2, 1], region[2, 1]) - 1, region[2, 0] - 1, -1):
                if source[2, 0] <= x < source[2, 1] and labels[z, y, x] == number:
                    steps = 0
                elif steps >= 0:
                    steps += pitch
                if steps >= 0 and x < region[2, 1]:
                    near[z, y, x] = min(near[z, y, x], steps * steps)


@compiled
def _along(line: Any, region: Any, source: Any, pitch: Any, reach: Any, last: Any) -> None:
    """Squared distances with a further axis: the least sum of the former ones and the squared way along this axis."""
    is_anything = False
    for i in range(source[0], source[1]):
        last[i] = line[i]
        is_anything |= last[i] < FAR
    if not is_anything:
        for i in range(region[0], region[1]):
            line[i] = FAR
        return
    for i in range(region[0], region[1]):
        best = last[i] if source[0] <= i < source[1] else FAR
        for k in range(1, reach + 1):
            way = k * pitch * k * pitch
            if way >= best:
                break
            if source[0] <= i - k < source[1]:
                best = min(best, last[i - k] + way)
            if source[0] <= i + k < source[1]:
                best = min(best, last[i + k] + way)
        line[i] = best


def grown(start: NDArray[np.int64], stop: NDArray[np.int64], margin: Margin) -> NDArray[np.int64]:
    """Bounding boxes grown by the margin, int64 (objects, axes, 2), of boxes (objects, axes) each."""
    by = np.asarray(margin.voxels)
    return np.stack([start - by, stop + by], axis=2)
