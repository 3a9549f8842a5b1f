"""Many small images: one is the unit of work, computed whole, all steps of it in one call of a worker."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import PrivateAttr

from blockwise.chain import Chain
from blockwise.grid import Block, Grid
from blockwise.plan import plan_step
from blockwise.records import Records, in_store, open_records, within
from blockwise.records.markers import Failure, Marker, Markers
from blockwise.scratch import own_folder, scratch_path
from blockwise.sources import Source
from blockwise.stamps import differs
from blockwise.step import BASE_MEMORY, BlockStep
from blockwise.volume import opening_once
from pipeline.assembly.known import keep_known, load_known
from pipeline.batch.earlier_markers import has_results_of, is_earlier
from pipeline.batch.image_chains import ImageChains, image_steps
from pipeline.batch.image_output import TABLES, ImagesOutput
from pipeline.batch.image_stamps import CONFIGURATION, SOURCES, UNREADABLE, ImageSource, ImageStamps
from pipeline.batch.manifest import IMAGES, Batch, image_settings
from pipeline.batch.named_markers import NamedMarkers
from pipeline.batch.results_record import record
from pipeline.batch.table import Values
from pipeline.batch.volumes import ImageVolumes
from pipeline.configuration.setting_names import naming_keys
from pipeline.configuration.settings import Settings

BYTES_PER_VOXEL = 200
"""Memory that a worker may need for a small image; what it needs indeed is checked when the image is opened."""
IN_MEMORY = "/dev/shm"  # noqa: S108 (a folder of one's own is made in it)


def images_step(batch: Batch, indices: list[int], volumes: ImageVolumes) -> ImagesStep:
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
    step._volumes = volumes
    step.made_settings.update((number, batch.images[i]) for number, i in enumerate(indices))
    return step


class ImagesStep(BlockStep):
    """Whole images, one a block of this step's grid, which numbers them.

    What an image's result is made of stands in its marker's stamps, the fingerprints of its steps and the states of
    what these are given: nothing of it is in this step's fingerprint, so that images may come and go, and settings of
    one may change, without touching the others. An image of which that cannot be told fails alone.

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
    _volumes: ImageVolumes | None = PrivateAttr(None)

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

    def all_settings(self) -> list[Settings]:
        """Settings of all images."""
        return [self.image_settings(number) for number in self.grid.ids()]

    @cached_property
    def made_settings(self) -> dict[int, Settings]:
        """Settings of images that were made already: they are asked for several times."""
        return {}

    @cached_property
    def markers(self) -> Markers:
        """Markers by the images' names."""
        return NamedMarkers(self.records, self.fingerprint, self.names)

    def sources(self) -> tuple[Source, ...]:
        """What the images' steps are given, and these themselves."""
        return tuple(ImageSource(name, self.all_settings, self.volumes) for name in SOURCES)

    @property
    def looks_at_numbers(self) -> bool:
        """Their steps may."""
        return True

    @property
    def volumes(self) -> ImageVolumes:
        """What the images' volumes say about themselves."""
        return self._volumes or ImageVolumes(self.work_dir)

    def adopts(self, marker: Marker, stamps: Mapping[str, str]) -> bool:
        """Whether it cannot be told at present what an image is made of, or an earlier version has told otherwise."""
        if UNREADABLE in stamps.values():
            return True
        if not is_earlier(marker) or stamps != {**stamps, "raw": marker.stamps["raw"], "mask": ""}:
            return False
        return has_results_of(ImageChains(self.volumes).chain(self.image_settings(marker.block)))

    def output(self) -> ImagesOutput:
        """The datasets and tables of every image."""
        return ImagesOutput(within(self.work_dir, IMAGES), self.records, self.grid, self.image_settings)

    def current(self, markers: Mapping[int, Marker], *names: str) -> dict[int, Marker]:
        """Those of some markers whose stamps, those of these names or all, are the present ones, by number."""
        look = ImageStamps(self.volumes)

        def is_current(number: int, marker: Marker) -> bool:
            settings = self.image_settings(number)
            present = ((marker.stamps.get(name), look.stamp(name, settings)) for name in names or SOURCES)
            return not any(differs(*pair) for pair in present)

        return {number: marker for number, marker in markers.items() if is_current(number, marker)}

    def progress(self) -> tuple[int, dict[int, Failure]]:
        """Images that are done with the settings that they have now; of their files only the record is looked at."""
        markers = self.markers.scan()
        failed = self.failures(markers)
        return len(self.current(markers, CONFIGURATION).keys() - failed.keys()), failed

    def failures(self, markers: Mapping[int, Marker]) -> dict[int, Failure]:
        """Failure records of images that are not done: what was away when one failed may be there again."""
        found = self.markers.failures()
        done = self.current({number: markers[number] for number in found.keys() & markers.keys()})
        return {number: failure for number, failure in found.items() if number not in done}

    def readable(self, markers: Mapping[int, Marker]) -> list[int]:
        """Images whose files, settings and project are what they were; others may have other datasets now."""
        items = plan_step(self).items
        stale = {item.block for item in items if not item.check or UNREADABLE in item.stamps.values()}
        return sorted(markers.keys() - stale)

    def title(self, block: int) -> str:
        """The image's name."""
        return f"image {self.names[block]}"

    def projected_memory(self) -> int:
        """For the largest image that counts as small."""
        return BASE_MEMORY + BYTES_PER_VOXEL * self.small_voxels

    def compute(self, block: Block, prepared: Any) -> Any:
        """Run all steps of one image; the checksum of what they have written, and what of it is not finite."""
        settings = self.image_settings(block.id)
        parent = own_folder(scratch_folder(self.work_dir))
        with opening_once(), tempfile.TemporaryDirectory(prefix="image-", dir=parent) as scratch:
            known = load_known(settings.work_dir)
            steps = image_steps(settings.model_copy(update={"work_dir": scratch}), known)
            steps.prediction.check_raw()
            # From here on older results are overwritten: a marker must not vouch for a mixture.
            self.markers.remove(block.id)
            record(settings, steps)
            keep_known(steps.prediction, settings.work_dir)
            # A classifier that is trained here serves all images.
            first, *others = steps.all()
            with naming_keys():
                checksum = Chain((first.model_copy(update={"work_dir": self.work_dir}), *others)).compute()
            _keep_files(Path(scratch), open_records(settings.work_dir))
        return checksum


def scratch_folder(work_dir: str) -> Path:
    """Folder for what the steps of an image hand to each other: in memory, where the system has such a place.

    It is the same for all workers of a batch, so that its driver can remove what killed workers have left.
    """
    parent = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else tempfile.gettempdir()
    return scratch_path(work_dir if in_store(work_dir) else str(Path(work_dir).resolve()), parent)


def _keep_files(scratch: Path, kept: Records) -> None:
    """Copy the tables, which are for people, to the image's records."""
    for path in scratch.glob(TABLES):
        with kept.writing(path.name) as temporary:
            shutil.copyfile(path, temporary)
