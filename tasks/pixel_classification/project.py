"""An ilastik project (`.ilp`) that classifies pixels, in one stage or in two (autocontext), read without ilastik.

Nothing in it is ever unpickled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.identity import array_checksum, canonical_json, digest
from tasks.pixel_classification.features import FILTERS, Feature, n_channels
from tasks.pixel_classification.forest import Forest
from tasks.pixel_classification.labels import read_labels
from tasks.pixel_classification.lanes import Lane, read_lanes
from tasks.pixel_classification.project_fields import LayoutError, decode, read_class_names, read_text
from tasks.pixel_classification.vigra_forest import read_classifier
from tasks.project_file import ProjectFile

OF_BINARY_IMAGES = "Object Classification (from binary image)"
OF_LABEL_IMAGES = "Object Classification (from label image)"
WORKFLOWS = {
    "Pixel Classification": ("",),
    "AutocontextTwoStage": ("", "01"),
    "Object Classification (from pixel classification)": ("",),
    "Object Classification (from prediction image)": (),
    OF_BINARY_IMAGES: (),
    OF_LABEL_IMAGES: (),
}
"""ilastik's names of the kinds of projects that are read, and for each stage what its groups' names end with."""


@dataclass(frozen=True, eq=False)
class Project:
    """What a project says about how to predict; of autocontext, one of its stages.

    Attributes:
        path: the file.
        version: of the ilastik that wrote it.
        classes: names of the classes, in order.
        axes: of the images, from the last one.
        n_channels: channels of what the features are made of: of a raw image, and in a second stage the classes of
            the one before after them.
        features: the selected features in the project's order; none where the project classifies no pixels.
        forest: the classifier; None where the project has labels only.
        lanes: the training images.
        labels: int64 (voxels, 6), see `labels.read_labels`; empty where the classifier is stored.
        images: checksum of the training images around the labels; empty where the classifier is stored, and until
            `training.open_project` has looked at them.
        n_features: feature channels of the training images; None where the file does not tell and nobody has looked.
        stage: of autocontext, from 1.
        then: the stage that reads the image with this one's probabilities; None for the last.
        workflow: ilastik's name of the kind of project; empty where it does not matter.
    """

    path: str
    version: str
    classes: tuple[str, ...]
    axes: str
    n_channels: int
    features: tuple[Feature, ...]
    forest: Forest | None
    lanes: tuple[Lane, ...]
    labels: NDArray[np.int64]
    images: str = ""
    n_features: int | None = None
    stage: int = 1
    then: Project | None = None
    workflow: str = ""

    @property
    def is_of_binary_images(self) -> bool:
        """Whether it is of objects of binary images, which stand in the place of probabilities."""
        return self.workflow == OF_BINARY_IMAGES

    @property
    def is_of_label_images(self) -> bool:
        """Whether it is of objects of label images, which stand in the place of probabilities."""
        return self.workflow == OF_LABEL_IMAGES

    @property
    def stages(self) -> tuple[Project, ...]:
        """This stage and those after it."""
        return (self,) if self.then is None else (self, *self.then.stages)

    @cached_property
    def content_hash(self) -> str:
        """Checksum of what decides about predictions, of this stage alone.

        These are classes, channels, features, and the forest; without a forest what it will be trained on. What else
        a project holds (display, window, time of saving, the place of its images) is not in it, so that saving a
        project again changes nothing.
        """
        return self._hash(self.classes)

    @cached_property
    def nameless_hash(self) -> str:
        """As ``content_hash``, but of the classes their number alone: what they are called changes no prediction."""
        return self._hash(len(self.classes))

    def with_classes(self, names: tuple[str, ...]) -> Project:
        """The same project, its classes called as they were before somebody renamed them; as many as there are."""
        return replace(self, classes=names)

    def _hash(self, classes: tuple[str, ...] | int) -> str:
        parts: dict[str, Any] = {
            "classes": classes,
            "channels": self.n_channels,
            "features": [[f.id, f.scale, f.in_2d] for f in self.features],
        }
        if len(self.labels):
            parts |= {"labels": array_checksum(self.labels), "images": self.images}
        elif self.forest is not None:
            parts["forest"] = self.forest.checksum
        return digest(canonical_json(parts))


def load_project(path: str) -> Project:
    """Read a project, or give the one that was read before from the same, unchanged file.

    Raises:
        UserError: it is missing, no HDF5, of another workflow or version, without features or classes, or holds a
            feature or classifier that is not known here. The message says which, and what to do.
    """
    return _load(ProjectFile.at(path))


@lru_cache(maxsize=4)
def _load(project: ProjectFile) -> Project:
    """Read a project; kept, because reading a forest takes longer than predicting a small image."""
    with project.opened() as file:
        try:
            return _read(project.path, file)
        except LayoutError as error:
            raise UserError(f"project {project.path}: {error}") from error


def _read(path: str, file: h5py.File) -> Project:
    endings = _check_workflow(file)
    lanes = read_lanes(file)
    if not lanes or not lanes[-1].axes:
        raise LayoutError("names no axes of its images; open it in ilastik, check the images, and save it again")
    if not endings:
        version, channels = read_text(file, "ilastikVersion", "unknown"), lanes[-1].length("c") or 1
        labels = np.empty((0, 6), np.int64)
        axes, workflow = lanes[-1].axes, read_text(file, "workflowName")
        return Project(path, version, (), axes, channels, (), None, lanes, labels, workflow=workflow)
    if len(endings) == 1:
        return _read_stage(path, file, lanes)
    stages: list[Project] = []
    for number, ending in enumerate(endings, 1):
        try:
            stages.append(replace(_read_stage(path, file, lanes, ending, stages), stage=number))
        except LayoutError as error:
            raise LayoutError(f"stage {number}: {error}") from error
    first, second = stages
    return replace(first, then=second)


def _read_stage(
    path: str, file: h5py.File, lanes: tuple[Lane, ...], ending: str = "", before: list[Project] | None = None
) -> Project:
    """One stage.

    Args:
        path: of the project.
        file: the project, open.
        lanes: the training images.
        ending: of the names of the stage's groups.
        before: stages before it; None where there is one stage only, which alone may be trained here.
    """
    version = read_text(file, "ilastikVersion", "unknown")
    # As ilastik does in headless mode, the last image decides about axes and channels.
    features = _features(file, lanes[-1], ending)
    forest = read_classifier(file.get(f"PixelClassification{ending}/ClassifierForests"))
    labels = np.empty((0, 6), np.int64) if forest or before is not None else read_labels(file, lanes, version)
    if forest is None and before is not None:
        raise LayoutError(
            "has no trained classifier, and a stage of autocontext is not trained here; switch on Live Update in "
            "both stages in ilastik, and save it"
        )
    if forest is None and not len(labels):
        raise LayoutError(
            "has neither a trained classifier nor labels; label some pixels in ilastik, switch on Live Update once, "
            "and save"
        )
    stacked = before[-1].n_channels + len(before[-1].classes) if before else None
    return Project(
        path=path,
        version=version,
        classes=_classes(file, forest, labels, ending),
        axes=lanes[-1].axes,
        n_channels=_channels(lanes[-1], features, forest, stacked),
        features=features,
        forest=forest,
        lanes=lanes,
        labels=labels,
        n_features=forest.n_features if forest else None,
    )


def _check_workflow(file: h5py.File) -> tuple[str, ...]:
    """What the names of the groups of each stage end with."""
    version = file.get("ilastikVersion")
    if isinstance(version, h5py.Dataset) and version.dtype.kind == "f":
        raise LayoutError(
            f"was written by ilastik {float(version[()]):g}; make it anew with ilastik 1.2 or later, this layout "
            "cannot be read"
        )
    workflow = read_text(file, "workflowName")
    if workflow not in WORKFLOWS:
        found = f"the workflow is {workflow!r}" if workflow else "it names no workflow"
        known = " or ".join(map(repr, WORKFLOWS))
        raise LayoutError(f"{found}, expected {known}; train a project of that kind in ilastik")
    return WORKFLOWS[workflow]


def _features(file: h5py.File, lane: Lane, ending: str) -> tuple[Feature, ...]:
    group = file.get(f"FeatureSelections{ending}")
    needed = ("FeatureIds", "Scales", "SelectionMatrix")
    if not isinstance(group, h5py.Group) or any(name not in group for name in needed):
        raise LayoutError("has no feature selection; select features in ilastik and save it")
    ids = [decode(name) for name in group["FeatureIds"][()]]
    scales = [float(scale) for scale in group["Scales"][()]]
    matrix = np.asarray(group["SelectionMatrix"][()], bool)
    # Before 1.3.2 there was no choice: flat images in 2D, others in 3D.
    flags = group["ComputeIn2d"][()] if "ComputeIn2d" in group else [lane.length("z") == 1] * len(scales)
    if matrix.shape != (len(ids), len(scales)) or len(flags) != len(scales):
        raise LayoutError(
            f"its feature selection is a table of shape {matrix.shape} with {len(flags)} flags for 2D, but names "
            f"{len(ids)} features and {len(scales)} scales; select features again in ilastik and save it"
        )
    chosen = tuple(Feature(ids[i], scales[j], bool(flags[j])) for i, j in zip(*np.nonzero(matrix), strict=True))
    if not chosen:
        raise LayoutError("no feature is selected; select some in ilastik and save it")
    for feature in chosen:
        _check_feature(feature)
    return chosen


def _check_feature(feature: Feature) -> None:
    if feature.id not in FILTERS:
        raise LayoutError(f"feature {feature.id!r} is not known; known are {', '.join(FILTERS)}")
    if not feature.least_scale <= feature.scale < math.inf:  # false for NaN, too
        raise LayoutError(
            f"feature {feature.id} is selected at scale {feature.scale:g}, where its kernel has no neighbours; the "
            f"least scale is {feature.least_scale:g}. Select other scales in ilastik, train, and save it"
        )


def _classes(file: h5py.File, forest: Forest | None, labels: NDArray[np.int64], ending: str) -> tuple[str, ...]:
    highest = max(forest.classes) + 1 if forest else int(labels[:, -1].max())
    what = "classifier knows" if forest else "labels hold"
    return read_class_names(file.get(f"PixelClassification{ending}/LabelNames"), highest, what)


def _channels(lane: Lane, features: tuple[Feature, ...], forest: Forest | None, stacked: int | None = None) -> int:
    """Channels of an image; files up to 1.3.0 do not say, there the forest's number of columns tells.

    Nor do these say whether the image had one slice, which has other numbers of columns. A second stage has as many
    channels as are ``stacked``.
    """
    channels = stacked or lane.length("c")
    if forest is None:
        return channels or 1
    slices = {1: (1,), None: (2, 1)}.get(lane.length("z"), (2,))
    given = [n_channels(features, 1, n_z) for n_z in slices]
    for per_channel in given:
        if channels is None and forest.n_features % per_channel == 0:
            return forest.n_features // per_channel
        if forest.n_features == per_channel * (channels or 1):
            return channels or 1
    raise LayoutError(
        f"its classifier was trained on {forest.n_features} feature channels, but the selected features give "
        f"{' or '.join(str(per_channel * (channels or 1)) for per_channel in given)}; the features were changed "
        "after training: switch on Live Update in ilastik and save"
    )
