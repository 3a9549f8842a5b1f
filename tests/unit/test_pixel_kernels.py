"""Kernels, filters and eigenvalues against numpy; what a missing value spoils; the memory an engine says."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.pixel_classification.engine import ReferenceEngine
from tasks.pixel_classification.features import FILTERS, Feature, compute_features, halo, n_channels
from tasks.pixel_classification.filters import derivative, eigenvalues, half_kernel, radius
from tasks.pixel_classification.forest import Tree, join_trees
from tasks.pixel_classification.project import Project
from tests.examples import examples

SCALES = (0.1, 0.2, 0.3, 0.7, 1.0, 1.6, 3.5)
CELLS = [(name, scale) for name in FILTERS for scale in SCALES if scale >= Feature(name, scale, False).least_scale]


def both_sides(taps: NDArray[np.float32], order: int) -> NDArray[np.float64]:
    sign = -1.0 if order == 1 else 1.0
    return np.concatenate([sign * taps[:0:-1].astype(float), taps.astype(float)])


@pytest.mark.parametrize(("sigma", "window"), [(0.3, 3.5), (0.5, 2.0), (0.7, 2.0), (1.0, 2.0), (9.95, 3.5)])
def test_kernels_measure_the_derivatives_of_polynomials(sigma: float, window: float) -> None:
    r = radius(sigma, window)
    x = np.arange(-r, r + 1.0)
    smooth, slope, bend = (both_sides(half_kernel(sigma, order, window), order) for order in range(3))
    tolerance = {"rel": 0, "abs": 1e-5 * (1 + r)}
    assert smooth.sum() == pytest.approx(1, rel=0, abs=1e-6)
    assert (slope @ np.ones_like(x), slope @ x) == pytest.approx((0, 1), **tolerance)
    assert (bend @ np.ones_like(x), bend @ x, bend @ (x * x / 2)) == pytest.approx((0, 0, 1), **tolerance)


def plain_derivative(
    volume: NDArray[np.float32], orders: tuple[int, ...], sigma: float, window: float
) -> NDArray[np.float32]:
    """The same float32 operations in the same order, each rounded by itself."""
    r = radius(sigma, window)
    for axis, order in zip(range(3 - len(orders), 3), orders, strict=True):
        taps, n = half_kernel(sigma, order, window), volume.shape[axis]
        padded = np.pad(volume, [(r, r) if i == axis else (0, 0) for i in range(3)], mode="reflect")
        part = [padded.take(range(start, start + n), axis) for start in range(2 * r + 1)]
        total = np.zeros_like(volume) if order == 1 else volume * taps[0]
        for t in range(1, r + 1):
            pair = part[r + t] - part[r - t] if order == 1 else part[r + t] + part[r - t]
            total = total + taps[t] * pair
        volume = total
    return volume


@settings(max_examples=examples(60))
@given(
    st.tuples(*[st.integers(6, 24)] * 3),
    st.lists(st.integers(0, 2), min_size=2, max_size=3).map(tuple),
    st.sampled_from([(0.5, 2.0), (1.0, 2.0), (1.25, 3.5)]),
    st.integers(0, 2**32 - 1),
)
def test_no_operation_is_fused_or_reordered(
    shape: tuple[int, int, int], orders: tuple[int, ...], kernel: tuple[float, float], seed: int
) -> None:
    # A fused multiply-add, which some processors have, rounds once instead of twice: bits would differ by machine.
    volume = np.random.default_rng(seed).normal(100, 40, shape).astype(np.float32)
    np.testing.assert_array_equal(derivative(volume, orders, *kernel), plain_derivative(volume, orders, *kernel))


@settings(max_examples=examples(100))
@given(st.sampled_from([2, 3]), st.integers(0, 2**32 - 1), st.floats(-6, 6), st.integers(0, 3))
def test_eigenvalues_are_those_of_numpy(n: int, seed: int, magnitude: float, equal: int) -> None:
    rng = np.random.default_rng(seed)
    spectrum = rng.normal(size=(50, n))
    spectrum[:, :equal] = spectrum[:, :1]  # eigenvalues that coincide are where closed formulas fail
    basis = np.linalg.qr(rng.normal(size=(50, n, n)))[0]
    matrices = ((basis * spectrum[:, None]) @ basis.swapaxes(1, 2) * 10.0**magnitude).astype(np.float32)
    upper = [np.ascontiguousarray(matrices[:, i, j]).reshape(1, 1, -1) for i in range(n) for j in range(i, n)]
    expected = np.linalg.eigvalsh(matrices.astype(float), UPLO="U")[:, ::-1]
    found = eigenvalues(upper).reshape(n, -1).T
    assert np.abs(found - expected).max() <= 2e-7 * np.abs(expected).max()


@settings(max_examples=examples(30))
@given(st.lists(st.sampled_from(CELLS), min_size=2, max_size=5, unique=True), st.booleans())
def test_a_feature_does_not_depend_on_the_others(cells: list[tuple[str, float]], in_2d: bool) -> None:
    image = np.random.default_rng(0).normal(100, 40, (16, 17, 18, 1)).astype(np.float32)
    features = [Feature(name, scale, in_2d) for name, scale in cells]
    together = compute_features(image, features)
    alone = np.concatenate([compute_features(image, [feature]) for feature in features], axis=3)
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("in_2d", [False, True])
@pytest.mark.parametrize("name", FILTERS)
def test_a_missing_value_spoils_what_reaches_it_and_nothing_else(name: str, in_2d: bool) -> None:
    features = [Feature(name, 1.0, in_2d)]
    reach = halo(features)
    image = np.random.default_rng(0).normal(100, 40, (17, 18, 19, 1)).astype(np.float32)
    whole = compute_features(image, features)
    image[8, 9, 9] = np.nan
    spoilt = compute_features(image, features)
    box = tuple(slice(at - r, at + r + 1) for at, r in zip((8, 9, 9), reach, strict=True))
    missing = np.isnan(spoilt)
    assert missing[8, 9, 9].all()
    outside = np.ones(missing.shape[:3], bool)
    outside[box] = False
    assert not missing[outside].any()
    np.testing.assert_array_equal(spoilt[~missing], whole[~missing])


def constant_project(features: tuple[Feature, ...], channels: int) -> Project:
    one, zero = np.array([-1], np.int32), np.zeros(1, np.int32)
    tree = Tree(one, np.zeros(1), zero, zero, np.array([[0.25, 0.75]]))
    forest = join_trees([tree], (1,), n_channels(features, channels, 2), (0, 1))
    none = np.empty((0, 6), np.int64)
    return Project("made.ilp", "", ("a", "b"), "zyxc", channels, features, forest, (), none)


@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.soak)])
@pytest.mark.parametrize("cells", [CELLS[-1:], [("StructureTensorEigenvalues", 1.6)], CELLS, CELLS[:1]])
def test_the_engine_needs_no_more_memory_than_it_says(cells: list[tuple[str, float]], channels: int) -> None:
    engine = ReferenceEngine(
        constant_project(tuple(Feature(*cell, False) for cell in cells), channels), "fastfilters"
    )
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 64, channels), np.uint8)
    everything = tuple(slice(0, n) for n in image.shape[:3])
    engine.predict(image[:16, :16, :16], (slice(0, 16),) * 3)  # compiles
    tracemalloc.start()
    engine.predict(image, everything)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = engine.bytes_per_voxel * image[..., 0].size
    assert 0.3 * said < peak <= said
