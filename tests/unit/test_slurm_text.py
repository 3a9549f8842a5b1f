"""What SLURM's commands say, as recorded from SLURM 22.05, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockwise.advice import Names
from blockwise.backends.jobs.scheduler import NO_TASK, SchedulerUnavailableError
from blockwise.backends.slurm import SlurmBackend, SlurmOptions
from blockwise.backends.slurm.answers import (
    Problem,
    SlurmTask,
    parse_job_id,
    parse_max_array_size,
    parse_states,
    problem_of,
)
from blockwise.backends.slurm.reasons import remedy
from blockwise.errors import UserError
from blockwise.run import run_step
from tests.contract.steps import Workspace

QUEUE = """2|N/A|COMPLETED|node1|None
1|N/A|FAILED||BadConstraints
8|0|FAILED|node2|JobLaunchFailure
8|2|PENDING||None
7|0|RUNNING|node1|None
7|13|NODE_FAIL|node2|NodeDown
6|4|PENDING||ReqNodeNotAvail, UnavailableNodes:node[1-2]
9|1|TIMEOUT|node1|TimeLimit
"""


def test_states():
    states = parse_states(QUEUE)
    assert set(states) == {
        *(("2", NO_TASK), ("1", NO_TASK), ("8", 0), ("8", 2), ("7", 0), ("7", 13), ("6", 4), ("9", 1))
    }
    assert states["7", 13] == SlurmTask("7", 13, "NODE_FAIL", "NodeDown", "node2")
    assert states["6", 4].reason == "ReqNodeNotAvail, UnavailableNodes:node[1-2]"
    assert [key for key, state in sorted(states.items()) if state.ended] == [
        *(("1", NO_TASK), ("2", NO_TASK), ("7", 13), ("8", 0), ("9", 1))
    ]
    assert [key for key, state in sorted(states.items()) if state.runs] == [("7", 0)]


@pytest.mark.parametrize("state", ["COMPLETING", "SUSPENDED", "REQUEUE_HOLD", "A_STATE_OF_2040"])
def test_a_state_that_is_not_known_to_be_an_end_is_alive(state: str):
    assert not SlurmTask("1", 0, state, "None", "node1").ended


@pytest.mark.parametrize("text", ["", "\n", "slurm_load_jobs error: Unable to contact\n", "7|0|RUNN"])
def test_an_answer_without_lines_holds_no_states(text: str):
    assert parse_states(text) == {}


@pytest.mark.parametrize("text", ["17\n", "17;test\n", "sbatch: lua: welcome to the cluster\n17\n"])
def test_job_id(text: str):
    assert parse_job_id(text) == "17"


def test_no_job_id():
    with pytest.raises(SchedulerUnavailableError, match="without a job id: 'Submitted'"):
        parse_job_id("Submitted\n")


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", Problem.TRANSIENT),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", Problem.TRANSIENT),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", Problem.TRANSIENT),
        ("sbatch: error: Batch job submission failed: Resource temporarily unavailable", Problem.TRANSIENT),
        ("sbatch: error: invalid partition specified: nope", Problem.REFUSED),
        ("sbatch: error: Memory specification can not be satisfied", Problem.REFUSED),
        ("sbatch: error: Batch job submission failed: Invalid job array specification", Problem.REFUSED),
        ("Batch job submission failed: Requested node configuration is not available", Problem.REFUSED),
        ("slurm_load_jobs error: Invalid job id specified", Problem.REFUSED),
        ("sbatch: error: AssocMaxSubmitJobLimit sbatch: error: Job violates accounting/QOS policy", Problem.LIMIT),
        ("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, "
         "user's size and/or time limits)", Problem.LIMIT),
        ("sbatch: error: QOSMaxWallDurationPerJobLimit sbatch: error: Batch job submission failed: Job violates "
         "accounting/QOS policy (job submit limit, user's size and/or time limits)", Problem.REFUSED),
    ],
)  # fmt: skip
def test_problems(message: str, problem: Problem):
    assert problem_of(message) is problem


def test_max_array_size():
    assert parse_max_array_size("MailProg = /bin/mail\nMaxArraySize            = 51\nMaxJobCount = 10000\n") == 51
    assert parse_max_array_size("slurmctld is down") == 1001


def test_reasons_that_need_a_person():
    assert "jobs.time_min is more" in remedy("PartitionTimeLimit", Names(option="jobs."))
    assert "sinfo" in remedy("ReqNodeNotAvail, UnavailableNodes:node[1-2]", Names())
    assert "max_submitted" in remedy("QOSMaxJobsPerUserLimit", Names())
    assert {remedy(reason, Names()) for reason in ("Resources", "Priority", "JobArrayTaskLimit", "None")} == {""}


def test_without_slurm_the_choice_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    backend = SlurmBackend(SlurmOptions(), names=Names(kind="backend.name: slurm"))
    with pytest.raises(UserError, match=r"addition: backend.name: slurm is chosen, but .* no such program; SLURM's"):
        run_step(Workspace(tmp_path / "work", blocks=3).addition(), backend, 1, lambda outcome: None)
