"""``blockwise-ilastik``: what it says is right, and it touches nothing but what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import z5py

from blockwise.records import open_records
from pipeline.__main__ import main
from pipeline.inspecting.forecast import forecast_all
from tests.runs import DATASETS, STEPS, Project, chunk_files


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    output, error = capsys.readouterr()
    return code, " ".join(output.split()), error


def blocks(name: str) -> int:
    """Number of blocks of a step."""
    return 1 if name in ("component_merge", "object_table") else 8


def files_and_folders(project: Project) -> tuple[dict[str, tuple[int, int]], list[Path]]:
    return project.state(), sorted(project.folder.rglob("*"))


def test_plan_of_a_fresh_project(unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_and_folders(unused)
    code, text, _ = call(capsys, "plan", "--config", "config.yaml")
    assert code == 0
    assert files_and_folders(unused) == before
    assert "raw raw.n5:raw: axes zyx (from the project's last image), shape (36, 36, 128), |u1;" in text
    assert "project membranes.ilp: classes Class 1, Class 2" in text
    rows = forecast_all(unused.steps().all())
    assert [(row.step, row.blocks, row.left, row.exact) for row in rows] == [
        ("prediction", 8, 8, True),
        *((name, blocks(name), blocks(name), False) for name in STEPS[1:]),
    ]
    for step, row in zip(unused.steps().all(), rows, strict=True):
        read = sum(np.prod([s.stop - s.start for s in step.read_box(block)]) for block in step.grid)
        assert row.halo_waste == pytest.approx(read / (36 * 36 * 128) - 1)
        assert row.memory == step.projected_memory() > 200e6
    assert rows[0].bytes_written == 36 * 36 * 128 * 2 * 4
    assert rows[0].bytes_read == pytest.approx(36 * 36 * 128 * (1 + rows[0].halo_waste), abs=1)
    assert rows[1].bytes_written == 36 * 36 * 128
    assert rows[4].bytes_written == 36 * 36 * 128 * 8


def left(project: Project) -> dict[str, tuple[int, bool]]:
    return {row.step: (row.left, row.exact) for row in forecast_all(project.steps().all())}


def test_plan_of_a_finished_project(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_and_folders(project)
    assert left(project) == dict.fromkeys(STEPS, (0, True))
    project.change("threshold.threshold", 0.3)
    before = files_and_folders(project)
    code, text, _ = call(capsys, "plan", "--config", "config.yaml")
    assert code == 0
    assert "threshold: threshold: 0.25 -> 0.3" in text
    assert "<= 8" in text
    assert files_and_folders(project) == before
    assert list(left(project).values()) == [(0, True), (8, True), (8, False), (1, False), (8, False), (1, False)]


def test_plan_after_a_changed_chunk_counts_what_a_run_then_does(project: Project) -> None:
    raw = z5py.File("raw.n5", mode="a")["raw"]
    raw[:18, :18, 112:] = 255 - raw[:18, :18, 112:]
    assert list(left(project).values()) == [(4, True), (8, False), (8, False), (1, False), (8, False), (1, False)]
    assert len(project.run().computed["prediction"]) == 4
    assert left(project) == dict.fromkeys(STEPS, (0, True))


def test_chunks_of_the_raw_volume_that_are_not_there_are_counted(
    unused: Project, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert "not there" not in call(capsys, "plan", "--config", "config.yaml")[1]
    chunks = sorted(Path("raw.n5/raw").glob("*/*/*"))
    chunks[3].unlink()
    said = (
        f"raw raw.n5:raw: 1 of {len(chunks)} chunks are not there and are read as the fill value, mostly 0; the first"
    )
    assert f"prediction: {said} is {chunks[3]}" in call(capsys, "plan", "--config", "config.yaml")[1]
    assert unused.run().ok
    assert caplog.text.count(said) == 1
    assert "not there" not in call(capsys, "plan", "--config", "config.yaml")[1]  # nothing is left to do


def test_plan_of_damaged_tables(project: Project) -> None:
    """The plan of the last step would read a table that is gone."""
    project.steps().objects[0].component_merge.records.delete("data/lookup.npy")
    assert list(left(project).values()) == [(0, True), (0, True), (0, True), (1, True), (8, False), (1, False)]


def test_status(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = call(capsys, "status", "--config", "config.yaml")
    assert code == 0
    for name in STEPS:
        assert f"{name} {blocks(name)} 0 0 yes" in text
    for chunk in chunk_files(Path("raw.n5/raw"))[1:]:  # where none can be decoded, no block is tried
        chunk.write_bytes(b"damaged")
    assert not project.run().ok
    code, text, _ = call(capsys, "status", "--config", "config.yaml")
    assert code == 30
    assert "prediction 0 4 4 no" in text
    assert "raw.n5/raw/" in text
    assert "[log: no log]" in text


def foreign(project: Project) -> list[Path]:
    """Files of somebody else, in every folder that a run has made."""
    folders = ["work", "work/logs", "work/threshold", "result.n5", "."]
    paths = [project.folder / folder / "notes.txt" for folder in folders]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    z5py.File("result.n5", mode="a").create_dataset("mine", data=np.ones((4, 4), np.uint8), chunks=(4, 4))
    return [*paths, project.folder / "result.n5" / "mine" / "0" / "0"]


def test_clean_removes_ours_and_nothing_else(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [*Path("raw.n5").rglob("*"), Path("membranes.ilp")]
    raw = {path: path.read_bytes() for path in inputs if path.is_file()}
    kept = foreign(project)
    before = files_and_folders(project)
    code, _, error = call(capsys, "clean", "--config", "config.yaml")
    assert code == 40
    assert "without a terminal, give --yes" in error
    assert files_and_folders(project) == before
    code, text, _ = call(capsys, "clean", "--config", "config.yaml", "--yes")
    assert code == 0
    for name in (*(f"result.n5:{name}" for name in DATASETS), "work/objects.csv", "work/prediction.json"):
        assert name in text
    assert all(path.exists() for path in kept)
    assert {path: path.read_bytes() for path in raw} == raw
    left = {path for path in Path().rglob("*") if path.is_file() and path not in raw}
    assert left == {path.relative_to(project.folder) for path in kept} | {
        Path("config.yaml"),
        *(path for path in left if path.name == "attributes.json"),
    }
    assert not any((project.folder / "result.n5" / name).exists() for name in DATASETS)
    code, text, _ = call(capsys, "clean", "--config", "config.yaml", "--yes")
    assert (code, text) == (0, "nothing to remove")


def test_clean_without_foreign_files_leaves_no_work_folder_and_the_next_run_is_whole(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also before there is a report: the object tables must not stay behind, the next run would refuse them."""
    assert call(capsys, "clean", "--config", "config.yaml", "--yes")[0] == 0
    assert not Path("work").exists()
    assert project.run().computed["prediction"] == list(range(8))


def test_clean_finds_what_a_renamed_threshold_has_left(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.change("threshold.name", "walls")
    shutil.copytree("result.n5/thresholded", "result.n5/thresholded_of_another_work_folder")
    attributes = Path("result.n5/connected_components/attributes.json")
    attributes.write_text(json.dumps(json.loads(attributes.read_text()) | {"id": "of another run"}))
    fingerprint = Path("work/threshold.json").read_text().split('"fingerprint": "')[1][:12]
    mine = Path("work/threshold_mine") / fingerprint / "identity.json"
    mine.parent.mkdir(parents=True)
    mine.write_text('{"step": "threshold", "variant": "mine"}')  # called as ours, but no fingerprint of it
    Path("work/logs/threshold").mkdir(parents=True)
    code, text, _ = call(capsys, "clean", "--config", "config.yaml", "--yes")
    assert code == 0
    for name in ("result.n5:thresholded", "work/threshold.json", "work/objects.csv", "work/logs/threshold"):
        assert f"{name} " in text
    assert sorted(path.name for path in Path("result.n5").iterdir()) == [
        "attributes.json", "connected_components", "thresholded_of_another_work_folder"
    ]  # fmt: skip
    assert list(Path("work").rglob("*")) == [mine.parent.parent, mine.parent, mine]
    assert call(capsys, "clean", "--config", "config.yaml", "--yes")[1] == "nothing to remove"


def test_clean_asks_for_a_removed_threshold_whose_jobs_may_be_alive(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.change("threshold.name", "walls")
    open_records("work").put("threshold/jobs/array-1/array.json", b"{}")
    before = files_and_folders(project)
    code, _, error = call(capsys, "clean", "--config", "config.yaml", "--yes")
    assert code == 40
    assert "work/threshold: SLURM jobs of this step" in error
    assert files_and_folders(project) == before


def test_clean_leaves_a_dataset_of_somebody_else(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("result.n5/thresholded")
    theirs = z5py.File("result.n5", mode="a").create_dataset("thresholded", data=np.ones((4, 4)), chunks=(4, 4))
    theirs.attrs["by"] = "somebody else"
    code, text, _ = call(capsys, "clean", "--config", "config.yaml", "--yes")
    assert code == 0
    assert "result.n5:thresholded" not in text
    assert z5py.File("result.n5", mode="r")["thresholded"][:].all()


def test_clean_asks(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_and_folders(project)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    code, text, _ = call(capsys, "clean", "--config", "config.yaml")
    assert code == 0
    assert text.endswith("nothing was removed")
    assert files_and_folders(project) == before
    monkeypatch.setattr("builtins.input", lambda question: "yes")
    assert call(capsys, "clean", "--config", "config.yaml")[0] == 0
    assert not Path("work").exists()


def test_validate(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    container = z5py.File("other.n5", mode="a")
    labels = z5py.File("result.n5", mode="r")["connected_components"][:]
    container.create_dataset("renamed", data=np.where(labels, labels.max() + 1 - labels, 0), chunks=(36, 36, 64))
    container.create_dataset("cut", data=labels[:, :, :64], chunks=(36, 36, 64))
    joined = labels.copy()
    joined[labels == 2] = 1
    container.create_dataset("joined", data=joined, chunks=(36, 36, 64))
    ours = "result.n5:connected_components"
    for other, code, verdict in (
        (ours, 0, "A and B are equal"),
        ("other.n5:renamed", 0, "A and B are equal up to renumbering"),
        ("other.n5:joined", 1, "A and B are different"),
    ):
        found, text, _ = call(capsys, "validate", ours, other)
        assert (found, text.rpartition(" voxels")[0] != "") == (code, True)
        assert text.endswith(verdict)
    code, _, error = call(capsys, "validate", ours, "other.n5:cut")
    assert code == 40
    assert "shape (36, 36, 128)" in error
    assert "(36, 36, 64)" in error
    code, _, error = call(capsys, "validate", ours, "result.n5:probabilitys")
    assert code == 40
    assert "did you mean result.n5:probabilities?" in error


def test_a_programming_error_keeps_its_traceback(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.__main__.load_settings", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["plan", "--config", "config.yaml"])
