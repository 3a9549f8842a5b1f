"""A project of two stages: run, looked at, changed, damaged, exported, removed; and in a batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import imageio.v3
import numpy as np
import pytest

from blockwise.backends.local_executor import LocalExecutor
from blockwise.volume import open_volume
from pipeline.__main__ import main
from pipeline.running.session import end_sessions
from pipeline.running.workflows import PredictionWorkflow
from pipeline.viewing.site import Site
from pipeline.viewing.state import first_state
from tests.batches import run_here, write_config
from tests.runs import Project, chunk_files
from tests.unit.pixel_cases import case_folder, read
from tests.unit.test_pixel_reference import check_agreement
from tests.viewer import served

CASE = "autocontext_2d_u8_3class"
STAGE_1, STAGE_2 = "probabilities_stage_1", "probabilities"


@pytest.fixture
def two_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A folder with the case's image and project; it is the current one."""
    monkeypatch.chdir(tmp_path)
    for file in ("project.ilp", "input.h5"):
        shutil.copy(case_folder(CASE) / file, file)
    project = Project(tmp_path)
    project.write(
        {
            "work_dir": "work",
            "raw": "input.h5:data",
            "output": "result.n5",
            "blocks": {"shape": [90, 110]},
            "prediction": {"project": "project.ilp"},
            "threshold": {"class": 1, "threshold": 0.5},
        }
    )
    yield project
    end_sessions()


@pytest.mark.soak
def test_both_stages_are_computed_where_one_looks(two_stages: Project) -> None:
    def computing() -> Site:
        return Site.of(two_stages.steps(), LocalExecutor(2, 120.0), max_attempts=1)

    with served(computing) as shown:
        colours = shown.site.colours()
        assert len(set(colours.values())) == len(shown.site.layers[STAGE_2].classes)
        assert set(colours) >= {*shown.site.layers[STAGE_1].classes, *shown.site.layers[STAGE_2].classes}
        layers = first_state(shown.site.layers.values(), "", colours, None)["layers"]
        names = [("classes of stage 1", False), ("classes", True)]
        assert [(one["name"], one["visible"]) for one in layers if one["name"].startswith("classes")] == names
        found = {name: shown.roi(name, "0,0", "20,30") for name in (STAGE_2, STAGE_1)}
        computed = {step["step"]: step["computed"] for step in shown.api("/status").json["steps"]}
        assert computed["prediction_2"] == 1
    run = two_stages.run()
    assert run.ok, run.text
    assert len(run.computed["prediction_2"]) == 3
    for name, values in found.items():
        np.testing.assert_array_equal(values, stored(name)[:, :20, :30], strict=True)


def stored(dataset: str, container: str = "result.n5") -> np.ndarray[Any, Any]:
    volume = open_volume(f"{container}:{dataset}")
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def keys(dataset: h5py.Dataset) -> list[str]:
    return [axis["key"] for axis in json.loads(dataset.attrs["axistags"])["axes"]]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main([arguments[0], *arguments[1:], "--config", "config.yaml"])
    return code, " ".join("".join(capsys.readouterr()).split())


@pytest.mark.soak
def test_a_run_is_taken_up_verified_and_removed(two_stages: Project, capsys: pytest.CaptureFixture[str]) -> None:
    run = two_stages.run()
    assert run.ok, run.text
    assert run.computed["prediction"] == run.computed["prediction_2"] == [0, 1, 2, 3]
    expected = read(case_folder(CASE) / "expected_probabilities.h5", "exported_data")
    check_agreement(np.moveaxis(stored(STAGE_2), 0, -1), expected)
    of_first = read(case_folder(CASE) / "expected_stage1.h5", "exported_data")
    cut_off = np.floor(of_first * np.float32(255))
    assert stored(STAGE_1).dtype == np.uint8
    assert (np.moveaxis(stored(STAGE_1), 0, -1) != cut_off).mean() < 1e-3
    assert two_stages.run().computed == {}

    chunk = chunk_files(Path("result.n5") / STAGE_1)[0]
    chunk.write_bytes(chunk.read_bytes()[:-3])
    assert call(capsys, "verify")[0] == 50
    before = stored(STAGE_2)
    run = two_stages.run()
    assert run.ok
    assert run.computed == {"prediction": [0]}, "the same bytes: nothing after them is done again"
    np.testing.assert_array_equal(stored(STAGE_2), before)

    assert "prediction_2 4 0 0 yes" in call(capsys, "status")[1]
    two_stages.change("prediction.export_stage_1", True)
    assert "prediction_2 4 <= 4" in call(capsys, "plan")[1]
    code, said = call(capsys, "clean", "--yes")
    assert code == 0
    assert {f"result.n5:{STAGE_1}", f"result.n5:{STAGE_2}"} <= set(said.split())
    assert sorted(path.name for path in Path().iterdir()) == ["config.yaml", "input.h5", "project.ilp"]


@pytest.mark.soak
def test_the_first_stage_is_exported_where_it_is_kept(
    two_stages: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert two_stages.run(workflow=PredictionWorkflow).ok
    cut = stored(STAGE_2)
    code, said = call(capsys, "export", STAGE_1, "one.h5")
    assert code == 40
    assert "is kept as uint8, cut off as the second stage reads it; set prediction.export_stage_1: true" in said
    two_stages.change("prediction.export_stage_1", True)
    assert two_stages.run(workflow=PredictionWorkflow).ok
    np.testing.assert_array_equal(stored(STAGE_2), cut)
    for what, file in ((STAGE_1, "expected_stage1.h5"), (STAGE_2, "expected_probabilities.h5")):
        assert call(capsys, "export", what, f"{what}.h5", "--axes", "yxc")[0] == 0
        ilastiks_file = h5py.File(case_folder(CASE) / file, "r", locking=False)
        with h5py.File(f"{what}.h5") as exported, ilastiks_file as ilastiks:
            ours, theirs = exported["exported_data"], ilastiks["exported_data"]
            check_agreement(ours[()], theirs[()])
            assert list(ours.attrs["drange"]) == list(theirs.attrs["drange"])
            assert keys(ours) == keys(theirs)


@pytest.mark.soak
def test_a_region_that_grows_redoes_what_its_border_has_cut(two_stages: Project) -> None:
    """The first stage is computed beyond the region, as far as the second looks, and grows with it."""
    two_stages.change("blocks", {"shape": [30, 40], "chunks": [30, 40], "roi": [[0, 60], [0, 90]]})
    assert two_stages.run(workflow=PredictionWorkflow).ok
    first = set(two_stages.step("prediction").grid.ids())
    assert len(first) > len(two_stages.step("prediction_2").grid)
    two_stages.change("blocks.roi", None)
    run = two_stages.run(workflow=PredictionWorkflow)
    assert run.ok, run.text
    assert len(run.computed["prediction"]) < len(two_stages.step("prediction").grid)
    assert len(run.computed["prediction_2"]) < len(two_stages.step("prediction_2").grid)
    found = stored(STAGE_1), stored(STAGE_2)
    two_stages.change("work_dir", "fresh")
    two_stages.change("output", "fresh.n5")
    assert two_stages.run(workflow=PredictionWorkflow).ok
    for mine, dataset in zip(found, (STAGE_1, STAGE_2), strict=True):
        np.testing.assert_array_equal(mine, stored(dataset, "fresh.n5"))


@pytest.mark.soak
def test_what_a_project_of_two_stages_has_left_is_removed_with_the_results_of_another(
    two_stages: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert two_stages.run(workflow=PredictionWorkflow).ok
    with h5py.File("project.ilp", "r+") as file:
        del file["workflowName"]
        file["workflowName"] = b"Pixel Classification"
    assert two_stages.run(workflow=PredictionWorkflow).computed == {"prediction": [0, 1, 2, 3]}
    said = call(capsys, "clean", "--yes")[1]
    assert {f"result.n5:{STAGE_1}", f"result.n5:{STAGE_2}"} <= set(said.split())
    assert not Path("work").exists()


@pytest.mark.soak
def test_images_of_a_batch_have_both_stages(two_stages: Project) -> None:
    image = read(Path("input.h5"), "data")
    Path("images").mkdir()
    imageio.v3.imwrite("images/small.png", image[:60, :80])
    imageio.v3.imwrite("images/large.png", image[:110, :90])
    changes = {"batch": {"files": "images/*.png", "small_voxels": 5000}, "blocks": {"shape": [64, 64]}}
    write_config(**changes)
    run, _ = run_here()
    assert run.ok, run.text
    for name, (y, x) in (("small", (60, 80)), ("large", (110, 90))):
        two_stages.write(
            {
                "work_dir": name,
                "raw": f"images/{name}.png",
                "output": f"{name}.n5",
                "blocks": {"shape": [y, x], "chunks": [y, x]},
                "prediction": {"project": "project.ilp"},
            }
        )
        assert two_stages.run(workflow=PredictionWorkflow).ok
        for dataset in (STAGE_1, STAGE_2):
            np.testing.assert_array_equal(stored(dataset, f"out/{name}.n5"), stored(dataset, f"{name}.n5"))
    write_config(**changes)
    assert run_here()[0].computed == {}
    assert main(["verify", "--config", "config.yaml"]) == 0
    rename_classes(1, "other", "wall", "sky")
    assert run_here()[0].computed == {}
    with h5py.File("project.ilp", "r+") as file:
        forest = file["PixelClassification01/ClassifierForests/Forest0000"]
        parameters = next(forest[name] for name in forest if name.startswith("Tree_"))["parameters"]
        parameters[...] = parameters[...] * 0.99
    run, _ = run_here()
    assert run.computed["images"] == [0]
    assert "prediction" not in run.computed


def rename_classes(stage: int, *names: str) -> None:
    with h5py.File("project.ilp", "r+") as file:
        found = [name for name in sorted(file) if name.startswith("PixelClassification")]
        labels = file[found[stage]]["LabelNames"]
        assert len(labels) == len(names)
        labels[...] = np.array([name.encode() for name in names], dtype=object)


@pytest.mark.soak
def test_names_of_classes_decide_about_nothing(two_stages: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert two_stages.run().ok
    found = stored(STAGE_2)
    for stage, names in ((0, ("a", "b", "c")), (1, ("d", "e", "f"))):
        rename_classes(stage, *names)
        run = two_stages.run()
        assert (run.ok, run.computed, run.checked) == (True, {}, {}), (stage, run.text)
        assert f"-> {', '.join(names)}; no result depends on them" in call(capsys, "plan")[1]
    chunk_files(Path("result.n5") / STAGE_1)[0].unlink()
    run = two_stages.run()
    assert (run.ok, run.computed) == (True, {"prediction": [0]}), run.text
    np.testing.assert_array_equal(stored(STAGE_2), found)
    two_stages.change("threshold.class", "e")  # the class 1 of before
    assert two_stages.run().computed == {}


@pytest.mark.soak
def test_names_of_classes_decide_about_no_image_of_a_batch(two_stages: Project) -> None:
    Path("images").mkdir()
    imageio.v3.imwrite("images/cell.png", read(Path("input.h5"), "data")[:60, :50])
    write_config(threshold={"class": 1, "threshold": 0.5})
    first = run_here()[0]
    assert first.ok, first.text
    rename_classes(0, "a", "b", "c")
    rename_classes(1, "d", "e", "f")
    assert run_here()[0].computed == {}
