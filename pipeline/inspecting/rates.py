"""How fast blocks of a step are computed, and how small they get on a disk: measured on blocks that are done."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec

from blockwise.grid import Grid, box_size
from blockwise.outputs import VolumeOutput
from blockwise.plan import IDENTITY, other_fingerprints
from blockwise.records import read_json, write_json
from blockwise.records.markers import Marker, Markers
from blockwise.step import BlockStep
from blockwise.volume import open_volume

RATES = "rates.json"
"""Key, in the work folder, of the rates that a probe has measured, by the labels of steps."""
SAMPLE = 100
FIRST = 2
"""Blocks that may have been the first of a worker."""


class Rate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What blocks of a step took.

    Attributes:
        seconds: wall time of one worker for a voxel, halos and all else included; for an image of a batch, an image.
        blocks: how many it was measured on.
        stored: bytes of files for each byte that is written; None where files do not tell.
        origin: whose blocks they are where they are not the step's present ones, for people.
    """

    seconds: float
    blocks: int
    stored: float | None = None
    origin: str = ""


def rate_of(step: BlockStep) -> Rate | None:
    """The rate of a step's own blocks, else of those of earlier settings, else as it was kept; None of none."""
    return _own(step) or _earlier(step) or _kept(step)


def keep_rates(steps: Iterable[BlockStep]) -> None:
    """Keep the rates of the steps' own blocks in the work folder: other settings forget the blocks."""
    for step in steps:
        if rate := _own(step):
            kept = read_json(step.work, RATES) or {}
            write_json(step.work, RATES, {**kept, step.label: msgspec.to_builtins(rate)})


def _own(step: BlockStep) -> Rate | None:
    markers = step.markers.sample(SAMPLE)
    grid = step.grid if step.unit == "voxel" else None
    return _rate(markers, grid, stored=_stored(step, markers))


def _earlier(step: BlockStep) -> Rate | None:
    """Of the blocks of other settings, as long as no run has begun with the present ones."""
    for fingerprint in other_fingerprints(step):
        identity = read_json(step.work, f"{step.label}/{fingerprint}/{IDENTITY}") or {}
        if "grid" not in identity:
            continue
        markers = Markers(step.work.below(f"{step.label}/{fingerprint}"), fingerprint).sample(SAMPLE)
        if rate := _rate(markers, _grid(identity["grid"]), origin="of other settings"):
            return rate
    return None


def _grid(identity: dict[str, Any]) -> Grid:
    roi = identity["roi"] and tuple((start, stop) for start, stop in identity["roi"])
    return Grid(identity["axes"], tuple(identity["shape"]), tuple(identity["blocks"]), roi)


def _kept(step: BlockStep) -> Rate | None:
    found = (read_json(step.work, RATES) or {}).get(step.label)
    try:
        rate = msgspec.convert(found, Rate)
    except msgspec.ValidationError:  # of another version
        return None
    return msgspec.structs.replace(rate, origin=f"kept in {step.work.place(RATES)}")


def _rate(markers: list[Marker], grid: Grid | None, stored: float | None = None, origin: str = "") -> Rate | None:
    """Of some blocks, without the slowest two of four or more: a worker's first may have loaded libraries.

    Those that lie in the grid no more are left out.
    """
    sizes = [1 if grid is None else _size(grid, marker.block) for marker in markers]
    found = sorted((m.seconds / size, size) for m, size in zip(markers, sizes, strict=True) if size)
    if not found:
        return None
    counted = found[: max(len(found) - FIRST, (len(found) + 1) // 2)]
    seconds = sum(per_voxel * size for per_voxel, size in counted)
    return Rate(seconds / sum(size for _, size in counted), len(found), stored, origin)


def _size(grid: Grid, block: int) -> int:
    """Voxels that a block writes; 0 of one that is none of the grid's."""
    try:
        return box_size(grid.block(block).write_box)
    except (KeyError, IndexError, ValueError):
        return 0


def _stored(step: BlockStep, markers: list[Marker]) -> float | None:
    """Bytes of files for each byte of some blocks, which lie in a dataset of this machine."""
    output = step.output()
    if not markers or not isinstance(output, VolumeOutput):
        return None
    found = output.found()
    if found is None or found.get("fingerprint") != step.fingerprint:  # the markers tell of no files that are there
        return None
    volume = open_volume(output.address)
    stored, written = 0, 0
    for marker in itertools.islice(markers, SAMPLE):
        if not _size(step.grid, marker.block):
            continue
        box = output.box(step.grid.block(marker.block).write_box)
        sizes = volume.file_states(box)[..., 0]
        if not sizes.any():  # object stores, and files of many chunks, tell of changes alone
            return None
        stored += int(sizes[sizes > 0].sum())
        written += box_size(box) * volume.dtype.itemsize
    return stored / written if written else None
