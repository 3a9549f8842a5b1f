"""The most probable class, counted from 1."""

from __future__ import annotations

import numpy as np

from tasks.simple_segmentation import most_probable


def test_of_equals_the_first_wins():
    probabilities = np.array([[[0.2, 0.5, 0.0]], [[0.4, 0.5, 0.0]], [[0.4, 0.0, 1.0]]], np.float32)
    np.testing.assert_array_equal(most_probable(probabilities), [[2, 1, 3]])


def test_outside_there_is_no_class():
    probabilities = np.array([[1, 0, 0], [0, 0, 255]], np.uint8)
    inside = np.array([True, True, False])
    found = most_probable(probabilities, inside)
    np.testing.assert_array_equal(found, [1, 1, 0])
    assert found.dtype == np.uint8
