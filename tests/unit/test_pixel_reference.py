"""Predictions agree with ilastik's own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.features import compute_features
from tasks.pixel_classification.forest import evaluate
from tasks.pixel_classification.project import load_project
from tests.unit.pixel_cases import ROOT, case_folder, image_zyxc, predict, read, whole

CASES = ["2d_rgb_u8_3class", "2d_u8_all37", "3d_u16_few_3class", "3d_f32_mixed2d", "3d_u8_all37"]
LARGE = ["3d_u16_few_3class", "3d_u8_all37"]
"""The product's engine is compared with the same exports in `make test`."""
CROPS = ["2d_rgb_u8_3class", "2d_u8_all37", "3d_f32_mixed2d", "3d_u8_all37"]


def check_agreement(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """The tolerances of the project: single trees may vote otherwise where a feature equals a threshold."""
    assert found.shape == expected.shape
    error = np.abs(found.astype(np.float64) - expected)
    assert error.mean() < 1e-4
    assert (error.max(-1) > 0.005).mean() <= 0.005
    assert error.max() <= 0.1
    assert (found.argmax(-1) == expected.argmax(-1)).mean() >= 0.9999


@pytest.mark.parametrize(
    ("name", "variant", "expected"),
    [
        pytest.param(
            name, "fastfilters", "expected_probabilities.h5", marks=pytest.mark.soak if name in LARGE else ()
        )
        for name in CASES
    ]
    + [
        ("3d_u8_vigra_trained", "vigra", "expected_probabilities.h5"),
        ("3d_u8_vigra_trained", "fastfilters", "expected_probabilities_fastfilters.h5"),
    ],
)
def test_agrees_with_ilastiks_export(name: str, variant: str, expected: str) -> None:
    folder = case_folder(name)
    project = load_project(str(folder / "project.ilp"))
    probabilities = read(folder / expected, "exported_data")
    found = predict(project, image_zyxc(folder / "input.h5", project.axes), variant)
    check_agreement(found.reshape(probabilities.shape), probabilities)


def test_the_variants_of_the_structure_tensor_are_not_the_same() -> None:
    folder = case_folder("3d_u8_vigra_trained")
    project = load_project(str(folder / "project.ilp"))
    image = image_zyxc(folder / "input.h5", project.axes)[:24]
    difference = np.abs(predict(project, image, "vigra") - predict(project, image, "fastfilters"))
    assert difference.max() > 0.1


def ilastiks_features(folder: Path) -> tuple[NDArray[np.float32], tuple[slice, ...]]:
    """What ilastik has computed of a crop, and where it lies."""
    with h5py.File(folder / "expected_features_crop.h5", "r") as file:
        features = file["features"]
        return features[()], tuple(map(slice, features.attrs["start"], features.attrs["stop"]))


@pytest.mark.parametrize("name", CROPS)
def test_forest_gives_ilastiks_values_bit_for_bit_on_ilastiks_features(name: str) -> None:
    folder = case_folder(name)
    features, box = ilastiks_features(folder)
    expected = read(folder / "expected_probabilities.h5", "exported_data")[box]
    forest = load_project(str(folder / "project.ilp")).forest
    assert forest is not None
    found = evaluate(forest, features.reshape(-1, features.shape[-1])).reshape(expected.shape)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", CROPS)
def test_features_agree_with_ilastiks_to_float32_noise(name: str) -> None:
    folder = case_folder(name)
    expected, box = ilastiks_features(folder)
    project = load_project(str(folder / "project.ilp"))
    interior = (slice(0, 1),) * ("z" not in project.axes) + box
    image = image_zyxc(folder / "input.h5", project.axes).astype(np.float32)
    found = compute_features(image, project.features, interior=interior).reshape(expected.shape)  # type: ignore[arg-type]
    error = np.abs(found - expected).reshape(-1, found.shape[-1])
    # The library's eigenvalues in 3D are far off in single pixels, so the mean says more than the maximum.
    assert (error.mean(0) / expected.reshape(error.shape).std(0)).max() < 2e-3


@pytest.mark.parametrize("engine", ["fast", pytest.param("reference", marks=pytest.mark.soak)])
def test_the_bundled_example_agrees_with_ilastiks_votes(engine: Literal["fast", "reference"]) -> None:
    project = load_project(str(ROOT / "data" / "membranes.ilp"))
    image = image_zyxc(ROOT / "data" / "raw.h5", project.axes)
    found = np.moveaxis(make_engine(engine, project).predict(image, whole(image)), 0, -1)
    votes = read(ROOT / "data" / "expected_votes.h5", "votes")
    expected = np.stack([100 - votes.astype(np.float32), votes], axis=-1) / np.float32(100)
    check_agreement(found, expected)
