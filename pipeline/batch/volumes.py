"""What the images of a batch say about themselves, without opening thousands of files each time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blockwise.identity import array_checksum, canonical_json, digest
from blockwise.records import open_records, read_json, write_json
from blockwise.stamps import UNWATCHED
from blockwise.volume import Address, Spacing, open_volume
from blockwise.volume.address import REFERRING_SUFFIXES
from blockwise.volume.info import VolumeInfo
from pipeline.assembly.geometry import RawDescription, describe_raw
from pipeline.assembly.known import Known, keep_place, load_known
from pipeline.configuration.settings import Raw
from tasks.pixel_classification.project import Project

REMEMBERED = "image_sizes.json"
"""Record in the work folder: what was found in images' metadata, by what it depends on."""


@dataclass(frozen=True)
class Description:
    """What an image says about itself.

    Attributes:
        raw: see ``describe_raw``.
        companions: further files that its voxels lie in.
    """

    raw: RawDescription
    companions: tuple[str, ...] = ()


class ImageVolumes:
    """What images say about themselves; of files that have not changed since it is remembered."""

    def __init__(self, work_dir: str) -> None:
        self._records = open_records(work_dir)
        self._before = read_json(self._records, REMEMBERED) or {}
        self._found: dict[tuple[Raw, str, str | None], Description] = {}
        self._known: dict[str, Known] = {}
        self.found_again: dict[str, str] = {}
        """Addresses of images that were moved, by their folders."""

    def describe(self, raw: Raw, project: Project) -> Description:
        """As ``describe_raw``, but most images are not opened. Only metadata, or a header, is read of the others.

        Raises:
            UserError: it cannot be opened, or its axes are not known.
        """
        # Which axis holds channels may be the project's word. Of a folder or a store nothing is remembered but here:
        # its metadata are as quickly read as one can tell that they are the same.
        address = Address.parse(raw.address)
        key = raw, project.axes, _file_state(address)
        if key in self._found:
            return self._found[key]
        if kept := self._before.get(_text(key)):
            found = Description(_raw_of(kept))
        else:
            companions = open_volume(address).companions if address.suffix in REFERRING_SUFFIXES else ()
            found = Description(describe_raw(raw, project), companions)
        if not found.companions:  # its own state does not tell what others hold, or whether there are more of them
            self._found[key] = found
        return found

    def state(self, raw: Raw, project: Callable[[], Project], *, watch_files: bool) -> str:
        """Size and time of an image's files: of a file mostly without opening it, else as a raw volume's.

        Args:
            raw: the image.
            project: gives the project.
            watch_files: look at the files of folders and stores.

        Raises:
            UserError: as ``describe``.
            OSError: a further file is not there.
        """
        address = Address.parse(raw.address)
        state = _file_state(address)
        if state is None:
            return array_checksum(open_volume(address).file_states()) if watch_files else UNWATCHED
        companions = self.describe(raw, project()).companions if address.suffix in REFERRING_SUFFIXES else ()
        others = [state_of(os.stat(path)) for path in companions]
        return digest(canonical_json([state, *others])) if others else state

    def known(self, work_dir: str) -> Known:
        """What the results of an image are known by.

        It is looked at once: what a worker writes meanwhile names the same things as before, or others that have
        replaced them and that nothing was known of.
        """
        if work_dir not in self._known:
            self._known[work_dir] = load_known(work_dir).anywhere()
        return self._known[work_dir]

    def keep(self) -> None:
        """Remember what was asked for, and nothing else."""
        for work_dir, address in self.found_again.items():
            keep_place(work_dir, address)
        files = {_text(key): found for key, found in self._found.items() if key[2] is not None}
        if files.keys() != self._before.keys():
            write_json(
                self._records, REMEMBERED, {key: _kept(found.raw) for key, found in files.items()}, indent=None
            )


def _kept(raw: RawDescription) -> list[Any]:
    spacing = None if raw.spacing is None else [raw.spacing.steps, raw.spacing.units]
    return [raw.info.model_dump(mode="json"), raw.axes_from, spacing]


def _raw_of(kept: list[Any]) -> RawDescription:
    info, axes_from, spacing = kept
    return RawDescription(VolumeInfo(**info), axes_from, None if spacing is None else Spacing(*map(tuple, spacing)))


def _text(key: tuple[Raw, str, str | None]) -> str:
    raw, axes, state = key
    return digest(canonical_json(["description with spacing", raw.model_dump(mode="json"), axes, state]))


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
