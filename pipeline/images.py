"""Many small images: one is the unit of work, computed whole, all steps of it in one call of a worker."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from blockwise.grid import Block, Grid
from blockwise.identity import digest
from blockwise.markers import Markers
from blockwise.outputs import VolumeOutput, new_attributes
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, BlockStep
from pipeline.config import Settings
from pipeline.image_records import ImageSource, ImagesOutput, NamedMarkers, image_steps
from pipeline.image_results import record
from pipeline.manifest import Batch, Values, image_settings
from tasks.base import BlockTask

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
