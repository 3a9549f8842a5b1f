"""Larger voxels against slow oracles, one window at a time."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tasks.pyramid import kernels
from tasks.pyramid.coarser import coarser
from tests.examples import examples

INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
FLOATS = ("float32", "float64")
SHAPES = arrays.array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=5)


def windows(data: NDArray[Any], factors: tuple[int, ...]):
    """Each larger voxel's place, and the voxels that it stands for."""
    for place in np.ndindex(*(-(-n // f) for n, f in zip(data.shape, factors, strict=True))):
        yield place, data[tuple(slice(p * f, (p + 1) * f) for p, f in zip(place, factors, strict=True))]


def rounded(exact: Fraction) -> int:
    """Half to even, as Python does it."""
    return round(exact)


def mode_of(window: NDArray[Any]) -> int:
    counts = Counter(window.ravel().tolist())
    return min(counts, key=lambda value: (-counts[value], value == 0, value))


def float_mean(window: NDArray[Any]) -> float:
    """Sums along y, then z, then x, in double precision."""
    values = window.astype(np.float64).reshape((1,) * max(0, 3 - window.ndim) + window.shape)
    values = values.reshape(values.shape[-3:])
    total = values[:, 0] if values.shape[1] == 1 else values[:, 0] + values[:, 1]
    total = total[0] if len(total) == 1 else total[0] + total[1]
    return (total[0] if len(total) == 1 else total[0] + total[1]) / values.size


@st.composite
def cases(draw: st.DrawFn, dtypes: tuple[str, ...], few: bool = False):
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(SHAPES)
    values = st.integers(0, 3) if few else arrays.from_dtype(dtype)
    data = draw(arrays.arrays(dtype, shape, elements=values, fill=st.nothing()))
    factors = tuple(draw(st.sampled_from([1, 2])) if axis >= len(shape) - 3 else 1 for axis in range(len(shape)))
    return data, factors


@settings(max_examples=examples(150), deadline=None)
@given(cases(INTEGERS))
def test_means_of_integers_are_exact_and_rounded_half_to_even(case) -> None:
    data, factors = case
    found = coarser(data, factors, "mean")
    assert found.dtype == data.dtype
    for place, window in windows(data, factors):
        exact = Fraction(sum(map(int, window.ravel())), window.size)
        assert int(found[place]) == rounded(exact), (window, exact)


@settings(max_examples=examples(100), deadline=None)
@given(cases(FLOATS))
def test_means_of_floats_are_those_of_double_precision(case) -> None:
    data, factors = case
    found = coarser(data, factors, "mean")
    assert found.dtype == data.dtype
    with np.errstate(all="ignore"):
        for place, window in windows(data, factors):
            expected = data.dtype.type(float_mean(window))
            np.testing.assert_array_equal(found[place], expected)


@settings(max_examples=examples(150), deadline=None)
@given(cases(("uint8", "uint16", "uint32", "uint64"), few=True) | cases(("uint8", "uint64")))
def test_modes_take_the_most_frequent_and_of_equals_the_smallest_above_0(case) -> None:
    data, factors = case
    found = coarser(data, factors, "mode")
    assert found.dtype == data.dtype
    for place, window in windows(data, factors):
        assert int(found[place]) == mode_of(window), window


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_the_largest_and_smallest_values_overflow_nothing(dtype: str) -> None:
    limits = np.iinfo(dtype) if dtype in INTEGERS else np.finfo(np.float32)
    for value in (limits.min, limits.max):
        data = np.full((3, 4, 5), value, dtype)
        np.testing.assert_array_equal(coarser(data, (2, 2, 2), "mean"), np.full((2, 2, 3), value, dtype))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("factors", list(itertools.product((1, 2), repeat=3)))
def test_a_voxel_does_not_depend_on_its_place(dtype: str, factors: tuple[int, ...]) -> None:
    """Long rows are vectorised, their ends are not: both must round alike."""
    small = np.random.default_rng(1).random((4, 4, 4))
    data = (small * (255 if dtype == "uint8" else 1)).astype(dtype)
    rows = np.tile(data, (1, 1, 19))[..., :73]
    for method in ("mean", "mode") if dtype == "uint8" else ("mean",):
        whole = coarser(rows, factors, method)
        step = data.shape[2] // factors[2]
        for start in range(0, whole.shape[2] - step, step):
            np.testing.assert_array_equal(whole[..., start : start + step], coarser(data, factors, method))


def test_means_and_clear_majorities_are_those_of_tensorstore() -> None:
    """Another program's: float32 differs in the last bit, as it adds in single precision; ties are another rule."""
    rng = np.random.default_rng(2)
    data = rng.integers(0, 256, (7, 9, 11), np.uint8)
    labels = np.repeat(rng.integers(0, 1 << 40, (4, 9, 11), np.uint64), 2, axis=0)[1:] // 7
    labels[::3] = 12

    def theirs(array: NDArray[Any], method: str) -> NDArray[Any]:
        return ts.downsample(ts.array(array), [2, 2, 2], method).read().result()

    np.testing.assert_array_equal(coarser(data, (2, 2, 2), "mean"), theirs(data, "mean"))
    floats = data.astype(np.float32) / 7
    np.testing.assert_allclose(coarser(floats, (2, 2, 2), "mean"), theirs(floats, "mean"), rtol=3e-7)
    ours, expected = coarser(labels, (2, 2, 2), "mode"), theirs(labels, "mode")
    for place, window in windows(labels, (2, 2, 2)):
        first, second = (*Counter(window.ravel().tolist()).most_common(2), (0, 0))[:2]
        if first[1] > second[1]:
            assert ours[place] == expected[place]


@pytest.mark.parametrize("factors", [(3, 1, 1), (1, 1), (2, 1, 1, 1)])
def test_other_factors_are_refused(factors: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="factors"):
        coarser(np.zeros((2,) * max(3, len(factors)), np.uint8), factors, "mean")


def test_views_byte_orders_and_what_may_not_be_written_make_no_difference() -> None:
    data = np.arange(4 * 6 * 8, dtype=np.uint16).reshape(4, 6, 8)
    expected = coarser(data, (2, 2, 2), "mean")
    fixed = data.copy()
    fixed.flags.writeable = False
    unaligned = np.frombuffer(b"." + data.tobytes(), np.uint8)[1:].view(np.uint16).reshape(data.shape)
    others = (data.astype(">u2"), np.asfortranarray(data), np.repeat(data, 2, axis=2)[..., ::2], fixed, unaligned)
    for same in others:
        np.testing.assert_array_equal(coarser(same, (2, 2, 2), "mean"), expected)
    assert len(kernels.mean_uint16.found) == 1, "processes that compile at once write the same code"
