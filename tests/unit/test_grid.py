"""Geometry of blocks: what is written tiles the domain, what is read surrounds it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockwise.grid import Box, Grid, box_shape, box_size, grow, pack_blocks, relative


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    axes = draw(st.sampled_from(["x", "yx", "zyx", "tyx", "tzyx"]))
    shape = tuple(draw(st.integers(1, 3 if axis == "t" else 12)) for axis in axes)
    blocks = tuple(1 if axis == "t" else draw(st.integers(1, n + 3)) for axis, n in zip(axes, shape, strict=True))
    roi = None
    if draw(st.booleans()):
        starts = [draw(st.integers(0, n - 1)) for n in shape]
        roi = tuple((start, draw(st.integers(start + 1, n))) for start, n in zip(starts, shape, strict=True))
    return Grid(axes, shape, blocks, roi)


def halos(grid: Grid) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(st.integers(0, n + 2) for n in grid.shape))


def voxels(box: Box) -> set[tuple[int, ...]]:
    return set(itertools.product(*(range(s.start, s.stop) for s in box)))


@given(grids())
def test_write_boxes_tile_the_domain(grid: Grid) -> None:
    written = np.zeros(grid.shape, int)
    for block in grid:
        assert box_size(block.write_box) > 0
        assert all(0 < n <= b for n, b in zip(box_shape(block.write_box), grid.block_shape, strict=True))
        written[block.write_box] += 1
    inside = np.zeros(grid.shape, int)
    inside[grid.domain] = 1
    np.testing.assert_array_equal(written, inside)


@given(grids())
def test_ids_are_unique_and_in_raster_order(grid: Grid) -> None:
    blocks = list(grid)
    ids = [block.id for block in blocks]
    assert len(grid) == len(ids) == len(set(ids))
    assert ids == sorted(ids) == list(grid.ids())
    assert [block.index for block in blocks] == sorted(block.index for block in blocks)
    assert all(0 <= i < math.prod(grid.blocks_per_axis) for i in ids)
    for block in blocks:
        assert grid.block(block.id) == grid.block_at(block.index) == block
        assert block.index in grid


@given(grids())
def test_a_region_moves_no_block(grid: Grid) -> None:
    whole = Grid(grid.axes, grid.shape, grid.block_shape)
    domain = voxels(grid.domain)
    ids = set(grid.ids())
    for block in whole:
        here = voxels(block.write_box) & domain
        assert (block.id in ids) == bool(here) == (block.index in grid)
        if here:
            assert voxels(grid.block(block.id).write_box) == here


@given(st.data())
def test_a_mask_leaves_out_blocks_and_nothing_else(data: st.DataObject) -> None:
    grid = data.draw(grids())
    kept = np.random.default_rng(data.draw(st.integers(0, 99))).random(grid.blocks_per_axis) < 0.5
    masked = replace(grid, kept=pack_blocks(kept))
    expected = [block for block in grid if kept[block.index]]
    assert list(masked) == expected
    assert list(masked.ids()) == [block.id for block in expected]
    assert len(masked) == len(expected)
    assert masked.voxels == sum(box_size(block.write_box) for block in expected)
    assert grid.voxels == box_size(grid.domain)
    assert [index in masked for index in np.ndindex(*kept.shape)] == [
        bool(kept[index]) and index in grid for index in np.ndindex(*kept.shape)
    ]
    assert masked.ids_touching(grid.domain) == list(masked.ids())
    assert masked.identity() != grid.identity()


@given(st.data())
def test_read_boxes_hold_what_the_halo_reaches(data: st.DataObject) -> None:
    grid = data.draw(grids())
    halo = data.draw(halos(grid))
    for block in grid:
        box = grow(block.write_box, halo, grid.domain)
        expected = [
            [i for i in range(s.start - h, s.stop + h) if d.start <= i < d.stop]
            for s, h, d in zip(block.write_box, halo, grid.domain, strict=True)
        ]
        assert [list(range(s.start, s.stop)) for s in box] == expected
        place = relative(block.write_box, box)
        values = np.arange(math.prod(grid.shape)).reshape(grid.shape)
        np.testing.assert_array_equal(values[box][place], values[block.write_box])
        assert all(n <= m for n, m in zip(box_shape(box), grid.largest_read_shape(halo), strict=True))


@given(st.data())
def test_halo_waste_equals_counting(data: st.DataObject) -> None:
    grid = data.draw(grids())
    halo = data.draw(halos(grid))
    read = sum(box_size(grow(block.write_box, halo, grid.domain)) for block in grid)
    assert grid.halo_waste(halo) == pytest.approx(read / box_size(grid.domain) - 1)


@given(st.data())
def test_ids_touching_a_box_equals_looking_at_every_block(data: st.DataObject) -> None:
    grid = data.draw(grids())
    block = data.draw(st.sampled_from(list(grid)))
    box = grow(block.write_box, data.draw(halos(grid)), grid.domain)
    wanted = voxels(box)
    assert grid.ids_touching(box) == [b.id for b in grid if voxels(b.write_box) & wanted]


@pytest.mark.parametrize(("shape", "blocks"), [((4, 4), (2,)), ((0, 4), (2, 2)), ((4, 4), (0, 2))])
def test_impossible_grids_are_refused(shape: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        Grid("yx", shape, blocks)
