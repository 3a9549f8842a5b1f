"""What small images write: datasets and tables, each in its own place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import filter as filter_names
from fnmatch import fnmatchcase
from operator import attrgetter
from pathlib import Path
from typing import Any

from blockwise.chain import Chain
from blockwise.errors import UserError
from blockwise.grid import Block, Box, Grid
from blockwise.identity import array_checksum, digest
from blockwise.outputs import ATTRIBUTES
from blockwise.records import Records, in_store, open_records, read_json, write_json
from blockwise.stamps import UNWATCHED, WrittenFiles
from blockwise.transient import refuse_transient
from blockwise.volume import Address, open_volume
from pipeline.batch.image_chains import image_steps
from pipeline.batch.image_stamps import Numbered
from pipeline.batch.volumes import state_of
from pipeline.configuration.settings import Settings

TABLES = "objects*.*"
"""Names of the tables in an image's folder."""


@dataclass(frozen=True)
class ImagesOutput:
    """Datasets and tables of every image, at the places that its settings name.

    Attributes:
        address: the folder of the images' folders.
        records: of the step that writes.
        grid: the images' numbers.
        settings: gives those of an image.
    """

    address: str
    records: Records
    grid: Grid
    settings: Callable[[int], Settings]

    def places(self) -> Iterator[str]:
        """The containers of all images, but for those in stores, and the folders of their tables."""
        if not in_store(self.address):
            yield self.address
        for block in self.grid:
            address = Address.parse(self.settings(block.id).output)
            if not address.is_remote:
                yield address.path

    def check_ours(self) -> None:
        """Each dataset is looked at before it is made."""

    def found(self) -> Mapping[str, Any] | None:
        """Attributes as they were given to ``create``."""
        return read_json(self.records, ATTRIBUTES)

    def description_files(self) -> tuple[Path, ...]:
        """The file of these attributes."""
        file = self.records.local(ATTRIBUTES)
        return () if file is None else (file,)

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Nothing but a record: each image makes its own datasets."""
        write_json(self.records, ATTRIBUTES, dict(attributes))

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
        settings = self.settings(block.id)
        address = Address.parse(settings.output)
        tables = _table_states(open_records(settings.work_dir))
        if not address.is_remote:
            return digest(",".join([*_tree_states(address.path), *tables]))
        if settings.change_detection == "metadata":
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
        return _Written(Numbered([self.files_stamp(block) for block in self.grid]))

    def _chain(self, block: Block) -> Chain:
        return Chain(image_steps(self.settings(block.id)).all())


class _Written:
    def __init__(self, stamps: Numbered) -> None:
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


def _table_states(records: Records) -> list[str]:
    """Size and time, or versions, of the tables of objects in an image's folder, in a fixed order."""
    folder = records.place()
    if in_store(folder):
        keys = filter_names(records.keys(""), TABLES)
        return [f"{key} {version}" for key, version in sorted(records.versions(keys).items())]
    return [state_of(entry.stat()) for entry in _entries(folder) if fnmatchcase(entry.name, TABLES)]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=attrgetter("name"))
    except (FileNotFoundError, NotADirectoryError):
        return []
