"""Runs SLURM's commands; those that fail for the moment are tried again."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from blockwise.backends.jobs.asking import retrying, submit_once
from blockwise.backends.jobs.scheduler import (
    SchedulerMissingError,
    SchedulerUnavailableError,
    SubmissionLimitError,
    SubmissionRefusedError,
    TaskId,
)
from blockwise.backends.slurm.answers import (
    DEFAULT_MAX_ARRAY_SIZE,
    FORGOTTEN,
    STATE_FORMAT,
    Problem,
    SlurmTask,
    parse_job_id,
    parse_max_array_size,
    parse_states,
    problem_of,
)
from blockwise.faults import Faults

logger = logging.getLogger(__name__)

T = TypeVar("T")

COMMAND_LIMIT_S = 60.0
"""The controller is given up after 9 s by the commands themselves."""

IDS_PER_QUERY = 200


class SlurmCommands:
    """Runs ``sbatch``, ``squeue``, ``scancel`` and ``scontrol``.

    Attributes:
        attempts: how often a command that failed for the moment is tried in one go.
        wait_s: pause after the first failure; it doubles each time.
        faults: what is to go wrong, for tests and trials.
        limit_s: a command that has not ended after this time is given up.
    """

    def __init__(
        self,
        attempts: int = 3,
        wait_s: float = 1.0,
        faults: Faults | None = None,
        limit_s: float = COMMAND_LIMIT_S,
    ) -> None:
        self.attempts = attempts
        self.wait_s = wait_s
        self.limit_s = limit_s
        self.faults = faults or Faults()

    def submit(self, script: Path, name: str) -> str:
        """Submit a script under a name that no other job has; the id of the job.

        Raises:
            SchedulerUnavailableError: SLURM cannot be reached now.
            SubmissionLimitError: SLURM takes no more jobs now.
            SubmissionRefusedError: it never will.
        """

        def send() -> str:
            answer = self._run(["sbatch", "--parsable", str(script)])
            if self.faults.strikes("lost_answer", name):
                raise SchedulerUnavailableError("sbatch: its answer is lost, as asked for")
            return parse_job_id(answer)

        return submit_once(send, self.named, name, self.attempts, self.wait_s)

    def states(self, jobs: Sequence[str]) -> dict[TaskId, SlurmTask]:
        """Ask for the tasks of some arrays, those that have ended included; forgotten ones are left out.

        It is asked once: whoever asks has markers to read in the meantime, and asks again.

        Raises:
            SchedulerUnavailableError: no answer, so nothing is known.
        """
        found: dict[TaskId, SlurmTask] = {}
        for start in range(0, len(jobs), IDS_PER_QUERY):
            ids = ",".join(jobs[start : start + IDS_PER_QUERY])
            try:
                found.update(parse_states(self._squeue("--jobs", ids)))
            except SubmissionRefusedError as error:
                if not FORGOTTEN.search(str(error)):
                    raise SchedulerUnavailableError(str(error)) from error
        return found

    def is_forgotten(self, job: str) -> bool:
        """Whether SLURM says that it does not know a job.

        Asked for several jobs, SLURM leaves unknown ones out, and an empty answer may as well be a failure; asked for
        one, it says so.
        """
        try:
            self._squeue("--jobs", job)
        except SubmissionRefusedError as error:
            return bool(FORGOTTEN.search(str(error)))
        except (SchedulerUnavailableError, SubmissionLimitError):
            return False
        return False

    def named(self, name: str) -> frozenset[str]:
        """Ids of the arrays with a name.

        Raises:
            SchedulerUnavailableError: no answer.
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

    def throttle(self, job: str, running: int) -> None:
        """Let at most so many tasks of an array run at once from now on."""
        try:
            self._run(["scontrol", "update", f"JobId={job}", f"ArrayTaskThrottle={running}"])
        except (SchedulerUnavailableError, SubmissionLimitError, SubmissionRefusedError) as error:
            logger.debug("array %s keeps its throttle: %s", job, error)

    def max_array_size(self) -> int:
        """The cluster's MaxArraySize; SLURM's own default where it cannot be found out."""
        try:
            return parse_max_array_size(self._retrying(lambda: self._run(["scontrol", "show", "config"])))
        except (SchedulerUnavailableError, SubmissionRefusedError) as error:
            logger.debug("MaxArraySize is not known: %s", error)
            return DEFAULT_MAX_ARRAY_SIZE

    def _squeue(self, *which: str) -> str:
        return self._run(["squeue", "--noheader", "--array", "--states=all", f"--format={STATE_FORMAT}", *which])

    def _retrying(self, call: Callable[[], T]) -> T:
        return retrying(call, self.attempts, self.wait_s)

    def _run(self, command: list[str]) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - a list of our own words, no shell
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.limit_s,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in a terminal must not end it half-way
                check=False,
            )
        except FileNotFoundError as error:
            raise SchedulerMissingError(
                f"{command[0]}: no such program; SLURM's commands are not on PATH. Start the pipeline "
                "on a login node, or load the site's slurm module first"
            ) from error
        except (subprocess.TimeoutExpired, OSError) as error:
            raise SchedulerUnavailableError(f"{command[0]}: {error}") from error
        if done.returncode == 0:
            return done.stdout
        message = f"{command[0]}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}, no message'}"
        problem = problem_of(message)
        if problem is Problem.REFUSED and done.stderr.strip():
            raise SubmissionRefusedError(message)
        raise SubmissionLimitError(message) if problem is Problem.LIMIT else SchedulerUnavailableError(message)


def _environment() -> dict[str, str]:
    """The environment without the marks of a job that this process may itself run in; sbatch would take them over."""
    return {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k == "SLURM_CONF"}
