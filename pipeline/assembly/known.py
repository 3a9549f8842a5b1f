"""What results are known by: what their fingerprints hold, though finished blocks do not depend on it.

Fingerprints name the raw volume by its address, and hold what a project calls its classes. Where the same volume is
found at another address, or classes have other names, the names of before are used, so that nothing is done again. So
is the region of before, where the present one holds all of it. A run keeps them in its work folder.

The same volume is one whose files are the same: the same inodes, with the same sizes, times and samples of content.
Copies are other files. Whether all their content is the same could only be told by reading all of it, so of these
the user has to say it.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.identity import canonical_json, digest
from blockwise.records import open_records, read_json, write_json
from blockwise.region import region_as_json, region_from_json
from blockwise.transient import refuse_transient
from blockwise.volume import Volume, open_volume
from blockwise.volume.address import identity_of
from blockwise.volume.info import VolumeInfo
from tasks.pixel_classification.project import Project
from tasks.pixel_classification.training import open_project
from tasks.prediction import PredictionStep

KNOWN = "known.json"
"""File in the work folder with the names that results are known by."""
FILES = 8
"""How many files of a volume, spread over it, are looked at."""
SAMPLE = 1 << 14
"""Bytes of a file that are compared, at its beginning, middle and end."""


@dataclass(frozen=True)
class Known:
    """Names that the results in a work folder are known by.

    Attributes:
        raw: ``address`` of the raw volume; ``info``, what it says about itself; ``place``, its address in the last
            run; ``files``, see ``files_of``.
        project: names of its ``classes``, and its ``content`` without them; of autocontext, of the last stage.
        before: the same of the first of two stages.
        region: that results were begun with: ``roi`` and ``kept``, and the ``blocks`` of which grid.
    """

    raw: Mapping[str, Any] = field(default_factory=dict)
    project: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    region: Mapping[str, Any] = field(default_factory=dict)

    def volume(self, info: VolumeInfo) -> VolumeInfo:
        """A raw volume with the address under which results know it."""
        address = str(self.raw.get("address", ""))
        present = identity_of(info.address)
        if info.known_as or address in ("", present) or self.raw.get("info") != _kind(info):
            return info
        if self.raw.get("place") != present:  # where it is no other place, blocks' stamps decide
            files = files_of(info.address)
            if not files or files != self.raw.get("files"):
                return info
        return info.model_copy(update={"known_as": address})

    def classes(self, stage: Project) -> tuple[str, ...]:
        """What results call a stage's classes; empty where they call them as it does, or are of another project."""
        found = self.project if stage.then is None else self.before
        if found.get("content") != stage.nameless_hash:
            return ()
        names = tuple(found["classes"])
        return () if names == stage.classes else names

    def anywhere(self) -> Known:
        """The same without a region: of an image that is one block, no block stays where its region grows."""
        return replace(self, region={})

    def grid(self, grid: Grid) -> Grid:
        """A grid with the region that results were begun with, if it has grown since."""
        if self.region.get("blocks") != _blocks(grid):
            return grid
        region = region_from_json(self.region)
        return replace(grid, known=region) if region != grid.region and grid.covers(region) else grid


NOTHING = Known()


def load_known(work_dir: str) -> Known:
    """What the work folder's results are known by."""
    found = read_json(open_records(work_dir), KNOWN) or {}
    parts = {
        name: found[name] for name in ("raw", "project", "before", "region") if isinstance(found.get(name), dict)
    }
    return Known(**parts)


def keep_known(prediction: PredictionStep, work_dir: str = "") -> None:
    """Keep the names of a run that begins, for the runs after it.

    Args:
        prediction: the last step of the run that predicts.
        work_dir: where they are looked for; by default the step's.

    Raises:
        ShortFailureError: the volume's files cannot be reached at the moment; nobody would know them again.
    """
    known, records = _known(prediction), open_records(work_dir or prediction.work_dir)
    if read_json(records, KNOWN) != known:
        # A work folder that cannot be made ends the run soon, and says why.
        with contextlib.suppress(OSError, UserError):
            write_json(records, KNOWN, known)


def _known(prediction: PredictionStep) -> dict[str, Any]:
    stages, grid = open_project(prediction.project).stages, prediction.grid
    known = {
        "raw": {
            "address": identity_of(prediction.raw.known_as or prediction.raw.address),
            "info": _kind(prediction.raw),
            "place": identity_of(prediction.raw.address),
            "files": files_of(prediction.raw.address),
        },
        "project": _names(prediction, stages[-1]),
        "region": {**region_as_json(grid.known or grid.region), "blocks": _blocks(grid)},
    }
    first = getattr(prediction, "before", None)  # of autocontext
    if isinstance(first, PredictionStep):
        known["before"] = _names(first, stages[0])
    return known


def keep_place(work_dir: str, address: str) -> None:
    """Keep where a volume that is known by another address lies now: next time, nobody has to look at its files."""
    records = open_records(work_dir)
    found = read_json(records, KNOWN) or {}
    if isinstance(raw := found.get("raw"), dict) and raw.get("place") != identity_of(address):
        with contextlib.suppress(OSError, UserError):
            write_json(records, KNOWN, {**found, "raw": {**raw, "place": identity_of(address)}})


def _names(prediction: PredictionStep, stage: Project) -> dict[str, Any]:
    return {"classes": list(prediction.known_classes or prediction.class_names), "content": stage.nameless_hash}


def known_notes(prediction: PredictionStep) -> Iterator[str]:
    """A line for each name that is not the one which results are known by; how to say that it means the same."""
    raw, known = prediction.raw, load_known(prediction.work_dir)
    address = str(known.raw.get("address", ""))
    if raw.known_as:
        yield f"raw {raw.address}: results know it as {raw.known_as}; what was computed from it stays"
    elif address and address != identity_of(raw.address) and known.raw.get("info") == _kind(raw):
        yield (
            f"raw {raw.address}: the results here were computed from {address}, and these are other files. If it is "
            f"a copy of that volume, with the times of its files, set raw.moved_from: {address}"
        )
    first = getattr(prediction, "before", None)
    for step in (first, prediction) if isinstance(first, PredictionStep) else (prediction,):
        if step.known_classes:
            yield (
                f"project {step.project}: class names have changed, {', '.join(step.known_classes)} -> "
                f"{', '.join(step.class_names)}; no result depends on them, and datasets keep the names of before"
            )


def files_of(address: str) -> str:
    """Digest over what tells the files of a volume from all others; empty of one in a store, or that has none.

    Raises:
        ShortFailureError: they cannot be reached at the moment, which does not make them others.
    """
    try:
        volume = open_volume(address)
        if volume.address.is_remote:
            return ""
        looks = [_look(path) for path in _some_files(volume)]
    except (OSError, UserError) as error:
        refuse_transient(error)
        return ""
    return digest(canonical_json(looks)) if any(looks) else ""


def _kind(info: VolumeInfo) -> dict[str, Any]:
    return info.model_dump(mode="json", exclude={"address", "known_as"})


def _blocks(grid: Grid) -> list[Any]:
    return [grid.axes, list(grid.shape), list(grid.block_shape)]


def _some_files(volume: Volume) -> list[str]:
    counts = [-(-n // f) for n, f in zip(volume.shape, volume.file_shape, strict=True)]
    total = math.prod(counts)
    places = sorted({i * (total - 1) // (FILES - 1) for i in range(FILES)})
    indices = (tuple(map(int, np.unravel_index(place, counts))) for place in places)
    return [*map(volume.file_of, indices), *volume.companions[:FILES]]


def _look(path: str) -> list[Any]:
    """Device, inode, size, time, and samples of content; empty of a file that is not there."""
    with contextlib.suppress(FileNotFoundError), Path(path).open("rb") as file:
        status = os.fstat(file.fileno())
        return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, _sample(file, status.st_size)]
    return []


def _sample(file: BinaryIO, size: int) -> str:
    parts = []
    for start in (0, (size - SAMPLE) // 2, size - SAMPLE):
        file.seek(max(0, start))
        parts.append(digest(file.read(SAMPLE)))
    return ",".join(parts)
