"""What the images of a batch say about themselves, without opening thousands of files each time."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from blockwise.files import read_json, write_json
from blockwise.identity import array_checksum, canonical_json, digest
from blockwise.stamps import UNWATCHED
from blockwise.volume import Address, open_volume
from blockwise.volume.address import REFERRING_SUFFIXES
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
        self._found: dict[tuple[Raw, str, str | None], tuple[VolumeInfo, str]] = {}

    def describe(self, raw: Raw, project: Project) -> tuple[VolumeInfo, str]:
        """As ``describe_raw``, but most images are not opened. Only metadata, or a header, is read of the others.

        Raises:
            UserError: it cannot be opened, or its axes are not known.
        """
        # Which axis holds channels may be the project's word. Of a folder or a store nothing is remembered but here:
        # its metadata are as quickly read as one can tell that they are the same.
        key = raw, project.axes, _file_state(Address.parse(raw.address))
        if key not in self._found:
            kept = self._before.get(_text(key))
            self._found[key] = (VolumeInfo(**kept[0]), kept[1]) if kept else describe_raw(raw, project)
        return self._found[key]

    def keep(self) -> None:
        """Remember what was asked for, and nothing else."""
        files = {_text(key): found for key, found in self._found.items() if key[2] is not None}
        if files.keys() != self._before.keys():
            values = {key: [info.model_dump(mode="json"), axes_from] for key, (info, axes_from) in files.items()}
            write_json(self._path, values, indent=None)


def _text(key: tuple[Raw, str, str | None]) -> str:
    raw, axes, state = key
    return digest(canonical_json(["volume", raw.model_dump(mode="json"), axes, state]))


def raw_state(raw: Raw, *, watch_files: bool) -> str:
    """Size and time of an image's files: of a file without opening it, else as a raw volume's.

    Raises:
        UserError: it cannot be opened.
    """
    address = Address.parse(raw.address)
    if state := _file_state(address):
        others = [state_of(os.stat(path)) for path in _companions(address)]
        return state if not others else digest(canonical_json([state, *others]))
    return array_checksum(open_volume(address).file_states()) if watch_files else UNWATCHED


def _companions(address: Address) -> tuple[str, ...]:
    """Further files that an image's voxels lie in; files of formats that can name any are opened for it."""
    return open_volume(address).companions if address.suffix in REFERRING_SUFFIXES else ()


def _file_state(address: Address) -> str | None:
    """Size and time of the file that an image is; None where it is a folder, a pattern, or in a store."""
    if address.is_remote:
        return None
    try:
        status = os.stat(address.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state_of(status) if stat.S_ISREG(status.st_mode) else None


def state_of(status: os.stat_result) -> str:
    """Size and time of a file."""
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"
