"""The classifier of objects in an ilastik project (`.ilp`), read without ilastik. Nothing is ever unpickled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import h5py

from blockwise.errors import UserError
from blockwise.identity import canonical_json, digest
from tasks.objects.features.stored_features import features_by_plugin, load_features
from tasks.pixel_classification.forest import Forest
from tasks.pixel_classification.lanes import Lane, read_lanes
from tasks.pixel_classification.project_fields import LayoutError, read_class_names, read_text
from tasks.pixel_classification.vigra_forest import read_classifier
from tasks.project_file import ProjectFile

WORKFLOWS = tuple(
    f"Object Classification (from {source})"
    for source in ("prediction image", "pixel classification", "binary image", "label image")
)
"""ilastik's names of the kinds of projects that are read."""
GROUP = "ObjectClassification"
LARGEST_CLASS = 255
"""The volume of classes has a byte a voxel, as ilastik's own."""


@dataclass(frozen=True, order=True)
class SelectedFeature:
    """A feature of objects that a classifier looks at; ordered as its columns are.

    Attributes:
        plugin: of ilastik that computes it.
        name: as the plugin calls it, such as ``Mean in neighborhood``.
    """

    plugin: str
    name: str


@dataclass(frozen=True, eq=False)
class ObjectProject:
    """What a project says about how to classify objects.

    Attributes:
        path: the file.
        workflow: one of ``WORKFLOWS``.
        features: that the classifier looks at, in the order of its columns, each with all its components.
        margin: how far neighbourhoods reach, in voxels along x, y and maybe z; empty where no feature looks at them.
        classes: names of the classes, in order.
        forest: the classifier.
        axes: of the training images; empty where the file does not say.
        n_z: length of the training images along z, 1 where there is none; None where the file does not say.
        n_channels: of the training images; None where the file does not say.
    """

    path: str
    workflow: str
    features: tuple[SelectedFeature, ...]
    margin: tuple[int, ...]
    classes: tuple[str, ...]
    forest: Forest
    axes: str
    n_z: int | None
    n_channels: int | None

    @cached_property
    def content_hash(self) -> str:
        """Checksum of what decides about predictions: features, forest, and how many classes there are."""
        features = [[feature.plugin, feature.name] for feature in self.features]
        parts: dict[str, Any] = {"features": features, "forest": self.forest.checksum, "classes": len(self.classes)}
        if self.margin:
            parts["margin"] = list(self.margin)
        return digest(canonical_json(parts))


def is_object_project(path: str) -> bool:
    """Whether a file that can be read as a project is one of object classification."""
    with ProjectFile.at(path).opened() as file:
        return read_text(file, "workflowName") in WORKFLOWS


def load_object_project(path: str) -> ObjectProject:
    """Read a project, or give the one that was read before from the same, unchanged file.

    Raises:
        UserError: it is missing, no HDF5, of another workflow, has no classifier, or is damaged.
    """
    return _load(ProjectFile.at(path))


@lru_cache(maxsize=4)
def _load(project: ProjectFile) -> ObjectProject:
    with project.opened("its object classification") as file:
        try:
            return _read(project.path, file)
        except LayoutError as error:
            raise UserError(f"project {project.path}: {error}") from error


def _read(path: str, file: h5py.File) -> ObjectProject:
    workflow = read_text(file, "workflowName")
    if workflow not in WORKFLOWS:
        found = f"the workflow is {workflow!r}" if workflow else "it names no workflow"
        raise LayoutError(f"{found}, expected {' or '.join(map(repr, WORKFLOWS))}, whose classifier knows objects")
    group = file.get(GROUP)
    forest = read_classifier(group.get("ClassifierForests")) if isinstance(group, h5py.Group) else None
    if forest is None:
        raise LayoutError(
            "has no trained classifier of objects; label some objects in ilastik's Object Classification, switch on "
            "Live Update once, and save it"
        )
    classes = read_class_names(group.get("LabelNames"), max(forest.classes) + 1, "classifier knows")
    if len(classes) > LARGEST_CLASS:
        raise LayoutError(f"has {len(classes)} classes of objects; at most {LARGEST_CLASS} have room in a byte")
    axes, n_z, n_channels = _training_images(read_lanes(file))
    features, margin = _features(path, file)
    return ObjectProject(path, workflow, features, margin, classes, forest, axes, n_z, n_channels)


def _training_images(lanes: tuple[Lane, ...]) -> tuple[str, int | None, int | None]:
    """Axes, slices and channels; the last image decides, as for pixels."""
    return (lanes[-1].axes, lanes[-1].length("z"), lanes[-1].length("c")) if lanes else ("", None, None)


def _features(path: str, file: h5py.File) -> tuple[tuple[SelectedFeature, ...], tuple[int, ...]]:
    """The features of the classifier, and how far the neighbourhoods reach that they look at."""
    selected = features_by_plugin(file.get(f"{GROUP}/SelectedFeatures"))
    if not selected:
        raise LayoutError(
            "does not say which features its classifier of objects looks at; select features in ilastik's Object "
            "Classification, train, and save it"
        )
    # ilastik sorts by plugin, then by name, as bytes: capitals come before small letters.
    features = tuple(sorted(SelectedFeature(plugin, name) for plugin in selected for name in selected[plugin]))
    looks_around = any("margin" in node for nodes in selected.values() for node in nodes.values())
    # One margin is that of all features that are computed, whoever looks at them.
    return features, load_features(path).margin if looks_around else ()
