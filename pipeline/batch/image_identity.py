"""What is known of images that are computed whole: what they are made of, and what has become of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from blockwise.errors import UserError
from blockwise.identity import canonical_json, digest
from blockwise.markers import Failure, Marker, Markers
from blockwise.step import BlockStep
from blockwise.volume.address import identity_of
from pipeline.assembly.steps import Steps, build_steps
from pipeline.configuration.settings import OF_CORES, Settings
from tasks.components.cores_step import CoresStep

NOT_IN_RESULTS = ("work_dir", "backend", "batch", "change_detection")
"""Settings that change no result."""


def image_steps(settings: Settings) -> Steps:
    """Steps of an image that is one block (one for each time step): its blocks are as large as itself.

    Raises:
        UserError: as ``build_steps``.
    """
    try:
        return build_steps(settings, whole=True)
    except UserError as error:
        if "a worker needs about" not in str(error):
            raise
        raise UserError(f"{error}; or a smaller batch.small_voxels, so that this image is cut into blocks") from None


class NamedMarkers(Markers):
    """Markers in files that are called as the images: numbers change when images come and go."""

    def __init__(self, folder: Path, fingerprint: str, names: tuple[str, ...]) -> None:
        super().__init__(folder, fingerprint)
        self.names = names

    def read(self, block: int) -> Marker | None:
        """Read one marker."""
        marker = super().read(block)
        return marker and msgspec.structs.replace(marker, block=block)

    def read_failure(self, block: int) -> Failure | None:
        """Read one failure record."""
        failure = super().read_failure(block)
        return failure and msgspec.structs.replace(failure, block=block)

    def __iter__(self) -> Iterator[Marker]:
        """Read all valid markers."""
        found = (self.read(block) for block in range(len(self.names)))
        return (marker for marker in found if marker is not None)

    def failures(self) -> dict[int, Failure]:
        """Read all failure records, by number."""
        found = {block: self.read_failure(block) for block in range(len(self.names))}
        return {block: failure for block, failure in found.items() if failure}

    def _path(self, kind: str, block: int) -> Path:
        name = self.names[block]
        return self.folder / kind / digest(name)[:2] / f"{name}.json"

    def _files(self, kind: str) -> Iterator[str]:
        paths = (str(self._path(kind, block)) for block in range(len(self.names)))
        return filter(os.path.exists, paths)


def settings_digest(settings: Settings, projects: Mapping[str, str]) -> str:
    """Digest of what of an image's settings can change its result."""
    values = settings.model_dump(mode="json", exclude=set(NOT_IN_RESULTS))
    values["threshold"] = [
        {key: value for key, value in threshold.items() if key not in OF_CORES or value != OF_CORES[key]}
        for threshold in values["threshold"]
    ]
    values["raw"]["path"] = identity_of(settings.raw.path)
    values["output"] = identity_of(settings.output)
    project = projects[settings.prediction.project]
    versions = _versions()
    if not any(threshold.keep_cores for threshold in settings.threshold):
        versions = {name: version for name, version in versions.items() if name != CoresStep.name}
    return digest(canonical_json({"settings": values, "project": project, "versions": versions}))


@functools.cache
def _versions() -> dict[str, int]:
    """Versions of all steps that an image goes through."""
    return {kind.name: kind.version for kind in BlockStep.__subclasses__() if kind.__module__.startswith("tasks.")}


def tree_states(folder: str) -> Iterator[str]:
    """Size and time of all files below a folder, in a fixed order."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from tree_states(entry.path)
        else:
            status = entry.stat()
            yield f"{entry.name} {status.st_size} {status.st_mtime_ns}"


def file_state(path: Path) -> str:
    """Size and time of a file."""
    status = path.stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"
