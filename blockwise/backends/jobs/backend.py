"""Blocks computed by the job arrays of a scheduler.

Markers and failure records are the truth: a block is done when its marker says so, whatever the scheduler says about
its job. The scheduler's states serve to notice that a job has ended without giving each of its blocks a result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from blockwise.advice import Names
from blockwise.backends.base import AfterOthers, Backend, Outcome, Referee, check_parent
from blockwise.backends.jobs.arrays import natural
from blockwise.backends.jobs.cancel import cancel, interrupted_once
from blockwise.backends.jobs.ledger import Entry, Ledger
from blockwise.backends.jobs.needs import JobOptions
from blockwise.backends.jobs.run import JobsRun
from blockwise.backends.jobs.scheduler import Scheduler, SchedulerMissingError, SchedulerUnavailableError, Target
from blockwise.errors import UserError
from blockwise.plan import Item
from blockwise.step import BlockStep

logger = logging.getLogger(__name__)

FIRST_POLL_S = 0.2
"""Small steps are over soon: the first look comes early, and the pauses grow up to ``poll_s``."""

PARENT_POLL_S = 1.0


class JobsBackend(AfterOthers):
    """Submits job arrays and follows their markers.

    Attributes:
        options: how blocks are dealt out to jobs.
        scheduler: who runs them.
        folder: name of the ledgers, in which no other scheduler's jobs stand.
        detach: leave jobs running when this process is asked to end; the next run adopts them.
        timeout_s: longest time for one block; None for no limit but that of its job.
        others: backends whose work outlives a run, so that an earlier run may have left some of it.
        names: what messages call settings.
    """

    def __init__(
        self,
        options: JobOptions,
        scheduler: Scheduler,
        folder: str,
        detach: bool = False,
        timeout_s: float | None = None,
        others: Sequence[Backend] = (),
        names: Names | None = None,
    ) -> None:
        self.options = options
        self.scheduler = scheduler
        self.words = scheduler.words
        self.folder = folder
        self.detach = detach
        self.timeout_s = timeout_s
        super().__init__(others)
        self.names = names or Names()

    def clear(self, step: BlockStep) -> None:
        """Cancel jobs of earlier runs: their output is about to be made anew, or others go on with it."""
        ledger = Ledger(step, self.folder)
        entries = ledger.entries()
        if entries:
            logger.info("%s: cancelling %d job arrays of an earlier run", step.label, len(entries))
            self._end(step, ledger, entries)

    def run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        """Compute items; see ``Backend.run``."""
        try:
            with interrupted_once():
                self._run(step, items, referee, report)
        except SchedulerMissingError as error:
            raise SchedulerMissingError(f"{step.label}: {self.names.kind} is chosen, but {error}") from error

    def _run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        leave = False
        ledger = Ledger(step, self.folder)
        run = JobsRun(step, self.options, self.scheduler, ledger, referee, self.timeout_s, self.names)
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

    def _leave_nothing(self, step: BlockStep, ledger: Ledger, run: JobsRun) -> None:
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
            arrays = natural({array for entry in entries for array in self._arrays_of(entry)})
            gone = cancel(self.scheduler, [Target(array) for array in arrays])
        except SchedulerMissingError as error:
            raise UserError(self._ask_to_end(step, ledger, entries)) from error
        except SchedulerUnavailableError as error:
            raise UserError(
                f"{step.label}: jobs of this step may still run, and {self.words.title} does not answer ({error}). "
                f"They are listed in {ledger.place}; run the same command again when {self.words.works}, or end them "
                f"with {self._how_to_end(entries)}"
            ) from error
        if not gone:
            raise UserError(
                f"{step.label}: jobs {', '.join(arrays)} were cancelled but are still there; look at "
                f"{self.words.how_to_look(arrays)} and run the same command again when they are gone"
            )
        for entry in entries:
            ledger.forget(entry.name)

    def _arrays_of(self, entry: Entry) -> frozenset[str]:
        return frozenset({entry.array}) if entry.array is not None else self.scheduler.named(entry.name)

    def _ask_to_end(self, step: BlockStep, ledger: Ledger, entries: list[Entry]) -> str:
        words = self.words
        return (
            f"{step.label}: {len(entries)} {words.title} job arrays of an earlier run may still work on this step, "
            f"and {words.tools} not on this machine. Nothing was changed. Either finish the run {words.place}, with "
            f"{self.names.kind}; or end them there, with {self._how_to_end(entries)}, remove {ledger.place} when "
            f"{words.how_to_look(_known(entries))} shows them no more, and run the same command again"
        )

    def _how_to_end(self, entries: list[Entry]) -> str:
        return self.words.how_to_end(_known(entries), [entry.name for entry in entries if entry.array is None])


def _known(entries: list[Entry]) -> list[str]:
    return [entry.array for entry in entries if entry.array is not None]


def _sleep(seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        check_parent()
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, PARENT_POLL_S))
