"""Jobs of SLURM with one worker each, which stay and compute single blocks."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from blockwise.advice import Names
from blockwise.backends.jobs.needs import Needs, first_needs
from blockwise.backends.jobs.scheduler import (
    NO_TASK,
    SchedulerMissingError,
    SchedulerUnavailableError,
    SubmissionLimitError,
    SubmissionRefusedError,
)
from blockwise.backends.slurm.commands import SlurmCommands
from blockwise.backends.slurm.reasons import remedy
from blockwise.backends.slurm.script import SlurmOptions, staying_script
from blockwise.backends.staying.connection import VARIABLE, Call
from blockwise.backends.staying.jobs import Fate, NotNowError
from blockwise.errors import UserError
from blockwise.faults import Faults
from blockwise.step import BlockStep

logger = logging.getLogger(__name__)

END_LIMIT_S = 10.0


class SlurmStayingJobs:
    """See ``StayingJobs``.

    Attributes:
        options: how jobs are submitted.
        names: what messages call settings.
        faults: what is to go wrong, for tests and trials.
    """

    title: str = "SLURM job"
    end_command: tuple[str, ...] = ("scancel", "--name={name}")

    def __init__(self, options: SlurmOptions, names: Names, faults: Faults | None = None) -> None:
        self.options = options
        self.names = names
        self.faults = faults
        self.life_s = 60.0 * options.time_min
        self._commands = SlurmCommands(faults=faults)
        self._explained: set[str] = set()

    def memory_for(self, step: BlockStep) -> int:
        """See ``StayingJobs``."""
        return first_needs(step, self.options).memory_mb

    def submit(self, call: Call, memory_mb: int, logs: Path) -> int:
        """See ``StayingJobs``. The script holds a secret: SLURM has a copy of it, and nobody else."""
        needs = Needs(memory_mb, self.options.time_min)
        log = str(logs).replace("%", "%%") + "/on-demand-%j.log"
        text = staying_script(self.options, needs, call.name, log, {VARIABLE: call.to_text()}, self.faults)
        try:
            logs.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory() as folder:
                script = Path(folder, "worker.sh")
                script.write_text(text)
                return int(self._commands.submit(script, call.name))
        except (SchedulerUnavailableError, SubmissionLimitError) as error:
            raise NotNowError(f"no worker can be submitted: {error}") from error
        except SchedulerMissingError as error:
            raise UserError(f"{self.names.kind} is chosen, but {error}") from error
        except SubmissionRefusedError as error:
            raise UserError(
                f"SLURM refuses workers: {error}. Asked for: {needs.memory}, {needs.time_min} min, "
                f"{self.options.cpus} cpus; look at {self.names.option}partition, account, qos, constraint, "
                "nodelist, exclude, memory_gb, time_min, cpus and sbatch"
            ) from error
        except OSError as error:
            raise UserError(f"{logs}: no worker can be submitted: {error.strerror or error}") from error

    def log(self, job: int, logs: Path) -> Path:
        """See ``StayingJobs``."""
        return logs / f"on-demand-{job}.log"

    def fates(self, jobs: list[int]) -> dict[int, Fate]:
        """See ``StayingJobs``."""
        try:
            states = self._commands.states([str(job) for job in jobs])
        except SchedulerUnavailableError as error:
            raise NotNowError(f"SLURM does not say how jobs stand: {error}") from error
        found = {}
        for job in jobs:
            state = states.get((str(job), NO_TASK))
            if state is None and self._commands.is_forgotten(str(job)):
                found[job] = Fate("SLURM does not know it any more")
            elif state is not None and state.ended:
                found[job] = Fate(str(state), state.state == "OUT_OF_MEMORY")
            elif state is not None and state.waits:
                self._explain(state.reason)
        return found

    def end(self, names: list[str], jobs: list[int]) -> None:
        """See ``StayingJobs``."""
        commands = SlurmCommands(attempts=1, limit_s=END_LIMIT_S)
        try:
            commands.cancel([str(job) for job in jobs if job])
        except (SchedulerUnavailableError, SchedulerMissingError, SubmissionLimitError) as error:
            logger.warning("jobs %s are to end by themselves, as SLURM does not answer: %s", ", ".join(names), error)

    def _explain(self, reason: str) -> None:
        """Say once what may be done about a reason for which jobs wait."""
        text = remedy(reason, self.names)
        if text and reason not in self._explained:
            self._explained.add(reason)
            logger.warning("workers wait in SLURM's queue (%s): %s", reason, text)
