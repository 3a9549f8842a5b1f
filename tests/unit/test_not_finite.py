"""NaN and infinity are counted once each, whatever the blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockwise.grid import Grid
from blockwise.not_finite import NotFiniteTotals, count_not_finite, noting, total, without_note
from blockwise.records.markers import Marker

ODD = [float("nan"), float("inf"), float("-inf")]


@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    blocks=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    channels=st.sampled_from([0, 1, 3]),
    dtype=st.sampled_from(["float16", "float32", ">f4", "float64"]),
    odd=st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(ODD)), max_size=6),
)
def test_blocks_together_are_the_whole_volume(shape, blocks, channels, dtype, odd):
    values = np.zeros((*shape, *[channels] * bool(channels)), dtype)
    for place, value in odd:
        values.reshape(-1)[place % values.size] = value
    grid = Grid("tzyx"[-len(shape) :], tuple(shape), tuple(blocks[: len(shape)]))
    counted = {}
    for block in grid:
        found = count_not_finite(values[block.write_box], tuple(s.start for s in block.write_box))
        if found is not None:
            counted[block.id] = found
    flat = values.reshape(*shape, -1)
    nan, finite = np.isnan(flat).any(-1), np.isfinite(flat).all(-1)
    whole = total(counted)
    if finite.all():
        assert whole is None
        return
    first = tuple(int(i) for i in np.argwhere(~finite)[0])
    infinite = int((~finite & ~nan).sum())
    assert (whole.nan, whole.infinite, whole.first) == (int(nan.sum()), infinite, first)
    assert whole.blocks == sum(not finite[block.write_box].all() for block in grid)
    assert all(s.start <= i < s.stop for i, s in zip(first, grid.block(whole.block).write_box, strict=True))
    assert NotFiniteTotals.from_json(whole.as_json()) == whole
    data = object()
    assert without_note(noting(data, counted.values())) == (data, count_not_finite(values, (0,) * len(shape)))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_integers_are_not_looked_at(dtype):
    values = np.ones((2, 3), dtype)
    assert count_not_finite(values, (0, 0)) is None
    assert noting(values, [None, None]) is values
    assert without_note(values) == (values, None) or without_note(values)[0] is values


def test_words():
    for nan, infinite in itertools.product((0, 1, 1234), repeat=2):
        words = str(NotFiniteTotals(nan, infinite, 1, 0, (0,)))
        assert ("NaN" in words, "infinite" in words, " is not" in words) == (
            nan > 0,
            infinite > 0,
            nan + infinite == 1,
        )
    assert str(NotFiniteTotals(1234, 1, 1, 0, (0,))) == "1,235 voxels are not finite (1,234 NaN and 1 infinite)"


def test_markers_of_finite_data_are_as_before():
    assert Marker.__struct_config__.omit_defaults
