"""Nothing is computed twice, nothing stale survives, and the program says why."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import z5py

from tests.runs import BLOCK, STEPS, Project, assert_same, chunk_files, dataset_folder

ALL = list(range(8))


def test_second_run_computes_nothing(project: Project) -> None:
    run = project.run()
    assert run.ok
    assert run.computed == run.checked == {}
    before = project.state()  # now that the files of the copied raw data are known
    assert project.run().computed == {}
    assert project.state() == before


def test_changed_threshold_redoes_no_prediction(project: Project, expected: Any) -> None:
    project.change("threshold.threshold", 0.3)
    run = project.run()
    assert run.ok
    assert "prediction" not in run.computed
    assert run.computed["threshold"] == ALL
    assert "threshold: threshold: 0.25 -> 0.3" in run.text
    mask = project.results()["thresholded"]
    assert not np.array_equal(mask, expected["thresholded"])
    project.change("threshold.threshold", 0.25)
    assert project.run().ok
    assert_same(project.results(), expected)


def test_changed_project_content_redoes_all(project: Project, expected: Any) -> None:
    with h5py.File("membranes.ilp", "a") as file:
        forest = file["PixelClassification/ClassifierForests/Forest0000"]
        for tree in [name for name in forest if name.startswith("Tree_")][:10]:
            values = forest[tree]["parameters"][()]
            forest[tree]["parameters"][...] = values * 0.9
    run = project.run()
    assert run.ok
    assert [len(run.computed[name]) for name in STEPS] == [8, 8, 8, 1, 8, 1]
    assert "prediction: project content: " in run.text
    assert not np.array_equal(project.results()["probabilities"], expected["probabilities"])


def test_project_saved_again_redoes_nothing(project: Project) -> None:
    with h5py.File("membranes.ilp", "a") as file:
        file["ilastikVersion"][()] = file["ilastikVersion"][()]
        file["Project/Display"] = 1
    Path("membranes.ilp").rename("renamed.ilp")
    project.change("prediction.project", "renamed.ilp")
    run = project.run()
    assert run.ok
    assert run.computed == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backend.workers", 3),
        ("backend.timeout_s", 77),
        ("backend.max_attempts", 9),
        ("backend.memory_gb", 20),
        ("change_detection", "metadata"),
    ],
)
def test_settings_that_change_no_result_redo_nothing(project: Project, key: str, value: object) -> None:
    project.change(key, value)
    run = project.run()
    assert run.ok
    assert run.computed == {}


def test_moved_work_dir_redoes_nothing(project: Project) -> None:
    shutil.move("work", "elsewhere")
    project.change("work_dir", "elsewhere")
    run = project.run()
    assert run.ok
    assert run.computed == {}


def test_rewritten_raw_chunk_redoes_what_reads_it(project: Project, tmp_path: Path) -> None:
    """The features reach 37 voxels; the last chunk begins at x = 112, so the blocks up to x = 64 do not see it."""
    raw = z5py.File("raw.n5", mode="a")["raw"]
    raw[:18, :18, 112:] = 255 - raw[:18, :18, 112:]
    run = project.run()
    assert run.ok
    step = project.steps().prediction
    reading = [b.id for b in step.grid if step.read_box(b)[2].stop > 112]
    assert reading == run.computed["prediction"] == [2, 3, 6, 7]
    assert "prediction: raw has changed below 4 of 8 blocks" in run.text
    # Block 2 ends 16 voxels before the change and block 6 as well: whatever differs there decides about the rest.
    fresh = make_project_like(project, tmp_path / "again")
    os.chdir(fresh.folder)
    assert fresh.run().ok
    assert_same(project.results(), fresh.results())


def test_later_steps_redo_only_what_has_other_input(project: Project) -> None:
    """A chunk written again with the same bytes: its readers are redone, and nothing after them."""
    raw = z5py.File("raw.n5", mode="a")["raw"]
    raw[:18, :18, :16] = raw[:18, :18, :16]
    run = project.run()
    assert run.ok
    assert run.computed == {"prediction": [0, 1, 4, 5]}


def test_changed_probabilities_spread_by_sigma(project: Project) -> None:
    """A change of the raw data far from most blocks reaches the mask only through the threshold's halo."""
    raw = z5py.File("raw.n5", mode="a")["raw"]
    raw[:18, :18, 112:] = 255 - raw[:18, :18, 112:]
    run = project.run()
    old = {0, 1, 4, 5}
    assert not old & set(run.computed["prediction"])
    # 7 voxels of halo: of the blocks at the left only the neighbours in x (1, 5) can see a change.
    assert not {0, 4} & set(run.computed["threshold"])
    assert set(run.computed["component_faces"]) <= set(run.computed["threshold"])


def make_project_like(project: Project, folder: Path) -> Project:
    folder.mkdir()
    for name in ("raw.n5", "membranes.ilp", "config.yaml"):
        source = project.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return Project(folder)


@pytest.mark.parametrize("name", ["probabilities", "thresholded", "connected_components"])
def test_deleted_output_is_made_again(project: Project, expected: Any, name: str) -> None:
    shutil.rmtree(dataset_folder(project, name))
    run = project.run()
    assert run.ok
    step = {"probabilities": "prediction", "thresholded": "threshold"}.get(name, name)
    assert run.computed == {step: ALL}
    assert f"the output of {step} is made anew: it is gone" in run.text
    assert_same(project.results(), expected)


@pytest.mark.parametrize("name", STEPS)
def test_deleted_marker_redoes_its_block(project: Project, expected: Any, name: str) -> None:
    marker = sorted(project.step(name).folder.glob("done/*/*.json"))[-1]
    marker.unlink()
    run = project.run()
    assert run.ok
    assert run.computed == {name: [int(marker.stem)]}
    assert_same(project.results(), expected)


@pytest.mark.parametrize("name", STEPS)
def test_deleted_target_computes_nothing(project: Project, name: str) -> None:
    project.step(name).forget_target()
    run = project.run()
    assert run.ok
    assert run.computed == run.checked == {}
    assert project.step(name).read_target()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _flip_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[1] ^= 0xFF
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = (_truncate, _flip, _empty, Path.unlink)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__.strip("_"))
@pytest.mark.parametrize("name", ["prediction", "threshold", "connected_components"])
def test_damaged_chunk_redoes_its_block(project: Project, expected: Any, name: str, damage: Any) -> None:
    address = project.step(name).output().address
    chunk = chunk_files(project.folder / address.replace(":", "/"))[-1]
    damage(chunk)
    run = project.run()
    assert run.ok, run.text
    assert list(run.computed) == [name]
    assert len(run.computed[name]) == 1
    assert f"{name}: the files of 1 of 8 finished blocks were touched: they are checked" in run.text
    assert_same(project.results(), expected)


@pytest.mark.parametrize("damage", [*DAMAGES, _flip_header], ids=lambda f: f.__name__.strip("_"))
@pytest.mark.parametrize("file", ["faces", "lookup", "offsets", "objects.csv", "objects.parquet"])
def test_damaged_table_is_made_again(project: Project, expected: Any, file: str, damage: Any) -> None:
    (objects,) = project.steps().objects
    name = {"faces": "component_faces", "lookup": "component_merge", "offsets": "component_merge"}.get(
        file, "object_table"
    )
    path = {
        "faces": objects.component_faces.folder / "data" / "000000" / "3.npz",
        "lookup": objects.component_merge.folder / "data" / "lookup.npy",
        "offsets": objects.component_merge.folder / "data" / "offsets.npy",
    }.get(file, Path("work") / file)
    before = path.read_bytes()
    damage(path)
    run = project.run()
    assert run.ok, run.text
    assert run.computed == {name: [3 if file == "faces" else 0]}
    if file != "faces":  # npz files hold the time of their making
        assert path.read_bytes() == before
    assert_same(project.results(), expected)


def test_damage_that_no_time_betrays_is_met_by_the_next_step(project: Project, expected: Any) -> None:
    """Bit rot keeps a file's size and time. The step that reads it notices, and the block is computed again."""
    chunk = chunk_files(dataset_folder(project, "probabilities"))[-1]
    times = chunk.stat()
    _flip(chunk)
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert project.run().computed == {}
    shutil.rmtree(dataset_folder(project, "thresholded"))
    run = project.run()
    assert run.ok, run.text
    assert len(run.computed["prediction"]) == 1
    assert run.computed.keys() == {"prediction", "threshold"}
    assert "cannot read" in run.text
    assert "prediction computes these blocks again" in run.text
    assert_same(project.results(), expected)


def test_silently_damaged_faces_are_made_again(project: Project, expected: Any) -> None:
    path = project.steps().objects[0].component_faces.folder / "data" / "000000" / "3.npz"
    times = path.stat()
    _flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    project.change("connected_components.min_size", 2)
    run = project.run()
    assert run.ok, run.text
    assert run.computed["component_faces"] == [3]
    assert run.computed["component_merge"] == [0]


def test_damaged_raw_chunk_is_named(project: Project) -> None:
    chunk = chunk_files(project.folder / "raw.n5" / "raw")[-1]
    _truncate(chunk)
    run = project.run()
    assert not run.ok
    assert str(chunk.relative_to(project.folder)) in run.text
    assert "DamagedDataError" in run.text


@pytest.mark.soak
def test_output_switched_away_and_back(project: Project, expected: Any) -> None:
    project.change("output", "other.n5")
    project.change("threshold.threshold", 0.4)
    run = project.run()
    assert run.ok
    assert run.computed["prediction"] == ALL
    project.change("output", "result.n5")
    project.change("threshold.threshold", 0.25)
    assert project.run().ok
    assert_same(project.results(), expected)
    assert project.run().computed == {}


def test_copies_with_new_times_are_checked_not_computed(project: Project, expected: Any) -> None:
    for path in chunk_files(project.folder / "result.n5"):
        os.utime(path)
    run = project.run()
    assert run.ok
    assert run.computed == {}
    assert run.checked == dict.fromkeys(("prediction", "threshold", "connected_components"), ALL)
    second = project.run()
    assert second.checked == second.computed == {}
    assert_same(project.results(), expected)


def test_smaller_blocks_give_the_same_bytes(project: Project, expected: Any) -> None:
    project.change("blocks", {"shape": [18, 36, 48]})
    run = project.run()
    assert run.ok
    assert f"grid.blocks: {list(BLOCK)} -> [18, 36, 48]" in run.text
    assert_same(project.results(), expected)


@pytest.mark.soak
def test_roi_off_the_chunks(project: Project, expected: Any) -> None:
    """A region that cuts chunks; inside it, the probabilities are those of the whole volume."""
    project.change("blocks.roi", [[3, 30], [0, None], [10, 50]])
    run = project.run()
    assert run.ok, run.text
    assert run.computed["prediction"] == [0, 1, 4, 5]
    results = project.results()
    inside = (slice(3, 30), slice(0, 36), slice(10, 50))
    np.testing.assert_array_equal(results["probabilities"][:, *inside], expected["probabilities"][:, *inside])
    assert not results["probabilities"][:, :3].any()
    assert not results["connected_components"][..., 50:].any()
    project.change("threshold.sigma", 1.5)
    assert "roi" not in project.run().text
