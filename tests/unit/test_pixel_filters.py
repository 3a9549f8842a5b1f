"""The filters agree with those of bioimage-cpp and numpy."""

from __future__ import annotations

import math
from collections.abc import Callable

import bioimage_cpp.filters as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tasks.pixel_classification.features import Feature, compute_features, halo
from tasks.pixel_classification.filters import eigenvalues, half_kernel, radius
from tests.examples import examples

Array = NDArray[np.float32]


def window(sigma: float, reach: float) -> float:
    """What to tell bioimage-cpp, which rounds a kernel's radius up, for ilastik's rule, which rounds it half up."""
    return radius(sigma, reach) / sigma * (1 - 1e-7)


def gaussian(image: Array, sigma: float, reach: float = 2.0) -> Array:
    found: Array = oracle.gaussian_smoothing(image, sigma, window_size=window(sigma, reach))
    return found


FILTERS: dict[str, Callable[[Array, float], Array]] = {
    "GaussianSmoothing": gaussian,
    "LaplacianOfGaussian": lambda p, s: oracle.laplacian_of_gaussian(p, s, window_size=window(s, 2)),
    "GaussianGradientMagnitude": lambda p, s: oracle.gaussian_gradient_magnitude(p, s, window_size=window(s, 2)),
    "DifferenceOfGaussians": lambda p, s: gaussian(p, s) - gaussian(p, 0.66 * s),
    "StructureTensorEigenvalues": lambda p, s: oracle.structure_tensor_eigenvalues(
        p, inner_sigma=0.5 * s, outer_sigma=s, window_size=2 * (1 - 1e-7)
    ),
    "HessianOfGaussianEigenvalues": lambda p, s: oracle.hessian_of_gaussian_eigenvalues(
        p, s, window_size=window(s, 2)
    ),
}


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1.6, 3.5])
@pytest.mark.parametrize("name", FILTERS)
def test_features_agree_with_bioimage_cpp_to_float32_noise(name: str, scale: float, flat: bool) -> None:
    shape = (1, 90, 110) if flat else (24, 40, 44)
    image = np.random.default_rng(3).integers(-128, 128, shape).astype(np.float32)
    found = compute_features(image[..., None], [Feature(name, scale, flat)])
    smoothing = math.sqrt(scale**2 - 1) if scale > 1 else scale
    expected = FILTERS[name](gaussian(image[0] if flat else image, smoothing, 3.5), 1.0)
    error = np.abs(found.reshape(expected.shape) - expected) / expected.std()
    assert error.mean() < 1e-5
    # The library solves for eigenvalues in float32, which is less sure where two of them meet.
    assert error.max() < (2e-3 if name.endswith("Eigenvalues") and not flat else 5e-5)


@settings(max_examples=examples(60))
@given(arrays(np.float32, (6, 4), elements=st.floats(-1000, 1000, width=32)))
def test_eigenvalues_in_3d_are_those_of_lapack(parts: Array) -> None:
    zz, zy, zx, yy, yx, xx = parts
    matrices = np.array([[zz, zy, zx], [zy, yy, yx], [zx, yx, xx]], np.float64).transpose(2, 0, 1)
    expected = np.linalg.eigvalsh(matrices)[:, ::-1].T
    found = eigenvalues([np.ascontiguousarray(part).reshape(1, 2, 2) for part in parts]).reshape(3, -1)
    scale = np.abs(matrices).max() + 1e-30
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)
    assert (np.diff(found, axis=0) <= 1e-6 * scale).all()


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.6, 9.9])
def test_kernels_reproduce_polynomials(sigma: float) -> None:
    even = {order: half_kernel(sigma, order, 3.5).astype(np.float64) for order in (0, 2)}
    x = np.arange(len(even[0]))
    assert even[0][0] + 2 * even[0][1:].sum() == pytest.approx(1, abs=1e-6)
    assert even[2][0] + 2 * even[2][1:].sum() == pytest.approx(0, abs=1e-5)
    assert (even[2] * x**2).sum() == pytest.approx(1, abs=1e-5)
    assert 2 * (half_kernel(sigma, 1, 3.5) * x).sum() == pytest.approx(1, abs=1e-6)


def test_halo_is_what_the_file_format_states() -> None:
    assert halo([Feature("GaussianSmoothing", 10.0, False)]) == (37, 37, 37)
    assert halo([Feature("StructureTensorEigenvalues", 10.0, True)]) == (0, 38, 38)
    assert halo([Feature("GaussianSmoothing", 10.0, True), Feature("GaussianSmoothing", 1.0, False)]) == (6, 37, 37)
    assert halo([Feature("GaussianSmoothing", 0.3, False)]) == (2, 2, 2)
    assert halo([]) == (0, 0, 0)


def test_nan_stays_where_the_kernels_reach() -> None:
    image = np.zeros((20, 20, 20, 1), np.float32)
    image[10, 10, 10] = np.nan
    found = compute_features(image, [Feature(name, 1.0, False) for name in FILTERS])
    assert np.isnan(found[10, 10, 10]).any()
    assert np.isfinite(found[0, 0, 0]).all()
