"""The columns of the object table. To add one: a function, its place in ``COLUMNS``, its line in the documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.volume.lengths import voxel_size
from tasks.components.measures import Measures
from tasks.objects.features.catalog import Feature
from tasks.objects.features.values import FeatureValues
from tasks.objects.image_measures import Image, channel_statistics


@dataclass(frozen=True)
class Classes:
    """Classes of objects.

    Attributes:
        names: of all classes.
        of_objects: from 1, uint8 (objects,).
        probabilities: float32 (objects, classes).
    """

    names: tuple[str, ...]
    of_objects: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Objects:
    """Objects of a run, all of them or a shard, in the order of their first voxels.

    Attributes:
        label: numbers of the objects, uint64 (objects,).
        measures: of all objects; see ``tasks.components.measures`` and ``tasks.objects.image_measures``.
        axes: of the grid.
        shape: of the grid, in voxels.
        touches_border: bool (objects,), whether they touch the border of what is computed.
        step_um: micrometres from voxel to voxel along each spatial axis; None where that is not known.
        images: that were measured below the objects.
        begin: how many objects there are before these.
        chosen: ilastik's features that were computed.
        features: their values; see ``feature_values``.
        classes: which class they are of; None where they are not classified.
    """

    label: NDArray[np.uint64]
    measures: Measures
    axes: str
    shape: tuple[int, ...]
    touches_border: NDArray[np.bool_]
    step_um: tuple[float, ...] | None = None
    images: tuple[Image, ...] = ()
    begin: int = 0
    chosen: tuple[Feature, ...] = ()
    features: FeatureValues = field(default_factory=dict)
    classes: Classes | None = None

    @property
    def spatial(self) -> str:
        """The axes without t."""
        return self.axes.replace("t", "")

    def image(self, name: str) -> tuple[Image, ...]:
        """The image of this name, if it was measured."""
        return tuple(image for image in self.images if image.name == name)


Columns = Mapping[str, NDArray[Any]]
"""Values of all objects by the columns' names."""


def labels(objects: Objects) -> Columns:
    """``label``: the object's number in the dataset of labels."""
    return {"label": objects.label}


def time_steps(objects: Objects) -> Columns:
    """``t``: the time step that the object lies in, where there are any."""
    if "t" not in objects.axes:
        return {}
    return {"t": objects.measures["first"] // math.prod(objects.shape[1:])}


def sizes(objects: Objects) -> Columns:
    """``voxels``: how many."""
    return {"voxels": objects.measures["voxels"]}


def bounding_boxes(objects: Objects) -> Columns:
    """``start_z``, ``stop_z`` ...: first voxel along an axis, and the one after the last."""
    found = {}
    for i, axis in enumerate(objects.spatial):
        found[f"start_{axis}"] = objects.measures["start"][:, i]
        found[f"stop_{axis}"] = objects.measures["stop"][:, i]
    return found


def centroids(objects: Objects) -> Columns:
    """``centroid_z`` ...: mean of the voxels' coordinates, in voxels."""
    voxels = np.maximum(objects.measures["voxels"], 1)
    return {f"centroid_{axis}": objects.measures["sums"][:, i] / voxels for i, axis in enumerate(objects.spatial)}


def intensities(objects: Objects) -> Columns:
    """``intensity_mean_0``, ``..._std_0``, ``..._min_0``, ``..._max_0`` ...: of each raw channel."""
    return {
        f"intensity_{name}_{channel}": values
        for image in objects.image("intensity")
        for place, channel in enumerate(image.channels)
        for name, values in channel_statistics(objects.measures, image, place).items()
    }


def mean_probabilities(objects: Objects) -> Columns:
    """``probability_mean_0`` ...: mean probability of each class that is written, 0 to 1."""
    found = {}
    for image in objects.image("probability"):
        whole = 1 if np.dtype(image.dtype).kind == "f" else np.iinfo(image.dtype).max
        for place, class_index in enumerate(image.channels):
            mean = channel_statistics(objects.measures, image, place)["mean"]
            found[f"probability_mean_{class_index}"] = mean / whole
    return found


def borders(objects: Objects) -> Columns:
    """``touches_border``: whether a voxel of the object is the first or last, along an axis, that is computed."""
    return {"touches_border": objects.touches_border}


def physical_sizes(objects: Objects) -> Columns:
    """``volume_um3``, or ``area_um2`` of an image: size in micrometres, where the distance of voxels is known."""
    if objects.step_um is None:
        return {}
    name = "volume_um3" if len(objects.spatial) == 3 else "area_um2"
    voxel = voxel_size(objects.step_um)
    # One division, so that round numbers stay round: 123 voxels of 0.001 are 0.123.
    return {name: objects.measures["voxels"] * float(voxel.numerator) / float(voxel.denominator)}


def physical_centroids(objects: Objects) -> Columns:
    """``centroid_um_z`` ...: mean of the voxels' coordinates in micrometres, the first voxel's centre being 0."""
    if objects.step_um is None:
        return {}
    steps = zip(centroids(objects).values(), objects.step_um, strict=True)
    return {f"centroid_um_{axis}": values * step for axis, (values, step) in zip(objects.spatial, steps, strict=True)}


def wholes(objects: Objects) -> Columns:
    """``whole``, ``too_large``: where objects are cut, the label of what this is a part of; 1 if it stays whole."""
    if "whole" not in objects.measures:
        return {}
    return {"whole": objects.measures["whole"], "too_large": objects.measures["uncut"]}


def features(objects: Objects) -> Columns:
    """``Mean Intensity``, ``Radii of the object_0`` ...: ilastik's features, called as in its own tables."""
    found: dict[str, NDArray[Any]] = {}
    for feature in objects.chosen:
        values = objects.features[feature.key]
        found.update(zip(feature.columns_of(values.shape[1]), values.T, strict=True))
    return found


def classes(objects: Objects) -> Columns:
    """``object_class``, ``object_class_name``, ``object_probability_1`` ...: of a classifier, classes from 1."""
    known = objects.classes
    if known is None:
        return {}
    names = np.array(known.names, object)[known.of_objects.astype(int) - 1]
    probabilities = {f"object_probability_{i + 1}": values for i, values in enumerate(known.probabilities.T)}
    return {"object_class": known.of_objects, "object_class_name": names, **probabilities}


COLUMNS: tuple[Callable[[Objects], Columns], ...] = (
    labels,
    time_steps,
    sizes,
    bounding_boxes,
    centroids,
    intensities,
    mean_probabilities,
)
"""In the order of the table; by their names the table knows whether it is of all of them."""

FURTHER_COLUMNS: tuple[Callable[[Objects], Columns], ...] = (
    borders,
    physical_sizes,
    physical_centroids,
    wholes,
    features,
    classes,
)
"""After those, and not named among the table's settings: ``ObjectTableStep.layout`` tells that they are there."""


def columns_of(objects: Objects) -> dict[str, NDArray[Any]]:
    """All columns of the table."""
    return {name: values for function in (*COLUMNS, *FURTHER_COLUMNS) for name, values in function(objects).items()}
