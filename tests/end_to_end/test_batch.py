"""Many files with one configuration."""

from __future__ import annotations

import io
import os
import re
import shutil
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import imageio.v3
import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console
from skimage.measure import label

from blockwise.backends import Outcome
from blockwise.errors import UserError
from blockwise.plan import plan_step
from blockwise.volume import create_volume, open_volume
from pipeline.assembly.geometry import describe_raw
from pipeline.batch.image_step import scratch_folder
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import image_settings, load_batch
from pipeline.configuration.settings import OF_CORES, Raw, Threshold, load_settings
from tasks.nodes.progress import status_text
from tasks.pixel_classification.project import Project as IlastikProject
from tasks.pixel_classification.training_images import read_pieces
from tests.batches import CASE, CONFIG, results, run_here, times, write_config, write_images
from tests.runs import DATASETS, Project, run_luigi
from tests.unit.pixel_cases import case_folder, read

pytestmark = pytest.mark.usefixtures("batch_folder")


def test_one_broken_file_of_twenty() -> None:
    write_images(20)
    good = Path("images/cell7.png").read_bytes()
    Path("images/cell7.png").write_bytes(good[:200])
    batch = Project(Path().resolve())
    code, text = run_luigi(batch, workflow="BatchWorkflow")
    assert code == 30, text
    assert "19 of 20 images done, 1 failed" in text
    assert "cell7" in text
    assert "1 of 20 images are not done; the others are" in text
    assert "Traceback" not in text
    table = pd.read_csv("work/batch.csv").set_index("name")
    assert table.loc["cell7", "state"] == "failed"
    assert "cell7.png" in table.loc["cell7", "message"]
    others = table.drop("cell7")
    assert (others["state"] == "done").all()
    assert (others["objects"] > 0).all()
    before = times()
    code, text = run_luigi(batch, workflow="BatchWorkflow")
    assert code == 30
    assert "images: 1 of 20 blocks to do" in text
    assert times() == before
    Path("images/cell7.png").write_bytes(good)
    code, text = run_luigi(batch, workflow="BatchWorkflow")
    assert code == 0, text
    assert "20 of 20 images done, 0 failed" in text
    assert before.items() <= times().items()
    assert "Nothing to do: all 20 images are done" in run_luigi(batch, workflow="BatchWorkflow")[1]
    # The whole chain of an image, its project loaded before, costs little besides what is computed.
    spent = [Path(path).read_text() for path in Path("work/images").rglob("done/*/*.json")]
    assert median(yaml.safe_load(text)["cpu_seconds"] for text in spent) < 0.1


@pytest.mark.soak
def test_a_file_that_an_image_refers_to_is_watched_as_well() -> None:
    image = read(case_folder(CASE) / "input.h5", "data")
    for folder in ("images", "store"):
        Path(folder).mkdir()
    for i in range(2):
        with h5py.File(f"store/{i}.h5", "w") as file:
            file["data"] = image[: 40 + i, :50]
        with h5py.File(f"images/{i}.h5", "w") as file:
            file["data"] = h5py.ExternalLink(f"../store/{i}.h5", "/data")
    write_config(raw={"key": "data"}, batch={"files": "images/*.h5"})
    assert run_here()[0].computed["images"] == [0, 1]
    assert run_here()[0].computed == {}
    before = results("1")["probabilities"]
    with h5py.File("store/1.h5", "r+") as file:
        file["data"][...] = 255 - file["data"][...]
    os.utime("store/1.h5", ns=(1, 1))
    assert run_here()[0].computed["images"] == [1]
    assert not np.array_equal(results("1")["probabilities"], before)
    Path("store/1.h5").unlink()
    run, workflow = run_here()
    assert not run.ok
    assert "store/1.h5" in "".join(
        failure.message for failure in workflow.batch.images.small.markers.failures().values()
    )


def test_each_image_has_the_results_of_its_own_workflow_however_it_is_computed() -> None:
    write_images(3)
    run, workflow = run_here()
    assert run.ok
    assert run.computed == {"images": [0, 1, 2]}
    assert workflow.complete()
    found = {name: results(name) for name in ("cell0", "cell1", "cell2")}
    alone = Project(Path())
    for i in range(3):
        alone.write(
            {
                **{key: CONFIG[key] for key in ("prediction", "threshold")},
                "raw": f"images/cell{i}.png",
                "work_dir": f"alone{i}",
                "output": "result.n5",
                "blocks": {"shape": [16, 32]},
            }
        )
        assert alone.run().ok
        for dataset in DATASETS:
            volume = open_volume(f"result.n5:{dataset}")
            expected = volume.read(tuple(slice(0, n) for n in volume.shape))
            np.testing.assert_array_equal(found[f"cell{i}"][dataset], expected, strict=True)
        assert found[f"cell{i}"]["objects"] == Path(f"alone{i}/objects.csv").read_bytes()
    # The largest of them block by block, in the same work folder.
    write_config(batch={"files": "images/*.png", "small_voxels": 51 * 60}, blocks={"shape": [16, 32]})
    run, workflow = run_here()
    assert run.ok
    assert run.computed["prediction"] == list(range(8))
    assert "images" not in run.computed, "small images are one block, whatever the blocks are"
    assert workflow.complete()
    for name, expected in found.items():
        for dataset, values in results(name).items():
            np.testing.assert_array_equal(values, expected[dataset], err_msg=f"{name} {dataset}")
    assert run_here()[0].computed == {}


def test_only_what_has_changed_is_computed_again() -> None:
    write_images(4)
    assert run_here()[0].ok
    shutil.copy("images/cell3.png", "images/cell10.png")
    shutil.copy("images/cell0.png", "images/a.png")  # now the first, so that all numbers move
    assert run_here()[0].computed == {"images": [0, 5]}
    Path("images/cell2.png").unlink()
    run, workflow = run_here()
    assert (run.ok, run.computed) == (True, {})
    assert len(pd.read_csv("work/batch.csv")) == 5
    assert workflow.complete()
    os.utime("images/cell1.png", ns=(1, 1))
    assert run_here()[0].computed == {"images": [2]}
    shutil.rmtree("out/cell3.n5/thresholded")
    assert run_here()[0].computed == {"images": [3]}
    write_config(threshold={"class": 1, "sigma": 1.0, "threshold": 0.5})
    assert run_here()[0].computed == {"images": [0, 1, 2, 3, 4]}
    write_config(threshold={"class": 1, "sigma": 1.0, "threshold": 0.5}, backend={"workers": 1})
    assert run_here()[0].computed == {}


@pytest.mark.parametrize("kind", ["csv", "yaml"])
def test_rows_of_a_manifest_override_settings(kind: str) -> None:
    write_images(3)
    manifest = f"list.{kind}"
    if kind == "csv":
        Path(manifest).write_text(
            "name,raw,threshold.threshold,output,connected_components.min_size\n"
            "first,images/cell0.png,,,\n"
            "second,images/cell0.png,0.6,special.zarr,\n"
            ",images/cell2.png,,,7\n"
        )
    else:
        rows = [
            {"name": "first", "raw": "images/cell0.png"},
            {"name": "second", "raw": "images/cell0.png", "threshold": {"threshold": 0.6}, "output": "special.zarr"},
            {"raw": {"path": "images/cell2.png"}, "connected_components.min_size": 7},
        ]
        Path(manifest).write_text(yaml.safe_dump(rows))
    run, workflow = run_here(manifest)
    assert run.ok
    assert workflow.batch.images.names == ("first", "second", "cell2")
    first, special = results("first"), open_volume("special.zarr:thresholded")
    mask = special.read(tuple(slice(0, n) for n in special.shape))
    assert 0 < mask.sum() < first["thresholded"].sum()
    assert special.attributes["provenance"]["threshold"] == 0.6
    objects = pd.read_csv("work/images/cell2/objects.csv")
    assert objects["voxels"].min() >= 7
    assert pd.read_csv("work/batch.csv").set_index("name").loc["cell2", "objects"] == len(objects)


def test_axes_and_time_steps_of_small_images() -> None:
    image = read(case_folder(CASE) / "input.h5", "data")
    film = np.stack([image[:60, :70], image[60:120, 70:140]])
    create_volume("film.n5:raw", film.shape, (1, 60, 70, 3), "uint8", {"axes": list("tyxc")})
    open_volume("film.n5:raw", "a").write(tuple(slice(0, n) for n in film.shape), film)
    write_config(batch={"files": ["film.n5:raw"]}, connected_components={"numbering": "restart"})
    run, _ = run_here()
    assert run.ok
    found = results("film_raw")
    assert found["probabilities"].shape == (2, 3, 60, 70)
    labels = found["connected_components"]
    assert [int(labels[t].max()) for t in range(2)] == pd.read_csv("work/images/film_raw/objects.csv").groupby(
        "t"
    ).size().tolist()


def test_cores_of_small_images() -> None:
    write_images(1)
    threshold = {"class": 0, "core_class": 1, "sigma": 1.0, "method": "hysteresis", "core": 0.5, "final": 0.7}
    write_config(threshold=threshold)
    assert run_here()[0].computed == {"images": [0]}
    write_config(threshold=threshold | OF_CORES | {"core_class": 1})
    assert run_here()[0].computed == {}, "at their defaults these keys change nothing"
    write_config(threshold=threshold | {"keep_cores": True, "core_min_size": 20})
    assert run_here()[0].computed == {"images": [0]}
    found = results("cell0")
    cores = label(found["thresholded"] == 2, connectivity=2)
    sizes = np.bincount(cores.ravel())
    assert sizes.min() < 20 < sizes[1:].max()
    volume = open_volume("out/cell0.n5:cores")
    expected = np.where((sizes >= 20)[cores] & (cores > 0), found["connected_components"], 0)
    np.testing.assert_array_equal(volume.read(tuple(slice(0, n) for n in volume.shape)), expected)
    assert set(np.unique(expected)) == set(np.unique(found["connected_components"]))
    defaults = Threshold().model_dump()
    assert OF_CORES.items() <= defaults.items()


@pytest.mark.soak
def test_a_project_of_labels_is_trained_once_for_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(case_folder("3d_u8_labels_only"), "labels")  # not seen by this process before
    read_by: list[str] = []

    def reading(project: IlastikProject) -> Any:
        read_by.append(project.path)
        return read_pieces(project)

    monkeypatch.setattr("tasks.pixel_classification.training.read_pieces", reading)
    folder = case_folder("3d_u8_labels_only")
    data = read(folder / "input.h5", "data")
    for i, part in enumerate((data[:, :40, :40], data[:, 20:, 20:])):
        with h5py.File(f"part{i}.h5", "w") as file:
            file["inner/raw"] = part
    write_config(
        raw={"key": "inner/raw", "axes": "zyx"},
        prediction={"project": "labels/project.ilp"},
        threshold={"class": 1},
        batch={"files": "part*.h5"},
    )
    run, _ = run_here()
    assert run.ok, run.text
    assert len(list(Path("work/classifiers").iterdir())) == 1
    assert len(read_by) == 2, "the training images are looked at, and trained on, once each"
    assert results("part1")["connected_components"].shape == (40, 44, 44)
    assert not scratch_folder("work").exists()


def test_files_that_have_not_changed_are_not_opened_to_see_how_large_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_images(3)
    write_config(batch={"files": "images/*.png", "small_voxels": 51 * 60}, blocks={"shape": [64, 64]})
    assert run_here()[0].ok
    opened: list[str] = []

    def describe(raw: Raw, project: IlastikProject) -> Any:
        opened.append(raw.path)
        return describe_raw(raw, project)

    monkeypatch.setattr("pipeline.batch.volumes.describe_raw", describe)
    assert BatchImages(load_batch("config.yaml", None)).large == [2]
    assert opened == []
    Path("images/cell0.png").write_bytes(Path("images/cell2.png").read_bytes())
    assert BatchImages(load_batch("config.yaml", None)).large == [0, 2]
    assert opened == ["images/cell0.png"]
    write_config(batch={"files": "images/*.png"}, raw={"axes": "cyx"})
    images = BatchImages(load_batch("config.yaml", None))
    assert images.voxels(images.settings[1]) == 180


def test_to_plan_opens_no_file_that_has_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to see whether a file of a kind that can name others does so."""
    write_images(2)
    for i in range(2):
        imageio.v3.imwrite(f"images/cell{i}.tif", imageio.v3.imread(f"images/cell{i}.png"))
    write_config(batch={"files": "images/*.tif"})
    assert run_here()[0].ok
    images = BatchImages(load_batch("config.yaml", None))
    monkeypatch.setattr("pipeline.batch.volumes.open_volume", None)
    monkeypatch.setattr("pipeline.assembly.geometry.open_volume", None)
    assert images.small is not None
    assert plan_step(images.small).items == []


def test_a_dataset_in_the_address_overrules_the_shared_one() -> None:
    Path("list.yaml").write_text(yaml.safe_dump(["a.h5:own", "b.h5", {"raw": {"path": "c.h5", "key": "third"}}]))
    write_config(raw={"key": "shared"})
    batch = load_batch("config.yaml", "list.yaml")
    found = [image_settings(batch.shared, *pair).raw.address for pair in zip(batch.names, batch.rows, strict=True)]
    assert found == ["a.h5:own", "b.h5:shared", "c.h5:third"]


def test_other_workflows_say_that_a_configuration_is_of_a_batch() -> None:
    with pytest.raises(UserError, match=r"of many files \(batch\), which BatchWorkflow runs"):
        load_settings("config.yaml")


@pytest.mark.parametrize(
    ("changes", "manifest", "words"),
    [
        ({"batch": {}}, None, "no images; set batch"),
        ({"batch": {"files": "none/*.png"}}, None, r"batch\.files: no file fits 'none/\*\.png'"),
        ({"output": "out.n5"}, None, r"images cell0 and cell1 would write into the same container; put \{name\}"),
        ({"alignment": {"slices": "images/*.png"}}, None, r"alignment\.slices is for one volume, not for a batch"),
        ({"treshold": {}}, None, "treshold: unknown key; did you mean 'threshold'"),
        ({}, "raw,threshold.sigmoid\nimages/cell0.png,1\n", r"image cell0:\n  threshold\.sigmoid: unknown key"),
        ({}, "raw,threshold.threshold\nimages/cell0.png,2\n", r"threshold\.threshold: found 2; .*less than or equal"),
        ({}, "raw,work_dir\nimages/cell0.png,x\n", "row 1: work_dir is shared by all images"),
        ({}, "raw,name\na/b.png,x\nc/d.png,x\n", "2 images are called 'x'"),
        ({}, "raw,name\na/b.png,../x\n", "cannot be called so"),
        ({}, "name\nx\n", "row 1: found .*; the key raw is needed"),
        ({}, "raw,name\nx\n", "row 1: has another number of cells"),
        ({}, "raw\n", "holds no rows"),
    ],
)
def test_what_is_wrong_is_refused_before_any_work(changes: Any, manifest: str | None, words: str) -> None:
    write_images(2)
    write_config(**changes)
    if manifest is not None:
        Path("list.csv").write_text(manifest)
    with pytest.raises(UserError, match=words):
        load_batch("config.yaml", "list.csv" if manifest is not None else None)
    assert not Path("work").exists()


def test_colons_and_brackets_in_names() -> None:
    write_images(2)
    Path("exp [1]").mkdir()
    Path("images/cell0.png").rename("exp [1]/12:30:05.png")
    Path("images/cell1.png").rename("exp [1]/b[2].png")
    write_config(batch={"files": ["exp [[]1]/*:*.png", "exp [1]/b[2].png"]})
    run, workflow = run_here()
    assert run.ok, run.text
    assert run.computed == {"images": [0, 1]}
    assert [image.raw.address for image in workflow.batch.images.settings] == [
        "exp [1]/12:30:05.png",
        "exp [1]/b[2].png",
    ]
    write_config(batch={"files": "exp [1]/*.png"})
    with pytest.raises(UserError, match=r"put it into brackets: exp \[\[\]1\]/\*\.png$"):
        load_batch("config.yaml", None)
    write_config(batch={"files": "none/*.png"})
    with pytest.raises(UserError, match=r"put it into brackets, as in \[\[\]1\]$"):
        load_batch("config.yaml", None)


def test_names_of_images_with_one_stem_are_told_apart() -> None:
    Path("list.yaml").write_text(yaml.safe_dump(["a/x.tif", "b/x.tif", "b/y.tif"]))
    assert load_batch("config.yaml", "list.yaml").names == ("a_x.tif", "b_x.tif", "y")


def test_a_large_image_that_fails_does_not_hold_up_the_others() -> None:
    write_images(3)
    imageio.v3.imwrite("images/grey.png", np.zeros((70, 70), np.uint8))  # the project wants three channels
    write_config(batch={"files": "images/*.png", "small_voxels": 52 * 60 - 1}, blocks={"shape": [64, 64]})
    run, _ = run_here()
    assert not run.ok
    table = pd.read_csv("work/batch.csv").set_index("name")
    assert table["state"].to_dict() == {"cell0": "done", "cell1": "done", "cell2": "done", "grey": "failed"}
    assert "1 channels" in table.loc["grey", "message"]


def test_speed_is_told_in_images(monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(2)
    write_config(batch={"files": "images/*.png", "small_voxels": 51 * 60 - 1}, blocks={"shape": [64, 64]})
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=150)
    monkeypatch.setattr("tasks.nodes.progress.terminal", lambda: console)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    run, workflow = run_here(show=True)
    assert run.ok
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).splitlines()
    assert any(re.match(r"images .* 1/1 [\d.]+ images/s, 0 s left", line) for line in lines), lines
    assert any(re.match(r"threshold .* 1/1 [\d.]+ [kM]?voxel/s, 0 s left", line) for line in lines), lines
    assert workflow.batch.images.small is not None
    text = status_text(Outcome(total=3, computed=2, voxels=2), workflow.batch.images.small.unit)
    assert re.match(r"2 of 3 images done, 0 failed\n[\d.]+ images/s, ", text)
