"""One run over a step's blocks on a cluster: what waits, what is at work, and what has come of it."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from blockwise.backends.base import Referee
from blockwise.backends.slurm.adoption import adopt_jobs
from blockwise.backends.slurm.cancel import wait_until_gone
from blockwise.backends.slurm.commands import (
    SlurmCommands,
    SlurmUnavailableError,
    SubmissionLimitError,
    SubmissionRefusedError,
    TaskId,
    TaskState,
)
from blockwise.backends.slurm.dealing import blocks_per_job, deal
from blockwise.backends.slurm.jobs import Array, Arrays, Job
from blockwise.backends.slurm.ledger import Ledger
from blockwise.backends.slurm.reasons import remedy
from blockwise.backends.slurm.recovery import Decision, decide
from blockwise.backends.slurm.results import Results
from blockwise.backends.slurm.script import Needs, SlurmOptions, batch_script, first_needs
from blockwise.errors import UserError
from blockwise.job import Order
from blockwise.markers import Failure
from blockwise.plan import Item
from blockwise.step import BlockStep
from blockwise.worker import Result

logger = logging.getLogger(__name__)

NODE_STRIKES = 2
"""A node on which this many jobs were lost by the node's fault gets no more."""

END_S = 5.0
"""How long jobs whose blocks are all done have to end by themselves."""

FIRST_BACKOFF_S, LAST_BACKOFF_S = 2.0, 120.0


class Backoff:
    """When to ask somebody again who has not answered."""

    def __init__(self) -> None:
        self.pause = FIRST_BACKOFF_S
        self.until = 0.0

    @property
    def waiting(self) -> bool:
        """Whether it is too early."""
        return time.monotonic() < self.until

    def failed(self) -> float:
        """Wait, and longer each time; the seconds until the next try."""
        pause = self.pause
        self.until = time.monotonic() + pause
        self.pause = min(2 * pause, LAST_BACKOFF_S)
        return pause

    def succeeded(self) -> None:
        """Begin anew."""
        self.pause, self.until = FIRST_BACKOFF_S, 0.0


class SlurmRun:
    """Keeps a step's blocks at work until each has a result."""

    def __init__(
        self, step: BlockStep, options: SlurmOptions, commands: SlurmCommands, ledger: Ledger, referee: Referee
    ) -> None:
        self.step = step
        self.options = options
        self.commands = commands
        self.ledger = ledger
        self.referee = referee
        self.needs = first_needs(step, options)
        self.waiting: dict[Needs, list[Order]] = {}
        self.arrays = Arrays()
        self.results = Results(step, referee)
        self.max_submitted = options.max_submitted
        self.max_array_size = 0
        self.strikes: Counter[str] = Counter()
        self.excluded: list[str] = []
        self.submitting = Backoff()
        self.asking = Backoff()
        self.explained: set[str] = set()

    @property
    def left(self) -> int:
        """Number of blocks without a final result."""
        return sum(map(len, self.waiting.values())) + len(self.arrays.held())

    @property
    def names(self) -> str:
        """The arrays at work, for people."""
        return ", ".join(str(array.job) for array in self.arrays)

    def adopt(self, items: Iterable[Item]) -> None:
        """Take over the jobs of an earlier run, and let the blocks that none of them holds wait."""
        wanted = {item.block: item for item in items}
        for array in adopt_jobs(self.step, wanted, self.ledger, self.commands):
            self.arrays.add(array)
        held = self.arrays.held()
        self.results.watch(wanted.values())
        self.waiting[self.needs] = [Order(item) for block, item in wanted.items() if block not in held]

    # Submission.

    def submit(self) -> None:
        """Submit what waits, as far as the limits allow."""
        for needs in list(self.waiting):
            while self.waiting.get(needs) and not self.submitting.waiting and self._submit_some(needs):
                pass
            if not self.waiting[needs]:
                del self.waiting[needs]

    def _submit_some(self, needs: Needs) -> bool:
        """Submit one array; False where nothing more can be submitted now."""
        orders = sorted(self.waiting[needs], key=lambda order: order.item.block)
        jobs = self._room(len(orders))
        if jobs < 1:
            return False
        seconds = self.results.seconds_per_block
        per_job = blocks_per_job(self.options, needs.time_min, len(orders), seconds)
        lists, rest = deal(orders, per_job, jobs)
        try:
            self._submit_array(needs, lists)
        except SlurmUnavailableError as error:
            logger.warning(
                "%s: nothing could be submitted: %s; next try in %.0f s",
                self.step.name,
                error,
                self.submitting.failed(),
            )
            return False
        except SubmissionLimitError as error:
            self._shrink(len(lists), error)
            return False
        except SubmissionRefusedError as error:
            rest = [*rest, *self._refused(needs, lists, error)]
        else:
            self.submitting.succeeded()
        self.waiting[needs] = rest
        return True

    def _room(self, orders: int) -> int:
        """Number of tasks that may be submitted now; 0 rather than a few where many wait."""
        alive = self.arrays.alive
        if len(self.arrays.by_id) >= self.options.max_running:
            return 0
        if not self.max_array_size:
            self.max_array_size = self.commands.max_array_size()
        room = min(self.max_submitted - alive, self.max_array_size)
        if self.results.seconds_per_block is None and not self.options.blocks_per_job:
            return 0 if alive else min(room, self.options.max_running)
        return 0 if alive and room < min(orders, self.max_submitted // 4) else room

    def _submit_array(self, needs: Needs, lists: list[list[Order]]) -> None:
        name = f"{self.step.name}-{self.step.fingerprint[:6]}-{uuid.uuid4().hex[:6]}"
        throttle = max(1, min(len(lists), self.options.max_running - self.arrays.running()))
        places = self.ledger.enter(
            name,
            self.step,
            lists,
            needs,
            lambda places: batch_script(self.options, needs, places, len(lists), throttle, self.excluded),
        )
        self.results.forget_failures(order.item.block for orders in lists for order in orders)
        try:
            job = self.commands.submit(places.script, name)
        except (SubmissionLimitError, SubmissionRefusedError):
            self.ledger.forget(name)
            raise
        self.ledger.submitted(name, job)
        array = Array(job, name, throttle)
        for index, orders in enumerate(lists):
            held = {order.item.block: order for order in orders}
            array.jobs.append(Job(job, index, needs, places.log(job, index), held))
        self.arrays.add(array)
        blocks = sum(map(len, lists))
        logger.info(
            "%s: submitted array %d: %d jobs for %d blocks, %s and %d min each",
            self.step.name, job, len(lists), blocks, needs.memory, needs.time_min,
        )  # fmt: skip

    def _shrink(self, jobs: int, error: Exception) -> None:
        """The cluster takes fewer jobs than ``max_submitted`` says."""
        alive = self.arrays.alive
        smaller = max(1, alive, (alive + jobs) // 2)
        if smaller < min(self.max_submitted, alive + jobs):
            logger.warning("%s: %s; from now on at most %d jobs at a time", self.step.name, error, smaller)
            self.max_submitted = smaller
        else:
            logger.warning("%s: %s; next try in %.0f s", self.step.name, error, self.submitting.failed())

    def _refused(self, needs: Needs, lists: list[list[Order]], error: SubmissionRefusedError) -> list[Order]:
        """Orders of a refused array that wait again; raises where the settings are wrong."""
        orders = [order for one in lists for order in one]
        if self.excluded:
            logger.warning("%s: %s; nodes %s are no longer excluded", self.step.name, error, ", ".join(self.excluded))
            self.excluded.clear()
            self.strikes.clear()
            return orders
        if needs == self.needs:
            raise UserError(
                f"{self.step.name}: SLURM refuses its jobs: {error}. Asked for: {needs.memory}, {needs.time_min} "
                f"min, {self.options.cpus} cpus a task; look at partition, account, qos, constraint, nodelist, "
                "exclude, memory_gb, time_min, cpus and sbatch in backend.slurm"
            ) from error
        for order in orders:
            message = f"needs {needs.memory} and {needs.time_min} min after it had failed with less, and {error}"
            self._judge(order, "SubmissionRefused", message, final=True, log=str(self.step.logs), node="")
        return []

    # Following.

    def look(self) -> None:
        """Take in results, and settle jobs that have ended without giving all of theirs."""
        self._collect()
        ended = [job for job in self._ended_jobs() if self._is_due(job)]
        if any(job.orders for job in ended):
            self._collect()  # what was written between the first look and SLURM's answer
        for job in ended:
            if job.orders:
                self._settle(job)
            else:
                self.referee.judge_job(False, "")
            job.over = True
        for array in self.arrays.drop_over():
            self.ledger.forget(array.name)
        for array_id, share in self.arrays.shares(self.options.max_running).items():
            self.commands.throttle(array_id, share)
            self.arrays.by_id[array_id].throttle = share
        waiting = sum(map(len, self.waiting.values()))
        later = f"; {waiting} blocks not submitted yet" if waiting else ""
        self.referee.outcome.note = self.arrays.note() + later

    def wait_for_ends(self) -> None:
        """Let jobs whose blocks are all done end by themselves."""
        jobs = [array.job for array in self.arrays]
        if wait_until_gone(self.commands, jobs, list(map(str, jobs)), END_S):
            for array in self.arrays:
                self.ledger.forget(array.name)

    def _collect(self) -> None:
        for order in self.results.collect(self.arrays.held()):
            self.waiting.setdefault(self.needs, []).append(order)

    def _ended_jobs(self) -> list[Job]:
        """Jobs that SLURM says have ended; none where it says nothing."""
        if self.asking.waiting or not self.arrays.by_id:
            return []
        try:
            states = self.commands.states(list(self.arrays.by_id))
        except SlurmUnavailableError as error:
            logger.warning(
                "%s: SLURM does not say how jobs stand: %s; they are taken to go on, and markers are read; next "
                "question in %.0f s", self.step.name, error, self.asking.failed(),
            )  # fmt: skip
            return []
        self.asking.succeeded()
        known = {job for job, _ in states}
        gone = {array.job for array in self.arrays if array.job in known or self.commands.is_forgotten(array.job)}
        return [job for job in self.arrays.jobs() if self._has_ended(job, states, gone)]

    def _has_ended(self, job: Job, states: dict[TaskId, TaskState], answered: set[int]) -> bool:
        """Take in one job's state; ``answered``: arrays of which a missing task has really been forgotten."""
        state = states.get((job.array, job.index))
        if state is None:
            return job.array in answered
        job.state = state
        if state.state == "PENDING":
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
        text = remedy(reason)
        if text and reason not in self.explained:
            self.explained.add(reason)
            logger.warning("%s: jobs are pending (%s): %s", self.step.name, reason, text)

    def _settle(self, job: Job) -> None:
        """Decide what becomes of the blocks that a job has left."""
        ended = job.ended()
        decision = decide(ended)
        logger.warning("%s: %s [log: %s]", self.step.name, decision.text, job.log)
        job.orders.clear()
        self.waiting.setdefault(decision.needs, []).extend(decision.again)
        node = job.state.node if job.state else ""
        for order in decision.blamed:
            message = f"{decision.message}; last line of the log: {ended.last_words}"
            if self._judge(order, decision.error, message, decision.final, str(job.log), node):
                again = replace(order, attempt=order.attempt + 1, alone=True)
                self.waiting.setdefault(decision.blamed_needs or decision.needs, []).append(again)
        self.referee.judge_job(decision.fruitless, f"{decision.text}; last line of its log: {ended.last_words}")
        self._strike(decision)

    def _strike(self, decision: Decision) -> None:
        node = decision.bad_node
        if not node:
            return
        self.strikes[node] += 1
        if self.strikes[node] >= NODE_STRIKES and node not in self.excluded:
            self.excluded.append(node)
            logger.warning("%s: node %s has lost %d jobs and gets no more", self.step.name, node, self.strikes[node])

    def _judge(self, order: Order, error: str, message: str, final: bool, log: str, node: str) -> bool:
        """Count a failed attempt that no worker could record; True where the block should be tried again."""
        block = order.item.block
        result = Result(block, "failed", self.results.voxels(block), 0.0, error, message, final)
        self.step.markers.write_failure(
            Failure(block, self.step.fingerprint, error, message, "", log, order.attempt, node, final)
        )
        return self.referee.judge(result, order.attempt)
