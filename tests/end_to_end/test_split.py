"""Objects that are cut: from the command line, for two block shapes, looked at, exported, removed; and in a batch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blockwise.volume import open_volume
from pipeline.__main__ import main
from pipeline.configuration.settings import load_settings
from pipeline.inspecting.cleaning import find_ours
from pipeline.running.report import RunReport
from tests.batches import run_here, write_config, write_images
from tests.runs import Project

SPLIT = {"method": "distance", "h": 0.2, "largest": 14}


def stored(dataset: str, container: str = "result.n5") -> np.ndarray[Any, Any]:
    volume = open_volume(f"{container}:{dataset}")
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def table(path: str = "work/objects.csv") -> list[dict[str, str]]:
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def test_parts_are_the_same_for_other_blocks(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.change("connected_components.split", SPLIT)
    run = project.run()
    assert run.ok, run.text
    assert set(run.computed) == {"split_parts", "split_merge", "split_objects", "object_table"}
    whole, parts, rows = stored("connected_components"), stored("split_objects"), table()
    assert parts.max() == len(rows) > whole.max()
    np.testing.assert_array_equal(parts > 0, whole > 0)
    assert any(row["too_large"] == "1" for row in rows)
    for row in rows:
        assert set(np.unique(whole[parts == int(row["label"])])) == {int(row["whole"])}
        assert np.count_nonzero(parts == int(row["label"])) == int(row["voxels"])
    steps = project.steps()
    assert (
        "too large to be cut"
        in RunReport("ConnectedComponentsWorkflow", load_settings("config.yaml"), steps.all()).text()
    )
    capsys.readouterr()
    assert main(["verify", "--config", "config.yaml"]) == 0
    assert main(["export", "split", "parts.h5", "--config", "config.yaml"]) == 0
    assert "result.n5:split_objects" in find_ours(load_settings("config.yaml"), steps)

    project.change("blocks", {"shape": [18, 36, 48], "chunks": [18, 18, 16]})
    project.change("work_dir", "other")
    project.change("output", "other.n5")
    assert project.run().ok
    np.testing.assert_array_equal(stored("split_objects", "other.n5"), parts)
    assert table("other/objects.csv") == rows


@pytest.mark.soak
def test_parts_that_are_not_wanted_any_more_are_removed(project: Project) -> None:
    project.change("connected_components.split", SPLIT)
    assert project.run().ok
    project.change("connected_components.split", None)
    assert project.run().ok
    settings = load_settings("config.yaml")
    assert "result.n5:split_objects" in find_ours(settings, project.steps())
    assert "whole" not in table()[0]
    assert main(["export", "split", "parts.h5", "--config", "config.yaml"]) == 40


@pytest.mark.usefixtures("batch_folder")
def test_images_of_a_batch_are_cut() -> None:
    write_images(2)
    write_config(connected_components={"split": {"method": "distance", "h": 0.5}, "intensities": True})
    run, _ = run_here()
    assert run.ok, run.text
    for name in ("cell0", "cell1"):
        parts, rows = stored("split_objects", f"out/{name}.n5"), table(f"work/images/{name}/objects.csv")
        assert parts.max() == len(rows) > stored("connected_components", f"out/{name}.n5").max()
        assert "intensity_mean_0" in rows[0]
    assert run_here()[0].computed == {}
    assert main(["verify", "--config", "config.yaml"]) == 0
