"""What is added up for object features: exact, whatever the type; and the neighbourhood, voxel by voxel."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, find_objects

from tasks.objects.exact_sums import ACCUMULATORS, values_of, whole_numbers
from tasks.objects.features.accumulators import COUNT_BITS, Sums, limbs_of
from tasks.objects.features.neighbourhood import Margin, grown, neighbours
from tasks.objects.features.power_sums import PowerSums, add_below, as_numbers
from tasks.objects.image_measures import EXACT_DTYPES
from tests.examples import examples
from tests.unit.test_intensities import raw_values


@settings(max_examples=examples(60))
@given(
    dtype=st.sampled_from(EXACT_DTYPES),
    channels=st.integers(1, 3),
    count=st.integers(1, 3),
    power=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums_of_powers_are_exact(dtype, channels, count, power, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, count + 1, 40).astype(np.uint32)
    images = [raw_values(random, (40,), dtype) for _ in range(channels)]
    sums = PowerSums.zero(dtype, Sums(power, extremes=True, cross=channels > 1), channels, count)
    add_below(sums, labels, as_numbers(images))
    found = sums.measures("object")
    unit = 2 ** -ACCUMULATORS[dtype].exponent
    for row in range(count):
        below = [[Fraction(v) * unit for v in image[labels == row + 1].tolist()] for image in images]
        assert found["object_count"][row] == len(below[0])
        for p in range(1, power + 1):
            limbs = found[f"object_power{p}"][row].reshape(channels, limbs_of(dtype, p))
            assert list(whole_numbers(limbs)) == [sum(v**p for v in values) for values in below]
        if channels > 1:
            limbs = found["object_cross"][row].reshape(-1, limbs_of(dtype, 2))
            expected = [sum(a * b for a, b in zip(*pair, strict=True)) for pair in combinations(below, 2)]
            assert list(whole_numbers(limbs)) == expected
        if below[0]:
            for name, extreme in (("min", np.min), ("max", np.max)):
                values = values_of(found[f"object_{name}"][row], dtype)
                assert [*values] == [extreme(image[labels == row + 1]) for image in images]


@pytest.mark.parametrize("dtype", EXACT_DTYPES)
@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_limbs_have_room_for_the_largest_object(dtype, power):
    """The highest limb holds what is left of 2**45 times the largest power, with its sign."""
    limits = np.finfo(dtype) if dtype == "float32" else np.iinfo(dtype)
    for extreme in (limits.min, limits.max):
        size = abs(Fraction(float(extreme)) if dtype == "float32" else Fraction(int(extreme)))
        total = (size * 2 ** -ACCUMULATORS[dtype].exponent) ** power * 2**COUNT_BITS
        assert total < 2 ** (63 + 32 * (limbs_of(dtype, power) - 1))


def test_values_that_are_no_numbers_are_counted_and_left_out():
    image = np.array([1, np.nan, 2, np.inf, -np.inf, 3], np.float32)
    sums = PowerSums.zero("float32", Sums(1, extremes=True, cross=True), 2, 1)
    add_below(sums, np.ones(6, np.uint32), as_numbers([image, image[::-1].copy()]))
    found = sums.measures("object")
    assert found["object_odd"].tolist() == [[3, 3]]
    assert Fraction(whole_numbers(found["object_power1"][:, : limbs_of("float32", 1)])[0], 2**149) == 6
    assert Fraction(whole_numbers(found["object_cross"])[0], 2**298) == 1 * 3 + 3 * 1  # where both are numbers


def neighbourhood_in_its_box(labels, number, margin):
    """As ilastik finds it: Euclidean distances within the bounding box, grown by the margin."""
    box = tuple(
        slice(max(0, s.start - m), min(n, s.stop + m))
        for s, m, n in zip(find_objects(labels)[number - 1], margin.voxels, labels.shape, strict=True)
    )
    away = distance_transform_edt(labels[box] != number, sampling=margin.pitch)
    found = np.zeros(labels.shape, bool)
    found[box] = (away > 0) & (away < margin.distance)
    return found


@settings(max_examples=examples(100))
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(1, 12)),
    voxels=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7)),
    cut=st.tuples(*[st.tuples(st.floats(0, 1), st.floats(0, 1))] * 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_neighbours_are_those_of_the_whole_volume(shape, voxels, cut, seed):
    """In any block that sees as far as the margin reaches."""
    random = np.random.default_rng(seed)
    labels = random.integers(1, 4, shape) * (random.random(shape) < 0.15)
    margin = Margin(voxels)
    core = [sorted((min(int(a * n), n - 1), int(b * n))) for (a, b), n in zip(cut, shape, strict=True)]
    core = [(a, max(b, a + 1)) for a, b in core]
    window = tuple(
        slice(max(0, a - r), min(n, b + r)) for (a, b), r, n in zip(core, margin.reach, shape, strict=True)
    )
    seen, offset = labels[window].astype(np.uint32), np.array([s.start for s in window])
    inside = random.random([b - a for a, b in core]) < 0.9
    of_core = tuple(slice(a, b) for a, b in core)
    boxes = find_objects(seen)
    whole = find_objects(labels)
    near, found = np.empty(seen.shape, np.int32), np.empty(inside.size, np.int64)
    for number, box in enumerate(boxes, start=1):
        if box is None:
            continue
        start, stop = ([getattr(s, side) for s in whole[number - 1]] for side in ("start", "stop"))
        limit = grown(np.array([start]), np.array([stop]), margin)[0] - offset[:, None]
        count = neighbours(
            seen,
            number,
            np.array([(s.start, s.stop) for s in box]),
            np.array(core) - offset[:, None],
            limit,
            *(np.array(margin.pitch), np.array(margin.reach), margin.distance),
            inside.ravel(),
            near,
            found,
        )
        expected = neighbourhood_in_its_box(labels, number, margin)[of_core] & inside
        np.testing.assert_array_equal(np.sort(found[:count]), np.flatnonzero(expected))


def test_the_box_matters_where_the_margin_of_an_axis_is_no_divisor():
    assert not Margin((1, 30, 30)).boxes_matter
    assert not Margin((9, 9)).boxes_matter
    assert Margin((20, 30, 30)).boxes_matter
