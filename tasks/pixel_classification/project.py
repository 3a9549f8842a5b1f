"""An ilastik pixel-classification project (`.ilp`), read without ilastik. Nothing in it is ever unpickled."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from blockwise.errors import UserError
from blockwise.identity import array_checksum, canonical_json, digest
from tasks.pixel_classification.features import FILTERS, Feature, n_channels
from tasks.pixel_classification.forest import Forest, ForestLayoutError, read_forest

WORKFLOW = "Pixel Classification"
CLASSIFIER = "ParallelVigraRfLazyflowClassifier"
ANNOTATED_LANE_ORDER = "tzyxc"


@dataclass(frozen=True)
class LabelBlock:
    """Labelled voxels of one training image.

    Attributes:
        lane: number of the image.
        start: place of the block in the image, per axis of `axes`.
        labels: uint8, 0 unlabelled, k for class k (from 1).
        axes: names of the axes, c last.
    """

    lane: int
    start: tuple[int, ...]
    labels: np.ndarray[Any, np.dtype[np.uint8]]
    axes: str


@dataclass(frozen=True)
class Lane:
    """One training image.

    Attributes:
        axes: of the image, as ilastik was told.
        shape: in the order of the axes; None in old files.
        file: path and internal path as the project has them, or the dataset inside the project; empty if unknown.
        is_internal: the pixels lie in the project itself.
    """

    axes: str
    shape: tuple[int, ...] | None
    file: str
    is_internal: bool


@dataclass(frozen=True)
class Project:
    """What a project says about how to predict.

    Attributes:
        path: the file.
        version: of the ilastik that wrote it.
        classes: names of the classes, in order.
        axes: of the images, from the last one.
        n_channels: channels of a raw image.
        features: the selected features in the project's order.
        forest: the classifier; None where the project has labels only.
        lanes: the training images.
        labels: their labels; empty where the classifier is stored.
    """

    path: str
    version: str
    classes: tuple[str, ...]
    axes: str
    n_channels: int
    features: tuple[Feature, ...]
    forest: Forest | None
    lanes: tuple[Lane, ...]
    labels: tuple[LabelBlock, ...]

    @property
    def is_2d(self) -> bool:
        """Whether the images have no z."""
        return "z" not in self.axes

    @cached_property
    def content_hash(self) -> str:
        """Checksum of what decides about predictions: classes, channels, features, and the forest or the labels.

        What else a project holds (display, window, time of saving, the place of its images) is not in it, so that
        saving a project again changes nothing.
        """
        parts: dict[str, Any] = {
            "classes": self.classes,
            "channels": self.n_channels,
            "features": [[f.id, f.scale, f.in_2d] for f in self.features],
        }
        if self.forest is not None:
            parts["forest"] = self.forest.checksum
        else:
            parts["labels"] = [[b.lane, b.start, b.axes, array_checksum(b.labels)] for b in self.labels]
        return digest(canonical_json(parts))


def load_project(path: str) -> Project:
    """Read a project.

    Raises:
        UserError: it is missing, no HDF5, of another workflow or version, without features or classes, or holds a
            feature or classifier that is not known here. The message says which, and what to do.
    """
    if not Path(path).exists():
        raise UserError(f"project {path}: there is no such file (looked from {Path.cwd()})")
    if Path(path).is_dir() or not h5py.is_hdf5(path):
        raise UserError(f"project {path}: is not an HDF5 file, so not an ilastik project; is it cut off?")
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _Reader(path, file).project()
    except (OSError, KeyError) as error:
        raise UserError(
            f"project {path}: cannot be read: {error.args[0]}; it is cut off or not complete, save it again in ilastik"
        ) from error


class _Reader:
    """Reads one open project; every error names the file."""

    def __init__(self, path: str, file: h5py.File) -> None:
        self.path = path
        self.file = file

    def error(self, text: str) -> UserError:
        return UserError(f"project {self.path}: {text}")

    def project(self) -> Project:
        self._check_workflow()
        lanes = self._lanes()
        axes = self._axes(lanes)
        features = self._features(axes, lanes)
        forest = self._forest()
        channels = self._channels(axes, lanes, features, forest)
        labels = () if forest else tuple(self._labels())
        classes = self._classes(forest, labels)
        if forest is None and not labels:
            raise self.error(
                "has neither a trained classifier nor labels; label some pixels in ilastik, switch on Live Update "
                "once, and save"
            )
        return Project(
            path=self.path,
            version=self._text("ilastikVersion", "unknown"),
            classes=classes,
            axes=axes,
            n_channels=channels,
            features=features,
            forest=forest,
            lanes=lanes,
            labels=labels,
        )

    def _check_workflow(self) -> None:
        version = self.file.get("ilastikVersion")
        if isinstance(version, h5py.Dataset) and version.dtype.kind == "f":
            raise self.error(
                f"was written by ilastik {float(version[()])}; open and save it with ilastik 1.2 or later"
            )
        workflow = self._text("workflowName", "")
        if workflow != WORKFLOW:
            found = f"the workflow is {workflow!r}" if workflow else "it names no workflow"
            raise self.error(f"{found}, expected {WORKFLOW!r}; train a project of that kind in ilastik")

    def _lanes(self) -> tuple[Lane, ...]:
        infos = self.file.get("Input Data/infos")
        if not isinstance(infos, h5py.Group):
            return ()
        return tuple(self._lane(infos[name]) for name in sorted(infos) if "Raw Data" in infos[name])

    def _lane(self, group: h5py.Group) -> Lane:
        info = group["Raw Data"]
        if "axistags" in info:
            axes = _axes(_decode(info["axistags"][()]))
        elif "axisorder" in info:
            axes = _decode(info["axisorder"][()])
        else:
            axes = ""
        shape = tuple(int(n) for n in info["shape"][()]) if "shape" in info else None
        inner = _decode(info["inner_path"][()]) if "inner_path" in info else ""
        is_internal = bool(inner) or _decode(info["location"][()] if "location" in info else b"") == "ProjectInternal"
        outer = _decode(info["filePath"][()]) if "filePath" in info else ""
        if is_internal and not inner and "datasetId" in info:
            inner = f"Input Data/local_data/{_decode(info['datasetId'][()])}"
        return Lane(axes, shape, inner if is_internal else outer, is_internal)

    def _axes(self, lanes: tuple[Lane, ...]) -> str:
        """As ilastik does in headless mode: the last image decides."""
        if not lanes or not lanes[-1].axes:
            raise self.error("names no axes of its images; open it in ilastik, check the images, and save it again")
        return lanes[-1].axes

    def _features(self, axes: str, lanes: tuple[Lane, ...]) -> tuple[Feature, ...]:
        group = self.file.get("FeatureSelections")
        needed = ("FeatureIds", "Scales", "SelectionMatrix")
        if not isinstance(group, h5py.Group) or any(name not in group for name in needed):
            raise self.error("has no feature selection; select features in ilastik and save it")
        ids = [_decode(name) for name in group["FeatureIds"][()]]
        scales = [float(scale) for scale in group["Scales"][()]]
        matrix = np.asarray(group["SelectionMatrix"][()], bool)
        if not matrix.any():
            raise self.error("no feature is selected; select some in ilastik and save it")
        flat = "z" not in axes or _length(lanes[-1], "z") == 1
        in_2d = [bool(f) for f in group["ComputeIn2d"][()]] if "ComputeIn2d" in group else [flat] * len(scales)
        unknown = [name for name, row in zip(ids, matrix, strict=True) if row.any() and name not in FILTERS]
        if unknown:
            raise self.error(f"feature {unknown[0]!r} is not known; known are {', '.join(FILTERS)}")
        return tuple(
            Feature(ids[i], scales[j], in_2d[j]) for i in range(len(ids)) for j in range(len(scales)) if matrix[i, j]
        )

    def _forest(self) -> Forest | None:
        group = self.file.get("PixelClassification/ClassifierForests")
        if not isinstance(group, h5py.Group):
            return None
        kind = _decode(group["pickled_type"][()]) if "pickled_type" in group else CLASSIFIER
        if not re.search(rf"\b{CLASSIFIER}\b", kind):
            name = re.search(r"\n(\w+)\n", kind)
            raise self.error(
                f"its classifier is {name.group(1) if name else kind!r}, expected {CLASSIFIER}; train it in ilastik "
                "with the default classifier (Parallel Random Forest)"
            )
        if not any(name.startswith("Forest") for name in group):
            return None
        try:
            return read_forest(group)
        except ForestLayoutError as error:
            raise self.error(f"its classifier cannot be read: {error}; train it again in ilastik") from error

    def _labels(self) -> list[LabelBlock]:
        sets = self.file.get("PixelClassification/LabelSets")
        if not isinstance(sets, h5py.Group):
            return []
        found = []
        for lane, name in enumerate(sorted(sets)):
            for block in sorted(sets[name]):
                found.append(self._label_block(lane, sets[name][block]))
        return found

    def _label_block(self, lane: int, dataset: h5py.Dataset) -> LabelBlock:
        ranges = re.findall(r"(\d+):(\d+)", _decode(dataset.attrs["blockSlice"]))
        labels = np.asarray(dataset[()], np.uint8)
        if "axistags" in dataset.attrs:
            axes = _axes(_decode(dataset.attrs["axistags"]))
        else:
            axes = self._axes_of_old_labels(lane, labels.ndim)
        return LabelBlock(lane, tuple(int(start) for start, _ in ranges), labels, axes)

    def _axes_of_old_labels(self, lane: int, ndim: int) -> str:
        """Before 1.4 the blocks carry no axes: they are the lane's, c last, or as the image has them."""
        axes = self._lanes()[lane].axes
        version = self._text("ilastikVersion", "")
        if not re.match(r"1\.(3\.3post[23]|4\.0b[1-7]\b)", version):
            axes = "".join(a for a in ANNOTATED_LANE_ORDER if a in axes)
        if len(axes) == ndim - 1 and "c" not in axes:
            axes += "c"
        if len(axes) != ndim:
            raise self.error(f"the labels of image {lane} have {ndim} axes, the image has {axes!r}; save it again")
        return axes

    def _classes(self, forest: Forest | None, labels: tuple[LabelBlock, ...]) -> tuple[str, ...]:
        names = self.file.get("PixelClassification/LabelNames")
        if isinstance(names, h5py.Dataset) and names.shape and names.size:
            classes = tuple(_decode(name) for name in names[()])
        else:
            highest = max(forest.classes) + 1 if forest else max((int(b.labels.max()) for b in labels), default=0)
            classes = tuple(f"Class {i + 1}" for i in range(highest))
        if forest and max(forest.classes) >= len(classes):
            raise self.error(
                f"its classifier knows class {max(forest.classes) + 1}, but it names only {len(classes)}"
            )
        return classes

    def _channels(
        self, axes: str, lanes: tuple[Lane, ...], features: tuple[Feature, ...], forest: Forest | None
    ) -> int:
        """Channels of an image; files before 1.3.3 do not say, there the forest's number of columns tells."""
        n_z = 1 if "z" not in axes or _length(lanes[-1], "z") == 1 else 2
        per_channel = n_channels(features, 1, n_z)
        channels = (_length(lanes[-1], "c") if "c" in axes else 1) or None
        if forest is None:
            return channels or 1
        if channels is None and forest.n_features % per_channel == 0:
            return forest.n_features // per_channel
        if forest.n_features != per_channel * (channels or 1):
            raise self.error(
                f"its classifier was trained on {forest.n_features} feature channels, but the selected features give "
                f"{per_channel * (channels or 1)}; the features were changed after training: switch on Live Update "
                "in ilastik and save"
            )
        return channels or 1

    def _text(self, name: str, default: str) -> str:
        node = self.file.get(name)
        return _decode(node[()]) if isinstance(node, h5py.Dataset) else default


def _decode(value: Any) -> str:
    """Text as ilastik writes it: declared ASCII, in fact UTF-8."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _axes(tags: str) -> str:
    return "".join(axis["key"] for axis in json.loads(tags)["axes"])


def _length(lane: Lane, axis: str) -> int | None:
    return lane.shape[lane.axes.index(axis)] if lane.shape and axis in lane.axes else None
