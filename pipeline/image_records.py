"""What is known of images that are computed whole: what they are made of, and what has become of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from blockwise.errors import UserError
from blockwise.files import read_json, write_json
from blockwise.grid import Block, Box
from blockwise.identity import array_checksum, canonical_json, digest
from blockwise.markers import Failure, Marker, Markers
from blockwise.outputs import ATTRIBUTES, VolumeOutput
from blockwise.stamps import UNWATCHED, Snapshot
from blockwise.step import BlockStep
from blockwise.volume import Address, open_volume
from pipeline.config import OF_CORES, Settings
from pipeline.manifest import IMAGES
from pipeline.steps import Steps, build_steps
from tasks.cores import CoresStep
from tasks.pixel_classification.training import open_project

if TYPE_CHECKING:
    from pipeline.images import ImagesStep

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


@dataclass(frozen=True)
class ImageSource:
    """One of the two things that an image's result is made of.

    Attributes:
        name: ``raw``: size and time of its files; ``configuration``: settings, project and versions of the steps.
        step: the step that reads.
    """

    name: str
    step: ImagesStep
    address: str = ""

    def identity(self) -> Any:
        """Nothing; see ``ImagesStep``."""
        return None

    def snapshot(self) -> Snapshot:
        """Look at every image."""
        found = [self.step.image_settings(number) for number in range(len(self.step.names))]
        if self.name == "raw":
            return _Stamps([self._files(settings) for settings in found])
        paths = {settings.prediction.project for settings in found}
        projects = {path: open_project(path).content_hash for path in paths}
        return _Stamps([_settings_digest(settings, projects) for settings in found])

    def digest(self) -> str:
        """Digest over all images."""
        return self.snapshot().digest

    def forget(self, damaged: Box) -> bool:
        """An image cannot be computed again."""
        return False

    def _files(self, settings: Settings) -> str:
        address = Address.parse(settings.raw.address)
        if not address.is_remote and Path(address.path).is_file():
            return file_state(Path(address.path))
        if self.step.change_detection == "metadata":
            return UNWATCHED
        try:
            return array_checksum(open_volume(address).file_states())
        except (UserError, OSError):  # the worker meets it again, and records it
            return "unreadable"


def _settings_digest(settings: Settings, projects: Mapping[str, str]) -> str:
    values = settings.model_dump(mode="json", exclude=set(NOT_IN_RESULTS))
    values["threshold"] = [
        {key: value for key, value in threshold.items() if key not in OF_CORES or value != OF_CORES[key]}
        for threshold in values["threshold"]
    ]
    project = projects[settings.prediction.project]
    versions = _versions()
    if not any(threshold.keep_cores for threshold in settings.threshold):
        versions = {name: version for name, version in versions.items() if name != CoresStep.name}
    return digest(canonical_json({"settings": values, "project": project, "versions": versions}))


@functools.cache
def _versions() -> dict[str, int]:
    """Versions of all steps that an image goes through."""
    return {kind.name: kind.version for kind in BlockStep.__subclasses__() if kind.__module__.startswith("tasks.")}


class _Stamps:
    def __init__(self, stamps: list[str]) -> None:
        self.stamps = stamps
        self.digest = digest(",".join(stamps))

    def stamp(self, block: Block, box: Box) -> str:
        return self.stamps[block.id]


@dataclass(frozen=True)
class ImagesOutput:
    """Datasets and tables of every image, at the places that its settings name."""

    step: ImagesStep

    @property
    def address(self) -> str:
        """The folder of the images' folders."""
        return f"{self.step.work_dir}/{IMAGES}"

    @property
    def _record(self) -> Path:
        return self.step.folder / ATTRIBUTES

    def check_ours(self) -> None:
        """Each dataset is looked at before it is made."""

    def found(self) -> Mapping[str, Any] | None:
        """Attributes as they were given to ``create``."""
        return read_json(self._record)

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Nothing but a record: each image makes its own datasets."""
        write_json(self._record, dict(attributes))

    def write(self, block: Block, data: list[str]) -> str:
        """Everything was written by the image's steps."""
        return digest(",".join(data))

    def checksum(self, block: Block) -> str:
        """Read an image's datasets back, and return their checksum.

        Raises:
            FileNotFoundError: a dataset, or the image itself, cannot be opened.
        """
        try:
            steps = image_steps(self.step.image_settings(block.id))
            grid = steps.prediction.grid
            return digest(",".join(output.checksum(part) for output in _volumes(steps) for part in grid))
        except UserError as error:
            raise FileNotFoundError(str(error)) from error

    def grid_box(self, box: Box) -> Box:
        """The box itself."""
        return box

    def files_stamp(self, block: Block) -> str:
        """Size and time of all files of an image's datasets and tables."""
        settings = self.step.image_settings(block.id)
        address = Address.parse(settings.output)
        tables = [file_state(path) for path in sorted(Path(settings.work_dir).glob("objects*.*"))]
        if not address.is_remote:
            return digest(",".join([*_tree_states(address.path), *tables]))
        if self.step.change_detection == "metadata":
            return UNWATCHED
        try:
            volumes = [output.address for output in _volumes(image_steps(settings))]
            states = [array_checksum(open_volume(volume).file_states()) for volume in volumes]
        except UserError:
            states = ["absent"]
        return digest(",".join([*states, *tables]))

    def files(self) -> Snapshot:
        """Size and time of all files of all images."""
        return _Stamps([self.files_stamp(block) for block in self.step.grid])


def _volumes(steps: Steps) -> list[VolumeOutput]:
    """The datasets that an image's steps write."""
    outputs = [step.output() for step in steps.all()]
    return [output for output in outputs if isinstance(output, VolumeOutput)]


def _tree_states(folder: str) -> Iterator[str]:
    """Size and time of all files below a folder, in a fixed order."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _tree_states(entry.path)
        else:
            status = entry.stat()
            yield f"{entry.name} {status.st_size} {status.st_mtime_ns}"


def file_state(path: Path) -> str:
    """Size and time of a file."""
    status = path.stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"
