"""A mask: which voxels of a volume are computed at all, in the volume's resolution or a coarser one.

::

    grid     |  block 0  |  block 1  |  block 2  |      block 0 holds no voxel of the mask: it is never computed.
    mask     0     0     0     1     1     1     1      One voxel of the mask stands for `factor` voxels of the grid;
                                                        those of block 1 under a 0 are computed as 0.

The mask is looked at as a whole once; what was found is kept by a run in its work folder until its files change.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from blockwise.grid import Box, Grid, pack_blocks
from blockwise.identity import array_checksum, canonical_json, digest
from blockwise.records import Records, open_records
from blockwise.stamps import UNWATCHED, Checksums, Snapshot
from blockwise.volume import Volume, open_volume

SURVEY = "mask.npz"
"""Record in the work folder with what was found in the mask."""


class Mask(BaseModel):
    """A volume that is not 0 where something is to be computed.

    Attributes:
        address: where it lies.
        axes: its axes, one letter each, all of them axes of the grid; without t it holds for every time step.
        factors: voxels of the grid along one voxel of the mask, per axis of the mask.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    address: str
    axes: str
    factors: tuple[int, ...]

    def coarse_box(self, box: Box, axes: str) -> Box:
        """Voxels of the mask that a box of a grid with these axes touches, in the order of the mask's axes."""
        by_axis = dict(zip(axes, box, strict=True))
        return tuple(
            slice(by_axis[axis].start // f, -(-by_axis[axis].stop // f))
            for axis, f in zip(self.axes, self.factors, strict=True)
        )


class MaskReader:
    """Reads a mask in the grid's resolution."""

    def __init__(self, mask: Mask, axes: str) -> None:
        self.mask = mask
        self.axes = axes
        self._volume = open_volume(mask.address)

    def read(self, box: Box) -> NDArray[np.bool_]:
        """Whether each voxel of a box of the grid is inside; of the box's shape."""
        coarse = self.mask.coarse_box(box, self.axes)
        inside = self._volume.read(coarse) != 0
        for place, (axis, f) in enumerate(zip(self.mask.axes, self.mask.factors, strict=True)):
            if f > 1:
                s = box[self.axes.index(axis)]
                inside = inside.take(np.arange(s.start, s.stop) // f - coarse[place].start, place)
        inside = inside.transpose([self.mask.axes.index(axis) for axis in self.axes if axis in self.mask.axes])
        missing = tuple(i for i, axis in enumerate(self.axes) if axis not in self.mask.axes)
        found: NDArray[np.bool_] = np.broadcast_to(np.expand_dims(inside, missing), [s.stop - s.start for s in box])
        return found


def open_mask(mask: Mask | None, grid: Grid) -> MaskReader | None:
    """A reader for a step's mask; None where the step has none."""
    return None if mask is None else MaskReader(mask, grid.axes)


def masked(mask: Mask, grid: Grid, work_dir: str, *, watch_files: bool) -> Grid:
    """The grid without the blocks that hold no voxel of the mask; the grid has no such mask yet."""
    return replace(grid, kept=pack_blocks(survey(mask, grid, work_dir, watch_files=watch_files).checksums != b""))


def survey(mask: Mask, grid: Grid, work_dir: str, *, watch_files: bool) -> Checksums:
    """A checksum of the mask below each block, empty where the block holds no voxel of it; nothing is written.

    Read from the work folder where the mask's files are what they were.
    """
    whole = replace(grid, kept=None, known=None)
    states, key = _state(mask, whole, watch_files)
    found = _kept_survey(open_records(work_dir), key)
    return Checksums(whole, _look(mask, whole, states) if found is None else found)


def keep_survey(mask: Mask, grid: Grid, work_dir: str, *, watch_files: bool) -> None:
    """Keep what was found in the mask in the work folder, so that the next process need not look at it.

    Raises:
        UserError: the folder may not be written, or its disk is full.
    """
    whole = replace(grid, kept=None, known=None)
    states, key = _state(mask, whole, watch_files)
    records = open_records(work_dir)
    if _kept_survey(records, key) is None:
        content = io.BytesIO()
        np.savez_compressed(content, key=np.array(key), checksums=_look(mask, whole, states))
        # A work folder that cannot be made ends the run soon, with a message of its own.
        with contextlib.suppress(OSError):
            records.put(SURVEY, content.getbuffer())


def _state(mask: Mask, grid: Grid, watch_files: bool) -> tuple[str, str]:
    """State of the mask's files, and digest over all that the survey depends on."""
    volume = open_volume(mask.address)
    states = array_checksum(volume.file_states()) if watch_files else UNWATCHED
    return states, digest(canonical_json([mask.model_dump(mode="json"), grid.identity(), list(volume.shape), states]))


def _kept_survey(records: Records, key: str) -> NDArray[np.bytes_] | None:
    try:
        with np.load(io.BytesIO(records.get(SURVEY) or b"")) as data:
            checksums: NDArray[np.bytes_] = data["checksums"]
            return checksums if str(data["key"]) == key else None
    except (OSError, ValueError, EOFError, KeyError):
        return None


@functools.lru_cache(maxsize=2)  # every step asks, and as long as no run has begun nothing is kept
def _look(mask: Mask, grid: Grid, states: str) -> NDArray[np.bytes_]:
    """Read all of the mask, as it is with this state of its files."""
    volume = open_volume(mask.address)
    checksums = np.zeros(grid.blocks_per_axis, "S32")
    for group in _groups(mask, grid, volume):
        origin = mask.coarse_box(_bounds(grid, group), grid.axes)
        inside = volume.read(origin) != 0
        for index in itertools.product(*group):
            box = mask.coarse_box(grid.block_at(index).write_box, grid.axes)
            below = inside[
                tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(box, origin, strict=True))
            ]
            if below.any():
                checksums[index] = array_checksum(below).encode()
    checksums.flags.writeable = False
    return checksums


def _groups(mask: Mask, grid: Grid, volume: Volume) -> Iterator[tuple[range, ...]]:
    """Blocks that lie below one piece of the mask that is decoded as a whole, so that this is done about once."""
    decoded = dict(zip(mask.axes, volume.decode_shape, strict=True))
    factors = dict(zip(mask.axes, mask.factors, strict=True))
    parts = []
    for axis, b, indices in zip(grid.axes, grid.block_shape, grid.index_ranges(grid.domain), strict=True):
        at_once = max(1, -(-decoded.get(axis, 1) * factors.get(axis, 1) // b))
        firsts = range(indices.start, indices.stop, at_once)
        parts.append([range(i, min(i + at_once, indices.stop)) for i in firsts])
    return itertools.product(*parts)


def _bounds(grid: Grid, group: tuple[range, ...]) -> Box:
    first = grid.block_at(tuple(r.start for r in group)).write_box
    last = grid.block_at(tuple(r.stop - 1 for r in group)).write_box
    return tuple(slice(a.start, b.stop) for a, b in zip(first, last, strict=True))


class MaskSource:
    """The mask as something that a step reads: what lies below a block stamps it, not the mask's files."""

    name = label = "mask"

    def __init__(self, mask: Mask, grid: Grid, work_dir: str, *, watch_files: bool) -> None:
        self.mask = mask
        self.address = mask.address
        self.grid = grid
        self.work_dir = work_dir
        self.watch_files = watch_files

    def identity(self) -> Any:
        """That there is one; where its voxels are is in the grid and in the stamps."""
        return "mask"

    def snapshot(self) -> Snapshot:
        """Look at the mask, or at what was found before."""
        return survey(self.mask, self.grid, self.work_dir, watch_files=self.watch_files)

    def digest(self) -> str:
        """Digest over all of it."""
        return self.snapshot().digest

    def forget(self, damaged: Box) -> bool:
        """A given mask cannot be computed again."""
        return False
