"""The threshold that an ilastik project of object classification holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import h5py

from blockwise.errors import UserError
from tasks.pixel_classification.project import OF_BINARY_IMAGES, OF_LABEL_IMAGES
from tasks.pixel_classification.project_fields import read_text
from tasks.project_file import ProjectFile

GROUP = "ThresholdTwoLevels"
SIMPLE, HYSTERESIS, GRAPH_CUT, ONE_PER_CORE = range(4)
METHODS = {
    SIMPLE: "simple",
    HYSTERESIS: "hysteresis",
    GRAPH_CUT: "graph cut",
    ONE_PER_CORE: "hysteresis, don't merge cores",
}
"""What ilastik calls its methods, by the number that stands in the file."""


@dataclass(frozen=True)
class StoredThreshold:
    """Values of ilastik's threshold applet.

    Attributes:
        method: a key of ``METHODS``.
        channel: class that is cut, from 0.
        core_channel: class of the cores, from 0.
        sigma: of the Gaussian, in voxels, for x, y and z.
        low: threshold of the objects.
        high: threshold of the cores; means nothing for the simple method.
        min_size: smallest object, and core, in voxels.
        max_size: largest object, and core, in voxels; None for no limit.
        labels_given: objects are those of a label image.
    """

    method: int
    channel: int
    core_channel: int
    sigma: Mapping[str, float]
    low: float
    high: float
    min_size: int
    max_size: int | None
    labels_given: bool = False


OF_A_BINARY_IMAGE = StoredThreshold(SIMPLE, 0, 0, dict.fromkeys("xyz", 0.0), 0.5, 0.5, 0, None)
"""Projects of objects of binary images hold no threshold: objects are what is not 0, whatever their size."""
OF_A_LABEL_IMAGE = replace(OF_A_BINARY_IMAGE, labels_given=True)


WITHOUT = {OF_BINARY_IMAGES: OF_A_BINARY_IMAGE, OF_LABEL_IMAGES: OF_A_LABEL_IMAGE}
"""What holds for projects without a threshold, by their workflow."""


def load_threshold(path: str) -> StoredThreshold:
    """Read the threshold of a project, or give what was read before from the same, unchanged file.

    Raises:
        UserError: there is no such project, or it holds no threshold.
    """
    return _load(ProjectFile.at(path))


@lru_cache(maxsize=4)
def _load(project: ProjectFile) -> StoredThreshold:
    with project.opened("its threshold") as file:
        group = file.get(GROUP)
        if not isinstance(group, h5py.Group):
            if found := WITHOUT.get(read_text(file, "workflowName")):
                return found
            raise UserError(
                f"project {project.path}: holds no threshold (no group {GROUP}); the workflow is "
                f"{read_text(file, 'workflowName')!r}, expected 'Object Classification (from prediction image)' "
                "or '(from pixel classification)'"
            )
        return _read(group)


def _read(group: h5py.Group) -> StoredThreshold:
    """What stands in the file; what does not is ilastik's default."""

    def number(name: str, default: float) -> Any:
        return group[name][()].item() if name in group else default

    method = int(number("CurOperator", SIMPLE))
    # Very old files have a threshold of its own for the simple method.
    low = "SingleThreshold" if method == SIMPLE and "SingleThreshold" in group else "LowThreshold"
    channel = int(number("Channel", 0))
    return StoredThreshold(
        method=method,
        channel=channel,
        core_channel=int(number("CoreChannel", channel)),
        sigma={axis: float(number(f"SmootherSigma/{axis}", 1.0)) for axis in "xyz"},
        low=float(number(low, 0.5)),
        high=float(number("HighThreshold", 0.8)),
        min_size=int(number("MinSize", 10)),
        max_size=int(number("MaxSize", 1_000_000)),
    )
