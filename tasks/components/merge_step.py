"""Step 4: join the blocks' components into objects, and number them as if there had been no blocks."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block, Grid
from blockwise.outputs import FilesOutput
from blockwise.outputs.files import Arrays
from blockwise.step import BASE_MEMORY, BlockStep
from blockwise.upstream import BlocksSource, TableSource
from tasks.components.core_sizes import core_flags_of, fitting_cores, flags_of_places
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.labelling import group_numbers, neighbour_axes, touching_pairs
from tasks.components.measures import Measures, combine_measures, from_columns

FACE_CACHE_BYTES = 256_000_000
PROJECTED_COMPONENTS_PER_VOXEL = 1e-4
"""For plans only: how many components a volume may have before anything is known of it."""
BYTES_PER_COMPONENT = 400
MERGE_MEMORY = 60_000_000
"""For the libraries that join components."""
NEEDED = ("voxels", "first", "core")
"""Measures by which objects are kept and numbered."""
OF_BORDERS = ("start", "stop")
"""Measures by which it is known whether an object touches the border."""


def dense_offsets(counts: Mapping[int, int], block_ids: int) -> NDArray[np.int64]:
    """Number the components of all blocks through: component k (from 1) of block b is ``offsets[b] + k - 1``.

    Args:
        counts: components of each block.
        block_ids: number of block ids, blocks that are not computed included.

    Returns:
        int64 (block_ids + 1,); the last one is the number of components.
    """
    per_block = np.zeros(block_ids + 1, np.int64)
    for block_id, count in counts.items():
        per_block[block_id + 1] = count
    return np.cumsum(per_block)


def forward_offsets(axes: str, reach: int) -> list[tuple[int, ...]]:
    """Offsets to the neighbouring blocks that a voxel's neighbours can lie in, one of each opposite pair.

    None leads along t: time steps are independent.
    """
    choices = [(0,) if axis == "t" else (-1, 0, 1) for axis in axes]
    return [
        offset
        for offset in itertools.product(*choices)
        if offset > (0,) * len(axes) and sum(o != 0 for o in offset) <= reach
    ]


def pairs_between_blocks(
    grid: Grid, faces: Callable[[int], Arrays], offsets: NDArray[np.int64], reach: int
) -> Iterator[NDArray[np.int64]]:
    """Pairs of dense component numbers that touch across block borders, block by block; int64 (pairs, 2)."""
    is_spatial = [axis != "t" for axis in grid.axes]
    directions = forward_offsets(grid.axes, reach)
    for block in grid:
        if offsets[block.id + 1] == offsets[block.id]:
            continue
        for direction in directions:
            index = tuple(i + d for i, d in zip(block.index, direction, strict=True))
            if index not in grid:
                continue
            other = grid.id_of(index)
            if offsets[other + 1] == offsets[other]:
                continue
            spatial = tuple(itertools.compress(direction, is_spatial))
            pairs = touching_pairs(faces(block.id), faces(other), spatial, reach)
            yield pairs + np.array([offsets[block.id] - 1, offsets[other] - 1])


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
        faces = min(_cached_blocks(self.faces.grid), len(self.faces.grid)) * _face_bytes(self.faces.grid)
        return BASE_MEMORY + MERGE_MEMORY + faces + guess * BYTES_PER_COMPONENT

    def compute(self, block: Block, prepared: Any) -> Arrays:
        """The lookup table and where each block's part of it begins.

        With sizes of cores also which parts of cores are kept, and where each block's begin.
        """
        components, offsets = self._read("components")
        known = from_columns(components, self.faces.columns)
        needed = (*NEEDED, *OF_BORDERS) if self.exclude_border else NEEDED
        measures = {name: known[name] for name in needed if name in known}
        found: dict[str, NDArray[Any]] = {"offsets": offsets}
        if self.faces.core_sizes:
            cores, core_offsets = self._read("cores")
            pairs = self._pairs("core_faces", core_offsets)
            fits = fitting_cores(cores[:, 0], pairs, self.core_min_size, self.core_max_size)
            if self.faces.cores_outside:
                places, place_offsets = self._read("core_places")
                measures["core"] = flags_of_places(places, fits, place_offsets, core_offsets, offsets)
            else:
                measures["core"] = core_flags_of(cores, fits, core_offsets, offsets)
            found |= {"core_lookup": fits, "core_offsets": core_offsets}
        groups = self._groups(known, offsets)
        objects = combine_measures(measures, groups)
        if self.exclude_border:
            objects["border"] = self.faces.touch_border(objects).astype(np.int64)
        del components, known, measures  # with very many components it is these tables that need the memory
        numbers = number_objects(objects, self.min_size, self.max_size, self.restart_every)
        return {"lookup": numbers[groups], **found}

    def _groups(self, known: Measures, offsets: NDArray[np.int64]) -> NDArray[Any]:
        """The object of each component, numbered from 0 in any order: what touches across blocks is one."""
        return group_numbers(len(known["voxels"]), self._pairs("faces", offsets))

    def _read(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All blocks' tables of one kind, one below the other, and where each begins."""
        grid = self.faces.grid
        tables = {block.id: self.faces.read_table(block, name) for block in grid}
        counts = {block_id: len(table) for block_id, table in tables.items()}
        offsets = dense_offsets(counts, math.prod(grid.blocks_per_axis))
        return np.concatenate(list(tables.values())), offsets

    def _pairs(self, name: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Dense numbers of what touches across blocks, by faces of one kind."""
        grid = self.faces.grid

        @functools.lru_cache(maxsize=_cached_blocks(grid))
        def faces(block_id: int) -> Arrays:
            return self.faces.read_faces(grid.block(block_id), name)

        found = pairs_between_blocks(grid, faces, offsets, neighbour_axes(self.faces.connectivity))
        return np.concatenate([*found, np.empty((0, 2), np.int64)])


def _cached_blocks(grid: Grid) -> int:
    """How many blocks' faces may stay in memory; at the least those that two neighbours need."""
    return max(32, FACE_CACHE_BYTES // _face_bytes(grid))


def _face_bytes(grid: Grid) -> int:
    """Of a block's faces: labels of four bytes, two faces an axis."""
    return sum(2 * 4 * math.prod(grid.block_shape) // n for n in grid.block_shape)
