"""The prediction step trains once, keeps the classifier, and starts over when what it was trained on changes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import Settings, load_settings
from pipeline.inspecting.cleaning import find_ours
from tasks.pixel_classification.training import open_project, trained
from tasks.prediction import PredictionStep
from tests.unit.pixel_cases import copied, image_zyxc, predict


def make_config(folder: Path) -> Settings:
    config = folder / "config.yaml"
    config.write_text(
        f"work_dir: {folder}/work\nraw: {folder}/input.h5:data\noutput: {folder}/result.n5\n"
        f"blocks: {{shape: [16, 32, 40]}}\nprediction: {{project: {folder}/project.ilp, seed: 3}}\n"
    )
    return load_settings(str(config))


def make_step(folder: Path) -> PredictionStep:
    return build_steps(make_config(folder)).prediction


@pytest.mark.soak
def test_blocks_are_those_of_a_classifier_that_is_trained_once(tmp_path: Path) -> None:
    project = copied("3d_u8_labels_only", tmp_path)
    step = make_step(tmp_path)
    assert not (tmp_path / "work").exists(), "making a plan trains nothing"
    prepared = step.prepare()
    (kept,) = (tmp_path / "work" / "classifiers").iterdir()
    written = kept.stat().st_mtime_ns
    step.prepare()
    assert kept.stat().st_mtime_ns == written
    expected = predict(trained(open_project(str(project)), 3), image_zyxc(tmp_path / "input.h5", "zyx"))
    for number in (0, 5, len(step.grid) - 1):
        block = step.grid.block(number)
        found = step.compute(block, prepared)
        np.testing.assert_array_equal(np.moveaxis(found, 0, -1), expected[block.write_box])


def test_a_changed_training_image_is_another_step_and_stops_a_run_that_goes_on(tmp_path: Path) -> None:
    project = open_project(str(copied("3d_u8_labels_only", tmp_path)))
    before = make_step(tmp_path)
    assert make_step(tmp_path).fingerprint == before.fingerprint
    with h5py.File(tmp_path / "input.h5", "r+", locking=False) as file:
        place = tuple(int(i) for i in project.labels[0, 2:5])
        file["data"][place] = 255 - file["data"][place]
    assert make_step(tmp_path).fingerprint != before.fingerprint
    with pytest.raises(UserError, match="or its training images were changed while the run was going on"):
        before.prepare()


def test_a_missing_training_image_is_found_before_any_work(tmp_path: Path) -> None:
    project = copied("3d_u8_labels_only", tmp_path)
    with h5py.File(project, "r+") as file:
        info = file["Input Data/infos/lane0000/Raw Data"]
        del info["filePath"]
        info["filePath"] = b"lost.h5/data"
    with pytest.raises(UserError, match=r"training image 0 \('lost.h5/data', taken from the project's folder\)"):
        make_step(tmp_path)


def test_cleaning_removes_the_trained_classifier_and_nothing_beside_it(tmp_path: Path) -> None:
    copied("3d_u8_labels_only", tmp_path)
    settings = make_config(tmp_path)
    steps = build_steps(settings)
    steps.prediction.prepare()
    (kept,) = (tmp_path / "work" / "classifiers").iterdir()
    (kept.parent / "mine.npz").touch()
    assert find_ours(settings, steps) == [str(kept)]
