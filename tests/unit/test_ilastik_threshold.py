"""ilastik's threshold over blocks: its own mask and numbers, and for all else an oracle of the whole volume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.ndimage import correlate1d, label

from blockwise.errors import UserError
from blockwise.grid import Grid
from pipeline.assembly.objects.steps import ObjectSteps
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import make_settings
from tasks.ilastik_smoothing import effective_sigma, reach, smooth_as_ilastik, taps
from tasks.stored_threshold import StoredThreshold, load_threshold
from tests.examples import examples
from tests.unit.blocked import blocked_components, blocked_threshold
from tests.unit.pixel_cases import DATA, ROOT, Edit, case_folder, copied, read, remove, replace

CASE = "objects_2d_prediction"
Image = NDArray[Any]


def votes(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    found = np.round(np.random.default_rng(seed).random(shape) * 100).astype(np.float32) / np.float32(100)
    return np.asarray(found, np.float32)


def test_the_gaussian_equals_vigras_bit_for_bit() -> None:
    stored = np.load(DATA / "vigra_smoothing.npz")
    for i in range(2):
        expected = stored[f"smoothed{i}"]
        found = smooth_as_ilastik(votes(expected.shape, i), tuple(stored[f"sigma{i}"]))
        np.testing.assert_array_equal(found, expected, strict=True)


def smoothed(probabilities: Image, sigma: tuple[float, ...]) -> NDArray[np.float32]:
    """By scipy, as the format says: doubles, rounded after each axis."""
    values = probabilities.astype(np.float32)
    if probabilities.dtype == np.uint8:
        values = values / np.float32(255)
    for axis in reversed(range(values.ndim)):
        if sigma[axis] > 0 and values.shape[axis] > 1:
            values = correlate1d(values.astype(float), taps(sigma[axis]), axis, mode="mirror").astype(np.float32)
    return values


def of_size(labels: Image, low: int, high: int | None) -> Image:
    """Labels of that size; the others 0."""
    sizes = np.bincount(labels.ravel())
    fits = (sizes >= low) & (sizes <= (labels.size if high is None else high))
    fits[0] = False
    return np.where(fits[labels], labels, 0)


def ilastiks_objects(
    final: Image, core: Image, low: float, high: float | None, sizes: tuple[int, int | None]
) -> NDArray[np.int64]:
    """Smoothed values to numbers, in the order of the format file; connectivity over faces."""
    objects = label(final >= np.float32(low))[0]
    if high is not None:
        cores = of_size(label(core >= np.float32(high))[0], *sizes) > 0
        objects = np.where(np.isin(objects, np.unique(objects[cores])), objects, 0)
    numbers: NDArray[np.int64] = label(of_size(objects, *sizes))[0]
    return numbers


def test_the_reference_case_is_equal_in_mask_and_numbers_for_every_block_shape() -> None:
    folder = case_folder(CASE)
    expected = read(folder / "expected_identities.h5", "exported_data")[..., 0]
    stored = load_threshold(str(folder / "project.ilp"))
    assert stored == StoredThreshold(1, 2, 2, {"x": 1.0, "y": 1.5, "z": 1.0}, 0.45, 0.8, 15, 5000)
    probabilities = read(folder / "prediction.h5", "exported_data")[..., stored.channel]
    sizes = stored.min_size, stored.max_size
    for blocks in ((180, 220), (64, 64), (33, 47), (180, 17), (5, 200)):
        grid = Grid("yx", expected.shape, blocks)
        sigma = stored.sigma["y"], stored.sigma["x"]
        mask = blocked_threshold(probabilities, sigma, stored.low, grid, core=stored.high, like="ilastik")
        found, objects = blocked_components(
            mask, 1, 4, grid, *sizes[:1], max_size=sizes[1], has_core=True, core_sizes=sizes
        )
        np.testing.assert_array_equal(found, expected)
        assert len(objects["voxels"]) == 55


@st.composite
def cases(draw: st.DrawFn) -> tuple[Image, Image, tuple[int, ...], tuple[float, ...]]:
    shape = tuple(draw(st.integers(1, 14)) for _ in range(3))
    seed = draw(st.integers(0, 2**32 - 1))
    dtype = draw(st.sampled_from(["float32", "uint8"]))
    images = [votes(shape, seed), votes(shape, seed + 1)]
    if dtype == "uint8":
        images = [np.rint(255 * p).astype(np.uint8) for p in images]
    blocks = tuple(draw(st.integers(2, n + 3)) for n in shape)
    sigma = tuple(draw(st.sampled_from([0.3, 0.7, 1.0, 1.6])) for _ in shape)
    sigma = effective_sigma(tuple(s if reach(s) < n else 0.1 for s, n in zip(sigma, shape, strict=True)), shape)
    return images[0], images[1], blocks, sigma


@settings(max_examples=examples(50), deadline=None)
@given(case=cases(), low=st.sampled_from([0.3, 0.5, 0.52]), sizes=st.sampled_from([(0, None), (4, 30), (2, None)]))
def test_simple_equals_the_whole_volume(case: Any, low: float, sizes: Any) -> None:
    image, _, blocks, sigma = case
    grid = Grid("zyx", image.shape, blocks)
    mask = blocked_threshold(image, sigma, low, grid, like="ilastik")
    found, _ = blocked_components(mask, 1, 6, grid, sizes[0], max_size=sizes[1])
    whole = smoothed(image, sigma)
    np.testing.assert_array_equal(mask, whole >= np.float32(low))
    np.testing.assert_array_equal(found, ilastiks_objects(whole, whole, low, None, sizes))


@settings(max_examples=examples(50), deadline=None)
@given(
    case=cases(),
    low=st.sampled_from([0.3, 0.45, 0.5]),
    span=st.sampled_from([-0.2, -0.05, 0.0, 0.05, 0.1]),
    other=st.booleans(),
    sizes=st.sampled_from([(0, None), (3, 40), (2, None)]),
)
def test_hysteresis_equals_the_whole_volume(case: Any, low: float, span: float, other: bool, sizes: Any) -> None:
    image, of_core, blocks, sigma = case
    grid, high = Grid("zyx", image.shape, blocks), low + (span if other else abs(span))
    mask = blocked_threshold(
        image, sigma, low, grid, core=high, core_probabilities=of_core if other else None, like="ilastik"
    )
    has_sizes = sizes[0] > 1
    found, _ = blocked_components(
        mask,
        1,
        6,
        grid,
        sizes[0],
        max_size=sizes[1],
        has_core=True,
        core_sizes=sizes if has_sizes else None,
        cores_outside=other and span < 0,
    )
    core = smoothed(of_core if other else image, sigma)
    final = smoothed(image, sigma) + core if other else core
    np.testing.assert_array_equal(found, ilastiks_objects(final, core, low, high, sizes))


def test_a_value_that_equals_the_threshold_is_above_it() -> None:
    image = np.full((6, 7), 0.45, np.float32)
    grid = Grid("yx", image.shape, (6, 7))
    assert blocked_threshold(image, (1.0, 1.0), 0.45, grid, like="ilastik").all()
    assert not blocked_threshold(image, (0.0, 0.0), 0.46, grid, like="ilastik").any()


def test_one_sigma_that_is_too_small_switches_off_smoothing_along_all_axes() -> None:
    assert effective_sigma((0.09, 2.0, 2.0), (5, 20, 20)) == (0, 0, 0)
    assert effective_sigma((0.09, 2.0, 3.0), (1, 20, 20)) == (0, 2, 3)
    assert effective_sigma((0.1, 2.0), (20, 20)) == (0.1, 2)
    assert effective_sigma((2.0, 2.0), (1, 1)) == (0, 0)


def objects(folder: Path, threshold: Any, **changes: Any) -> ObjectSteps:
    values = {
        "work_dir": f"{folder}/work",
        "raw": f"{ROOT}/data/raw.h5:data",
        "output": f"{folder}/out.n5",
        "prediction": {"project": f"{ROOT}/data/membranes.ilp"},
        "threshold": threshold,
        **changes,
    }
    return build_steps(make_settings(values, "test")).objects[0]


def test_values_of_ilastik_are_those_of_the_steps(tmp_path: Path) -> None:
    made = objects(
        tmp_path,
        {"as": "ilastik", "method": "hysteresis", "core": 0.8, "final": 0.4, "sigma": [1, 2, 3]},
        connected_components={"min_size": 15, "max_size": 900},
    )
    assert (made.threshold.like, made.threshold.sigma, made.threshold.halo) == ("ilastik", (1, 2, 3), (2, 4, 6))
    assert made.threshold.settings()["as"] == "ilastik"
    assert (made.component_faces.connectivity, made.component_faces.core_sizes) == (6, True)
    assert (made.component_merge.core_min_size, made.component_merge.core_max_size) == (15, 900)
    assert made.component_merge.numbering == "restart"
    assert "as" not in objects(tmp_path, {"as": "skimage"}).threshold.settings()


def stored_in(folder: Path, *edits: Edit) -> str:
    path = copied(CASE, folder, "project.ilp")
    with h5py.File(path, "r+") as file:
        for edit in (replace("ThresholdTwoLevels/Channel", 1), replace("ThresholdTwoLevels/CoreChannel", 1), *edits):
            edit(file)
    return str(path)


def test_a_project_says_all_values(tmp_path: Path) -> None:
    path = stored_in(tmp_path, replace("ThresholdTwoLevels/SmootherSigma/z", 3.0))
    own = {"intensities": True}
    made = objects(tmp_path, {"as": "project", "project": path, "keep_cores": True, "connected_components": own})
    step = made.threshold
    assert (step.class_index, step.sigma, step.threshold, step.core) == (1, (3.0, 1.5, 1.0), 0.45, 0.8)
    assert (step.core_class, step.like) == (None, "ilastik")
    assert (made.component_merge.min_size, made.component_merge.max_size) == (15, 5000)
    assert made.cores is not None
    assert made.measures is not None
    again = objects(tmp_path, {"as": "project", "project": path})
    other = stored_in(tmp_path, replace("ThresholdTwoLevels/LowThreshold", 0.5))
    assert objects(tmp_path, {"as": "project", "project": other}).threshold.fingerprint != again.threshold.fingerprint


def test_a_project_of_pixels_and_objects_says_both(tmp_path: Path) -> None:
    """ilastik's "Object Classification (from pixel classification)" has the groups of pixel classification."""
    path = tmp_path / "both.ilp"
    shutil.copy(ROOT / "data" / "membranes.ilp", path)
    with h5py.File(path, "r+") as both, h5py.File(stored_in(tmp_path), "r", locking=False) as of_objects:
        replace("workflowName", b"Object Classification (from pixel classification)")(both)
        of_objects.copy("ThresholdTwoLevels", both)
    made = objects(tmp_path, "project", prediction={"project": str(path)})
    assert (made.threshold.class_index, made.threshold.threshold, made.threshold.core) == (1, 0.45, 0.8)
    plain = objects(tmp_path, {"class": 1})
    assert made.threshold.probabilities.fingerprint == plain.threshold.probabilities.fingerprint


def test_simple_and_very_old_projects(tmp_path: Path) -> None:
    path = stored_in(tmp_path, replace("ThresholdTwoLevels/CurOperator", 0), remove("ThresholdTwoLevels/CoreChannel"))
    assert objects(tmp_path, {"as": "project", "project": path}).threshold.threshold == 0.45
    path = stored_in(
        tmp_path, replace("ThresholdTwoLevels/CurOperator", 0), replace("ThresholdTwoLevels/SingleThreshold", 0.7)
    )
    assert objects(tmp_path, {"as": "project", "project": path}).threshold.threshold == 0.7
    path = stored_in(tmp_path, replace("ThresholdTwoLevels/CoreChannel", 0))
    made = objects(tmp_path, {"as": "project", "project": path})
    assert (made.threshold.class_index, made.threshold.core_class) == (1, 0)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (remove("ThresholdTwoLevels"), r"holds no threshold .*\(from prediction image\)"),
        (replace("ThresholdTwoLevels/CurOperator", 2), "of the method 'graph cut', which is not computed here"),
        (replace("ThresholdTwoLevels/CurOperator", 3), "don't merge cores\", which is not computed here"),
        (
            replace("ThresholdTwoLevels/LowThreshold", 1.5),
            "holds values that cannot be:\nfinal: found 1.5",
        ),
        (replace("ThresholdTwoLevels/Channel", 7), "threshold.class: 7 is no class"),
        (replace("ThresholdTwoLevels/SmootherSigma/y", 90.0), "looks 180 voxels far, but there are"),
        (replace("ThresholdTwoLevels/MinSize", [1, 2]), "its threshold cannot be read"),
    ],
)
def test_what_a_project_says_and_cannot_be_is_refused(tmp_path: Path, edit: Edit, said: str) -> None:
    with pytest.raises(UserError, match=said):
        objects(tmp_path, {"as": "project", "project": stored_in(tmp_path, edit)})


@pytest.mark.parametrize(
    ("threshold", "components", "said"),
    [
        ({"as": "project", "sigma": 2}, {}, "sigma: as: project takes this from the project"),
        ({"as": "ilastik", "project": "a.ilp"}, {}, "project: only with as: project"),
        (
            {"as": "ilastik", "method": "hysteresis", "core": 0.8, "final": 0.4, "core_min_size": 3},
            {},
            "ilastik takes those of connected_components",
        ),
        ({"as": "ilastik"}, {"connectivity": 26}, "threshold.as: ilastik makes objects .* joined over faces"),
        ({"as": "ilastik"}, {"foreground": 0}, "threshold.as: ilastik makes objects of what lies above"),
        ("project", {}, "membranes.ilp: holds no threshold .* the workflow is 'Pixel Classification'"),
        ([{"as": "project", "name": "a", "project": "none.ilp"}], {}, "project none.ilp: there is no such file"),
    ],
)
def test_settings_that_are_not_ilastiks_are_refused(
    tmp_path: Path, threshold: Any, components: Any, said: str
) -> None:
    with pytest.raises((UserError, ValidationError), match=said):
        objects(tmp_path, threshold, connected_components=components)
