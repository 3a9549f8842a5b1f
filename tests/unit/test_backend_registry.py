"""A kind of backend is known to everybody once it stands in the registry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from blockwise.backends.registry import BACKENDS, left_at_work, make_backend
from blockwise.records import FolderRecords, Records
from pipeline.configuration.settings import BackendSettings
from tests.contract.memory_records import Bucket, MemoryRecords
from tests.runs import Project, environment, make_project, settings


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = make_project(tmp_path)
    project.change("blocks.shape", [36, 36, 64])
    project.change("backend.name", "here")
    return project


def call(project: Project, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.unit.extra_backend", *arguments]
    done = subprocess.run(command, cwd=project.folder, env=environment(), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.soak
def test_a_new_kind_computes_and_its_jobs_are_told_and_ended(project: Project) -> None:
    code, text = call(project, "run")
    assert (code, "here prediction 2" in text) == (0, True), text
    (project.folder / "work" / "prediction" / "left" / "job").mkdir(parents=True)
    assert "prediction: job" in call(project, "status", "--config", "config.yaml")[1]
    # The backend that is chosen now ends it first.
    project.change("backend.name", "local")
    project.change("blocks.shape", [36, 36, 128])
    code, text = call(project, "run")
    assert (code, "ended prediction job" in text, "here" in text) == (0, True, False), text
    for label in ("prediction", "threshold"):  # the latter was never run
        (project.folder / "work" / label / "left" / "job").mkdir(parents=True)
    code, text = call(project, "clean", "--yes", "--config", "config.yaml")
    assert (code, "ended prediction job" in text, "ended threshold job" in text) == (0, True, True), text


KNOWN = f"{', '.join(map(repr, BACKENDS))} or 'here'"
WRONG: list[tuple[dict[str, object], str]] = [
    ({"name": "hear"}, f"backend.name: found 'hear'; input should be {KNOWN}"),
    ({"name": ["here"]}, f"backend.name: found ['here']; input should be {KNOWN}"),
    ({"here": {"memory": 2}}, "backend.here.memory: unknown key; did you mean 'memory_gb'?"),
    ({"hear": {}}, "backend.hear: unknown key; did you mean 'here'?"),
    ({"here": {"memory_gb": "much"}}, "backend.here.memory_gb: found 'much'; this is text; expected a number"),
    ({"here": {"memory_gb": 0.1}}, "backend.here.memory_gb allows 0.10 GB"),
]


def test_its_settings_are_checked_as_all_others(project: Project) -> None:
    for number, (change, _) in enumerate(WRONG):
        project.change("backend", {"name": "here", **change})
        project.config.rename(project.folder / f"{number}.yaml")
        project.write(settings())
    files = [f"{number}.yaml" for number in range(len(WRONG))]
    code, text = call(project, "plan-each", *files)
    assert code == 0, text
    for (_, message), (answer, said) in zip(WRONG, json.loads(text), strict=True):
        assert (answer, message in said) == (40, True), said


@pytest.mark.parametrize("name", BACKENDS)
def test_each_ends_what_the_others_have_left(name: str) -> None:
    backend = make_backend(name, BackendSettings().setups())
    lasting = [other for other, kind in BACKENDS.items() if kind.ledger and other != name]
    assert len(backend.others) == len(lasting)


@pytest.mark.parametrize("home", ["folder", "memory"])
def test_steps_with_jobs_are_found_wherever_records_lie(home: str, tmp_path: Path) -> None:
    work: Records = FolderRecords(str(tmp_path)) if home == "folder" else MemoryRecords(Bucket())
    for key in (
        "prediction/jobs/prediction-1/array.json",
        "threshold/aws_batch_jobs/threshold-1/array.json",
        "threshold_nuclei/logs/x/array.json",
        "images/cell/prediction/aws_batch_jobs/x/array.json",
        "images/jobs/x/array.json",
        "images/cell/threshold/0123456789ab/done/000000/1.json",
    ):
        work.put(key, b"{}")
    assert left_at_work(work, "prediction") == {"prediction": "SLURM"}
    assert left_at_work(work, "threshold") == {"threshold": "AWS Batch"}
    assert left_at_work(work, "threshold_nuclei") == {}
    assert left_at_work(work, "images", "images/*/*") == {
        "images": "SLURM",
        "images/cell/prediction": "AWS Batch",
    }
