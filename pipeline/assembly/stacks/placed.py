"""The steps that put slices in place, and all that can be made of a stack at present."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from blockwise.completeness import Completeness
from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.step import BlockStep
from blockwise.volume import Address, open_volume
from blockwise.volume.creation import check_writable
from pipeline.assembly.geometry import LARGEST_CHUNK
from pipeline.assembly.stacks.steps import StackSteps, stack_steps
from pipeline.configuration.alignment import aligned_volume, tissue_mask
from pipeline.configuration.settings import Settings
from tasks.alignment.transforms import Floats
from tasks.alignment.warp import Canvas, Interpolation, applied, canvas_of
from tasks.stacks.aligned_step import AlignedStep, TissueStep
from tasks.stacks.alignment_step import AlignmentStep
from tasks.stacks.features_step import SliceFeaturesStep
from tasks.stacks.pairs_step import SlicePairsStep
from tasks.stacks.report.step import AlignmentReportStep
from tasks.stacks.slices_step import SlicesStep
from tasks.stacks.view_step import AlignedViewStep

SLAB, SMALLEST_SLAB = 32, 4
"""Slices that are put in place at once."""
SLAB_BYTES = 512_000_000
"""What they should not exceed."""


STACK_STEPS = tuple(
    step.name
    for step in (SlicesStep, SliceFeaturesStep, SlicePairsStep, AlignmentStep, AlignmentReportStep, AlignedViewStep)
)
"""Names of the steps that find out where slices lie."""
PLACED_STEPS = (AlignedStep.name, TissueStep.name)
"""Names of those that put them in place, and of their datasets."""


class NotAlignedError(UserError):
    """What is asked for depends on an alignment that is not finished."""


@dataclass(frozen=True)
class PlacedSteps:
    """The steps that put the slices in place; the canvas is known when these lie somewhere."""

    aligned: AlignedStep | AlignedViewStep
    tissue: TissueStep

    def all(self) -> tuple[BlockStep, ...]:
        """Both."""
        return (self.aligned, self.tissue)


@dataclass(frozen=True)
class FinishedStack:
    """The steps of a stack whose slices are in place."""

    stack: StackSteps
    placed: PlacedSteps

    def all(self) -> tuple[BlockStep, ...]:
        """All of them, each after those that it reads."""
        return (*self.stack.all(), *self.placed.all())


@dataclass(frozen=True)
class StackOnly:
    """The steps of a configuration as far as they can be made before its slices are aligned, or that has no others.

    Attributes:
        stack: each after those that it reads.
        why: what is said of steps that are not among them.
        settings: the configuration.
        before: none; see ``Steps``.
    """

    stack: tuple[BlockStep, ...]
    why: str
    settings: Settings
    before: tuple[BlockStep, ...] = ()

    def everything(self) -> tuple[BlockStep, ...]:
        """All of them."""
        return self.stack

    def begun(self) -> tuple[BlockStep, ...]:
        """All of them."""
        return self.stack


def stack_only(settings: Settings, why: str) -> StackOnly:
    """The steps of a stack as far as they can be made now; see ``StackOnly``."""
    stack = stack_steps(settings)
    completeness = Completeness()
    placed = placed_steps(settings, stack).all() if all(map(completeness.of, stack.all())) else ()
    return StackOnly((*stack.all(), *placed), why, settings)


def finished_stack(settings: Settings) -> FinishedStack:
    """The steps of a stack whose slices are in place.

    Raises:
        NotAlignedError: they are not yet.
    """
    stack = stack_steps(settings)
    completeness = Completeness()
    if all(map(completeness.of, stack.all())):
        placed = placed_steps(settings, stack)
        if all(map(completeness.of, placed.all())):
            return FinishedStack(stack, placed)
    raise NotAlignedError(
        f"the slices {settings.alignment.slices} are not aligned yet, or have changed since, and what comes after "
        "depends on what will be found; run AlignmentWorkflow, or the workflow itself"
    )


def placed_steps(settings: Settings, stack: StackSteps) -> PlacedSteps:
    """Make the steps that put the slices in place; those of ``stack`` are finished.

    Raises:
        UserError: no slice could be placed, or a setting does not fit what was found.
    """
    check_writable(Address(settings.output, "aligned"))
    wish = settings.alignment
    matrices, sizes = stack.alignment.placed()
    kept = _interpolation(wish.interpolation, list(matrices.values()), virtual=wish.virtual)
    canvas = _canvas(list(matrices.values()), list(sizes.values()), kept, wish.canvas)
    dtype = next(fact.dtype for z, fact in stack.slices.all_facts().items() if z in matrices)
    _check_fill(wish.fill, dtype)
    shape = (len(stack.slices.grid), canvas.height, canvas.width)
    block, chunks = _storage(settings, shape, np.dtype(dtype).itemsize)
    shared: dict[str, Any] = {
        "work_dir": settings.work_dir,
        "change_detection": settings.change_detection,
        "alignment": stack.alignment,
        "canvas": (canvas.left, canvas.top, canvas.width, canvas.height),
    }
    cut: dict[str, Any] = {"grid": Grid("zyx", shape, block), "interpolation": kept, "chunks": chunks}
    tissue = TissueStep(**shared, **cut, address=tissue_mask(settings.output))
    grey: dict[str, Any] = {"dtype": dtype, "fill": wish.fill}
    if wish.virtual:
        _refuse_chunked(stack.slices)
        return PlacedSteps(AlignedViewStep(**shared, **grey, grid=stack.alignment.grid), tissue)
    return PlacedSteps(AlignedStep(**shared, **cut, **grey, address=aligned_volume(settings.output)), tissue)


def _interpolation(wished: Interpolation | None, matrices: list[Floats], *, virtual: bool) -> Interpolation:
    """Whole pixels where all transforms are shifts, unless something else is wished.

    Raises:
        UserError: whole pixels are wished, and they are not.
    """
    shifts_only = all(np.array_equal(matrix[:, :2], np.eye(2)) for matrix in matrices)
    if wished == "whole" and not shifts_only:
        raise UserError("alignment.interpolation: whole, but the transforms are not all shifts; set cubic")
    kept: Interpolation = wished or ("whole" if shifts_only else "cubic")
    if virtual and kept != "whole":
        raise UserError("alignment.virtual: slices are moved by whole pixels, but the transforms are not all shifts")
    return kept


def _canvas(
    matrices: list[Floats], sizes: list[tuple[int, int]], kept: Interpolation, kind: Literal["union", "crop"]
) -> Canvas:
    try:
        return canvas_of([applied(matrix, kept) for matrix in matrices], sizes, kind)
    except UserError as error:
        raise UserError(f"alignment: {error}") from None


def _refuse_chunked(slices: SlicesStep) -> None:
    """Refuse planes of a volume in many files: which of them belong to a slice is not asked when they are read."""
    if slices.files[0].plane is None:
        return
    volume = open_volume(slices.files[0].path)
    if volume.file_shape != volume.shape:
        raise UserError(
            f"alignment.virtual: {volume.address} lies in many files; slices that are moved while they are read "
            "must be files, or planes of one file"
        )


def _check_fill(fill: float, dtype: str) -> None:
    if np.dtype(dtype).kind == "f":
        return
    limits = np.iinfo(dtype)
    if fill != int(fill) or not limits.min <= fill <= limits.max:
        raise UserError(f"alignment.fill: {fill} is no grey value of {dtype}, the type of the slices")


Shape = tuple[int, int, int]


def _storage(settings: Settings, shape: Shape, itemsize: int) -> tuple[Shape, Shape]:
    """Blocks, each a slab of whole slices, and chunks; fewer slices where they are large."""
    wished = settings.alignment.slab
    slab = min(wished or SLAB, shape[0])
    while wished is None and slab > SMALLEST_SLAB and slab * shape[1] * shape[2] * itemsize > SLAB_BYTES:
        slab = -(-slab // 2)
    side = LARGEST_CHUNK[3]
    chunks = settings.blocks.chunks or (slab, min(side, shape[1]), min(side, shape[2]))
    if len(chunks) != len(shape):
        raise UserError(f"blocks.chunks: {list(chunks)} has {len(chunks)} numbers, but a stack has the axes zyx")
    if wished is None:
        slab = chunks[0] * max(1, slab // chunks[0])
    elif slab % chunks[0]:
        raise UserError(f"alignment.slab: {wished} is not a multiple of {chunks[0]}, of blocks.chunks along z")
    height, width = (-(-n // c) * c for n, c in zip(shape[1:], chunks[1:], strict=True))
    return (slab, height, width), (chunks[0], chunks[1], chunks[2])
