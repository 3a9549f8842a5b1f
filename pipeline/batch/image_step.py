"""Many small images: one is the unit of work, computed whole, all steps of it in one call of a worker."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

from pydantic import PrivateAttr

from blockwise.chain import Chain
from blockwise.errors import UserError
from blockwise.files import read_json, write_json
from blockwise.grid import Block, Box, Grid
from blockwise.identity import array_checksum, digest
from blockwise.markers import Failure, Marker, Markers
from blockwise.outputs import ATTRIBUTES
from blockwise.sources import Source
from blockwise.stamps import UNWATCHED, Snapshot, WrittenFiles, differs
from blockwise.step import BASE_MEMORY, BlockStep
from blockwise.transient import refuse_transient
from blockwise.volume import Address, DamagedDataError, open_volume
from blockwise.volume.address import identity_of
from pipeline.batch.earlier_markers import has_results_of, is_earlier
from pipeline.batch.image_chains import GIVEN, ImageChains, image_steps
from pipeline.batch.manifest import IMAGES, Batch, image_settings
from pipeline.batch.named_markers import NamedMarkers
from pipeline.batch.results_record import record
from pipeline.batch.table import Values
from pipeline.batch.volumes import ImageVolumes, raw_state, state_of
from pipeline.configuration.keys import naming_keys
from pipeline.configuration.settings import Settings

CONFIGURATION = "configuration"
"""Name of the stamp of an image's steps, and of the place of their results."""
TABLES = "objects*.*"
"""Names of the tables in an image's folder."""
UNREADABLE = "unreadable"
"""Stamp of what cannot be looked at."""

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

    @cached_property
    def made_settings(self) -> dict[int, Settings]:
        """Settings of images that were made already: they are asked for several times."""
        return {}

    @cached_property
    def markers(self) -> Markers:
        """Markers by the images' names."""
        return NamedMarkers(self.folder, self.fingerprint, self.names)

    def sources(self) -> tuple[Source, ...]:
        """What the images' steps are given, and these themselves."""
        return tuple(ImageSource(name, self) for name in (*GIVEN, CONFIGURATION))

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
        return ImagesOutput(self)

    def current(self, markers: Mapping[int, Marker], *names: str) -> dict[int, Marker]:
        """Those of some markers whose stamps, those of these names or all, are the present ones, by number."""
        look = ImageStamps(self)
        return {
            number: marker
            for number, marker in markers.items()
            if not any(differs(marker.stamps.get(name), look.stamp(name, number)) for name in names or self.inputs)
        }

    def failures(self, markers: Mapping[int, Marker]) -> dict[int, Failure]:
        """Failure records, by number, of images that are not done after all, because what was away is there again."""
        found = self.markers.failures()
        done = self.current({number: markers[number] for number in found.keys() & markers.keys()})
        return {number: failure for number, failure in found.items() if number not in done}

    def projected_memory(self) -> int:
        """For the largest image that counts as small."""
        return BASE_MEMORY + BYTES_PER_VOXEL * self.small_voxels

    def compute(self, block: Block, prepared: Any) -> str:
        """Run all steps of one image; the checksum of what they have written."""
        settings = self.image_settings(block.id)
        folder = Path(settings.work_dir)
        parent = scratch_folder(self.work_dir)
        parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="image-", dir=parent) as scratch:
            steps = image_steps(settings.model_copy(update={"work_dir": scratch}))
            steps.prediction.check_raw()
            # From here on older results are overwritten: a marker must not vouch for a mixture.
            self.markers.remove(block.id)
            record(settings, steps)
            # A classifier that is trained here serves all images.
            prediction = steps.prediction.model_copy(update={"work_dir": self.work_dir})
            with naming_keys():
                checksum = Chain((prediction, *steps.all()[1:])).compute()
            _keep_files(Path(scratch), folder)
        return checksum


def scratch_folder(work_dir: str) -> Path:
    """Folder for what the steps of an image hand to each other: in memory, where the system has such a place.

    It is the same for all workers of a batch, so that its driver can remove what killed workers have left.
    """
    parent = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else tempfile.gettempdir()
    return Path(parent) / f"blockwise-{os.getuid()}-{digest(str(Path(work_dir).resolve()))[:12]}"


def _keep_files(scratch: Path, folder: Path) -> None:
    """Copy the tables, which are for people, to the image's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in scratch.glob(TABLES):
        shutil.copyfile(path, folder / path.name)


@dataclass(frozen=True)
class ImageSource:
    """One of the things that images' results are made of.

    Attributes:
        name: of what an image's steps are given, ``raw`` or ``mask``; or ``configuration``, which are the steps.
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
        look = ImageStamps(self.step)
        return _Stamps([look.stamp(self.name, block.id) for block in self.step.grid])

    def digest(self) -> str:
        """Digest over all images."""
        return self.snapshot().digest

    def forget(self, damaged: Box) -> bool:
        """An image cannot be computed again."""
        return False


class ImageStamps:
    """What images are made of at one moment."""

    def __init__(self, step: ImagesStep) -> None:
        self._step = step
        self._chains = ImageChains(step.volumes)

    def stamp(self, name: str, number: int) -> str:
        """The stamp of an image, of one of the step's sources; ``UNREADABLE`` where it cannot be told."""
        settings = self._step.image_settings(number)
        try:
            if name == CONFIGURATION:
                # Where files are not watched, nothing else would tell that results are wanted in another place.
                return digest(",".join([*self._chains.fingerprints(settings), identity_of(settings.output)]))
            if name == "raw":
                return raw_state(settings.raw, watch_files=self._step.change_detection == "files")
            return self._mask(settings)
        except (UserError, OSError, DamagedDataError) as error:  # the worker meets it again, and records it
            refuse_transient(error)
            return UNREADABLE

    def _mask(self, settings: Settings) -> str:
        if settings.blocks.mask is None:
            return ""
        return self._chains.chain(settings).given["mask"].snapshot().digest


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

    def write(self, block: Block, data: str) -> str:
        """Everything was written by the image's steps."""
        return data

    def checksum(self, block: Block) -> str:
        """Read an image's datasets back, and return their checksum.

        Raises:
            FileNotFoundError: a dataset, or the image itself, cannot be opened, or a table is gone.
        """
        try:
            return self._chain(block).checksum()
        except UserError as error:
            refuse_transient(error)
            raise FileNotFoundError(str(error)) from error

    def grid_box(self, box: Box) -> Box:
        """The box itself."""
        return box

    def files_stamp(self, block: Block) -> str:
        """Size and time of all files of an image's datasets and tables."""
        settings = self.step.image_settings(block.id)
        address = Address.parse(settings.output)
        tables = _table_states(settings.work_dir)
        if not address.is_remote:
            return digest(",".join([*_tree_states(address.path), *tables]))
        if self.step.change_detection == "metadata":
            return UNWATCHED
        try:
            volumes = [open_volume(output.address) for output in self._chain(block).volumes]
            states = [array_checksum(volume.file_states()) for volume in volumes]
        except UserError as error:
            refuse_transient(error)
            states = ["absent"]
        return digest(",".join([*states, *tables]))

    def files(self) -> WrittenFiles:
        """Size and time of all files of all images."""
        return _Written(_Stamps([self.files_stamp(block) for block in self.step.grid]))

    def _chain(self, block: Block) -> Chain:
        return Chain(image_steps(self.step.image_settings(block.id)).all())


class _Written:
    def __init__(self, stamps: _Stamps) -> None:
        self.stamps = stamps
        self.digest = stamps.digest

    def stamp(self, block: Block) -> str:
        return self.stamps.stamp(block.write_box)


def _tree_states(folder: str) -> Iterator[str]:
    """Size and time of all files below a folder, in a fixed order."""
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _tree_states(entry.path)
        else:
            status = entry.stat()
            yield f"{entry.name} {status.st_size} {status.st_mtime_ns}"


def _table_states(folder: str) -> list[str]:
    """Size and time of the tables of objects in an image's folder, in a fixed order."""
    return [state_of(entry.stat()) for entry in _entries(folder) if fnmatchcase(entry.name, TABLES)]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=attrgetter("name"))
    except (FileNotFoundError, NotADirectoryError):
        return []
