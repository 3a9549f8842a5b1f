"""Objects at the border: told, and dropped, as scikit-image does on the whole of what is computed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops_table
from skimage.segmentation import clear_border, relabel_sequential

from blockwise.grid import Grid
from tests.examples import examples
from tests.unit.blocked import blocked_components

RANK = {4: 1, 8: 2, 6: 1, 18: 2, 26: 3}


def components(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Labels in raster order; ``label`` itself turns arrays round in which y or x is one voxel long."""
    found = label(mask, connectivity=RANK[connectivity])
    numbers, first = np.unique(found[found > 0], return_index=True)
    order = np.zeros(found.max() + 1, int)
    order[numbers[np.argsort(first)]] = np.arange(1, len(numbers) + 1)
    return order[found]


def cleared(labels: np.ndarray) -> np.ndarray:
    """Without the objects at the border; one slice is an image."""
    if labels.ndim == 3 and len(labels) == 1:
        return cleared(labels[0])[None]
    return relabel_sequential(clear_border(labels))[0]


def at_border(labels: np.ndarray) -> list[bool]:
    kept = set(np.unique(clear_border(labels[0] if labels.ndim == 3 and len(labels) == 1 else labels)))
    return [number not in kept for number in range(1, labels.max() + 1)]


@st.composite
def cases(draw):
    ndim = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, 12 if ndim == 3 else 24)) for _ in range(ndim))
    blocks = tuple(draw(st.integers(1, n + 2)) for n in shape)
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    roi = tuple((a, draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True))
    density = draw(st.sampled_from([0.1, 0.3, 0.5]))
    mask = (np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random(shape) < density).astype(np.uint8)
    connectivity = draw(st.sampled_from([4, 8] if ndim == 2 else [6, 18, 26]))
    return mask, blocks, draw(st.sampled_from([None, roi])), connectivity, draw(st.integers(0, 3))


@settings(max_examples=examples(100))
@given(cases())
@example((np.ones((1, 1, 3), np.uint8), (1, 1, 2), None, 6, 0))
@example((np.array([[[0], [0], [1]], [[1], [0], [0]]], np.uint8), (1, 1, 1), None, 6, 0))
def test_equal_to_the_whole_of_what_is_computed(case):
    mask, blocks, roi, connectivity, min_size = case
    grid = Grid("zyx"[-mask.ndim :], mask.shape, blocks, roi)
    box = tuple(slice(*r) for r in roi or [(0, n) for n in mask.shape])
    whole = components(mask[box], connectivity)
    found, table = blocked_components(mask, 1, connectivity, grid)
    np.testing.assert_array_equal(found[box], whole)
    assert table["touches_border"].tolist() == at_border(whole)

    large = np.bincount(whole.ravel()) >= min_size
    expected = relabel_sequential(cleared(whole * large[whole]))[0]
    found, table = blocked_components(mask, 1, connectivity, grid, min_size, exclude_border=True)
    np.testing.assert_array_equal(found[box], expected)
    assert not table["touches_border"].any()
    assert table["label"].tolist() == list(range(1, expected.max() + 1))


def test_an_object_that_touches_the_border_two_blocks_away_is_dropped_in_all_of_them():
    mask = np.zeros((9, 9), np.uint8)
    mask[4, 2:] = 1  # it begins in the first column of blocks, and reaches the border in the last
    mask[1:3, 1] = mask[7, 7] = 1
    found, table = blocked_components(mask, 1, 8, Grid("yx", mask.shape, (3, 3)), exclude_border=True)
    assert (found[1, 1], found[4].max(), found[7, 7], len(table["label"])) == (1, 0, 2, 2)


@pytest.mark.parametrize("roi", [None, ((0, 1), (0, 5), (0, 5))])
def test_a_volume_of_one_slice_has_no_border_along_z(roi):
    mask = np.zeros((1 if roi is None else 4, 5, 5), np.uint8)
    mask[:, 2, 2] = mask[:, 0, 4] = 1
    _, table = blocked_components(mask, 1, 6, Grid("zyx", mask.shape, (1, 2, 3), roi))
    assert table["touches_border"].tolist() == [True, False]
    mask = np.zeros((5, 1, 5), np.uint8)
    mask[2, 0, 2] = 1
    _, table = blocked_components(mask, 1, 6, Grid("zyx", mask.shape, (1, 2, 3)))
    assert table["touches_border"].tolist() == [True], "along y it has one"


def test_the_first_and_the_last_time_step_are_no_border():
    mask = np.zeros((3, 5, 5), np.uint8)
    mask[:, 2, 2] = 1
    mask[1, 0, 4] = 1
    grid = Grid("tyx", mask.shape, (1, 2, 3))
    assert blocked_components(mask, 1, 8, grid)[1]["touches_border"].tolist() == [False, True, False, False]
    found, table = blocked_components(mask, 1, 8, grid, exclude_border=True)
    assert found[:, 2, 2].tolist() == [1, 2, 3]
    assert table["t"].tolist() == [0, 1, 2]


@settings(max_examples=examples(60))
@given(case=cases(), nanometers=st.lists(st.sampled_from([4, 4.56, 10, 40, 123.4]), min_size=3, max_size=3))
def test_physical_columns_equal_the_whole_volumes(case, nanometers):
    mask, blocks, _, connectivity, _ = case
    step = tuple(n / 1000 for n in nanometers[: mask.ndim])
    grid = Grid("zyx"[-mask.ndim :], mask.shape, blocks)
    found, table = blocked_components(mask, 1, connectivity, grid, step_um=step)
    plain = blocked_components(mask, 1, connectivity, grid)[1]
    new = [name for name in table if name not in plain]
    centroids = [f"centroid_um_{axis}" for axis in grid.axes]
    assert new == ["volume_um3" if mask.ndim == 3 else "area_um2", *centroids]
    for name, values in plain.items():
        np.testing.assert_array_equal(table[name], values)
    if found.any():
        whole = regionprops_table(found.astype(int), spacing=step, properties=("area", "centroid"))
        np.testing.assert_allclose(table[new[0]], whole["area"], rtol=1e-12)
        for i, name in enumerate(centroids):
            np.testing.assert_allclose(table[name], whole[f"centroid-{i}"], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("axes", "name"), [("zyx", "volume_um3"), ("yx", "area_um2")])
def test_round_sizes_stay_round(axes, name):
    mask = np.ones((3,) * len(axes), np.uint8)
    grid = Grid(axes, mask.shape, mask.shape)
    step = (0.01,) * len(axes)
    assert step[0] ** len(axes) * mask.size != mask.size / 100 ** len(axes)
    table = blocked_components(mask, 1, 2 * len(axes), grid, step_um=step)[1]
    assert table[name].tolist() == [mask.size / 100 ** len(axes)]
    assert math.isclose(table["centroid_um_y"][0], 0.01)
