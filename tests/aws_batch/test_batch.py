"""Many files in AWS Batch: images in array jobs, markers called as the images."""

from __future__ import annotations

import shutil
from pathlib import Path

import imageio.v3
import pandas as pd
import pytest

from tests.aws_batch.conftest import QUEUE
from tests.aws_batch.stand_in import StandIn
from tests.runs import Project, run_luigi
from tests.unit.pixel_cases import case_folder, read

CASE = "2d_rgb_u8_3class"
IMAGES = 20


@pytest.fixture
def batch(tmp_path: Path, aws_batch: StandIn, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(case_folder(CASE) / "project.ilp", "project.ilp")
    image = read(case_folder(CASE) / "input.h5", "data")
    Path("images").mkdir()
    for i in range(IMAGES):
        imageio.v3.imwrite(f"images/cell{i:02}.png", image[i : i + 48, :48])
    Path("images/cell03.png").write_bytes(b"nothing")
    project = Project(tmp_path)
    project.write(
        {
            "work_dir": "work",
            "output": "out/{name}.n5",
            "prediction": {"project": "project.ilp"},
            "threshold": {"class": 1, "sigma": 1.0, "threshold": 0.4},
            "backend": {
                "name": "aws_batch",
                "aws_batch": {**QUEUE, "poll_s": 1, "grace_s": 2, "blocks_per_job": 10},
            },
            "batch": {"files": "images/*.png"},
        }
    )
    return project


@pytest.mark.soak
def test_one_broken_file_of_twenty(batch: Project, aws_batch: StandIn) -> None:
    code, text = run_luigi(batch, workflow="BatchWorkflow")
    assert code == 30, text
    assert "19 of 20 images done, 1 failed" in text
    table = pd.read_csv("work/batch.csv").set_index("name")
    assert table["state"].to_dict() == {f"cell{i:02}": "failed" if i == 3 else "done" for i in range(IMAGES)}
    assert "cell03.png" in table.loc["cell03", "message"]
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.is_file()}
    jobs = len(aws_batch.jobs)
    # Nothing has changed: the broken one is tried again, and nothing else.
    assert run_luigi(batch, workflow="BatchWorkflow")[0] == 30
    shutil.copy("images/cell04.png", "images/cell03.png")
    code, text = run_luigi(batch, workflow="BatchWorkflow")
    assert code == 0, text
    assert "images: 1 of 20 blocks to do" in text
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len([job for job in list(aws_batch.jobs.values())[jobs:] if job.children]) == 0, "one slice is no array"
    aws_batch.wait_until_quiet()
