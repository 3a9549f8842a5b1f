"""What somebody who looks from outside is told about jobs; SLURM can do nothing to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from blockwise.backends.jobs.ledger import SUBMITTED, Ledger
from blockwise.backends.jobs.overview import describe_jobs as describe
from blockwise.backends.slurm.backend import JOBS
from blockwise.backends.slurm.cluster import SlurmCluster
from blockwise.backends.slurm.commands import SlurmCommands
from blockwise.backends.slurm.kind import SlurmKind
from blockwise.backends.slurm.script import SlurmOptions
from blockwise.records import write_json
from pipeline.__main__ import main
from tests.contract.steps import Workspace
from tests.runs import make_project
from tests.slurm.cluster import Cluster
from tests.slurm.driver import Driver


def test_jobs_by_state(cluster: Cluster, work: Workspace, drive: Callable[..., Driver]) -> None:
    work.hold(0, 2)
    driver = drive(max_running=2)
    driver.wait_until_running(0, 2)
    [job] = {line.split("_")[0] for line in cluster.alive_jobs()}
    # An array that is being written down at this moment, and one that SLURM has forgotten.
    ledger = Ledger(work.addition(), JOBS)
    Path(ledger.place, "new").mkdir()
    write_json(ledger.records, f"old/{SUBMITTED}", {"job": 999999})
    try:
        [line] = SlurmKind().describe_jobs({step.label: step for step in (work.addition(), work.doubling())})
        assert Path(ledger.place, "new").exists()
    finally:
        ledger.forget("new")
        ledger.forget("old")
    assert line == (
        f"addition: SLURM arrays {job}, 999999: 2 pending (JobArrayTaskLimit), 2 running, no longer known to "
        "SLURM: 999999; 1 array without an id: it is being submitted, or the driver was killed then"
    )
    driver.send(signal.SIGTERM)
    assert SlurmKind().describe_jobs({"addition": work.addition()}) == []


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Configuration of a run whose driver was killed: it has left an array in the ledger."""
    monkeypatch.chdir(tmp_path)
    project = make_project(tmp_path)
    write_json(Ledger(project.steps().prediction, JOBS).records, f"array/{SUBMITTED}", {"job": 424242})
    return "config.yaml"


def test_the_command_shows_jobs(config: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--config", config]) == 0
    assert "prediction: SLURM array 424242: no longer known to SLURM: 424242\n" in capsys.readouterr().out


def test_the_command_without_slurm(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["status", "--config", config]) == 0
    text = capsys.readouterr().out
    assert (
        "prediction: SLURM array 424242; how they stand is not known here: SLURM's commands are not on this machine\n"
        in text
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exec sleep 60", "timed out after 0.3 seconds"),
        ("echo 'squeue: error: slurm_receive_msg: Zero bytes were transmitted' >&2; exit 1", "Zero bytes"),
        ("exit 1", "exit code 1"),
    ],
)
def test_a_silent_controller_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n{script}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    step = Workspace(tmp_path / "work").addition()
    write_json(Ledger(step, JOBS).records, f"array/{SUBMITTED}", {"job": 424242})
    impatient = SlurmCluster(SlurmOptions(), SlurmCommands(attempts=1, limit_s=0.3))
    [line] = describe({step.label: step}, impatient, JOBS)
    assert line.startswith("addition: SLURM array 424242; how they stand is not known: SLURM does not answer (squeue")
    assert said in line
