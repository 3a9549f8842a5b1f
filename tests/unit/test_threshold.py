"""The mask over blocks equals the mask of the whole volume, voxel for voxel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import gaussian

from blockwise.grid import Grid
from tasks.threshold import smooth_and_threshold
from tests.examples import examples
from tests.unit.blocked import blocked_threshold


@settings(max_examples=examples(120))
@given(
    shape=st.tuples(*[st.integers(1, 24)] * 3),
    block_shape=st.tuples(*[st.integers(1, 26)] * 3),
    sigma=st.sampled_from([0.0, 0.3, 1.0, 1.6, 2.5]),
    threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    votes=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_to_whole_volume(shape, block_shape, sigma, threshold, votes, seed):
    random = np.random.default_rng(seed)
    probabilities = random.random(shape, np.float32)
    if votes:  # as forests give them, so that many values lie on the threshold before smoothing
        probabilities = np.round(probabilities * 100) / np.float32(100)
    found = blocked_threshold(probabilities, (sigma,) * 3, threshold, Grid("zyx", shape, block_shape))
    np.testing.assert_array_equal(found, gaussian(probabilities, sigma) > threshold)


def test_uint8_probabilities_are_parts_of_255():
    probabilities = np.random.default_rng(1).integers(0, 256, (20, 22, 24), np.uint8)
    found = blocked_threshold(probabilities, (1.6,) * 3, 0.5, Grid("zyx", probabilities.shape, (7, 7, 7)))
    np.testing.assert_array_equal(found, gaussian(probabilities, 1.6) > 0.5)
    assert 0 < found.mean() < 1


def test_time_steps_are_not_smoothed_into_each_other():
    probabilities = np.random.default_rng(2).random((3, 20, 20), np.float32)
    found = blocked_threshold(probabilities, (0.0, 1.6, 1.6), 0.5, Grid("tyx", probabilities.shape, (1, 8, 8)))
    for t, image in enumerate(probabilities):
        np.testing.assert_array_equal(found[t], gaussian(image, 1.6) > 0.5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_probabilities(value):
    probabilities = np.full((9, 9, 9), value, np.float32)
    whole = tuple(slice(0, 9) for _ in range(3))
    assert (smooth_and_threshold(probabilities, (1.6,) * 3, 0.5, whole) == (value > 0.5)).all()
