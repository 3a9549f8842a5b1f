"""One run over a step's blocks in jobs: what waits, what is at work, and what has come of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from blockwise.advice import Names
from blockwise.backends.base import Referee
from blockwise.backends.jobs.adoption import adopt_jobs
from blockwise.backends.jobs.arrays import Arrays, Job
from blockwise.backends.jobs.cancel import wait_until_gone
from blockwise.backends.jobs.ledger import Ledger
from blockwise.backends.jobs.needs import JobOptions, Needs, first_needs
from blockwise.backends.jobs.recovery import decide
from blockwise.backends.jobs.results import Results
from blockwise.backends.jobs.scheduler import (
    NO_TASK,
    Scheduler,
    SchedulerUnavailableError,
    SubmissionRefusedError,
    Target,
    TaskId,
    TaskState,
)
from blockwise.backends.jobs.submission import Backoff, Submitter
from blockwise.backends.pausing import Pausing
from blockwise.errors import UserError
from blockwise.job import Order
from blockwise.plan import Item
from blockwise.records.markers import Failure
from blockwise.step import BlockStep
from blockwise.worker import Result

logger = logging.getLogger(__name__)


class JobsRun:
    """Keeps a step's blocks at work until each has a result."""

    def __init__(
        self,
        step: BlockStep,
        options: JobOptions,
        scheduler: Scheduler,
        ledger: Ledger,
        referee: Referee,
        timeout_s: float | None,
        names: Names,
    ) -> None:
        self.step = step
        self.names = names
        self.options = options
        self.scheduler = scheduler
        self.words = scheduler.words
        self.ledger = ledger
        self.referee = referee
        self.needs = first_needs(step, options)
        self.waiting: dict[Needs, list[Order]] = {}
        self.pausing = Pausing[tuple[Needs, Order]]()
        self.arrays = Arrays()
        self.results = Results(step, referee, names)
        advice = names.advice(f"raise {names.option}memory_gb")
        self.submitter = Submitter(step, options, scheduler, ledger, self.arrays, timeout_s, advice)
        self.asking = Backoff()
        self.explained: set[str] = set()

    @property
    def left(self) -> int:
        """Number of blocks without a final result."""
        return sum(map(len, self.waiting.values())) + len(self.pausing) + len(self.arrays.held())

    @property
    def job_names(self) -> str:
        """The arrays at work, for people."""
        return ", ".join(array.id for array in self.arrays)

    def adopt(self, items: Iterable[Item]) -> None:
        """Take over the jobs of an earlier run, and let the blocks that none of them holds wait."""
        wanted = {item.block: item for item in items}
        for array in adopt_jobs(self.step, wanted, self.ledger, self.scheduler):
            self.arrays.add(array)
        held = self.arrays.held()
        self.results.watch(wanted.values())
        self.waiting[self.needs] = [Order(item) for block, item in wanted.items() if block not in held]

    def submit(self) -> None:
        """Submit what waits, as far as the limits allow."""
        for needs, order in self.pausing.due():
            self.waiting.setdefault(needs, []).append(order)
        for needs in list(self.waiting):
            orders = sorted(self.waiting.pop(needs), key=lambda order: order.item.block)
            try:
                rest = self.submitter.submit(needs, orders, self.results.seconds_per_block)
            except SubmissionRefusedError as error:
                self._refused(needs, orders, error)
                continue
            if rest:
                self.waiting[needs] = rest

    def _refused(self, needs: Needs, orders: list[Order], error: SubmissionRefusedError) -> None:
        """Give up orders that ask for more than there is; raises where the settings are wrong."""
        if needs == self.needs:
            raise UserError(
                f"{self.step.label}: {self.words.title} refuses its jobs: {error}. Asked for: {needs.memory}, "
                f"{needs.time_min} min, {self.options.cpus} cpus a task; look at "
                f"{self.names.option}{self.words.settings}"
            ) from error
        held = self.arrays.held()
        for order in (order for order in orders if order.item.block not in held):
            message = f"needs {needs.memory} and {needs.time_min} min after it had failed with less, and {error}"
            self._judge(order, "SubmissionRefused", message, final=True, log=str(self.step.logs), node="")

    def look(self) -> None:
        """Take in results, and settle jobs that have ended without giving all of theirs."""
        self._collect()
        ended = [job for job in self._ended_jobs() if self._is_due(job)]
        if any(job.orders for job in ended):
            self._collect()  # what was written between the first look and the scheduler's answer
        for job in ended:
            if job.orders:
                self._settle(job)
            else:
                self.referee.judge_job(False, "")
            job.over = True
        for array in self.arrays.drop_over():
            self.ledger.forget(array.name)
        self.submitter.share_slots()
        waiting = sum(map(len, self.waiting.values())) + len(self.pausing)
        later = f"; {waiting} blocks not submitted yet" if waiting else ""
        self.referee.outcome.note = self.arrays.note(self.words.title) + later

    def wait_for_ends(self) -> None:
        """Let jobs whose blocks are all done end by themselves."""
        targets = [Target(array.id) for array in self.arrays]
        if wait_until_gone(self.scheduler, targets, self.scheduler.end_s, leaving=False):
            for array in self.arrays:
                self.ledger.forget(array.name)

    def _collect(self) -> None:
        for order, needs in self.results.collect(self.arrays.held()):
            self.pausing.add((needs or self.needs, order), order.pause_s)

    def _ended_jobs(self) -> list[Job]:
        """Jobs that the scheduler says have ended; none where it says nothing."""
        if self.asking.waiting or not self.arrays.by_id:
            return []
        throttles = {array.id: array.throttle for array in self.arrays}
        try:
            states = self.scheduler.states([array.watched for array in self.arrays])
        except SchedulerUnavailableError as error:
            logger.warning(
                "%s: %s does not say how jobs stand: %s; they are taken to go on, and markers are read; next "
                "question in %.0f s", self.step.label, self.words.title, error, self.asking.failed(),
            )  # fmt: skip
            return []
        self.asking.succeeded()
        for array in self.arrays:
            array.let_run = throttles[array.id]
        known = {array for array, _ in states}
        gone = {array.id for array in self.arrays if array.id in known or self.scheduler.is_forgotten(array.id)}
        return [job for job in self.arrays.jobs() if self._has_ended(job, states, gone)]

    def _has_ended(self, job: Job, states: Mapping[TaskId, TaskState], answered: set[str]) -> bool:
        """Take in one job's state; ``answered``: arrays of which a missing task has really been forgotten."""
        state = states.get((job.array, job.index))
        if state is None and job.array in answered:
            if job.ended_since is None:
                job.state = states.get((job.array, NO_TASK), job.state and job.state.when_gone())
            return True
        if state is None:
            return False
        job.state = state
        if state.waits:
            self._explain(state.reason)
        if not state.ended:
            job.ended_since = None
        return state.ended

    def _is_due(self, job: Job) -> bool:
        """Whether a job that has ended may be settled: a slow file system gets time to show its markers."""
        now = time.monotonic()
        job.ended_since = job.ended_since or now
        return not job.orders or now - job.ended_since >= self.options.grace_s

    def _explain(self, reason: str) -> None:
        text = self.words.remedy(reason, self.names)
        if text and reason not in self.explained:
            self.explained.add(reason)
            logger.warning("%s: jobs are pending (%s): %s", self.step.label, reason, text)

    def _settle(self, job: Job) -> None:
        """Decide what becomes of the blocks that a job has left."""
        ended = job.ended(self.words.title)
        decision = decide(ended, self.names)
        logger.warning("%s: %s [log: %s]", self.step.label, decision.text, job.log)
        job.orders.clear()
        self.waiting.setdefault(decision.needs, []).extend(decision.again)
        node = job.state.node if job.state else ""
        for order in decision.blamed:
            message = f"{decision.message}; last line of the log: {ended.last_words}"
            again = self._judge(order, decision.error, message, decision.final, str(job.log), node)
            if again is not None:
                needs = decision.blamed_needs or decision.needs
                self.waiting.setdefault(needs, []).append(replace(again, alone=True))
        self.referee.judge_job(decision.fruitless, f"{decision.text}; last line of its log: {ended.last_words}")
        if decision.bad_node:
            self.submitter.strike(decision.bad_node)

    def _judge(self, order: Order, error: str, message: str, final: bool, log: str, node: str) -> Order | None:
        """Count a failed attempt that no worker could record; the next one, or None."""
        block = order.item.block
        result = Result(block, "failed", self.results.voxels(block), 0.0, error, message, final)
        self.step.markers.write_failure(
            Failure(block, self.step.fingerprint, error, message, "", log, order.attempt, node, final)
        )
        return self.referee.next_order(order, result)
