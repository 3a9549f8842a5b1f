"""A stack of slices aligned by jobs of a cluster, some of which die: the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.runs import Project, run_luigi
from tests.slurm.cluster import Cluster
from tests.stacks import Stack


@pytest.fixture
def on_cluster(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    monkeypatch.chdir(folder)
    stack = Stack(folder)
    values = yaml.safe_load(Path("config.yaml").read_text())
    values["backend"] = {
        "name": "slurm",
        "faults": {"kill": 0.1, "seed": 2},
        "slurm": {"poll_s": 1, "grace_s": 2, "blocks_per_job": 6},
    }
    Path("config.yaml").write_text(yaml.safe_dump(values))
    yield stack
    try:
        cluster.wait_until_quiet(30)
    finally:
        cluster.cancel_all()


@pytest.mark.soak
def test_jobs_give_the_same_bytes_as_one_process(on_cluster: Stack, tmp_path: Path) -> None:
    code, text = run_luigi(Project(on_cluster.folder), workflow="AlignmentWorkflow")
    assert code == 0, text
    found = on_cluster.volume(), on_cluster.volume("tissue"), Path("work/transforms.json").read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    os.chdir(other)
    alone = Stack(other)
    alone.run()
    np.testing.assert_array_equal(found[0], alone.volume())
    np.testing.assert_array_equal(found[1], alone.volume("tissue"))
    assert found[2] == Path("work/transforms.json").read_bytes()
