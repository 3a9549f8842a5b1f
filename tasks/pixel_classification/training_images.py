"""The training images of a project, read only around the labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, grow, relative
from blockwise.identity import array_checksum, digest
from blockwise.records import in_store
from blockwise.volume import Address, Volume, open_volume
from tasks.pixel_classification.axes import to_zyxc
from tasks.pixel_classification.features import check_size, halo
from tasks.pixel_classification.project import Project

TILE = {True: (1, 256, 256), False: (64, 64, 64)}
"""Shape (z, y, x) of the pieces in which labels are looked at, by whether the image is flat."""

CONTAINER = re.compile(r"^(.*?\.(?:h5|hdf5|hdf|ilp|n5|zarr|zr))(?:/(.*))?$", re.IGNORECASE)
"""A path as ilastik writes it: the container, and the dataset in it."""


@dataclass(frozen=True)
class Piece:
    """A part of a training image around some labels.

    Attributes:
        image: (z, y, x, c), the halo included, cut where the image ends.
        interior: bounding box of the labelled voxels in ``image``.
        places: int64 (voxels, 3); the labelled voxels, z, y, x in ``interior``.
        labels: int64 (voxels,); class, from 1.
    """

    image: NDArray[Any]
    interior: tuple[slice, slice, slice]
    places: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class _Place:
    """Where a piece lies: its volume and what of it to read, and as ``Piece``."""

    volume: Volume
    axes: str
    box: Box
    interior: tuple[slice, slice, slice]
    places: NDArray[np.int64]
    labels: NDArray[np.int64]


def read_pieces(project: Project) -> Iterator[Piece]:
    """The training images around their labels, in a fixed order.

    Raises:
        UserError: an image is not there, cannot be read, does not fit its labels, or is too small for the features.
    """
    for place in _find_pieces(project):
        image = to_zyxc(place.volume.read(place.box), place.axes)
        yield Piece(image, place.interior, place.places, place.labels)


def image_states(project: Project) -> str | None:
    """Digest over size and time of the files that ``read_pieces`` reads; None where a store does not tell them.

    Raises:
        UserError: as ``read_pieces``, as far as it is seen without reading.
    """
    found = []
    for place in _find_pieces(project):
        if not place.volume.has_file_states:
            return None
        found.append(array_checksum(place.volume.file_states(place.box)))
    return digest(",".join(found))


def _find_pieces(project: Project) -> Iterator[_Place]:
    reach = halo(project.features)
    for lane in np.unique(project.labels[:, 0]):
        volume, axes = _open_lane(project, int(lane)), project.lanes[lane].axes
        sizes = dict(zip(axes, volume.shape, strict=True))
        shape = sizes.get("z", 1), sizes["y"], sizes["x"]
        check_size(project.features, shape)
        voxels = project.labels[project.labels[:, 0] == lane][:, 1:]
        whole = tuple(slice(0, n) for n in shape)
        if any((voxels[:, 1:4] >= shape).any(axis=0)) or (voxels[:, 0] >= sizes.get("t", 1)).any():
            raise _unusable(project, int(lane), f"labels lie beyond its end {volume.shape} ({axes})")
        for time, places, labels in _tiles(voxels, TILE[shape[0] == 1]):
            box = _bounding_box(places)
            outer = grow(box, reach, whole)
            ranges = dict(zip("zyx", outer, strict=True)) | {
                "t": slice(time, time + 1),
                "c": slice(0, sizes.get("c")),
            }
            z, y, x = relative(box, outer)
            read = tuple(ranges[axis] for axis in axes)
            yield _Place(volume, axes, read, (z, y, x), places - [s.start for s in box], labels)


def _tiles(
    voxels: NDArray[np.int64], tile: tuple[int, int, int]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Time, places (z, y, x) and labels of the voxels (t, z, y, x, label) in each tile that has some."""
    tiles = np.concatenate([voxels[:, :1], voxels[:, 1:4] // tile], axis=1)
    found, which = np.unique(tiles, axis=0, return_inverse=True)
    for i, (time, *_) in enumerate(found):
        inside = voxels[which.reshape(-1) == i]
        yield int(time), inside[:, 1:4], inside[:, 4]


def _bounding_box(places: NDArray[np.int64]) -> Box:
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(places.min(0), places.max(0), strict=True))


def _open_lane(project: Project, number: int) -> Volume:
    lane = project.lanes[number]
    if lane.is_part:
        raise _unusable(project, number, "ilastik was told to take a part of it only (subvolume_roi)")
    try:
        volume = open_volume(_address(project, number))
    except UserError as error:
        raise _unusable(project, number, str(error)) from error
    if len(volume.shape) != len(lane.axes) or (lane.shape and volume.shape != lane.shape):
        expected = f"axes {lane.axes}" + (f" and shape {lane.shape}" if lane.shape else "")
        raise _unusable(project, number, f"it has shape {volume.shape}, expected {expected}")
    return volume


def _address(project: Project, number: int) -> Address:
    lane = project.lanes[number]
    if in_store(project.path):
        raise UserError("the project is in a store, where training images are not looked for")
    if lane.is_internal:
        return Address(project.path, lane.file)
    found = CONTAINER.match(lane.file)
    path, key = (found.group(1), found.group(2) or "") if found else (lane.file, "")
    return Address(str(Path(project.path).parent / path), key.strip("/"))


def _unusable(project: Project, number: int, reason: str) -> UserError:
    lane = project.lanes[number]
    place = "inside the project" if lane.is_internal else f"{lane.file!r}, taken from the project's folder"
    return UserError(
        f"project {project.path} holds labels but no classifier, so it must be trained here, but its training image "
        f"{number} ({place}) cannot be used ({reason}). Put the image there, or open the project in ilastik, switch "
        "on Live Update and save it: then it holds the classifier and needs no images"
    )
