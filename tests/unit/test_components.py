"""Components over blocks equal the components of the whole volume, numbers included."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label, regionprops_table

from blockwise.grid import Grid
from tasks.components.labels_step import apply_lookup
from tests.examples import examples
from tests.unit.blocked import blocked_components

RANK = {4: 1, 8: 2, 6: 1, 18: 2, 26: 3}


def whole_components(mask, foreground, connectivity):
    return label((mask != 0) if foreground else (mask == 0), connectivity=RANK[connectivity])


@st.composite
def masks_and_blocks(draw, ndim):
    shape = tuple(draw(st.integers(1, 9 if ndim == 3 else 16)) for _ in range(ndim))
    blocks = tuple(draw(st.integers(1, n + 2)) for n in shape)
    density = draw(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.95]))
    seed = draw(st.integers(0, 2**32 - 1))
    return (np.random.default_rng(seed).random(shape) < density).astype(np.uint8), blocks


@settings(max_examples=examples(300))
@given(case=masks_and_blocks(3), foreground=st.sampled_from([0, 1]), connectivity=st.sampled_from([6, 18, 26]))
def test_equal_to_whole_volume_3d(case, foreground, connectivity):
    mask, blocks = case
    found, _ = blocked_components(mask, foreground, connectivity, Grid("zyx", mask.shape, blocks))
    np.testing.assert_array_equal(found, whole_components(mask, foreground, connectivity))


@settings(max_examples=examples(150))
@given(case=masks_and_blocks(2), foreground=st.sampled_from([0, 1]), connectivity=st.sampled_from([4, 8]))
def test_equal_to_whole_image_2d(case, foreground, connectivity):
    mask, blocks = case
    found, _ = blocked_components(mask, foreground, connectivity, Grid("yx", mask.shape, blocks))
    np.testing.assert_array_equal(found, whole_components(mask, foreground, connectivity))


@settings(max_examples=examples(100))
@given(
    mask=arrays(np.uint8, st.tuples(*[st.integers(2, 4)] * 3), elements=st.integers(0, 1)),
    connectivity=st.sampled_from([6, 18, 26]),
)
@example(mask=np.zeros((3, 3, 3), np.uint8), connectivity=26)
@example(mask=np.ones((3, 3, 3), np.uint8), connectivity=6)
def test_blocks_of_one_voxel(mask, connectivity):
    """Every contact is over a border: faces, edges and corners."""
    found, _ = blocked_components(mask, 1, connectivity, Grid("zyx", mask.shape, (1, 1, 1)))
    np.testing.assert_array_equal(found, whole_components(mask, 1, connectivity))


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("direction", [d for d in itertools.product((-1, 0, 1), repeat=3) if d > (0, 0, 0)])
def test_contact_of_two_voxels(direction, connectivity):
    """Two voxels on either side of a block border, in each of the 13 directions."""
    mask = np.zeros((8, 8, 8), np.uint8)
    first = tuple(3 if d > 0 else 4 if d < 0 else 2 for d in direction)
    second = tuple(a + d for a, d in zip(first, direction, strict=True))
    mask[first] = mask[second] = 1
    found, _ = blocked_components(mask, 1, connectivity, Grid("zyx", mask.shape, (4, 4, 4)))
    touches = sum(map(abs, direction)) <= RANK[connectivity]
    assert found.max() == (1 if touches else 2)
    np.testing.assert_array_equal(found, whole_components(mask, 1, connectivity))


def test_component_that_winds_through_all_blocks():
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[:, ::2, :] = 1
    mask[:, 1::4, -1] = 1
    mask[:, 3::4, 0] = 1
    found, _ = blocked_components(mask, 1, 6, Grid("zyx", mask.shape, (5, 5, 5)))
    assert found.max() == 1
    np.testing.assert_array_equal(found, mask)


def test_faces_that_have_no_room_are_read_again(monkeypatch):
    monkeypatch.setattr("tasks.components.borders.FACE_CACHE_BYTES", 1)
    mask = (np.random.default_rng(3).random((12, 13, 14)) < 0.2).astype(np.uint8)
    found, _ = blocked_components(mask, 1, 26, Grid("zyx", mask.shape, (3, 3, 3)))
    np.testing.assert_array_equal(found, whole_components(mask, 1, 26))


@pytest.mark.parametrize("min_size", [0, 1, 2, 5, 10_000])
def test_small_objects_are_dropped_and_the_rest_is_renumbered(min_size):
    mask = (np.random.default_rng(3).random((20, 21, 22)) < 0.12).astype(np.uint8)
    whole = whole_components(mask, 1, 26)
    sizes = np.bincount(whole.ravel())
    kept = np.flatnonzero(sizes[1:] >= min_size) + 1
    expected = np.zeros(len(sizes), np.uint64)
    expected[kept] = np.arange(1, len(kept) + 1)
    found, objects = blocked_components(mask, 1, 26, Grid("zyx", mask.shape, (7, 8, 9)), min_size)
    np.testing.assert_array_equal(found, expected[whole])
    np.testing.assert_array_equal(objects["voxels"], sizes[kept])


@settings(max_examples=examples(50))
@given(case=masks_and_blocks(3))
def test_object_table_equals_regionprops(case):
    mask, blocks = case
    grid = Grid("zyx", mask.shape, blocks)
    found, table = blocked_components(mask, 1, 26, grid)
    if not found.any():
        assert {len(values) for values in table.values()} == {0}
        return
    expected = regionprops_table(found.astype(np.int64), properties=("label", "area", "bbox", "centroid"))
    for ours, theirs in {
        "label": "label", "voxels": "area", "start_z": "bbox-0", "start_y": "bbox-1", "start_x": "bbox-2",
        "stop_z": "bbox-3", "stop_y": "bbox-4", "stop_x": "bbox-5", "centroid_z": "centroid-0",
        "centroid_y": "centroid-1", "centroid_x": "centroid-2",
    }.items():  # fmt: skip
        np.testing.assert_allclose(table[ours], expected[theirs], rtol=1e-12)


def test_region_of_interest_is_labelled_by_itself():
    mask = (np.random.default_rng(5).random((20, 20, 20)) < 0.3).astype(np.uint8)
    roi = ((3, 17), (0, 11), (5, 20))
    box = tuple(slice(*r) for r in roi)
    found, _ = blocked_components(mask, 1, 26, Grid("zyx", mask.shape, (6, 6, 6), roi))
    np.testing.assert_array_equal(found[box], whole_components(mask[box], 1, 26))
    found[box] = 0
    assert not found.any()


def test_time_steps_do_not_touch():
    mask = (np.random.default_rng(6).random((3, 10, 11)) < 0.4).astype(np.uint8)
    grid = Grid("tyx", mask.shape, (1, 4, 4))
    labels = [whole_components(step, 1, 8) for step in mask]
    expected, count = np.zeros(mask.shape, np.int64), 0
    for t, step in enumerate(labels):
        expected[t] = np.where(step > 0, step + count, 0)
        count += step.max()
    found, table = blocked_components(mask, 1, 8, grid)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(table["t"], np.repeat(range(3), [step.max() for step in labels]))


def test_lookup_of_another_block_is_refused():
    with pytest.raises(ValueError, match="3 components, but a lookup table of 2"):
        apply_lookup(np.array([0, 1, 2, 3]), np.array([4, 5], np.uint64))
