"""What the images of a batch say about themselves, without opening thousands of files each time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from blockwise.files import read_json, write_json
from blockwise.identity import array_checksum, canonical_json, digest
from blockwise.stamps import UNWATCHED
from blockwise.volume import Address, open_volume
from blockwise.volume.info import VolumeInfo
from pipeline.assembly.geometry import describe_raw
from pipeline.configuration.settings import Raw
from tasks.pixel_classification.project import Project

REMEMBERED = "image_sizes.json"
"""File in the work folder: what was found in images' metadata, by what it depends on."""


class ImageVolumes:
    """What images say about themselves; of files that have not changed since it is remembered."""

    def __init__(self, work_dir: str) -> None:
        self._path = Path(work_dir) / REMEMBERED
        self._before = read_json(self._path) or {}
        self._files: dict[str, tuple[VolumeInfo, str]] = {}
        self._folders: dict[str, tuple[VolumeInfo, str]] = {}

    def describe(self, raw: Raw, project: Project) -> tuple[VolumeInfo, str]:
        """As ``describe_raw``, but most images are not opened. Only metadata, or a header, is read of the others.

        Raises:
            UserError: it cannot be opened, or its axes are not known.
        """
        # Which axis holds channels may be the project's word.
        parts: list[Any] = [raw.model_dump(mode="json"), project.axes]
        path = _file(Address.parse(raw.address))
        # A folder's or store's metadata are as quickly read as it is told that they are the same; once is enough.
        known = self._folders if path is None else self._files
        key = digest(canonical_json(["volume", *parts, None if path is None else file_state(path)]))
        if key not in known:
            kept = None if path is None else self._before.get(key)
            known[key] = describe_raw(raw, project) if kept is None else (VolumeInfo.model_validate(kept[0]), kept[1])
        return known[key]

    def keep(self) -> None:
        """Remember what was asked for, and nothing else."""
        if self._files.keys() != self._before.keys():
            found = {key: [info.model_dump(mode="json"), axes_from] for key, (info, axes_from) in self._files.items()}
            write_json(self._path, found, indent=None)


def raw_state(raw: Raw, *, watch_files: bool) -> str:
    """Size and time of an image's files: of a file without opening it, else as a raw volume's.

    Raises:
        UserError: it cannot be opened.
    """
    address = Address.parse(raw.address)
    if path := _file(address):
        return file_state(path)
    return array_checksum(open_volume(address).file_states()) if watch_files else UNWATCHED


def file_state(path: Path) -> str:
    """Size and time of a file."""
    status = os.stat(path)
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def _file(address: Address) -> Path | None:
    """The file that an image is; None where it is a folder, a pattern, or in a store."""
    path = Path(address.path)
    return path if not address.is_remote and path.is_file() else None
