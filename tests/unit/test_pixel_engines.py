"""Engines say what they need before they start, and what they need is what they use."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from blockwise.errors import UserError
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.features import FILTERS, Feature, check_size
from tasks.pixel_classification.project import load_project
from tests.unit.pixel_cases import DATA, ROOT, Edit, axis_tags, edited, remove, replace

IMAGE = "Input Data/infos/lane0000/Raw Data"
OF_PIXELS = "Object Classification (from pixel classification)"

MEASURE = """
import sys
from dataclasses import replace
import numpy as np
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.features import Feature, n_channels
from tasks.pixel_classification.project import load_project
from tasks.pixel_classification.forest import Tree, join_trees

def peak():
    lines = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(lines["VmHWM"].split()[0]) * 1024

path, ids, n, flat, channels = sys.argv[1:]
ids, n, flat, channels = ids.split(), int(n), flat == "flat", int(channels)
shape = (1, n, n) if flat else (n, n, n)
features = tuple(Feature(name, scale, flat) for name in ids for scale in (1.0, 1.6))
rng = np.random.default_rng(0)
columns = n_channels(features, channels, shape[0])
leaf = Tree(np.array([-1]), np.zeros(1), np.zeros(1, int), np.zeros(1, int), np.array([[1.0, 0.0]]))
forest = join_trees([leaf], (1,), columns, (0, 1))
project = replace(load_project(path), features=features, forest=forest, n_channels=channels)
engine = make_engine("reference", project)
small = np.zeros((min(shape[0], 16), 16, 16, channels), np.uint8)
engine.predict(small, tuple(slice(0, k) for k in small.shape[:3]))
image = rng.integers(0, 255, (*shape, channels), dtype=np.uint8)
before = peak()
engine.predict(image, tuple(slice(0, k) for k in shape))
print((peak() - before) / np.prod(shape), engine.bytes_per_voxel)
"""

ALL = " ".join(FILTERS)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize(
    ("ids", "n", "kind", "channels"),
    [
        pytest.param("GaussianSmoothing", 96, "deep", 1, marks=pytest.mark.soak),
        pytest.param("LaplacianOfGaussian HessianOfGaussianEigenvalues", 72, "deep", 1, marks=pytest.mark.soak),
        pytest.param("StructureTensorEigenvalues", 72, "deep", 1, marks=pytest.mark.soak),
        pytest.param(ALL, 64, "deep", 2, marks=pytest.mark.soak),
        pytest.param(ALL, 500, "flat", 3, marks=pytest.mark.soak),
    ],
)
def test_projected_memory_is_at_least_what_is_used_and_at_most_three_times(
    ids: str, n: int, kind: str, channels: int
) -> None:
    arguments = [str(ROOT / "data" / "membranes.ilp"), ids, str(n), kind, str(channels)]
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    used, projected = map(float, run.stdout.split())
    assert used <= projected <= 3 * used


def test_an_unknown_engine_is_refused() -> None:
    project = load_project(str(ROOT / "data" / "membranes.ilp"))
    with pytest.raises(UserError, match=r"prediction.engine: 'fastest' is not known; known are .*reference"):
        make_engine("fastest", project)


@pytest.mark.skipif(importlib.util.find_spec("ilastik") is not None, reason="ilastik is installed here")
def test_ilastik_is_refused_where_it_is_not_installed() -> None:
    project = load_project(str(ROOT / "data" / "membranes.ilp"))
    with pytest.raises(
        UserError, match=r"ilastik is not installed for .*python.*environment\.yml.*reference"
    ) as caught:
        make_engine("ilastik", project)
    assert sys.executable in str(caught.value)
    assert (ROOT / "environment.yml").exists()


def test_a_broken_ilastik_is_refused_with_its_error(tmp_path: Path) -> None:
    package = tmp_path / "ilastik" / "experimental" / "api"
    package.mkdir(parents=True)
    for folder in (package.parent.parent, package.parent):
        (folder / "__init__.py").touch()
    (package / "__init__.py").write_text("import a_module_that_is_missing\n")
    code = (
        "from blockwise.errors import UserError\n"
        "from tasks.pixel_classification.ilastik_api import installed\n"
        "try:\n    installed()\nexcept UserError as error:\n    print(error)"
    )
    paths = f"{tmp_path}:{ROOT}"
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    assert "but fails: ModuleNotFoundError: No module named 'a_module_that_is_missing'" in run.stdout


@pytest.mark.parametrize(
    ("case", "edit", "message"),
    [
        ("3d_u8_labels_only", remove(), "holds labels but no classifier, which ilastik's Python API does not accept"),
        (
            "2d_rgb_u8_3class",
            replace(f"{IMAGE}/axistags", axis_tags("cyx")),
            "has the axes cyx, and ilastik's Python",
        ),
        (
            "3d_u16_few_3class",
            remove("FeatureSelections/ComputeIn2d"),
            "without FeatureSelections/ComputeIn2d, which",
        ),
        ("3d_u16_few_3class", remove("PixelClassification/ClassifierFactory"), r"saved by ilastik 1\.4\.3.* without"),
        ("3d_u16_few_3class", remove(f"{IMAGE}/shape"), "without Input Data/infos/lane0000/Raw Data/shape"),
        ("3d_u16_few_3class", replace("workflowName", OF_PIXELS), "of which ilastik's Python API reads no pixel"),
    ],
)
def test_ilastik_is_not_asked_for_what_it_cannot_do(case: str, edit: Edit, message: str, tmp_path: Path) -> None:
    edits = [edit]
    if "cyx" in message:
        edits.append(replace(f"{IMAGE}/shape", [3, 160, 200]))
    project = load_project(edited(tmp_path, *edits, case=case))
    with pytest.raises(UserError, match=message) as error:
        make_engine("ilastik", project)
    assert ". " not in str(error.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("feature", "shape", "message"),
    [
        (Feature("GaussianSmoothing", 10.0, False), (35, 50, 50), "35 voxels along z.* scale 10.0 needs at least 36"),
        (Feature("GaussianSmoothing", 10.0, True), (1, 50, 35), "35 voxels along x"),
        (Feature("GaussianSmoothing", 0.3, True), (1, 2, 50), "2 voxels along y.* needs at least 3"),
    ],
)
def test_volumes_too_small_for_a_scale_are_refused(
    feature: Feature, shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_size([feature], shape)
    enough = tuple(36 if n == 35 else 3 if n == 2 else n for n in shape)
    check_size([feature], enough)  # type: ignore[arg-type]


def test_slices_are_not_predicted_with_a_project_of_volumes() -> None:
    engine = make_engine("reference", load_project(str(ROOT / "data" / "membranes.ilp")))
    engine.check_shape((96, 128, 128))
    with pytest.raises(UserError, match=r"trained on 12 feature channels, but a volume of shape \(1, 128, 128\)"):
        engine.check_shape((1, 128, 128))


def test_a_project_without_a_classifier_is_not_used_by_mistake() -> None:
    engine = make_engine("reference", load_project(str(DATA / "3d_u8_labels_only" / "project.ilp")))
    with pytest.raises(ValueError, match="has no forest; train it first"):
        engine.predict(None, (slice(0, 1),) * 3)  # type: ignore[arg-type]
