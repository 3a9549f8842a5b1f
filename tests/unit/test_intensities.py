"""Statistics of raw values below objects: exact, and the same for every block shape."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops_table

from blockwise.grid import Grid
from tasks.component_measures import INTENSITY_DTYPES, columns, from_columns, layout, mean_and_deviation
from tasks.component_merge import object_table
from tests.unit.blocked import blocked_components


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 10)] * 3),
    block_shape=st.tuples(*[st.integers(2, 12)] * 3),
    dtype=st.sampled_from(INTENSITY_DTYPES),
    density=st.sampled_from([0.1, 0.5, 1.0]),
    channels=st.sampled_from([(0,), (2, 1)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_table_equals_the_whole_volume(shape, block_shape, dtype, density, channels, seed):
    random = np.random.default_rng(seed)
    mask = (random.random(shape) < density).astype(np.uint8)
    limits = np.iinfo(dtype)
    raw = [random.integers(limits.min, limits.max, shape, dtype, endpoint=True) for _ in channels]
    grid = Grid("zyx", shape, block_shape)
    found, objects = blocked_components(mask, 1, 26, grid, channels=raw)
    table = object_table(objects, "zyx", shape, channels)
    whole = label(mask != 0, connectivity=3)
    np.testing.assert_array_equal(found, whole)
    if not whole.any():
        assert table.empty
        return
    for channel, values in zip(channels, raw, strict=True):
        properties = ("intensity_mean", "intensity_min", "intensity_max")
        expected = regionprops_table(whole, values.astype(float), properties=properties)
        np.testing.assert_allclose(
            table[f"intensity_mean_{channel}"], expected["intensity_mean"], rtol=1e-12, atol=1e-9
        )
        for name in ("intensity_min", "intensity_max"):
            np.testing.assert_array_equal(table[f"{name}_{channel}"], expected[name])
        for row, number in zip(table.itertuples(), range(1, whole.max() + 1), strict=True):
            below = [int(v) for v in values[whole == number]]
            mean = Fraction(sum(below), len(below))
            variance = sum((v - mean) ** 2 for v in below) / len(below)
            assert getattr(row, f"intensity_mean_{channel}") == float(mean)
            assert getattr(row, f"intensity_std_{channel}") == math.sqrt(variance)


@given(voxels=st.integers(1, 2**45), value=st.integers(-(2**15), 2**16 - 1))
def test_no_object_is_too_large(voxels, value):
    """A constant object of any size has its value as mean, and no deviation; nothing overflows."""
    squares = np.array([divmod(voxels * value * value, 2**32)], np.int64)
    mean, deviation = mean_and_deviation(np.array([voxels]), np.array([voxels * value]), squares)
    assert mean == value
    assert deviation == 0


@given(axes=st.sampled_from([2, 3]), core=st.booleans(), channels=st.integers(0, 3), rows=st.integers(0, 4))
def test_measures_come_back_from_their_columns(axes, core, channels, rows):
    names = layout(axes, core=core, channels=channels)
    random = np.random.default_rng(0)
    measures = {name: random.integers(0, 9, (rows, width) if width else rows) for name, width in names}
    found = from_columns(columns(measures), names)
    assert found.keys() == measures.keys()
    for name, values in measures.items():
        np.testing.assert_array_equal(found[name], values)
