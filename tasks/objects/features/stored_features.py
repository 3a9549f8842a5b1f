"""The features of objects that an ilastik project of object classification computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import h5py
import numpy as np

from blockwise.errors import UserError
from tasks.objects.features.neighbourhood import LARGEST_MARGIN
from tasks.pixel_classification.project_fields import read_text
from tasks.project_file import ProjectFile

GROUP = "ObjectExtraction/Features"


@dataclass(frozen=True)
class StoredFeatures:
    """What is selected in ilastik's applet for object features.

    Attributes:
        names: of the features, by ilastik's name of the plugin that computes them.
        margin: how far neighbourhoods reach, in voxels along x, y and maybe z; empty where no feature looks at them.
    """

    names: Mapping[str, tuple[str, ...]]
    margin: tuple[int, ...]


def load_features(path: str) -> StoredFeatures:
    """Read the selection of a project, or give what was read before from the same, unchanged file.

    Raises:
        UserError: there is no such project, or it selects no features of objects.
    """
    return _load(ProjectFile.at(path))


@lru_cache(maxsize=4)
def _load(project: ProjectFile) -> StoredFeatures:
    with project.opened("its selection of object features") as file:
        plugins = features_by_plugin(file.get(GROUP))
        names = {plugin: tuple(sorted(features)) for plugin, features in plugins.items() if features}
        if not names:
            raise UserError(
                f"project {project.path}: selects no features of objects (group {GROUP}); the workflow is "
                f"{read_text(file, 'workflowName')!r}, expected one of object classification. Select features in "
                "ilastik's applet and save it, or name them here"
            )
        nodes = [node for features in plugins.values() for node in features.values() if "margin" in node]
        margins = [_margin(project.path, node) for node in nodes]
        # The largest of each axis is that of all features.
        n = max(map(len, margins), default=0)
        return StoredFeatures(names, tuple(max(m[i] for m in margins if i < len(m)) for i in range(n)))


def features_by_plugin(group: Any) -> dict[str, dict[str, h5py.Group]]:
    """Features that are selected below a group, by their names, by that of their plugin."""
    if not isinstance(group, h5py.Group):
        return {}
    if list(group) == ["0"]:
        group = group["0"]  # old files have one more level
    return {plugin: dict(group[plugin].items()) for plugin in group}


def _margin(path: str, feature: h5py.Group) -> tuple[int, ...]:
    found = np.asarray(feature["margin"][()])
    if (
        found.shape not in ((2,), (3,))
        or found.dtype.kind not in "iu"
        or not 1 <= found.min() <= found.max() <= LARGEST_MARGIN
    ):
        raise UserError(
            f"project {path}: {feature.name} has the margin {found.tolist()}, expected voxels along x, y and maybe "
            f"z, 1 to {LARGEST_MARGIN}; select it again in ilastik and save it, or name features and margin here"
        )
    return tuple(int(n) for n in found)
