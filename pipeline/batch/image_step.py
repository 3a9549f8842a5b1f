"""Many small images: one is the unit of work, computed whole, all steps of it in one call of a worker."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from blockwise.errors import UserError
from blockwise.files import read_json, write_json
from blockwise.grid import Block, Box, Grid
from blockwise.identity import array_checksum, digest
from blockwise.markers import Markers
from blockwise.outputs import ATTRIBUTES, VolumeOutput, new_attributes
from blockwise.sources import Source
from blockwise.stamps import UNWATCHED, Snapshot, WrittenFiles
from blockwise.step import BASE_MEMORY, BlockStep
from blockwise.volume import Address, open_volume
from pipeline.assembly.steps import Steps
from pipeline.batch.image_identity import NamedMarkers, file_state, image_steps, settings_digest, tree_states
from pipeline.batch.manifest import IMAGES, Batch, image_settings
from pipeline.batch.results_record import record
from pipeline.batch.table import Values
from pipeline.configuration.keys import naming_keys
from pipeline.configuration.settings import Settings
from tasks.nodes.task import BlockTask
from tasks.pixel_classification.training import open_project

BYTES_PER_VOXEL = 200
"""Memory that a worker may need for a small image; what it needs indeed is checked when the image is opened."""
IN_MEMORY = "/dev/shm"  # noqa: S108 (a folder of one's own is made in it)


def images_step(batch: Batch, indices: list[int]) -> ImagesStep:
    """The step over those images of a batch that are small."""
    settings = batch.settings
    step = ImagesStep(
        work_dir=settings.work_dir,
        grid=Grid("t", (len(indices),), (1,)),
        change_detection=settings.change_detection,
        shared=batch.shared,
        names=tuple(batch.names[i] for i in indices),
        rows=tuple(batch.rows[i] for i in indices),
        small_voxels=settings.batch.small_voxels,
    )
    step.made_settings.update((number, batch.images[i]) for number, i in enumerate(indices))
    return step


class ImagesStep(BlockStep):
    """Whole images, one a block of this step's grid, which numbers them.

    What an image's result is made of stands in its marker's stamps: nothing of it is in this step's fingerprint, so
    that images may come and go, and settings of one may change, without touching the others.

    Attributes:
        shared: the batch's configuration.
        names: of the images.
        rows: what differs for each image.
        small_voxels: most voxels of an image.
    """

    name: ClassVar[str] = "images"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "image"

    shared: Values
    names: tuple[str, ...]
    rows: tuple[Values, ...]
    small_voxels: int

    def settings(self) -> Mapping[str, Any]:
        """None: see above."""
        return {}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the fingerprint is made of; without the grid."""
        return {"step": self.name, "version": self.version, "settings": {}, "inputs": {}}

    def image_settings(self, number: int) -> Settings:
        """Settings of one image."""
        if number not in self.made_settings:
            self.made_settings[number] = image_settings(self.shared, self.names[number], self.rows[number])
        return self.made_settings[number]

    @cached_property
    def made_settings(self) -> dict[int, Settings]:
        """Settings of images that were made already: they are asked for several times."""
        return {}

    @cached_property
    def markers(self) -> Markers:
        """Markers by the images' names."""
        return NamedMarkers(self.folder, self.fingerprint, self.names)

    def sources(self) -> tuple[Source, ...]:
        """The images' files, and their settings with the project."""
        return (ImageSource("raw", self), ImageSource("configuration", self))

    def output(self) -> ImagesOutput:
        """The datasets and tables of every image."""
        return ImagesOutput(self)

    def projected_memory(self) -> int:
        """For the largest image that counts as small."""
        return BASE_MEMORY + BYTES_PER_VOXEL * self.small_voxels

    def compute(self, block: Block, prepared: Any) -> list[str]:
        """Run all steps of one image; checksums of what they have written."""
        # From here on older results are overwritten: a marker must not vouch for a mixture.
        self.markers.remove(block.id)
        settings = self.image_settings(block.id)
        folder = Path(settings.work_dir)
        parent = scratch_folder(self.work_dir)
        parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="image-", dir=parent) as scratch:
            steps = image_steps(settings.model_copy(update={"work_dir": scratch}))
            record(settings, steps)
            checksums = []
            for step in steps.all():
                own = step
                if step.name == "prediction":  # a classifier that is trained here serves all images
                    own = step.model_copy(update={"work_dir": self.work_dir})
                    steps.prediction.check_raw()
                with naming_keys():
                    checksums += _run_whole(own)
            _keep_files(Path(scratch), folder)
        return checksums


class ImagesTask(BlockTask):
    """Luigi's node for small images; it is run by the batch, not by Luigi."""

    def run(self) -> None:
        """Bring all images up to date; what killed workers have left goes."""
        try:
            super().run()
        finally:
            shutil.rmtree(scratch_folder(self.step.work_dir), ignore_errors=True)


def _run_whole(step: BlockStep) -> list[str]:
    """Compute all blocks of a step, here and now."""
    output = step.output()
    prepared = step.prepare()
    computed = [(block, step.compute(block, prepared)) for block in step.grid]
    # Made now only, so that an image which cannot be read leaves nothing behind.
    output.create(new_attributes(step.fingerprint, step.provenance()))
    checksums = [output.write(block, data) for block, data in computed]
    return checksums if isinstance(output, VolumeOutput) else []


def scratch_folder(work_dir: str) -> Path:
    """Folder for what the steps of an image hand to each other: in memory, where the system has such a place.

    It is the same for all workers of a batch, so that its driver can remove what killed workers have left.
    """
    parent = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else tempfile.gettempdir()
    return Path(parent) / f"blockwise-{os.getuid()}-{digest(str(Path(work_dir).resolve()))[:12]}"


def _keep_files(scratch: Path, folder: Path) -> None:
    """Copy the tables, which are for people, to the image's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in scratch.glob("objects*.*"):
        shutil.copyfile(path, folder / path.name)


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

    @property
    def label(self) -> str:
        """The same."""
        return self.name

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
        return _Stamps([settings_digest(settings, projects) for settings in found])

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


class _Stamps:
    def __init__(self, stamps: list[str]) -> None:
        self.stamps = stamps
        self.digest = digest(",".join(stamps))

    def stamp(self, box: Box) -> str:
        return self.stamps[box[0].start]


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
            return digest(",".join([*tree_states(address.path), *tables]))
        if self.step.change_detection == "metadata":
            return UNWATCHED
        try:
            volumes = [output.address for output in _volumes(image_steps(settings))]
            states = [array_checksum(open_volume(volume).file_states()) for volume in volumes]
        except UserError:
            states = ["absent"]
        return digest(",".join([*states, *tables]))

    def files(self) -> WrittenFiles:
        """Size and time of all files of all images."""
        return _Written(_Stamps([self.files_stamp(block) for block in self.step.grid]))


class _Written:
    def __init__(self, stamps: _Stamps) -> None:
        self.stamps = stamps
        self.digest = stamps.digest

    def stamp(self, block: Block) -> str:
        return self.stamps.stamp(block.write_box)


def _volumes(steps: Steps) -> list[VolumeOutput]:
    """The datasets that an image's steps write."""
    outputs = [step.output() for step in steps.all()]
    return [output for output in outputs if isinstance(output, VolumeOutput)]
