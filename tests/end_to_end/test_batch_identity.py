"""What decides about an image's result: the fingerprints of its steps, and the state of what these are given."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import imageio.v3
import numpy as np
import pytest
import yaml

from blockwise.chain import Chain
from blockwise.outputs import VolumeOutput
from blockwise.step import BlockStep
from pipeline.__main__ import EXIT_FAILED_BLOCKS, main
from pipeline.batch.image_chains import ImageChains, image_steps
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import load_batch
from pipeline.configuration.settings import Settings
from tests.batches import CONFIG, results, run_here, times, write_config, write_images
from tests.runs import chunk_files

pytestmark = pytest.mark.usefixtures("batch_folder")


def write_masks(count: int) -> None:
    Path("masks").mkdir(exist_ok=True)
    for i in range(count):
        mask = np.zeros((50 + i, 60), np.uint8)
        mask[:20, :30] = 1
        imageio.v3.imwrite(f"masks/cell{i}.png", mask)
    rows = [{"raw": f"images/cell{i}.png", "blocks.mask": f"masks/cell{i}.png"} for i in range(count)]
    Path("masked.yaml").write_text(yaml.safe_dump(rows))


def test_a_changed_mask_is_seen() -> None:
    write_images(3)
    write_masks(3)
    assert run_here("masked.yaml")[0].computed == {"images": [0, 1, 2]}
    assert run_here("masked.yaml")[0].computed == {}
    before = {name: results(name) for name in ("cell0", "cell1", "cell2")}
    assert not before["cell1"]["probabilities"][:, 20:].any()
    mask = imageio.v3.imread("masks/cell1.png")
    imageio.v3.imwrite("masks/cell1.png", mask[::-1, ::-1])
    os.utime("masks/cell2.png", ns=(1, 1))
    assert run_here("masked.yaml")[0].computed == {"images": [1]}, "the same mask of another time is the same"
    found = results("cell1")["probabilities"]
    assert not found[:, :30].any()
    assert found[:, 40:, 40:].any()
    for name in ("cell0", "cell2"):
        np.testing.assert_array_equal(results(name)["probabilities"], before[name]["probabilities"])
    assert run_here("masked.yaml")[0].computed == {}
    # No mask any more: other steps, though their settings are the same.
    Path("masked.yaml").write_text(yaml.safe_dump([f"images/cell{i}.png" for i in range(3)]))
    assert run_here("masked.yaml")[0].computed == {"images": [0, 1, 2]}


def test_a_new_key_and_a_new_step_redo_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(2)
    assert run_here()[0].computed == {"images": [0, 1]}

    class Later(Settings):
        pyramids: bool = False

    class LaterStep(BlockStep):
        __module__ = "tasks.pyramids"
        name = "pyramids"
        version = 1

    monkeypatch.setattr("pipeline.configuration.settings.Settings", Later)
    assert load_batch("config.yaml", None).images[0].model_dump()["pyramids"] is False
    assert LaterStep in BlockStep.__subclasses__()
    run, workflow = run_here()
    assert (run.ok, run.computed, run.checked) == (True, {}, {})
    assert workflow.complete()


def test_results_that_are_wanted_in_another_place_are_made_there_though_nobody_looks_at_files() -> None:
    write_images(2)
    write_config(change_detection="metadata")
    assert run_here()[0].ok
    os.utime("images/cell0.png", ns=(1, 1))
    write_config(change_detection="metadata", output="new/{name}.n5")
    assert run_here()[0].computed == {"images": [0, 1]}
    assert Path("new/cell1.n5/thresholded").exists()


@pytest.mark.parametrize("large", [pytest.param(False, marks=pytest.mark.soak), True])
def test_a_missing_and_a_broken_project_fail_their_images_alone(
    large: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(4)
    good = Path("project.ilp").read_bytes()
    Path("broken.ilp").write_bytes(good[: len(good) // 2])
    projects = {"cell1": "missing.ilp", "cell3": "broken.ilp"}
    rows = [{"raw": f"images/cell{i}.png"} for i in range(4)]
    for row in rows:
        if project := projects.get(Path(row["raw"]).stem):
            row["prediction.project"] = project
    Path("list.yaml").write_text(yaml.safe_dump(rows))
    if large:
        write_config(batch={"small_voxels": 10}, blocks={"shape": [64, 64]})
    assert main(["plan", "--config", "config.yaml", "--manifest", "list.yaml"]) == 0
    assert "4 images: " in capsys.readouterr().out
    run, workflow = run_here("list.yaml")
    assert not run.ok
    reports = {row.name: row for row in workflow.batch._report({})}
    assert [name for name, row in reports.items() if row.state == "done"] == ["cell0", "cell2"]
    for name, project in projects.items():
        assert project in reports[name].message
    capsys.readouterr()
    assert main(["status", "--config", "config.yaml", "--manifest", "list.yaml"]) == EXIT_FAILED_BLOCKS
    shown = capsys.readouterr().out
    assert all(f"{name}: " in shown for name in projects)
    before = times()
    for project in projects.values():
        Path(project).write_bytes(good)
    run, workflow = run_here("list.yaml")
    assert run.ok, run.text
    assert before.items() <= times().items()
    assert {row.state for row in workflow.batch._report({})} == {"done"}


def test_what_is_away_for_a_while_is_done_when_it_is_there_again(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(2)
    assert run_here()[0].ok
    before = times()
    shutil.move("project.ilp", "away.ilp")
    run, workflow = run_here()
    assert not run.ok
    assert [row.state for row in workflow.batch._report({})] == ["failed", "failed"]
    assert main(["verify", "--config", "config.yaml"]) == 0
    assert "images: 0 images read, 0 damaged; 2 not read" in capsys.readouterr().out
    shutil.move("away.ilp", "project.ilp")
    run, workflow = run_here()
    assert (run.ok, run.computed) == (True, {})
    assert [row.state for row in workflow.batch._report({})] == ["done", "done"]
    capsys.readouterr()
    assert main(["status", "--config", "config.yaml"]) == 0
    assert times() == before


def as_earlier_versions_wrote_them(changes: dict[str, str] | None = None) -> None:
    """Markers and target with stamps of raw files and of settings, a digest that nobody knows any more."""
    stamps = {"configuration": "7a5bb513bcd0a92c78f0cc02142c8c26", **(changes or {})}
    for path in Path("work/images").glob("*/done/*/*.json"):
        marker = json.loads(path.read_text())
        path.write_text(json.dumps({**marker, "stamps": {"raw": marker["stamps"]["raw"], **stamps}}))
    target = json.loads(Path("work/images.json").read_text())
    del target["inputs"]["mask"]
    Path("work/images.json").write_text(json.dumps({**target, "inputs": {**target["inputs"], **stamps}}))
    Path("work/image_sizes.json").write_text('{"cb1ce640151b91f71be7ae46d4cdd024": 3000}')


CORES = {"class": 0, "sigma": 1.0, "method": "hysteresis", "core": 0.8, "final": 0.5, "keep_cores": True}


@pytest.mark.parametrize("threshold", [CONFIG["threshold"], CORES, [{**CORES, "name": "a"}, {"name": "b"}]])
def test_images_of_earlier_versions_are_checked_not_computed(threshold: Any) -> None:
    write_images(3)
    write_config(threshold=threshold)
    assert run_here()[0].ok
    as_earlier_versions_wrote_them()
    before = times()
    run, workflow = run_here()
    assert (run.ok, run.computed, run.checked) == (True, {}, {"images": [0, 1, 2]})
    assert times() == before
    assert workflow.complete()
    run, _ = run_here()
    assert (run.ok, run.computed, run.checked) == (True, {}, {})


def test_of_earlier_versions_only_what_fits_is_taken() -> None:
    write_images(3)
    write_masks(3)
    assert run_here()[0].ok
    as_earlier_versions_wrote_them({"raw": "84992 bytes, 1795782587951695701 ns"})
    assert run_here()[0].computed == {"images": [0, 1, 2]}, "another file"
    as_earlier_versions_wrote_them()
    Path("work/images/cell1/objects.csv").unlink()
    chunk = chunk_files(Path("out/cell2.n5/thresholded"))[0]
    chunk.write_bytes(chunk.read_bytes()[:-9] + b"\0" * 9)
    run, _ = run_here()
    assert (run.computed, run.checked) == ({"images": [1, 2]}, {"images": [0]})
    assert Path("work/images/cell1/objects.csv").exists()
    as_earlier_versions_wrote_them()
    write_config(threshold={"class": 1, "sigma": 1.0, "threshold": 0.45})
    assert run_here()[0].computed == {"images": [0, 1, 2]}, "other settings"
    as_earlier_versions_wrote_them()
    changed = {
        "threshold": {"class": 1, "sigma": 1.0, "threshold": 0.45},
        "connected_components": {"intensities": True},
    }
    write_config(**changed)
    assert run_here()[0].computed == {"images": [0, 1, 2]}, "no dataset tells of more columns"
    as_earlier_versions_wrote_them()
    rows = [{"raw": f"images/cell{i}.png", "blocks.mask": f"masks/cell{i}.png"} for i in range(3)]
    Path("masked.yaml").write_text(yaml.safe_dump(rows))
    assert run_here("masked.yaml")[0].computed == {"images": [0, 1, 2]}, "nobody knows which mask it was"


def test_fingerprints_of_images_that_are_alike_are_those_of_their_steps() -> None:
    write_images(3)
    write_config(threshold=[{**CORES, "name": "a"}, {"name": "b"}], connected_components={"intensities": True})
    shutil.copy("images/cell0.png", "images/cell9.png")  # alike, but in another place
    images = BatchImages(load_batch("config.yaml", None))
    chains = ImageChains(images.volumes)
    found = [chains.fingerprints(settings) for settings in images.settings]
    steps = [image_steps(settings).all() for settings in images.settings]
    assert found == [tuple(step.fingerprint for step in chain) for chain in steps]
    assert len(set(found)) == len(images.names)
    assert {name for chain in steps for name in Chain(chain).given} == {"raw"}
    assert sum(isinstance(step.output(), VolumeOutput) for step in steps[0]) == 6


def rename_classes(path: str, *names: str) -> None:
    with h5py.File(path, "r+") as file:
        file["PixelClassification/LabelNames"][...] = np.array([name.encode() for name in names], dtype=object)


@pytest.mark.soak
def test_images_that_were_moved_are_known_again() -> None:
    write_images(3)
    assert run_here()[0].computed == {"images": [0, 1, 2]}
    before = times()
    os.rename("images", "moved")
    write_config(batch={"files": f"{Path.cwd()}/moved/*.png"})
    run, workflow = run_here()
    assert (run.ok, run.computed, run.checked) == (True, {}, {}), run.text
    assert workflow.complete()
    assert times() == before
    # The same images still: one that changes is computed, one that another has replaced too, the third is not.
    image = imageio.v3.imread("moved/cell0.png")
    imageio.v3.imwrite("moved/cell0.png", image[::-1])
    shutil.copy2("moved/cell2.png", "copy.png")
    os.replace("copy.png", "moved/cell2.png")  # with its size and time, which decide where an image stays
    assert run_here()[0].computed == {"images": [0]}
    os.rename("moved", "again")
    shutil.copy2("again/cell1.png", "copy.png")
    os.replace("copy.png", "again/cell1.png")
    write_config(batch={"files": "again/*.png"})
    assert run_here()[0].computed == {"images": [1, 2]}, "copies: nobody can know that all of them is the same"
    assert run_here()[0].computed == {}


def test_of_copied_images_the_user_says_that_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(2)
    assert run_here()[0].ok
    shutil.copytree("images", "copies")  # with the times
    rows = [{"raw": f"copies/cell{i}.png", "raw.moved_from": f"images/cell{i}.png"} for i in range(2)]
    Path("list.yaml").write_text(yaml.safe_dump(rows))
    assert run_here("list.yaml")[0].computed == {}


@pytest.mark.soak
def test_names_of_classes_decide_about_no_image() -> None:
    write_images(2)
    assert run_here()[0].ok
    before, found = times(), results("cell0")
    rename_classes("project.ilp", "sky", "wall", "ground")
    run, workflow = run_here()
    assert (run.ok, run.computed, run.checked) == (True, {}, {}), run.text
    assert times() == before
    assert main(["verify", "--config", "config.yaml"]) == 0
    os.utime("images/cell0.png", ns=(1, 1))
    write_config(threshold={"class": "wall", "sigma": 1.0, "threshold": 0.4})  # the class 1 of before
    run, workflow = run_here()
    assert (run.ok, run.computed) == (True, {"images": [0]}), run.text
    assert workflow.complete()
    for name, values in results("cell0").items():
        np.testing.assert_equal(values, found[name])
    assert run_here()[0].computed == {}
    with h5py.File("project.ilp", "r+") as file:
        forest = file["PixelClassification/ClassifierForests/Forest0000/Tree_00/parameters"]
        forest[...] = forest[...] * 0.99
    assert run_here()[0].computed == {"images": [0, 1]}, "another classifier"
