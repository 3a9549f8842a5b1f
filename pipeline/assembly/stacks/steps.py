"""From the section ``alignment`` of a configuration to the steps that align a stack."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.identity import file_digest
from blockwise.step import BlockStep
from blockwise.volume import Address
from blockwise.volume.info import VolumeInfo
from pipeline.configuration.alignment import aligned_volume, tissue_mask
from pipeline.configuration.settings import Settings
from tasks.alignment.transforms_file import read_transforms
from tasks.stacks.alignment_step import AlignmentStep, Six
from tasks.stacks.features_step import SliceFeaturesStep
from tasks.stacks.pairs_step import SlicePairsStep
from tasks.stacks.report.step import AlignmentReportStep
from tasks.stacks.slice_files import SliceFile, UnusableSliceError, find_slices, read_slice
from tasks.stacks.slices_step import SlicesStep, slice_grid

LOOKED_AT = 50
"""Slices, at most, of which one is looked for that can be read, before any work."""


@dataclass(frozen=True)
class StackSteps:
    """The steps that find out where the slices of a stack lie."""

    slices: SlicesStep
    features: SliceFeaturesStep | None
    pairs: SlicePairsStep | None
    alignment: AlignmentStep
    report: AlignmentReportStep

    def all(self) -> tuple[BlockStep, ...]:
        """All of them, each after those that it reads."""
        found = (self.slices, self.features, self.pairs, self.alignment, self.report)
        return tuple(step for step in found if step is not None)


def stack_steps(settings: Settings) -> StackSteps:
    """Make the steps that find out where the slices lie.

    Raises:
        UserError: there are no slices, it is not clear which number each has, or a setting does not fit them.
    """
    wish = settings.alignment
    if wish.slices is None:
        raise UserError(
            "alignment.slices: this key is needed: a pattern such as stack/*.png, a table with the columns file and "
            "z, or a volume with an axis z"
        )
    _refuse_in_place(wish.slices, settings.output)
    files = find_slices(wish.slices)
    common = {"work_dir": settings.work_dir, "change_detection": settings.change_detection}
    grid = slice_grid(list(files))
    _check_numbers(settings, grid)
    first = _first(files.values())
    slices = SlicesStep(
        **common,
        grid=grid,
        numbers=tuple(files),
        files=tuple(files.values()),
        excluded=tuple(sorted(wish.excluded)),
        voxels=0 if first is None else int(first.size),
    )
    whole = Grid("z", grid.shape, grid.shape, grid.roi)
    pairs, given = (_pairs(settings, slices), None) if wish.transforms is None else (None, _given(wish.transforms))
    alignment = AlignmentStep(
        **common,
        grid=whole,
        slices=slices,
        pairs=pairs,
        given=wish.transforms,
        given_digest=given,
        model=wish.model,
        ridge=wish.ridge,
        anchors=tuple((int(anchor[0]), cast("Six", tuple(anchor[1:]))) for anchor in wish.anchors),
        drift=wish.drift,
        drift_slices=wish.drift_slices,
        allow_parts=wish.allow_parts,
        refuse_bad=wish.bad_slices == "error",
    )
    report = AlignmentReportStep(**common, grid=whole, alignment=alignment)
    return StackSteps(slices, None if pairs is None else pairs.features, pairs, alignment, report)


def _pairs(settings: Settings, slices: SlicesStep) -> SlicePairsStep:
    """The step that compares slices, with the one before it.

    Raises:
        UserError: OpenCV is not installed.
    """
    if importlib.util.find_spec("cv2") is None:
        raise UserError(
            "alignment: OpenCV is needed, which is not installed here; install it with "
            "`pip install 'blockwise-ilastik[alignment]'` (or `pip install 'opencv-python-headless>=5'`), or "
            "give alignment.transforms"
        )
    wish = settings.alignment
    common = {"work_dir": settings.work_dir, "change_detection": settings.change_detection, "grid": slices.grid}
    features = SliceFeaturesStep(
        **common,
        slices=slices,
        largest=wish.estimate_px,
        box=cast("tuple[tuple[int, int], tuple[int, int]] | None", wish.box),
        refuse_bad=wish.bad_slices == "error",
    )
    return SlicePairsStep(**common, features=features, model=wish.model, reach=wish.neighbours)


def _given(path: str) -> str:
    """Digest of a file of transforms, which is looked at.

    Raises:
        UserError: it holds none.
    """
    read_transforms(path)
    return file_digest(Path(path))


def _refuse_in_place(slices: str, output: str) -> None:
    """Refuse to write over a volume whose planes are the slices."""
    read = Address.parse(slices)
    for address in (aligned_volume(output), tissue_mask(output)):
        written = Address.parse(address)
        if (os.path.realpath(read.path), read.key) == (os.path.realpath(written.path), written.key):
            raise UserError(f"alignment.slices: {slices} is where the result is written; set another `output`")


def _check_numbers(settings: Settings, grid: Grid) -> None:
    first, stop = grid.domain[0].start, grid.domain[0].stop
    anchors = [int(anchor[0]) for anchor in settings.alignment.anchors]
    for key, numbers in (("exclude", sorted(settings.alignment.excluded)), ("anchors", anchors)):
        if odd := [z for z in numbers if not first <= z < stop]:
            raise UserError(
                f"alignment.{key}: slice {odd[0]} is none of the stack, which goes from {first} to {stop - 1}"
            )


def _first(files: Iterable[SliceFile]) -> NDArray[Any] | None:
    """Pixels of the first slice that can be read; None where that is none of the first ``LOOKED_AT``."""
    for file in itertools.islice(files, LOOKED_AT):
        try:
            return read_slice(file)
        except UnusableSliceError:
            continue
    return None


def first_look(settings: Settings, slices: SlicesStep) -> VolumeInfo | None:
    """What the aligned volume is like at least: as if no slice would be moved; None where no slice can be read."""
    image = _first(slices.files)
    if image is None:
        return None
    shape = (len(slices.grid), *image.shape)
    return VolumeInfo(
        address=aligned_volume(settings.output), axes="zyx", shape=shape, dtype=image.dtype.str, chunks=shape
    )
