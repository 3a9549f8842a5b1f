"""Several thresholds of one prediction, hysteresis, intensities, and the simple segmentation, run for real."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from skimage.filters import apply_hysteresis_threshold, gaussian
from skimage.measure import label, regionprops_table

from blockwise.errors import UserError
from blockwise.volume import open_volume
from pipeline import PredictionWorkflow, SimpleSegmentationWorkflow
from pipeline.__main__ import main
from pipeline.configuration.settings import load_settings
from pipeline.exporting.results import export_result
from pipeline.inspecting.cleaning import find_ours
from pipeline.running.report import RunReport
from pipeline.running.session import end_sessions
from tests.runs import ROOT, SHAPE, STEPS, Project, assert_same

SEVERAL = [
    {"name": "cells", "class": 0, "sigma": 1.0, "method": "hysteresis", "core": 0.9, "final": 0.6, "keep_cores": True,
     "connected_components": {"connectivity": 6, "min_size": 400, "max_size": 5000, "intensities": True}},
    {"name": "walls", "class": 1, "sigma": [1.6, 1.6, 1.6], "threshold": 0.25},
]  # fmt: skip


def dataset(name: str) -> np.ndarray:
    volume = open_volume(f"result.n5:{name}")
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def test_each_threshold_equals_the_whole_volume_and_shares_the_prediction(project: Project, expected: Any) -> None:
    project.change("threshold", SEVERAL)
    run = project.run()
    assert run.ok
    assert "prediction" not in run.computed, "the finished prediction serves all thresholds"
    expected_steps = {f"{step}_{name}" for step in STEPS[1:] for name in ("cells", "walls")}
    assert set(run.computed) == {*expected_steps, "cores_cells", "measures_cells"}

    np.testing.assert_array_equal(dataset("thresholded_walls"), expected["thresholded"])
    np.testing.assert_array_equal(dataset("connected_components_walls"), expected["connected_components"])
    assert (project.folder / "work" / "objects_walls.csv").read_bytes() == expected["objects"]

    smoothed = gaussian(expected["probabilities"][0], 1.0)
    whole = label(apply_hysteresis_threshold(smoothed, 0.6, 0.9), connectivity=1)
    sizes = np.bincount(whole.ravel())
    kept = np.flatnonzero((sizes >= 400) & (sizes <= 5000) & (np.arange(len(sizes)) > 0))
    assert 2 < len(kept) < sizes.size - 1
    numbers = np.zeros(len(sizes), int)
    numbers[kept] = np.arange(1, len(kept) + 1)
    objects = dataset("connected_components_cells")
    np.testing.assert_array_equal(objects, numbers[whole])
    cores = np.where(smoothed > 0.9, objects, 0)
    np.testing.assert_array_equal(dataset("cores_cells"), cores)
    assert 2 < len(np.unique(cores)) == len(np.unique(objects))

    with h5py.File(ROOT / "data" / "raw.h5") as file:
        raw = file["data"][tuple(slice(20, 20 + n) if n < 100 else slice(0, n) for n in SHAPE)]
    table = pd.read_parquet("work/objects_cells.parquet")
    properties = regionprops_table(
        objects.astype(int), raw.astype(float), properties=("area", "intensity_mean", "intensity_std")
    )
    np.testing.assert_array_equal(table["voxels"], properties["area"])
    np.testing.assert_allclose(table["intensity_mean_0"], properties["intensity_mean"], rtol=1e-12)
    np.testing.assert_allclose(table["intensity_std_0"], properties["intensity_std"], rtol=1e-9)
    assert "intensity_mean_0" not in pd.read_parquet("work/objects_walls.parquet")

    assert project.run().computed == {}
    report = RunReport("ConnectedComponentsWorkflow", load_settings(str(project.config)), project.steps().all())
    report.write()
    assert "objects  cells: " in report.text()
    assert "work/objects_walls.csv and .parquet" in report.text()
    found = find_ours(report.settings, project.steps())
    assert {"result.n5:thresholded_cells", "work/objects_cells.csv", "work/threshold_walls.json"} <= set(found)
    assert {"result.n5:cores_cells", "work/cores_cells.json"} <= set(found)

    assert export_result(project.steps(), "labels", "{dataset}.n5:data", threshold="cells") == [
        "labels_cells.n5:data"
    ]
    exported = open_volume("labels_cells.n5:data")
    np.testing.assert_array_equal(exported.read(tuple(slice(0, n) for n in SHAPE)), objects)
    export_result(project.steps(), "cores", "{dataset}.n5:data", threshold="cells")
    np.testing.assert_array_equal(open_volume("cores_cells.n5:data").read(tuple(slice(0, n) for n in SHAPE)), cores)
    with pytest.raises(UserError, match=r"export of cores: threshold\.keep_cores is not set for walls"):
        export_result(project.steps(), "cores", "no.n5:data", threshold="walls")
    with pytest.raises(UserError, match="threshold not given; the run has cells, walls"):
        export_result(project.steps(), "mask", "mask.n5:data")

    values = yaml.safe_load(project.config.read_text())
    values["threshold"][0]["core"] = 0.95
    project.write(values)
    run = project.run()
    expected_steps = {f"{step}_cells" for step in (*STEPS[1:], "cores", "measures")}
    assert set(run.computed) == expected_steps, "the other threshold is left alone"
    assert "threshold_cells: core: 0.9 -> 0.95" in run.text


@pytest.mark.soak
def test_sizes_of_cores(project: Project, expected: Any) -> None:
    smoothed = gaussian(expected["probabilities"][0], 1.0)
    cores = label(smoothed > 0.9, connectivity=1)
    sizes = np.bincount(cores.ravel())
    fits = (sizes >= 30) & (sizes <= 3000) & (np.arange(len(sizes)) > 0)
    whole = label(smoothed > 0.6, connectivity=1)
    kept = np.unique(whole[fits[cores]])
    assert len(np.unique(whole[cores > 0])) > len(kept) > 2
    numbers = np.zeros(whole.max() + 1, int)
    numbers[kept] = np.arange(1, len(kept) + 1)

    threshold = {"class": 0, "sigma": 1.0, "method": "hysteresis", "core": 0.9, "final": 0.6, "keep_cores": True}
    project.change("connected_components", {"connectivity": 6})
    project.change("threshold", threshold)
    before = project.step("component_merge").fingerprint
    project.change("threshold", threshold | {"core_min_size": 30, "core_max_size": 3000})
    assert project.step("component_merge").fingerprint != before
    run = project.run()
    assert run.ok, run.text
    objects = dataset("connected_components")
    np.testing.assert_array_equal(objects, numbers[whole])
    np.testing.assert_array_equal(dataset("cores"), np.where(fits[cores], objects, 0))
    assert main(["verify", "--config", "config.yaml"]) == 0
    assert project.run().computed == {}


def test_cores_of_another_class(project: Project, expected: Any) -> None:
    values = {"class": 0, "sigma": 1.0, "method": "hysteresis", "core": 0.6, "final": 0.3}
    project.change("connected_components.foreground", 1)
    project.change("threshold", {**values, "core_class": "Class 1"})
    alike = project.step("threshold").fingerprint
    project.change("threshold", values)
    assert project.step("threshold").fingerprint == alike, "the same class by its name"
    project.change("threshold", {**values, "core_class": "Class 2"})
    step = project.step("threshold")
    assert step.fingerprint != alike
    prepared = step.prepare()
    a, b = (gaussian(p, 1.0) for p in expected["probabilities"])
    for block in step.grid:
        mask = (a + b > 0.3).astype(np.uint8) + (b > 0.6)
        np.testing.assert_array_equal(step.compute(block, prepared), mask[block.write_box])


def test_simple_segmentation_is_the_largest_probability(project: Project, expected: Any) -> None:
    run = project.run(workflow=SimpleSegmentationWorkflow)
    assert run.ok
    assert run.computed == {"simple_segmentation": list(range(8))}
    np.testing.assert_array_equal(dataset("simple_segmentation"), expected["probabilities"].argmax(axis=0) + 1)
    assert project.run(workflow=SimpleSegmentationWorkflow).computed == {}


def test_an_export_reads_the_segmentation_where_it_is_finished(project: Project, expected: Any) -> None:
    project.change("blocks.roi", [[0, 20], [18, 36], [5, None]])
    project.change("change_detection", "metadata")
    assert project.run(workflow=PredictionWorkflow).ok
    export_result(project.steps(), "segmentation", "of_probabilities.n5:data")
    assert project.run(workflow=SimpleSegmentationWorkflow).ok
    export_result(project.steps(), "segmentation", "of_segmentation.n5:data")
    box = (slice(0, 20), slice(18, 36), slice(5, SHAPE[2]))
    classes = np.zeros(SHAPE, np.uint8)
    classes[box] = (expected["probabilities"].argmax(axis=0) + 1)[box]
    everything = tuple(slice(0, n) for n in SHAPE)
    for name in ("of_probabilities", "of_segmentation"):
        np.testing.assert_array_equal(open_volume(f"{name}.n5:data").read(everything), classes, err_msg=name)
    open_volume("result.n5:simple_segmentation", "a").write(everything, classes + 7)  # which nobody watches here
    export_result(project.steps(), "segmentation", "again.n5:data")
    np.testing.assert_array_equal(open_volume("again.n5:data").read(everything), classes + 7)


@pytest.mark.soak
def test_commands_list_a_simple_segmentation_that_was_asked_for(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(command: str) -> str:
        assert main([command, "--config", "config.yaml"]) == 0
        return " ".join(capsys.readouterr().out.split())

    for command in ("plan", "status", "verify"):
        assert "simple_segmentation" not in said(command)
    end_sessions()
    assert project.run(workflow=SimpleSegmentationWorkflow).ok
    assert "simple_segmentation 8 0 " in said("plan")
    assert "simple_segmentation 8 0 0 yes" in said("status")
    assert "simple_segmentation: 8 blocks read, 0 damaged" in said("verify")
    end_sessions()
    # It reads the prediction only: what is left of the objects makes its number no guess.
    project.change("threshold.threshold", 0.3)
    assert "simple_segmentation 8 0 " in (plan := said("plan"))
    assert "connected_components 8 <= 8" in plan
    project.change("prediction.dtype", "uint8")
    assert "simple_segmentation 8 <= 8 " in said("plan")
    assert "simple_segmentation 0 0 8 no" in said("status")


def test_simple_segmentation_needs_all_classes(unused: Project) -> None:
    unused.change("prediction.classes", [1])
    PredictionWorkflow(config=str(unused.config))
    with pytest.raises(UserError, match=r"needs prediction\.classes: all"):
        SimpleSegmentationWorkflow(config=str(unused.config))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("threshold", [{"sigma": 1}, {"sigma": 2}], "several thresholds need a name each, all different; found"),
        ("threshold", [], "the list is empty"),
        ("threshold", [SEVERAL[1], {"name": "b", "sigmaa": 1}], "threshold.1.sigmaa: unknown key; did you"),
        ("threshold", [{"name": "a/b"}], "threshold.0.name: found 'a/b'"),
        ("threshold.sigmaa", 1, "threshold.sigmaa: unknown key; did you mean 'sigma'"),
        ("threshold.core", 0.8, "threshold: found {.*core and final belong to method: hysteresis"),
        ("threshold", [SEVERAL[1], {"name": "b", "class": 7}], "threshold b.class: 7 is no class of membranes.ilp"),
        ("threshold", {"method": "hysteresis", "core": 0.8, "final": 0.5}, "foreground: 0 makes objects of what"),
        (
            "threshold",
            {"method": "hysteresis", "core": 0.8, "final": 0.5, "core_class": "x"},
            r"threshold.core_class: 'x' is no class of membranes.ilp; its classes are 0 'Class 1', 1 'Class 2'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(unused: Project, key: str, value: Any, said: str) -> None:
    unused.change(key, value)
    with pytest.raises(UserError, match=said):
        unused.steps()


def test_intensities_of_wide_numbers_are_refused(unused: Project) -> None:
    unused.change("connected_components.intensities", True)
    with h5py.File("float.h5", "w") as file:
        file["raw"] = np.zeros(SHAPE, np.float64)
        file["fits"] = np.zeros(SHAPE, np.float32)
    unused.change("raw", "float.h5:raw")
    with pytest.raises(UserError, match=r"intensities: raw float.h5:raw holds float64.*uint8, .*int32, float32\."):
        unused.steps()
    unused.change("raw", "float.h5:fits")
    assert "intensity_odd" in dict(unused.step("measures").columns)


@pytest.mark.soak
def test_columns_of_the_object_table_label_nothing_again(project: Project, expected: Any) -> None:
    project.change("connected_components.intensities", True)
    run = project.run()
    assert run.computed == {"measures": list(range(8)), "object_table": [0]}, run.text
    project.change("connected_components.probabilities", True)
    assert project.run().computed == {"measures": list(range(8)), "object_table": [0]}
    table = pd.read_parquet("work/objects.parquet")
    labels = expected["connected_components"].astype(int)
    for channel, values in enumerate(expected["probabilities"]):
        means = regionprops_table(labels, values.astype(float), properties=("intensity_mean",))["intensity_mean"]
        np.testing.assert_allclose(table[f"probability_mean_{channel}"], means, rtol=1e-12)
    assert "intensity_mean_0" in table
    project.change("connected_components", {"foreground": 0, "connectivity": 26})
    assert project.run().computed == {"object_table": [0]}
    assert_same(project.results(), expected)


def test_new_keys_at_their_defaults_change_no_fingerprint(finished: Project, project: Project) -> None:
    before = [step.fingerprint for step in project.steps().all()]
    project.change("blocks.mask", None)
    project.change("threshold.method", "simple")
    project.change("threshold.sigma_unit", "voxel")
    project.change("connected_components.max_size", None)
    project.change("connected_components.intensities", False)
    project.change("connected_components.probabilities", False)
    assert [step.fingerprint for step in project.steps().all()] == before
    values = yaml.safe_load(project.config.read_text())
    values["threshold"] = [values["threshold"]]
    project.write(values)
    assert [step.fingerprint for step in project.steps().all()] == before
