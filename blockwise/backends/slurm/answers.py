"""What SLURM's commands answer, and what it means: pure functions on text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from blockwise.backends.jobs.scheduler import NO_TASK, Cause, SchedulerUnavailableError, TaskId, TaskState

DEFAULT_MAX_ARRAY_SIZE = 1001
"""What SLURM has when its configuration says nothing."""

ENDED = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
})  # fmt: skip
"""States that a task does not leave. Any other state, known or not, counts as alive."""

PENDING = "PENDING"

_CAUSES = {
    "OUT_OF_MEMORY": Cause.OUT_OF_MEMORY,
    "TIMEOUT": Cause.TIME_LIMIT,
    "DEADLINE": Cause.TIME_LIMIT,
    "NODE_FAIL": Cause.NODE_FAILURE,
    "BOOT_FAIL": Cause.NODE_FAILURE,
    "CANCELLED": Cause.INTERRUPTED,
    "PREEMPTED": Cause.INTERRUPTED,
    "REVOKED": Cause.INTERRUPTED,
    "COMPLETED": Cause.UNKNOWN,
}

_TRANSIENT = re.compile(
    r"socket timed out|timed out|unable to contact slurm controller|connect failure|connection (refused|reset)"
    r"|temporarily unable|resource temporarily unavailable|try again|zero bytes were transmitted|slurmctld.*busy"
    r"|unable to establish|in standby mode",
    re.IGNORECASE,
)
_SUBMIT_LIMIT = re.compile(r"SubmitJobsLimit|MaxSubmitJob|job count limit", re.IGNORECASE)
_SIZE_LIMIT = re.compile(r"\b(QOS|Assoc)\w*(Max|Min|Grp)\w+")
_SOME_LIMIT = re.compile(r"violates accounting/qos policy", re.IGNORECASE)
FORGOTTEN = re.compile(r"invalid job id", re.IGNORECASE)


class Problem(Enum):
    """What a failing command says."""

    TRANSIENT = "the same command may succeed later"
    LIMIT = "too many jobs of this user or account"
    REFUSED = "the command is wrong"


@dataclass(frozen=True)
class SlurmTask(TaskState):
    """What ``squeue`` says about one task of an array."""

    @property
    def ended(self) -> bool:
        """Whether the task will not go on."""
        return self.state in ENDED

    @property
    def waits(self) -> bool:
        """Whether it has not started yet."""
        return self.state == PENDING

    @property
    def cause(self) -> Cause | None:
        """By its state. Clusters without control groups call a job that was killed for its memory FAILED."""
        return _CAUSES.get(self.state)

    @property
    def preempted(self) -> bool:
        """Whether it had to make room for others."""
        return self.state == "PREEMPTED"

    def when_gone(self) -> SlurmTask | None:
        """One that is cancelled while it is pending goes at once."""
        if not self.waits:
            return None
        return SlurmTask(self.array, self.index, "CANCELLED", "no longer in the array", "")


STATE_FORMAT = "%F|%K|%T|%N|%r"
"""Reason last: it is free text."""


def parse_states(text: str) -> dict[TaskId, SlurmTask]:
    """Parse ``squeue -h -r -t all -o STATE_FORMAT``; lines that are cut off are left out.

    What is left of an array whose last pending tasks were cancelled one by one has the index N/A, which is NO_TASK.
    """
    found = {}
    for line in text.splitlines():
        fields = line.strip().split("|", 4)
        if len(fields) == 5 and fields[0].isdigit() and (fields[1].isdigit() or fields[1] == "N/A"):
            array, index = fields[0], NO_TASK if fields[1] == "N/A" else int(fields[1])
            found[array, index] = SlurmTask(array, index, fields[2], fields[4], fields[3])
    return found


def parse_job_id(text: str) -> str:
    """Parse the answer of ``sbatch --parsable``: ``17`` or ``17;cluster``, perhaps after a site's own lines.

    Raises:
        SchedulerUnavailableError: there is no id in it.
    """
    for line in reversed(text.splitlines()):
        match = re.fullmatch(r"(\d+)(;.*)?", line.strip())
        if match:
            return match.group(1)
    raise SchedulerUnavailableError(f"sbatch has answered without a job id: {text.strip()!r:.200}")


def parse_max_array_size(text: str) -> int:
    """Find ``MaxArraySize`` in ``scontrol show config``; the largest index is one less."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", text, re.MULTILINE)
    return int(match.group(1)) if match else DEFAULT_MAX_ARRAY_SIZE


def problem_of(message: str) -> Problem:
    """Tell what a failing command's words on standard error mean."""
    # The same general words follow both: too many jobs, and one job that is too large.
    if _SUBMIT_LIMIT.search(message) or (_SOME_LIMIT.search(message) and not _SIZE_LIMIT.search(message)):
        return Problem.LIMIT
    return Problem.TRANSIENT if _TRANSIENT.search(message) else Problem.REFUSED
