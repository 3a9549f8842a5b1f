"""How large the images of a batch are, without opening thousands of files each time."""

from __future__ import annotations

import math
from pathlib import Path

from blockwise.errors import UserError
from blockwise.files import read_json, write_json
from blockwise.identity import canonical_json, digest
from blockwise.volume import Address
from pipeline.assembly.geometry import describe_raw
from pipeline.batch.image_identity import file_state
from pipeline.configuration.settings import Settings
from tasks.pixel_classification.project import Project, load_project

SIZES = "image_sizes.json"
"""File in the work folder: numbers of voxels, by what they depend on."""


class ImageSizes:
    """Numbers of voxels of images; those of files that have not changed since are remembered."""

    def __init__(self, work_dir: str) -> None:
        self._path = Path(work_dir) / SIZES
        self._before = read_json(self._path) or {}
        self._now: dict[str, int] = {}
        self._projects: dict[str, Project] = {}

    def voxels(self, settings: Settings) -> int:
        """Size of an image, channels not counted; 0 where it cannot be opened, which its worker will tell.

        Only its metadata, or header, is read.
        """
        try:
            project = self._project(settings.prediction.project)
            key = _key(settings, project)
            if key in self._before:
                voxels = int(self._before[key])
            else:
                info, _ = describe_raw(settings.raw, project)
                voxels = math.prod(n for axis, n in zip(info.axes, info.shape, strict=True) if axis != "c")
        except (UserError, OSError):
            return 0
        if key:
            self._now[key] = voxels
        return voxels

    def keep(self) -> None:
        """Remember the sizes that were asked for, and no others."""
        if self._now != self._before:
            write_json(self._path, self._now, indent=None)

    def _project(self, path: str) -> Project:
        if path not in self._projects:
            self._projects[path] = load_project(path)
        return self._projects[path]


def _key(settings: Settings, project: Project) -> str:
    """What the size depends on; empty where it is a folder or a store, whose metadata are as quickly read."""
    address = Address.parse(settings.raw.address)
    path = Path(address.path)
    if address.is_remote or not path.is_file():
        return ""
    # Which axis holds channels may be the project's word.
    return digest(canonical_json([file_state(path), settings.raw.model_dump(), project.axes]))
