"""What AWS Batch is asked for, what it says, and what is made of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as boto

from blockwise.advice import Names
from blockwise.backends.aws_batch import AwsBatchBackend, AwsBatchOptions
from blockwise.backends.aws_batch.answers import parse_task
from blockwise.backends.aws_batch.client import BatchClient, _translated
from blockwise.backends.aws_batch.queue import MAX_ARRAY_SIZE, AwsBatchQueue
from blockwise.backends.aws_batch.request import job_name, job_request
from blockwise.backends.aws_batch.watch import ArrayWatch
from blockwise.backends.aws_batch.words import NOTHING_STARTS, AwsBatchWords
from blockwise.backends.jobs.needs import Needs
from blockwise.backends.jobs.recovery import Ended
from blockwise.backends.jobs.scheduler import (
    NO_TASK,
    Cause,
    SchedulerMissingError,
    SchedulerUnavailableError,
    Submission,
    SubmissionRefusedError,
    Watched,
)
from blockwise.errors import UserError
from blockwise.faults import VARIABLE, Faults
from blockwise.job import BEGINS, Order
from blockwise.plan import Item
from blockwise.run import run_step
from pipeline.configuration.settings import BackendSettings
from tests.contract.steps import Workspace

OPTIONS = AwsBatchOptions(queue="main", job_definition="blocks", cpus=2)
EXITED = "Essential container in task exited"


def request(tasks: int, **options: Any) -> dict[str, Any]:
    submission = Submission("threshold-1a2b3c", "s3://b/w/threshold/jobs/x", Path("logs"), tasks, Needs(1200, 45), 3)
    return job_request(OPTIONS.model_copy(update=options), submission, Faults(fails=0.5))


def test_an_array_is_asked_for() -> None:
    found = request(7, share_identifier="lab")
    assert found["arrayProperties"] == {"size": 7}
    assert found["timeout"] == {"attemptDurationSeconds": 2700}
    assert found["retryStrategy"] == {"attempts": 1}
    assert found["shareIdentifier"] == "lab"
    overrides = found["containerOverrides"]
    assert overrides["command"] == ["python3", "-P", "-m", "blockwise.job", "s3://b/w/threshold/jobs/x"]
    assert overrides["resourceRequirements"] == [{"type": "MEMORY", "value": "1200"}, {"type": "VCPU", "value": "2"}]
    variables = {one["name"]: one["value"] for one in overrides["environment"]}
    assert variables["OMP_NUM_THREADS"] == "1"
    assert '"fails":0.5' in variables[VARIABLE]
    assert not [name for name in variables if "AWS" in name], "a job's rights are those of its role"


def test_one_task_is_an_ordinary_job() -> None:
    found = request(1, python="/opt/python")
    assert "arrayProperties" not in found
    assert found["containerOverrides"]["command"][0] == "/opt/python"
    assert found["containerOverrides"]["command"][-2:] == ["--task", "0"]
    assert "shareIdentifier" not in found
    assert AwsBatchQueue(OPTIONS, BatchClient()).max_array_size() == MAX_ARRAY_SIZE == 10_000


@pytest.mark.parametrize("name", ["threshold-12-ab", "_x.y z/é-12-ab", "a" * 300 + "-12-ab"])
def test_names_are_as_aws_takes_them(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", job_name(name))
    assert job_name(name).endswith("-12-ab")


def job(status: str, reason: str = EXITED, code: int | None = None, why: str = "", **more: Any) -> dict[str, Any]:
    container = {} if code is None else {"container": {"exitCode": code, "reason": why}}
    return {"jobId": "a:3", "status": status, "statusReason": reason, **container, **more}


@pytest.mark.parametrize(
    ("told", "log", "cause"),
    [
        (job("FAILED", code=137, why="OutOfMemoryError: Container killed due to memory usage"), BEGINS,
         Cause.OUT_OF_MEMORY),
        (job("FAILED", code=137), BEGINS, Cause.KILLED),
        (job("FAILED", "Host EC2 (instance i-0ab) terminated."), BEGINS, Cause.NODE_FAILURE),
        (job("FAILED", "Your Spot Task was interrupted."), BEGINS, Cause.NODE_FAILURE),
        (job("FAILED", "Job attempt duration exceeded timeout", 137, isTerminated=True), BEGINS, Cause.TIME_LIMIT),
        (job("FAILED", "CannotPullContainerError: Error response from daemon"), "", Cause.NOT_STARTED),
        (job("FAILED", "I need the money", 143, isTerminated=True), BEGINS, Cause.INTERRUPTED),
        (job("FAILED", "this too", isCancelled=True), "", Cause.INTERRUPTED),
        (job("FAILED", code=124), BEGINS, Cause.GAVE_UP),
        (job("FAILED", code=1), "", Cause.NOT_STARTED),
        (job("FAILED", code=1), BEGINS, Cause.KILLED),
        (job("SUCCEEDED", code=0), "", Cause.NOT_STARTED),
        (job("SUCCEEDED", code=0), BEGINS, Cause.UNKNOWN),
    ],
)  # fmt: skip
def test_causes(told: dict[str, Any], log: str, cause: Cause) -> None:
    state = parse_task(told, "a", 3)
    assert state.ended
    assert not state.runs
    ended = Ended("a:3", "AWS Batch", state, log, log, (Order(Item(1, {})),), False, Needs(512, 1))
    assert ended.cause is cause


class Asked:
    """Counts what is asked about an array, of which so many children have ended."""

    def __init__(self, **ended: list[int]) -> None:
        self.ended = ended
        self.calls: list[tuple[str, int]] = []

    def describe(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        self.calls.append(("describe", len(ids)))
        states = {f"a:{index}": state for state, indices in self.ended.items() for index in indices}
        return {one: {"jobId": one, "status": states.get(one, "RUNNING")} for one in ids}

    def children(self, array: str, status: str) -> list[dict[str, Any]]:
        self.calls.append((status, len(self.ended[status])))
        return [{"jobId": f"a:{index}", "status": status} for index in self.ended[status]]


def look(watch: ArrayWatch, asked: Asked, watched: Watched, now: float = 0.0, **counts: int) -> dict[int, str]:
    status = "PENDING" if set(counts) - {"SUCCEEDED", "FAILED"} else "FAILED"
    parent = {"jobId": "a", "status": status, "arrayProperties": {"size": 9, "statusSummary": counts}}
    found = watch.look(parent, None, watched, asked, now, 10.0)  # type: ignore[arg-type]
    return {index: state.state for (_, index), state in found.items()}


def test_children_are_asked_about_when_they_have_ended_only() -> None:
    watch, asked = ArrayWatch("a"), Asked(SUCCEEDED=[], FAILED=[])
    everything = Watched("a", busy=range(9))
    for _ in range(3):
        assert look(watch, asked, everything, RUNNING=2, RUNNABLE=7) == {
            0: "RUNNING", 1: "RUNNING", **dict.fromkeys(range(2, 9), "RUNNABLE")
        }  # fmt: skip
    assert asked.calls == []
    # One whose blocks are done: it alone is looked at.
    asked.ended["SUCCEEDED"] = [1]
    found = look(watch, asked, Watched("a", busy={0, *range(2, 9)}, idle={1}), RUNNING=1, RUNNABLE=7, SUCCEEDED=1)
    assert (found[1], asked.calls) == ("SUCCEEDED", [("describe", 1)])
    # One that has ended with blocks left is found among the others.
    asked.ended["SUCCEEDED"] = [1, 4]
    found = look(watch, asked, Watched("a", busy={0, *range(2, 9)}), RUNNING=1, RUNNABLE=6, SUCCEEDED=2)
    assert (found[4], asked.calls[1:]) == ("SUCCEEDED", [("describe", 0), ("SUCCEEDED", 2)])
    asked.ended["FAILED"] = [7]
    found = look(watch, asked, Watched("a", busy={0, *range(2, 9)}), RUNNABLE=6, SUCCEEDED=2, FAILED=1)
    assert (found[7], asked.calls[3:]) == ("FAILED", [("FAILED", 1)])
    look(watch, asked, Watched("a", busy={0, *range(2, 9)}), RUNNABLE=6, SUCCEEDED=2, FAILED=1)
    assert len(asked.calls) == 4


def test_children_that_are_counted_nowhere_are_gone() -> None:
    watch, asked = ArrayWatch("a"), Asked(SUCCEEDED=[0], FAILED=[1])
    found = look(watch, asked, Watched("a", busy=range(3)), SUCCEEDED=1, FAILED=1)
    assert found == {0: "SUCCEEDED", 1: "FAILED", NO_TASK: "FAILED"}
    # While the array lives, one that is not counted yet is about to be.
    assert look(ArrayWatch("a"), asked, Watched("a", busy=range(3)), RUNNING=1) == {
        0: "RUNNING", 1: "SUBMITTED", 2: "SUBMITTED"
    }  # fmt: skip


def test_waiting_is_explained_when_nothing_moves() -> None:
    watch = ArrayWatch("a")
    parent = {"jobId": "a", "status": "PENDING", "arrayProperties": {"size": 2, "statusSummary": {"RUNNABLE": 2}}}
    waits = Watched("a", busy=range(2))

    def reason(now: float, sample: dict[str, Any] | None = None) -> str:
        return watch.look(parent, sample, waits, Asked(), now, 600)["a", 0].reason  # type: ignore[arg-type]

    assert [reason(0), reason(599), reason(601)] == ["", "", NOTHING_STARTS]
    assert watch.sample(waits) == "a:1"
    said = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - no"
    assert reason(602, {"status": "RUNNABLE", "statusReason": said}) == said
    words = AwsBatchWords()
    assert "lower x.memory_gb" in words.remedy(said, Names(option="x."))
    assert "compute environment of x.queue" in words.remedy(NOTHING_STARTS, Names(option="x."))
    assert words.remedy("", Names()) == words.remedy("some news", Names()) == ""


def failing(code: str, status: int) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "SubmitJob"
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (failing("TooManyRequestsException", 429), SchedulerUnavailableError),
        (failing("ThrottlingException", 400), SchedulerUnavailableError),
        (failing("ServerException", 500), SchedulerUnavailableError),
        (boto.EndpointConnectionError(endpoint_url="x"), SchedulerUnavailableError),
        (boto.ReadTimeoutError(endpoint_url="x"), SchedulerUnavailableError),
        (failing("ClientException", 400), SubmissionRefusedError),
        (failing("AccessDeniedException", 403), SubmissionRefusedError),
        (boto.ParamValidationError(report="x"), SubmissionRefusedError),
        (boto.NoCredentialsError(), SchedulerMissingError),
        (boto.NoRegionError(), SchedulerMissingError),
    ],
)
def test_errors(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind), _translated("SubmitJob"):
        raise error


def test_without_boto3_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    backend = AwsBatchBackend(
        OPTIONS, AwsBatchQueue(OPTIONS, BatchClient()), names=Names(kind="backend.name: aws_batch")
    )
    with pytest.raises(UserError, match=r"addition: backend.name: aws_batch is chosen, but boto3.*pip install"):
        run_step(Workspace(tmp_path / "work", blocks=3).addition(), backend, 1, lambda outcome: None)


def test_queue_and_job_definition_must_be_set_where_it_is_chosen() -> None:
    with pytest.raises(ValueError, match=r"needs aws_batch.queue and aws_batch.job_definition"):
        BackendSettings(name="aws_batch")
    with pytest.raises(ValueError, match=r"needs aws_batch.job_definition"):
        BackendSettings(name="aws_batch", aws_batch={"queue": "main"})
    assert BackendSettings(name="aws_batch", aws_batch={"queue": "q", "job_definition": "d"}).setups()
