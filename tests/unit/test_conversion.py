from __future__ import annotations

import numpy as np
import pytest

from blockwise.errors import UserError
from pipeline.exporting.conversion import converted, target_dtype


def test_labels_that_do_not_fit_are_refused_with_numbers() -> None:
    labels = np.array([0, 65536], np.uint64)
    with pytest.raises(UserError, match="from 0 to 65536, uint16 holds 0 to 65535"):
        converted(labels, np.dtype("uint16"), None, "labels")
    fitting = converted(labels - np.array([0, 1], np.uint64), np.dtype("uint16"), None, "labels")
    assert fitting.tolist() == [0, 65535]
    assert converted(labels, np.dtype("uint32"), None, "labels").tolist() == [0, 65536]


def test_whole_numbers_become_floats_only_as_far_as_they_stay_exact() -> None:
    assert converted(np.array([2**24], np.int64), np.dtype("float32"), None, "").tolist() == [2**24]
    with pytest.raises(UserError):
        converted(np.array([2**24 + 1], np.int64), np.dtype("float32"), None, "")
    with pytest.raises(UserError):
        converted(np.array([-1], np.int8), np.dtype("uint64"), None, "")


def test_probabilities_are_scaled_and_rounded() -> None:
    values = np.array([0, 0.5, 1], np.float32)
    assert converted(values, np.dtype("uint8"), (0, 1), "").tolist() == [0, 128, 255]
    with pytest.raises(UserError, match="give the range"):
        converted(values, np.dtype("uint8"), None, "")
    for wrong in (1.01, -0.1, np.nan):
        with pytest.raises(UserError, match="outside of the range"):
            converted(np.array([wrong, 0.5]), np.dtype("uint8"), (0, 1), "")


def test_types() -> None:
    assert target_dtype(None, np.dtype(">u2")) == np.dtype("uint16")
    assert target_dtype(None, np.dtype(bool)) == np.dtype("uint8")
    assert converted(np.array([True]), np.dtype("uint8"), None, "").tolist() == [1]
    with pytest.raises(UserError, match="known are"):
        target_dtype("uint7", np.dtype("uint8"))
