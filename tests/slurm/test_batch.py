"""Many files on a cluster: images in job arrays, markers called as the images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import imageio.v3
import pandas as pd
import pytest

from tests.runs import Project, run_luigi
from tests.slurm.cluster import Cluster
from tests.unit.pixel_cases import case_folder, read

CASE = "2d_rgb_u8_3class"


@pytest.fixture
def batch(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(case_folder(CASE) / "project.ilp", "project.ilp")
    image = read(case_folder(CASE) / "input.h5", "data")
    Path("images").mkdir()
    for i in range(6):
        imageio.v3.imwrite(f"images/cell{i}.png", image[5 * i : 5 * i + 60, :60])
    Path("images/cell3.png").write_bytes(b"nothing")
    project = Project(tmp_path)
    project.write(
        {
            "work_dir": "work",
            "output": "out/{name}.n5",
            "prediction": {"project": "project.ilp"},
            "threshold": {"class": 1, "sigma": 1.0, "threshold": 0.4},
            "backend": {"name": "slurm", "slurm": {"poll_s": 1, "grace_s": 2, "blocks_per_job": 3}},
            "batch": {"files": "images/*.png"},
        }
    )
    yield project
    try:
        cluster.wait_until_quiet(30)
    finally:
        cluster.cancel_all()


def test_one_broken_image_on_a_cluster(batch: Project) -> None:
    code, text = run_luigi(batch, workflow="BatchWorkflow")
    assert code == 30, text
    assert "5 of 6 images done, 1 failed" in text
    table = pd.read_csv("work/batch.csv").set_index("name")
    assert table["state"].to_dict() == {f"cell{i}": "failed" if i == 3 else "done" for i in range(6)}
    assert "cell3.png" in table.loc["cell3", "message"]
    shutil.copy("images/cell4.png", "images/cell3.png")
    code, text = run_luigi(batch, workflow="BatchWorkflow")
    assert code == 0, text
    assert "images: 1 of 6 blocks to do" in text
