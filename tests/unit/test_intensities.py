"""Statistics of raw values below objects: exact, and the same for every block shape."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops_table

from blockwise.grid import Grid
from tasks.components.measures import component_columns, from_columns, side_by_side
from tasks.objects.exact_sums import ACCUMULATORS, exact_sums, values_of, whole_numbers
from tasks.objects.image_measures import EXACT_DTYPES, Image, dense_labels, mean_and_deviation, measure_image
from tests.examples import examples
from tests.unit.blocked import blocked_components


@settings(max_examples=examples(60))
@given(
    shape=st.tuples(*[st.integers(1, 10)] * 3),
    block_shape=st.tuples(*[st.integers(2, 12)] * 3),
    dtype=st.sampled_from(EXACT_DTYPES),
    density=st.sampled_from([0.1, 0.5, 1.0]),
    channels=st.sampled_from([(0,), (2, 1)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_table_equals_the_whole_volume(shape, block_shape, dtype, density, channels, seed):
    random = np.random.default_rng(seed)
    mask = (random.random(shape) < density).astype(np.uint8)
    raw = [raw_values(random, shape, dtype) for _ in channels]
    grid = Grid("zyx", shape, block_shape)
    found, table = blocked_components(mask, 1, 26, grid, raw=dict(zip(channels, raw, strict=True)))
    whole = label(mask != 0, connectivity=3)
    np.testing.assert_array_equal(found, whole)
    if not whole.any():
        assert {len(values) for values in table.values()} == {0}
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
        for row, number in enumerate(range(1, whole.max() + 1)):
            below = [Fraction(v.item()) for v in values[whole == number]]
            mean = sum(below) / len(below)
            variance = sum((v - mean) ** 2 for v in below) / len(below)
            assert table[f"intensity_mean_{channel}"][row] == float(mean)
            assert table[f"intensity_std_{channel}"][row] == math.sqrt(variance)


def raw_values(random, shape, dtype):
    """All values of a type are as likely as each other; of float32 all finite ones, with those of data in between."""
    if dtype != "float32":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    values = random.integers(0, 2**32, shape, np.uint32).view(np.float32)
    ordinary = random.normal(0.1, 0.01, shape).astype(np.float32)
    return np.where(np.isfinite(values) & (random.random(shape) < 0.5), values, ordinary)


@given(
    voxels=st.integers(1, 2**45),
    of_type=st.sampled_from(EXACT_DTYPES).flatmap(
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
    one = measure_image(Image("intensity", dtype, (0,)), np.array([1], np.uint32), [np.array([value], dtype)])
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
    _, table = blocked_components(mask, 1, 4, Grid("yx", mask.shape, (1, 2)), raw={0: raw})
    for name in ("mean", "std", "min", "max"):
        assert list(np.isnan(table[f"intensity_{name}_0"])) == [True, True, False]
    assert [table[f"intensity_{name}_0"][2] for name in ("mean", "std", "max")] == [3, 0, 3]
    assert table["intensity_min_0"].dtype == np.float32


@settings(max_examples=examples(40))
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    block_shape=st.tuples(*[st.integers(2, 12)] * 3),
    dtype=st.sampled_from(["float32", "uint8"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_mean_probabilities_equal_the_whole_volume(shape, block_shape, dtype, seed):
    random = np.random.default_rng(seed)
    mask = (random.random(shape) < 0.4).astype(np.uint8)
    probabilities = [random.random(shape, np.float32) for _ in range(2)]
    if dtype == "uint8":
        probabilities = [np.rint(255 * values).astype(np.uint8) for values in probabilities]
    found, table = blocked_components(mask, 1, 26, Grid("zyx", shape, block_shape), probabilities=probabilities)
    for channel, values in enumerate(probabilities):
        unit = 255 if dtype == "uint8" else 1
        expected = [
            float(sum(map(Fraction, values[found == number].tolist())) / int((found == number).sum())) / unit
            for number in range(1, int(found.max()) + 1)
        ]
        np.testing.assert_array_equal(table[f"probability_mean_{channel}"], expected)


@given(st.lists(st.sampled_from([0, 1, 5, 2**40, 2**63]), min_size=1, max_size=30))
def test_labels_are_numbered_through(values):
    labels = np.array(values, np.uint64).reshape(1, -1)
    dense, numbers = dense_labels(labels)
    np.testing.assert_array_equal(numbers, np.unique(labels[labels > 0]))
    np.testing.assert_array_equal(np.concatenate(([0], numbers))[dense], labels)
    assert dense.dtype == np.uint32


@given(
    axes=st.sampled_from([2, 3]),
    core=st.booleans(),
    channels=st.integers(0, 3),
    dtype=st.sampled_from(EXACT_DTYPES),
    rows=st.integers(0, 4),
)
def test_measures_come_back_from_their_columns(axes, core, channels, dtype, rows):
    image = Image("intensity", dtype, tuple(range(channels)))
    names = (*component_columns(axes, core=core), *(image.layout if channels else ()))
    random = np.random.default_rng(0)
    measures = {name: random.integers(0, 9, (rows, width) if width else rows) for name, width in names}
    found = from_columns(side_by_side(measures, names), names)
    assert found.keys() == measures.keys()
    for name, values in measures.items():
        np.testing.assert_array_equal(found[name], values)
