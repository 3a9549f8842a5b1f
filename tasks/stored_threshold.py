"""The threshold that an ilastik project of object classification holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py

from blockwise.errors import UserError
from tasks.pixel_classification.project_fields import read_text

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
        max_size: largest object, and core, in voxels.
    """

    method: int
    channel: int
    core_channel: int
    sigma: Mapping[str, float]
    low: float
    high: float
    min_size: int
    max_size: int


def load_threshold(path: str) -> StoredThreshold:
    """Read the threshold of a project, or give what was read before from the same, unchanged file.

    Raises:
        UserError: there is no such project, or it holds no threshold.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"project {path}: there is no such file (looked from {Path.cwd()})") from None
    except OSError as error:
        raise UserError(f"project {path}: cannot be read: {error.strerror}") from error
    return _load(path, (status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _load(path: str, file_id: tuple[int, int], size: int, modified_ns: int) -> StoredThreshold:
    if Path(path).is_dir() or not h5py.is_hdf5(path):
        raise UserError(f"project {path}: is not an HDF5 file, so not an ilastik project; is it cut off?")
    try:
        with h5py.File(path, "r", locking=False) as file:
            group = file.get(GROUP)
            if not isinstance(group, h5py.Group):
                raise UserError(
                    f"project {path}: holds no threshold (no group {GROUP}); the workflow is "
                    f"{read_text(file, 'workflowName')!r}, expected 'Object Classification (from prediction image)' "
                    "or '(from pixel classification)'"
                )
            return _read(group)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"project {path}: its threshold cannot be read, the file is damaged or of a layout that is not known "
            f"here ({error}); open it in ilastik and save it again"
        ) from error


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
