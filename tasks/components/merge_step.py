"""Step 4: join the blocks' components into objects, and number them as if there had been no blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.outputs import FilesOutput
from blockwise.outputs.files import Arrays
from blockwise.step import BASE_MEMORY, BlockStep
from blockwise.upstream import BlocksSource, TableSource
from tasks.components.borders import cached_blocks, face_bytes
from tasks.components.core_sizes import core_flags_of, fitting_cores, flags_of_places
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.joining import Faces, Groups, combined, join_blocks, load_joining
from tasks.components.labelling import neighbour_axes
from tasks.components.measures import COMBINE, Measures, from_columns

PROJECTED_COMPONENTS_PER_VOXEL = 1e-4
"""For plans only: how many components a volume may have before anything is known of it."""
BYTES_PER_COMPONENT = 80
"""Measured: 49 to 55."""
MERGE_MEMORY = 60_000_000
"""For the libraries that join components."""
NEEDED = ("voxels", "first", "core")
"""Measures by which objects are kept and numbered."""
OF_BORDERS = ("start", "stop")
"""Measures by which it is known whether an object touches the border."""


def number_objects(
    objects: Measures, min_size: int, max_size: int | None = None, restart_every: int | None = None
) -> NDArray[np.uint64]:
    """Drop objects that are not wanted, and number the others.

    Args:
        objects: ``voxels``, ``first`` and, where objects without a core are dropped, ``core``, as
            ``combine_measures`` gives them; where those at the border are dropped, ``border``, not 0 for these.
        min_size: objects with fewer voxels are dropped.
        max_size: objects with more voxels are dropped; None for none.
        restart_every: voxels of a time step, where each step's objects count from 1; None to number all through.

    Returns:
        The number (from 1; 0 if dropped) of each object, uint64. Objects are numbered in raster order of their first
        voxels, as ``skimage.measure.label`` does.
    """
    wanted = objects["voxels"] >= min_size
    if max_size is not None:
        wanted &= objects["voxels"] <= max_size
    if "core" in objects:
        wanted &= objects["core"] > 0
    if "border" in objects:
        wanted &= objects["border"] == 0
    kept = np.flatnonzero(wanted)
    kept = kept[np.argsort(objects["first"][kept])]
    numbers = np.zeros(len(wanted), np.uint64)
    numbers[kept] = _labels(objects["first"][kept], restart_every)
    return numbers


def _labels(first: NDArray[np.int64], restart_every: int | None) -> NDArray[np.int64]:
    """Numbers from 1 of objects in the order of their first voxels; from 1 again in each time step if so asked."""
    labels = np.arange(1, len(first) + 1)
    if restart_every is None:
        return labels
    steps = first // restart_every
    return labels - np.searchsorted(steps, steps)


class ComponentMergeStep(BlockStep):
    """Join components over all blocks, in one job; its own grid has one block.

    Attributes:
        faces: the step that labels each block.
        min_size: smallest object that is kept, in voxels.
        max_size: largest object that is kept; None for no limit.
        numbering: over time, ``continue``: no number twice; ``restart``: from 1 in each time step.
        core_min_size: smallest core that keeps an object, in voxels; counts where the faces have ``core_sizes``.
        core_max_size: largest one; None for no limit.
        exclude_border: drop objects that touch the border, in space, of what is computed.
    """

    name: ClassVar[str] = "component_merge"
    version: ClassVar[int] = 1
    layout: ClassVar[int] = 2
    """1 had the object tables among its files."""

    faces: ComponentFacesStep
    min_size: int
    max_size: int | None = None
    numbering: Literal["continue", "restart"] = "continue"
    core_min_size: int = 0
    core_max_size: int | None = None
    exclude_border: bool = False

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result; others are left out, so that older results stay valid."""
        optional: dict[str, Any] = {} if self.max_size is None else {"max_size": self.max_size}
        if self.faces.core_sizes:
            optional |= {"core_min_size": self.core_min_size, "core_max_size": self.core_max_size}
        if self.exclude_border:
            optional["exclude_border"] = True
        return {"min_size": self.min_size, **optional, **({"numbering": "restart"} if self.restart_every else {})}

    @property
    def restart_every(self) -> int | None:
        """Voxels of a time step, where each step's objects count from 1."""
        is_restarted = self.numbering == "restart" and "t" in self.grid.axes
        return math.prod(self.grid.shape[1:]) if is_restarted else None

    def sources(self) -> tuple[BlocksSource, ...]:
        """Components of all blocks."""
        return (BlocksSource(self.faces),)

    def output(self) -> FilesOutput:
        """Lookup tables: the object of each component, and where each block's components begin; those of cores."""
        arrays = ("lookup", "offsets", *(("core_lookup", "core_offsets") if self.faces.core_sizes else ()))
        return FilesOutput(self.records, arrays)

    def rows(self, table: str) -> TableSource:
        """A table of which each block reads its own rows: ``lookup``, or ``core_lookup`` with sizes of cores."""
        return TableSource(self, self.faces.grid, self.output(), table, table.replace("lookup", "offsets"))

    def projected_memory(self) -> int:
        """Grows with components, never with voxels; how many there will be is a guess before they are counted."""
        guess = int(self.faces.grid.voxels * PROJECTED_COMPONENTS_PER_VOXEL)
        faces = min(cached_blocks(self.faces.grid), len(self.faces.grid)) * face_bytes(self.faces.grid)
        return BASE_MEMORY + MERGE_MEMORY + faces + guess * BYTES_PER_COMPONENT

    def prepare(self) -> Any:
        """Load what is compiled."""
        load_joining()
        return None

    def compute(self, block: Block, prepared: Any) -> Arrays:
        """The lookup table and where each block's part of it begins.

        With sizes of cores also which parts of cores are kept, and where each block's begin.
        """
        needed = (*NEEDED, *OF_BORDERS) if self.exclude_border else NEEDED
        measures, groups, count, offsets = self._groups(needed)
        found: dict[str, NDArray[Any]] = {"offsets": offsets}
        if self.faces.core_sizes:
            fits, core_offsets, measures["core"] = self._cores(offsets)
            found |= {"core_lookup": fits, "core_offsets": core_offsets}
        objects = {name: combined(measures.pop(name), groups, count, COMBINE[name]) for name in list(measures)}
        if self.exclude_border:
            objects["border"] = self.faces.touch_border(objects).astype(np.int64)
        numbers = number_objects(objects, self.min_size, self.max_size, self.restart_every)
        return {"lookup": numbers[groups], **found}

    def _groups(
        self, needed: tuple[str, ...]
    ) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64], int, NDArray[np.int64]]:
        """What is needed of each component; its object, from 0 in any order; how many; where each block's begin.

        What touches across blocks is one object.
        """
        pieces: list[dict[str, NDArray[np.int64]]] = []

        def read(block: Block) -> tuple[int, Faces]:
            table, faces = self.faces.read_with_faces(block, "components", "faces")
            pieces.append(_chosen(table, self.faces, needed))
            return len(table), faces

        groups, offsets = self._joined(read, "faces")
        numbers, count = groups.numbers()
        return _one_below_the_other(pieces), numbers, count, offsets

    def _cores(self, offsets: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """Which parts of cores belong to one of the wanted size; where each block's begin; components with one."""
        tables: list[NDArray[np.int64]] = []

        def read(block: Block) -> tuple[int, Faces]:
            table, faces = self.faces.read_with_faces(block, "cores", "core_faces")
            tables.append(table)
            return len(table), faces

        groups, core_offsets = self._joined(read, "core_faces")
        cores = np.concatenate(tables)
        fits = fitting_cores(cores[:, 0], *groups.numbers(), self.core_min_size, self.core_max_size)
        if not self.faces.cores_outside:
            return fits, core_offsets, core_flags_of(cores, fits, core_offsets, offsets)
        places, place_offsets = self._read("core_places")
        return fits, core_offsets, flags_of_places(places, fits, place_offsets, core_offsets, offsets)

    def _joined(self, read: Callable[[Block], tuple[int, Faces]], faces: str) -> tuple[Groups, NDArray[np.int64]]:
        def again(block: Block) -> Faces:
            return self.faces.read_faces(block, faces)

        return join_blocks(self.faces.grid, read, again, neighbour_axes(self.faces.connectivity))

    def _read(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All blocks' tables of one kind, one below the other, and where each begins."""
        grid = self.faces.grid
        counts = np.zeros(math.prod(grid.blocks_per_axis) + 1, np.int64)
        tables = []
        for block in grid:
            tables.append(self.faces.read_table(block, name))
            counts[block.id + 1] = len(tables[-1])
        return np.concatenate(tables), np.cumsum(counts)


def _chosen(
    table: NDArray[np.int64], faces: ComponentFacesStep, needed: tuple[str, ...]
) -> dict[str, NDArray[np.int64]]:
    """Some measures of a block's components, without what lies between them in the table."""
    known = from_columns(table, faces.columns)
    return {name: known[name].copy() for name in needed if name in known}


def _one_below_the_other(pieces: list[dict[str, NDArray[np.int64]]]) -> dict[str, NDArray[np.int64]]:
    """Measures of all blocks; the pieces are let go of one measure after the other."""
    return {name: np.concatenate([piece.pop(name) for piece in pieces]) for name in list(pieces[0])}
