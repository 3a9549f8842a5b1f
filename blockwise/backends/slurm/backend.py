"""Blocks computed by the job arrays of a SLURM cluster.

Markers and failure records are the truth: a block is done when its marker says so, whatever SLURM says about its job.
SLURM's states serve to notice that a job has ended without giving each of its blocks a result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from blockwise.advice import Names
from blockwise.backends.base import Backend, Outcome, Referee, check_parent
from blockwise.backends.slurm.answers import SlurmMissingError, SlurmUnavailableError
from blockwise.backends.slurm.cancel import cancel_arrays, interrupted_once
from blockwise.backends.slurm.commands import SlurmCommands
from blockwise.backends.slurm.ledger import Entry, Ledger
from blockwise.backends.slurm.run import SlurmRun
from blockwise.backends.slurm.script import SlurmOptions
from blockwise.errors import UserError
from blockwise.plan import Item
from blockwise.step import BlockStep

logger = logging.getLogger(__name__)

FIRST_POLL_S = 0.2
"""Small steps are over soon: the first look comes early, and the pauses grow up to ``poll_s``."""

PARENT_POLL_S = 1.0


class SlurmBackend:
    """Submits job arrays and follows their markers.

    Attributes:
        options: how jobs are submitted.
        detach: leave jobs running when this process is asked to end; the next run adopts them.
        timeout_s: longest time for one block; None for no limit but that of its job.
        others: backends whose work outlives a run, so that an earlier run may have left some of it.
        names: what messages call settings.
    """

    def __init__(
        self,
        options: SlurmOptions,
        detach: bool = False,
        commands: SlurmCommands | None = None,
        timeout_s: float | None = None,
        others: Sequence[Backend] = (),
        names: Names | None = None,
    ) -> None:
        self.options = options
        self.detach = detach
        self.timeout_s = timeout_s
        self.commands = commands or SlurmCommands()
        self.others = tuple(others)
        self.names = names or Names()

    def take_over(self, step: BlockStep) -> None:
        """End what other backends still have at work; which jobs of its own can go on shows when the plan is made."""
        for other in self.others:
            other.clear(step)

    def clear(self, step: BlockStep) -> None:
        """Cancel jobs of earlier runs: their output is about to be made anew, or others go on with it."""
        ledger = Ledger(step)
        entries = ledger.entries()
        if entries:
            logger.info("%s: cancelling %d job arrays of an earlier run", step.label, len(entries))
            self._end(step, ledger, entries)

    def run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        """Compute items; see ``Backend.run``."""
        try:
            with interrupted_once():
                self._run(step, items, referee, report)
        except SlurmMissingError as error:
            raise SlurmMissingError(f"{step.label}: {self.names.kind} is chosen, but {error}") from error

    def _run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        leave = False
        ledger = Ledger(step)
        run = SlurmRun(step, self.options, self.commands, ledger, referee, self.timeout_s, self.names)
        try:
            run.adopt(items)
            pause = FIRST_POLL_S
            while run.left and not referee.outcome.stopped:
                run.submit()
                run.look()
                report(referee.outcome)
                if run.left and not referee.outcome.stopped:
                    _sleep(pause)
                pause = min(1.2 * pause, self.options.poll_s)
        except KeyboardInterrupt:
            leave = self.detach
            raise
        finally:
            if leave:
                logger.info(
                    "%s: the jobs of arrays %s go on; the same command adopts them",
                    step.label,
                    run.job_names or "none",
                )
            else:
                self._leave_nothing(step, ledger, run)

    def _leave_nothing(self, step: BlockStep, ledger: Ledger, run: SlurmRun) -> None:
        if not run.left:
            run.wait_for_ends()
        try:
            self._end(step, ledger, ledger.entries())
        except UserError as error:
            # What has ended the run counts more; the next run finds these jobs in the ledger.
            logger.error("%s", error)

    def _end(self, step: BlockStep, ledger: Ledger, entries: list[Entry]) -> None:
        """Cancel arrays, wait until they are gone, and forget them."""
        try:
            jobs = sorted({job for entry in entries for job in self._jobs_of(entry)})
            gone = cancel_arrays(self.commands, jobs)
        except SlurmMissingError as error:
            raise UserError(_ask_for_scancel(step, ledger, entries, self.names)) from error
        except SlurmUnavailableError as error:
            raise UserError(
                f"{step.label}: jobs of this step may still run, and SLURM does not answer ({error}). They are "
                f"listed in {ledger.folder}; run the same command again when `squeue` works, or end them with scancel"
            ) from error
        if not gone:
            raise UserError(
                f"{step.label}: jobs {', '.join(map(str, jobs))} were cancelled but are still there; look at "
                f"`squeue --jobs {','.join(map(str, jobs))}` and run the same command again when they are gone"
            )
        for entry in entries:
            ledger.forget(entry.name)

    def _jobs_of(self, entry: Entry) -> frozenset[int]:
        return frozenset({entry.job}) if entry.job is not None else self.commands.named(entry.name)


def _ask_for_scancel(step: BlockStep, ledger: Ledger, entries: list[Entry], names: Names) -> str:
    jobs = [str(entry.job) if entry.job is not None else f"--name={entry.name}" for entry in entries]
    return (
        f"{step.label}: {len(entries)} SLURM job arrays of an earlier run may still work on this step, and SLURM's "
        "commands are not on this machine. Nothing was changed. Either finish the run on the cluster, with "
        f"{names.kind}; or end them there, with `scancel {' '.join(jobs)}`, remove {ledger.folder} when "
        "`squeue --me` shows them no more, and run the same command again"
    )


def _sleep(seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        check_parent()
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, PARENT_POLL_S))
