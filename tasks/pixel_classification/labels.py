"""The labels that a user has painted into the training images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import h5py
import numpy as np
from numpy.typing import NDArray

from tasks.pixel_classification.lanes import Lane
from tasks.pixel_classification.project_fields import LayoutError, axes_of_tags, decode

LABEL_SETS = "PixelClassification/LabelSets"
LANE_ORDER = "tzyxc"
COLUMNS = ("lane", "t", "z", "y", "x", "label")

KEPT_IMAGE_ORDER = re.compile(r"1\.(3\.3\.?post[2-9]|4\.0(a\d+|b[0-7]))(?!\d)")
"""Versions of ilastik that wrote label blocks in the image's own order of axes, without saying so."""


def read_labels(file: h5py.File, lanes: Sequence[Lane], version: str) -> NDArray[np.int64]:
    """Read all labelled voxels of an open project.

    Args:
        file: the project.
        lanes: its training images.
        version: of the ilastik that wrote it; blocks without axis tags follow its habits.

    Returns:
        int64 (voxels, 6): lane (from 0), t, z, y, x in voxels of the image (0 for axes that it lacks), and the label
        (class, from 1). Sorted, so that it does not matter into which blocks ilastik has cut them.

    Raises:
        LayoutError: a block whose place or axes are not known.
    """
    sets = file.get(LABEL_SETS)
    found = [np.empty((0, len(COLUMNS)), np.int64)]
    if isinstance(sets, h5py.Group):
        for lane, name in enumerate(sorted(sets, key=lambda name: int(name.removeprefix("labels")))):
            found += [_voxels(block, lane, lanes, version) for block in _blocks(sets[name])]
    voxels = np.concatenate(found)
    return voxels[np.lexsort(voxels.T[::-1])]


def _blocks(group: h5py.Group) -> Iterator[h5py.Dataset]:
    return (node for node in group.values() if isinstance(node, h5py.Dataset))


def _voxels(block: h5py.Dataset, lane: int, lanes: Sequence[Lane], version: str) -> NDArray[np.int64]:
    if lane >= len(lanes):
        raise LayoutError(f"{block.name}: labels of image {lane}, but it names {len(lanes)} images")
    starts = [int(start) for start, _ in re.findall(r"(\d+):(\d+)", decode(block.attrs.get("blockSlice", "")))]
    if len(starts) != block.ndim:
        raise LayoutError(f"{block.name}: its attribute blockSlice does not place its {block.ndim} axes")
    if "axistags" in block.attrs:
        axes = axes_of_tags(block.attrs["axistags"])
    else:
        axes = _axes_of_old_block(block, lanes[lane], version)
    if len(axes) != block.ndim:
        raise LayoutError(f"{block.name}: {block.ndim} axes, but the tags {axes!r}; open and save it with ilastik")
    labels = block[()]
    where = np.nonzero(labels)
    voxels = np.zeros((len(where[0]), len(COLUMNS)), np.int64)
    voxels[:, 0] = lane
    voxels[:, -1] = labels[where]
    for axis, positions, start in zip(axes, where, starts, strict=True):
        if axis != "c":
            voxels[:, COLUMNS.index(axis)] = positions + start
    return voxels


def _axes_of_old_block(block: h5py.Dataset, lane: Lane, version: str) -> str:
    """Before 1.4 blocks carry no axes: they are the image's, reordered with c last, or as the image has them.

    ilastik may leave out axes of length 1 and adds c.
    """
    axes = lane.axes
    if not KEPT_IMAGE_ORDER.match(version):
        axes = "".join(axis for axis in LANE_ORDER if axis in axes)
    if "c" not in axes and len(axes) < block.ndim:
        axes += "c"
    for axis in "tzc":
        if len(axes) > block.ndim and axis in axes and lane.length(axis) == 1:
            axes = axes.replace(axis, "")
    if len(axes) != block.ndim:
        raise LayoutError(
            f"{block.name}: {block.ndim} axes, but the image has {lane.axes!r} and ilastik {version} does not say "
            "which of them; open and save it with ilastik 1.4"
        )
    return axes
