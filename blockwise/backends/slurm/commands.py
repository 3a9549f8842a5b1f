"""SLURM's commands, and what their answers mean: pure functions on text, and one class that runs the commands.

What SLURM says only speeds up noticing that a job has ended. No answer, or an empty one, is never read as "ended".
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from blockwise.errors import UserError
from blockwise.faults import Faults

logger = logging.getLogger(__name__)

T = TypeVar("T")

TaskId = tuple[int, int]
"""Id of a job array, and index of the task in it."""

NO_TASK = -1
"""Index of what is left of an array whose last pending tasks were cancelled one by one; SLURM calls it N/A."""

COMMAND_LIMIT_S = 60.0
"""A command that has not ended after this time is given up; the controller itself gives up after 9 s."""

IDS_PER_QUERY = 200

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
_FORGOTTEN = re.compile(r"invalid job id", re.IGNORECASE)


class SlurmUnavailableError(Exception):
    """SLURM has not answered, or not in a way that says anything."""


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


class SlurmCommands:
    """Runs ``sbatch``, ``squeue``, ``scancel`` and ``scontrol``.

    Attributes:
        attempts: how often a command that failed for the moment is tried in one go.
        wait_s: pause after the first failure; it doubles each time.
        faults: what is to go wrong, for tests and trials.
    """

    def __init__(self, attempts: int = 3, wait_s: float = 1.0, faults: Faults | None = None) -> None:
        self.attempts = attempts
        self.wait_s = wait_s
        self.faults = faults or Faults()

    def submit(self, script: Path, name: str) -> int:
        """Submit a script under a name that no other job has; the id of the job.

        Raises:
            SlurmUnavailableError: SLURM cannot be reached now.
            SubmissionLimitError: SLURM takes no more jobs now.
            SubmissionRefusedError: it never will.
        """

        def attempt() -> int:
            # A submission that timed out may have succeeded all the same.
            known = self.named(name) if retried else frozenset()
            if known:
                return max(known)
            retried.append(True)
            answer = self._run(["sbatch", "--parsable", str(script)])
            if self.faults.strikes("lost_answer", name):
                raise SlurmUnavailableError("sbatch: its answer is lost, as asked for")
            return parse_job_id(answer)

        retried: list[bool] = []
        return self._retrying(attempt)

    def states(self, jobs: Sequence[int]) -> dict[TaskId, TaskState]:
        """Ask for the tasks of some arrays, those that have ended included; forgotten ones are left out.

        It is asked once: whoever asks has markers to read in the meantime, and asks again.

        Raises:
            SlurmUnavailableError: no answer, so nothing is known.
        """
        found: dict[TaskId, TaskState] = {}
        for start in range(0, len(jobs), IDS_PER_QUERY):
            ids = ",".join(map(str, jobs[start : start + IDS_PER_QUERY]))
            try:
                found.update(parse_states(self._squeue("--jobs", ids)))
            except SubmissionRefusedError as error:
                if not _FORGOTTEN.search(str(error)):
                    raise SlurmUnavailableError(str(error)) from error
        return found

    def is_forgotten(self, job: int) -> bool:
        """Whether SLURM says that it does not know a job.

        Asked for several jobs, SLURM leaves unknown ones out, and an empty answer may as well be a failure; asked for
        one, it says so.
        """
        try:
            self._squeue("--jobs", str(job))
        except SubmissionRefusedError as error:
            return bool(_FORGOTTEN.search(str(error)))
        except (SlurmUnavailableError, SubmissionLimitError):
            return False
        return False

    def named(self, name: str) -> frozenset[int]:
        """Ids of the arrays with a name.

        Raises:
            SlurmUnavailableError: no answer.
        """
        return frozenset(job for job, _ in parse_states(self._retrying(lambda: self._squeue("--name", name))))

    def cancel(self, targets: Sequence[str], kill: bool = False) -> None:
        """End arrays (``17``) or tasks (``17_[0-3]``): TERM and, after the cluster's KillWait, KILL; or KILL at once.

        What has ended already is no error.
        """
        for start in range(0, len(targets), IDS_PER_QUERY):
            some = targets[start : start + IDS_PER_QUERY]
            command = ["scancel", *(["--signal=KILL", "--full"] if kill else []), *some]
            try:
                self._retrying(partial(self._run, command))
            except SubmissionRefusedError as error:
                logger.debug("scancel: %s", error)

    def throttle(self, job: int, running: int) -> None:
        """Let at most so many tasks of an array run at once from now on."""
        try:
            self._run(["scontrol", "update", f"JobId={job}", f"ArrayTaskThrottle={running}"])
        except (SlurmUnavailableError, SubmissionLimitError, SubmissionRefusedError) as error:
            logger.debug("array %d keeps its throttle: %s", job, error)

    def max_array_size(self) -> int:
        """The cluster's MaxArraySize; SLURM's own default where it cannot be found out."""
        try:
            return parse_max_array_size(self._retrying(lambda: self._run(["scontrol", "show", "config"])))
        except (SlurmUnavailableError, SubmissionRefusedError) as error:
            logger.debug("MaxArraySize is not known: %s", error)
            return DEFAULT_MAX_ARRAY_SIZE

    def _squeue(self, *which: str) -> str:
        return self._run(["squeue", "--noheader", "--array", "--states=all", f"--format={STATE_FORMAT}", *which])

    def _retrying(self, call: Callable[[], T]) -> T:
        retrying = Retrying(
            retry=retry_if_exception_type(SlurmUnavailableError),
            wait=wait_exponential(self.wait_s, max=30.0),
            stop=stop_after_attempt(self.attempts),
            before_sleep=_log_retry,
            reraise=True,
        )
        return retrying(call)

    def _run(self, command: list[str]) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - a list of our own words, no shell
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_LIMIT_S,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in a terminal must not end it half-way
                check=False,
            )
        except FileNotFoundError as error:
            raise UserError(
                f"{command[0]}: no such program; backend.name is slurm, but SLURM's commands are not on PATH. Start "
                "the pipeline on a login node, or load the site's slurm module first"
            ) from error
        except (subprocess.TimeoutExpired, OSError) as error:
            raise SlurmUnavailableError(f"{command[0]}: {error}") from error
        if done.returncode == 0:
            return done.stdout
        message = f"{command[0]}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}, no message'}"
        problem = problem_of(message)
        if problem is Problem.REFUSED and done.stderr.strip():
            raise SubmissionRefusedError(message)
        raise SubmissionLimitError(message) if problem is Problem.LIMIT else SlurmUnavailableError(message)


def _environment() -> dict[str, str]:
    """The environment without the marks of a job that this process may itself run in; sbatch would take them over."""
    return {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k == "SLURM_CONF"}


def _log_retry(state: RetryCallState) -> None:
    if state.outcome is not None:
        logger.info("%s; trying again", state.outcome.exception())
