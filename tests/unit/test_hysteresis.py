"""Hysteresis and sizes over blocks equal the whole volume's, numbers included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from skimage.filters import apply_hysteresis_threshold, gaussian
from skimage.measure import label

from blockwise.grid import Grid
from pipeline.configuration.settings import ConnectedComponents, Threshold
from tests.examples import examples
from tests.unit.blocked import blocked_components, blocked_threshold


def with_core(labels: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Keep labels that hold a voxel of the core; number them through."""
    kept = np.unique(labels[core & (labels > 0)])
    numbers = np.zeros(labels.max() + 1, int)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[labels]


@st.composite
def cases(draw):
    shape = tuple(draw(st.integers(1, 14)) for _ in range(3))
    blocks = tuple(draw(st.integers(2, n + 3)) for n in shape)
    final = draw(st.sampled_from([0.3, 0.45, 0.5]))
    core = final + draw(st.sampled_from([0.0, 0.02, 0.1, 0.3]))
    return shape, blocks, final, core, draw(st.sampled_from([0.0, 0.6, 1.0])), draw(st.integers(0, 2**32 - 1))


@settings(max_examples=examples(120))
@given(case=cases(), connectivity=st.sampled_from([6, 18, 26]))
def test_equal_to_whole_volume(case, connectivity):
    shape, blocks, final, core, sigma, seed = case
    probabilities = np.random.default_rng(seed).random(shape, np.float32)
    grid = Grid("zyx", shape, blocks)
    mask = blocked_threshold(probabilities, (sigma,) * 3, final, grid, core=core)
    smoothed = gaussian(probabilities, sigma)
    np.testing.assert_array_equal(mask, (smoothed > final) + (smoothed > core).astype(np.uint8))
    found, _ = blocked_components(mask, 1, connectivity, grid, has_core=True)
    whole = label(smoothed > final, connectivity={6: 1, 18: 2, 26: 3}[connectivity])
    np.testing.assert_array_equal(found, with_core(whole, smoothed > core))
    if connectivity == 6:  # scikit-image knows no other
        np.testing.assert_array_equal(found > 0, apply_hysteresis_threshold(smoothed, final, core))


@settings(max_examples=examples(120))
@given(
    case=cases(),
    core=st.sampled_from([0.05, 0.2, 0.4, 0.6]),
    dtype=st.sampled_from(["float32", "uint8"]),
    density=st.sampled_from([None, 0.6]),
)
def test_cores_of_another_class_and_the_sum_of_both_equal_the_whole_volume(case, core, dtype, density):
    """The core's threshold may be the lower one; where the sum is not above the final one no core counts."""
    shape, blocks, final, _, sigma, seed = case
    random = np.random.default_rng(seed)
    of_objects = random.random(shape, np.float32) / 2
    of_cores = random.random(shape, np.float32) ** 3 * (1 - of_objects)
    inside = None if density is None else random.random(shape) < density
    if dtype == "uint8":
        of_objects, of_cores = (np.rint(255 * p).astype(np.uint8) for p in (of_objects, of_cores))
    grid = Grid("zyx", shape, blocks)
    mask = blocked_threshold(of_objects, (sigma,) * 3, final, grid, inside, core, of_cores)
    inside = np.ones(shape, bool) if inside is None else inside
    weight = np.where(inside, gaussian(inside.astype(np.float32), sigma), np.float32(1))
    a, b = (gaussian(np.where(inside, p, p.dtype.type(0)), sigma) / weight for p in (of_objects, of_cores))
    above = (a + b > final) & inside
    np.testing.assert_array_equal(mask, above + (above & (b > core)).astype(np.uint8))
    found, _ = blocked_components(mask, 1, 6, grid, has_core=True, inside=inside)
    np.testing.assert_array_equal(found, with_core(label(above, connectivity=1), b > core))


def test_a_core_far_from_where_the_object_begins_keeps_it():
    mask = np.zeros((4, 30), np.uint8)
    mask[0, :29] = 1
    mask[0, 28] = 2
    mask[3, :29] = 1
    found, objects = blocked_components(mask, 1, 4, Grid("yx", mask.shape, (4, 7)), has_core=True)
    expected = np.zeros_like(mask)
    expected[0, :29] = 1
    np.testing.assert_array_equal(found, expected)
    assert list(objects["voxels"]) == [29]


@settings(max_examples=examples(60))
@given(case=cases(), low=st.integers(0, 12), span=st.integers(0, 40))
def test_sizes_are_those_of_whole_objects(case, low, span):
    shape, blocks, final, core, sigma, seed = case
    smoothed = gaussian(np.random.default_rng(seed).random(shape, np.float32), sigma)
    mask = (smoothed > final) + (smoothed > core).astype(np.uint8)
    whole = label(mask > 0, connectivity=1)
    sizes = np.bincount(whole.ravel())
    fits = (sizes >= low) & (sizes <= low + span)
    expected = with_core(np.where(fits[whole], whole, 0), mask == 2)
    grid = Grid("zyx", shape, blocks)
    found, objects = blocked_components(mask, 1, 6, grid, min_size=low, max_size=low + span, has_core=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(objects["voxels"], np.bincount(expected.ravel())[1:])


@settings(max_examples=examples(120))
@given(
    case=cases(),
    connectivity=st.sampled_from([6, 18, 26]),
    sizes=st.tuples(st.integers(0, 6), st.none() | st.integers(6, 20)),
    low=st.integers(0, 12),
)
def test_sizes_of_cores_are_those_of_whole_cores(case, connectivity, sizes, low):
    """As ilastik: cores that are too small or too large go first, then objects without core, then small objects."""
    shape, blocks, final, core, sigma, seed = case
    smoothed = gaussian(np.random.default_rng(seed).random(shape, np.float32), sigma)
    mask = (smoothed > final) + (smoothed > core).astype(np.uint8)
    rank = {6: 1, 18: 2, 26: 3}[connectivity]
    cores = label(mask == 2, connectivity=rank)
    counts = np.bincount(cores.ravel())
    fits = counts >= sizes[0]
    if sizes[1] is not None:
        fits &= counts <= sizes[1]
    fits[0] = False
    objects = label(mask > 0, connectivity=rank)
    large = np.bincount(objects.ravel()) >= low
    expected = with_core(np.where(large[objects], objects, 0), fits[cores])
    grid = Grid("zyx", shape, blocks)
    found, _ = blocked_components(mask, 1, connectivity, grid, min_size=low, has_core=True, core_sizes=sizes)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"core": 0.8}, "core and final belong to method: hysteresis"),
        ({"method": "hysteresis"}, "takes core and final|needs core and final"),
        ({"method": "hysteresis", "core": 0.8, "final": 0.5, "threshold": 0.5}, "core and final"),
        ({"method": "hysteresis", "core": 0.4, "final": 0.5}, "core 0.4 is below final 0.5"),
        ({"core_class": 0, "core_min_size": 3}, "core_class, core_min_size: only for method: hysteresis"),
        ({"core_max_size": 4}, "core_max_size: only for method: hysteresis"),
        ({"keep_cores": True}, "keep_cores: only for method: hysteresis"),
        (
            {"method": "hysteresis", "core": 0.8, "final": 0.5, "core_min_size": 4, "core_max_size": 3},
            "core_max_size 3 is below core_min_size 4",
        ),
    ],
)
def test_levels_that_do_not_fit_the_method_are_refused(values, said):
    with pytest.raises(ValidationError, match=said):
        Threshold(**values)


def test_cores_of_another_class_may_have_a_lower_threshold_than_the_sum():
    assert Threshold(method="hysteresis", core=0.4, final=0.5, core_class=0).core == 0.4


def test_sizes_that_no_object_has_are_refused():
    with pytest.raises(ValidationError, match="max_size 3 is below min_size 4"):
        ConnectedComponents(min_size=4, max_size=3)
