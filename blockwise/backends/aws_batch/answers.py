"""What AWS Batch answers, and what it means: pure functions on its descriptions of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blockwise.backends.jobs.scheduler import Cause, TaskState
from blockwise.watchdog import EXIT_CODE

LIVING = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
"""States of a job that has not ended, in their order."""

ENDED = ("SUCCEEDED", "FAILED")

WAITING = frozenset({"SUBMITTED", "PENDING", "RUNNABLE"})

SIGNALLED = 128
"""Exit codes above are those of programs that a signal has ended."""

_BY_REASON = {
    "outofmemory": Cause.OUT_OF_MEMORY,
    "host ec2": Cause.NODE_FAILURE,
    "spot task was interrupted": Cause.NODE_FAILURE,
    "attempt duration exceeded timeout": Cause.TIME_LIMIT,
    "cannotpullcontainer": Cause.NOT_STARTED,
    "cannotstartcontainer": Cause.NOT_STARTED,
    "cannotcreatecontainer": Cause.NOT_STARTED,
    "cannotinspectcontainer": Cause.NOT_STARTED,
    "dockertimeout": Cause.NOT_STARTED,
    "resourceinitialization": Cause.NOT_STARTED,
    "task failed to start": Cause.NOT_STARTED,
}
"""What stands in ``statusReason``, or in the container's ``reason``, in small letters."""


@dataclass(frozen=True)
class BatchTask(TaskState):
    """What AWS Batch says about one child of an array job, or about an ordinary job.

    Attributes:
        exit_code: of its container; None where there was none, or it has not ended.
        was_ended: somebody has cancelled or terminated it.
    """

    exit_code: int | None = None
    was_ended: bool = False

    @property
    def ended(self) -> bool:
        """Whether the task will not go on."""
        return self.state in ENDED

    @property
    def waits(self) -> bool:
        """Whether it has not started yet."""
        return self.state in WAITING

    @property
    def cause(self) -> Cause | None:
        """By its reasons first: the exit code of what is killed is 137, whoever kills it."""
        if self.state == "SUCCEEDED":
            return Cause.UNKNOWN
        reason = self.reason.lower()
        known = [cause for words, cause in _BY_REASON.items() if words in reason]
        if known:
            return known[0]
        if self.was_ended:
            return Cause.INTERRUPTED
        if self.exit_code is None:
            return None
        if self.exit_code == EXIT_CODE:
            return Cause.GAVE_UP
        return Cause.KILLED if self.exit_code > SIGNALLED else None

    def __str__(self) -> str:
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        return f"{self.state}/{self.reason or 'no reason'}{code}"


def parse_task(job: Mapping[str, Any], array: str, index: int) -> BatchTask:
    """Read what DescribeJobs or ListJobs says about a job.

    Args:
        job: ``JobDetail`` or ``JobSummary``.
        array: id of the array that it belongs to, or its own.
        index: of the task in it.
    """
    container = job.get("container") or {}
    reasons = [job.get("statusReason"), container.get("reason")]
    return BatchTask(
        array,
        index,
        job["status"],
        "; ".join(dict.fromkeys(filter(None, reasons))),
        "",
        container.get("exitCode"),
        bool(job.get("isCancelled") or job.get("isTerminated")),
    )


def size_of(job: Mapping[str, Any]) -> int | None:
    """Number of children of an array job; None for an ordinary job, or for a child."""
    size = (job.get("arrayProperties") or {}).get("size")
    return None if size is None else int(size)


def index_of(job: Mapping[str, Any]) -> int:
    """Index of a child, whose id is that of its parent, a colon, and the index."""
    return int(str(job["jobId"]).rpartition(":")[2])


def summary_of(job: Mapping[str, Any]) -> dict[str, int]:
    """How many children of an array job are in which state; those that are in none are left out."""
    summary = (job.get("arrayProperties") or {}).get("statusSummary") or {}
    return {state: int(number) for state, number in summary.items() if number}


def is_alive(job: Mapping[str, Any]) -> bool:
    """Whether a job, or a child of it, may still work."""
    return job["status"] not in ENDED or any(state not in ENDED for state in summary_of(job))
