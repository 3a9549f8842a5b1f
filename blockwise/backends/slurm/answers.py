"""What SLURM's commands answer, and what it means: pure functions on text.

What SLURM says only speeds up noticing that a job has ended. No answer, or an empty one, is never read as "ended".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from blockwise.errors import UserError

TaskId = tuple[int, int]
"""Id of a job array, and index of the task in it."""

NO_TASK = -1
"""Index of what is left of an array whose last pending tasks were cancelled one by one; SLURM calls it N/A."""

DEFAULT_MAX_ARRAY_SIZE = 1001
"""What SLURM has when its configuration says nothing."""

ENDED = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
})  # fmt: skip
"""States that a task does not leave. Any other state, known or not, counts as alive."""

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


class SlurmUnavailableError(Exception):
    """SLURM has not answered, or not in a way that says anything."""


class SlurmMissingError(UserError):
    """SLURM's commands are not on this machine."""


class SubmissionLimitError(Exception):
    """SLURM takes no more jobs for now."""


class SubmissionRefusedError(UserError):
    """SLURM will never take this job as it is."""


class Problem(Enum):
    """What a failing command says."""

    TRANSIENT = "the same command may succeed later"
    LIMIT = "too many jobs of this user or account"
    REFUSED = "the command is wrong"


@dataclass(frozen=True)
class TaskState:
    """What ``squeue`` says about one task of an array."""

    job: int
    index: int
    state: str
    reason: str
    node: str

    @property
    def ended(self) -> bool:
        """Whether the task will not go on."""
        return self.state in ENDED

    @property
    def runs(self) -> bool:
        """Whether the task is on a node."""
        return not self.ended and self.state != "PENDING"

    def __str__(self) -> str:
        where = f" on {self.node}" if self.node else ""
        return f"{self.state}/{self.reason}{where}"


STATE_FORMAT = "%F|%K|%T|%N|%r"
"""Reason last: it is free text."""


def parse_states(text: str) -> dict[TaskId, TaskState]:
    """Parse ``squeue -h -r -t all -o STATE_FORMAT``; lines that are cut off are left out."""
    found = {}
    for line in text.splitlines():
        fields = line.strip().split("|", 4)
        if len(fields) == 5 and fields[0].isdigit() and (fields[1].isdigit() or fields[1] == "N/A"):
            job, index = int(fields[0]), NO_TASK if fields[1] == "N/A" else int(fields[1])
            found[job, index] = TaskState(job, index, fields[2], fields[4], fields[3])
    return found


def parse_job_id(text: str) -> int:
    """Parse the answer of ``sbatch --parsable``: ``17`` or ``17;cluster``, perhaps after a site's own lines.

    Raises:
        SlurmUnavailableError: there is no id in it.
    """
    for line in reversed(text.splitlines()):
        match = re.fullmatch(r"(\d+)(;.*)?", line.strip())
        if match:
            return int(match.group(1))
    raise SlurmUnavailableError(f"sbatch has answered without a job id: {text.strip()!r:.200}")


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


def index_list(indices: Iterable[int]) -> str:
    """Write array indices as SLURM reads them: ``0-3,7``."""
    parts: list[list[int]] = []
    for index in sorted(set(indices)):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
