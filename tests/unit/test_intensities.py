"""Statistics of raw values below objects: exact, and the same for every block shape."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops_table

from blockwise.grid import Grid
from tasks.components.exact_sums import ACCUMULATORS, exact_sums, values_of, whole_numbers
from tasks.components.measures import (
    INTENSITY_DTYPES,
    columns,
    from_columns,
    layout,
    mean_and_deviation,
    measure_intensities,
)
from tasks.components.object_table import object_table
from tests.unit.blocked import blocked_components


@settings(max_examples=60, deadline=None)
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
    raw = [raw_values(random, shape, dtype) for _ in channels]
    grid = Grid("zyx", shape, block_shape)
    found, objects = blocked_components(mask, 1, 26, grid, channels=raw)
    table = object_table(objects, "zyx", shape, channels, dtype).to_pandas()
    whole = label(mask != 0, connectivity=3)
    np.testing.assert_array_equal(found, whole)
    if not whole.any():
        assert table.empty
        return
    for channel, values in zip(channels, raw, strict=True):
        properties = ("intensity_mean", "intensity_min", "intensity_max")
        expected = regionprops_table(whole, values.astype(float), properties=properties)
        np.testing.assert_allclose(
            table[f"intensity_mean_{channel}"],
            expected["intensity_mean"],
            rtol=1e-9,
            atol=1e-6 * np.abs(values).max(),
        )
        for name in ("intensity_min", "intensity_max"):
            np.testing.assert_array_equal(table[f"{name}_{channel}"], expected[name])
        for row, number in zip(table.itertuples(), range(1, whole.max() + 1), strict=True):
            below = [Fraction(v.item()) for v in values[whole == number]]
            mean = sum(below) / len(below)
            variance = sum((v - mean) ** 2 for v in below) / len(below)
            assert getattr(row, f"intensity_mean_{channel}") == float(mean)
            assert getattr(row, f"intensity_std_{channel}") == math.sqrt(variance)


def raw_values(random, shape, dtype):
    """All values of a type are as likely as each other; of float32 all finite ones, with those of data in between."""
    if dtype != "float32":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    values = random.integers(0, 2**32, shape, np.uint32).view(np.float32)
    ordinary = random.normal(0.1, 0.01, shape).astype(np.float32)
    return np.where(np.isfinite(values) & (random.random(shape) < 0.5), values, ordinary)


@settings(deadline=None)
@given(
    voxels=st.integers(1, 2**45),
    of_type=st.sampled_from(INTENSITY_DTYPES).flatmap(
        lambda dtype: st.tuples(
            st.just(dtype),
            st.floats(width=32, allow_nan=False, allow_infinity=False) if dtype == "float32"
            else st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)),
        )
    ),
)  # fmt: skip
@example(2**45, ("float32", float(np.finfo(np.float32).max)))
@example(2**45, ("float32", float(np.finfo(np.float32).min)))
@example(2**45, ("uint32", 2**32 - 1))
@example(2**45, ("int32", -(2**31)))
def test_no_object_is_too_large(voxels, of_type):
    """A constant object of any size has its value as mean, and no deviation; nothing overflows."""
    dtype, value = of_type
    one = measure_intensities(np.array([1], np.uint32), [np.array([value], dtype)])
    exponent = ACCUMULATORS[dtype].exponent
    sums, squares = (of_size(one[f"intensity_{name}"], voxels) for name in ("sums", "squares"))
    mean, deviation = mean_and_deviation(np.array([voxels]), sums, squares, exponent)
    assert mean == value
    assert deviation == 0


def of_size(limbs, voxels):
    """The sum of an object as large as this, as parts of at most 2**30 voxels, which are carried, add up to it."""
    total = int(whole_numbers(limbs)[0]) * voxels
    found = []
    for _ in range(limbs.shape[1] - 1):
        total, limb = divmod(total, 2**32)
        found.append(limb)
    return np.array([[total, *found[::-1]]], np.int64)  # raises where the highest limb cannot hold it


@settings(deadline=None)  # compiles where nothing is compiled yet
@given(values=st.lists(st.floats(width=32), min_size=1, max_size=40), cuts=st.lists(st.integers(0, 40), max_size=3))
def test_floats_add_up_exactly_and_what_is_no_number_is_told(values, cuts):
    raw = np.array(values, np.float32)
    parts = np.split(raw, sorted(cut for cut in cuts if cut <= len(raw)))
    found = [exact_sums(np.ones(len(part), np.uint32), part, 1) for part in parts]
    finite = raw[np.isfinite(raw)].astype(float)
    total = whole_numbers(sum(part.sums for part in found))[0]
    assert Fraction(total, 2**149) == sum(map(Fraction, finite))
    assert math.ldexp(total, -149) == math.fsum(finite)
    squares = whole_numbers(sum(part.squares for part in found))[0]
    assert Fraction(squares, 2**298) == sum(Fraction(value) ** 2 for value in finite)
    assert sum(part.odd for part in found) == len(raw) - len(finite)
    if len(finite):
        for keys, expected in (("smallest", min(finite)), ("largest", max(finite))):
            extreme = (min if keys == "smallest" else max)(getattr(part, keys) for part in found)
            assert values_of(extreme, "float32") == expected


def test_an_object_with_a_voxel_that_is_no_number_has_no_intensities():
    mask = np.array([[1, 1, 0, 1, 1, 0, 1]], np.uint8)
    raw = np.array([[1, np.nan, 0, -np.inf, 2, 7, 3]], ">f4")
    _, objects = blocked_components(mask, 1, 4, Grid("yx", mask.shape, (1, 2)), channels=[raw])
    table = object_table(objects, "yx", mask.shape, (0,), "float32").to_pandas().set_index("label")
    for name in ("mean", "std", "min", "max"):
        assert list(np.isnan(table[f"intensity_{name}_0"])) == [True, True, False]
    assert list(table.loc[3, ["intensity_mean_0", "intensity_std_0", "intensity_max_0"]]) == [3, 0, 3]
    assert table["intensity_min_0"].dtype == np.float32


@given(
    axes=st.sampled_from([2, 3]),
    core=st.booleans(),
    channels=st.integers(0, 3),
    dtype=st.sampled_from(INTENSITY_DTYPES),
    rows=st.integers(0, 4),
)
def test_measures_come_back_from_their_columns(axes, core, channels, dtype, rows):
    names = layout(axes, core=core, channels=channels, dtype=dtype)
    random = np.random.default_rng(0)
    measures = {name: random.integers(0, 9, (rows, width) if width else rows) for name, width in names}
    found = from_columns(columns(measures), names)
    assert found.keys() == measures.keys()
    for name, values in measures.items():
        np.testing.assert_array_equal(found[name], values)
