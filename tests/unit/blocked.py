"""Runs the pure functions of the steps over blocks, without Luigi and without disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Grid, grow, relative
from tasks.components.core_sizes import core_flags_of, describe_cores, fitting_cores
from tasks.components.labelling import (
    face_labels,
    group_numbers,
    label_components,
    neighbour_axes,
    pack_faces,
    unpack_faces,
)
from tasks.components.labels_step import apply_lookup
from tasks.components.measures import (
    columns,
    core_flags,
    from_columns,
    layout,
    measure_components,
    measure_intensities,
)
from tasks.components.merge_step import combine_measures, dense_offsets, number_objects, pairs_between_blocks
from tasks.threshold import CORE, TRUNCATE, smooth_and_threshold


def blocked_threshold(
    probabilities: NDArray[Any],
    sigma: tuple[float, ...],
    threshold: float,
    grid: Grid,
    inside: NDArray[np.bool_] | None = None,
    core: float | None = None,
    core_probabilities: NDArray[Any] | None = None,
) -> NDArray[np.uint8]:
    mask = np.full(probabilities.shape, 255, np.uint8)
    halo = tuple(int(TRUNCATE * s + 0.5) for s in sigma)
    for block in grid:
        read_box = grow(block.write_box, halo, grid.domain)
        interior = relative(block.write_box, read_box)
        here = None if inside is None else inside[read_box]
        of_core = None if core_probabilities is None else core_probabilities[read_box]
        mask[block.write_box] = smooth_and_threshold(
            probabilities[read_box], sigma, threshold, interior, here, core, of_core
        )
    return mask


def blocked_components(
    mask: NDArray[Any],
    foreground: int,
    connectivity: int,
    grid: Grid,
    min_size: int = 0,
    inside: NDArray[np.bool_] | None = None,
    max_size: int | None = None,
    has_core: bool = False,
    core_sizes: tuple[int, int | None] | None = None,
    channels: Sequence[NDArray[Any]] = (),
) -> tuple[NDArray[np.uint64], dict[str, NDArray[np.int64]]]:
    inside = np.ones(mask.shape, bool) if inside is None else inside
    labels = {
        block.id: label_components(mask[block.write_box], foreground, connectivity, inside[block.write_box])
        for block in grid
    }
    origins = {block.id: tuple(s.start for s in block.write_box) for block in grid}
    tables = {i: measure_components(labels[i], origins[i], grid.shape) for i in labels}
    for block in grid:
        if has_core:
            tables[block.id]["core"] = core_flags(labels[block.id], mask[block.write_box] == CORE)
        if channels:
            raw = [values[block.write_box] for values in channels]
            tables[block.id].update(measure_intensities(labels[block.id], raw))
    names = layout(
        mask.ndim, core=has_core, channels=len(channels), dtype=channels[0].dtype.name if channels else "uint8"
    )
    offsets = dense_offsets({i: len(table["voxels"]) for i, table in tables.items()}, math.prod(grid.blocks_per_axis))
    for i in labels:  # by the way that they take through files
        tables[i] = from_columns(columns(tables[i]), names)
    measures = {name: np.concatenate([tables[i][name] for i in sorted(tables)]) for name, _ in names}
    if core_sizes is not None:
        of_core = {block.id: label_components(mask[block.write_box] == CORE, 1, connectivity) for block in grid}
        cores = {i: describe_cores(of_core[i], labels[i]) for i in labels}
        places = dense_offsets({i: len(table) for i, table in cores.items()}, math.prod(grid.blocks_per_axis))
        table = np.concatenate([cores[i] for i in sorted(cores)])
        fits = fitting_cores(table[:, 0], _dense_pairs(grid, of_core, places, connectivity), *core_sizes)
        measures["core"] = core_flags_of(table, fits, places, offsets)
    groups = group_numbers(len(measures["voxels"]), _dense_pairs(grid, labels, offsets, connectivity))
    numbers, objects = number_objects(combine_measures(measures, groups), min_size, max_size)
    lookup = numbers[groups]
    result = np.zeros(mask.shape, np.uint64)
    for block in grid:
        result[block.write_box] = apply_lookup(labels[block.id], lookup[offsets[block.id] : offsets[block.id + 1]])
    return result, objects


def _dense_pairs(
    grid: Grid, labels: dict[int, NDArray[Any]], offsets: NDArray[np.int64], connectivity: int
) -> NDArray[np.int64]:
    # By the way that faces take through files.
    faces = {i: unpack_faces(pack_faces(face_labels(found)), found.shape) for i, found in labels.items()}
    pairs = pairs_between_blocks(grid, faces.__getitem__, offsets, neighbour_axes(connectivity))
    return np.concatenate([*pairs, np.empty((0, 2), np.int64)])
