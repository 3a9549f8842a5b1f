"""Submits arrays, within the limits of the settings and of the scheduler."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter

from blockwise.advice import Advice
from blockwise.backends.jobs.arrays import Array, Arrays, Job
from blockwise.backends.jobs.dealing import blocks_per_job, deal, share_slots
from blockwise.backends.jobs.ledger import Ledger
from blockwise.backends.jobs.needs import JobOptions, Needs
from blockwise.backends.jobs.scheduler import (
    Scheduler,
    SchedulerMissingError,
    SchedulerUnavailableError,
    Submission,
    SubmissionLimitError,
    SubmissionRefusedError,
)
from blockwise.job import Order
from blockwise.step import BlockStep

logger = logging.getLogger(__name__)

NODE_STRIKES = 2
"""A node on which this many jobs were lost by the node's fault gets no more."""

FIRST_BACKOFF_S, LAST_BACKOFF_S = 2.0, 120.0

REFILL = 4
"""The queue is filled up again when a part of ``most_submitted``, one over this, is free: few arrays, not many."""


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


class Submitter:
    """Turns orders into arrays.

    Attributes:
        arrays: those at work; new ones are added.
        timeout_s: longest time for one block; None for no limit.
        advice: for blocks that fail for want of memory or time.
        most_submitted: most tasks in the queue, as set, or as the scheduler has shown.
        excluded: nodes that have lost jobs.
    """

    def __init__(
        self,
        step: BlockStep,
        options: JobOptions,
        scheduler: Scheduler,
        ledger: Ledger,
        arrays: Arrays,
        timeout_s: float | None,
        advice: Advice,
    ) -> None:
        self.step = step
        self.options = options
        self.scheduler = scheduler
        self.ledger = ledger
        self.arrays = arrays
        self.timeout_s = timeout_s
        self.advice = advice
        self.most_submitted = options.most_submitted
        self.excluded: list[str] = []
        self._strikes: Counter[str] = Counter()
        self._backoff = Backoff()
        self._max_array_size = 0
        self._wanted: dict[Needs, list[int]] = {}

    def submit(self, needs: Needs, orders: list[Order], seconds: float | None) -> list[Order]:
        """Submit orders; those for which there is no room now.

        Args:
            needs: what each task asks for.
            orders: in the order in which they should be done.
            seconds: of one block; None where it is not known.

        Raises:
            SubmissionRefusedError: the scheduler will never take these jobs.
        """
        self._wanted.pop(needs, None)
        room = self._room(len(orders), seconds)
        if room < 1 or self._backoff.waiting:
            return orders
        per_job = blocks_per_job(self.options, needs.time_min, len(orders), seconds)
        lists, rest = deal(orders, per_job, room)
        size = self._max_array_size
        pieces = [lists[start : start + size] for start in range(0, len(lists), size)]
        # Arrays at work give up their share first; a slot is free only when one of their tasks has ended.
        self._wanted[needs] = [len(piece) for piece in pieces]
        self.share_slots()
        while pieces and self._free_slots > 0:
            throttle = len(pieces[0])
            if self.scheduler.throttles:
                throttle = min(throttle, max(1, self._free_slots // len(pieces)))
            if not self._try(needs, pieces[0], throttle):
                break
            del pieces[0]
        self._wanted[needs] = [len(piece) for piece in pieces]
        return [order for piece in pieces for one in piece for order in one] + rest

    def share_slots(self) -> None:
        """Share ``max_running`` anew among the arrays at work and those that wait for a share."""
        if not self.scheduler.throttles:
            return
        arrays = list(self.arrays)
        waiting = [size for sizes in self._wanted.values() for size in sizes]
        shares = share_slots([array.alive for array in arrays] + waiting, self.options.max_running)
        for array, share in zip(arrays, shares, strict=False):
            if share < min(array.alive, array.throttle):
                self._throttle(array, share)
        for array, share in zip(arrays, shares, strict=False):
            possible = min(share, array.slots + self._free_slots)
            if array.alive > array.throttle and possible > array.throttle:
                self._throttle(array, possible)

    def strike(self, node: str) -> None:
        """A node has lost a job."""
        self._strikes[node] += 1
        if self._strikes[node] >= NODE_STRIKES and node not in self.excluded:
            self.excluded.append(node)
            logger.warning(
                "%s: node %s has lost %d jobs and gets no more", self.step.label, node, self._strikes[node]
            )

    @property
    def _free_slots(self) -> int:
        return self.options.max_running - sum(array.slots for array in self.arrays)

    def _room(self, orders: int, seconds: float | None) -> int:
        """Number of tasks that may be submitted now; 0 rather than a few where many wait."""
        if not self._max_array_size:
            self._max_array_size = self.scheduler.max_array_size()
        alive = self.arrays.alive
        arrays_left = self.options.max_running - len(self.arrays.by_id)
        room = min(self.most_submitted - alive, arrays_left * self._max_array_size)
        if seconds is None and not self.options.blocks_per_job:
            # Nobody knows yet how many blocks make a job of the right length: one round to learn it.
            return 0 if alive else min(room, self.options.max_running)
        return 0 if alive and room < min(orders, self.most_submitted // REFILL) else room

    def _try(self, needs: Needs, lists: list[list[Order]], throttle: int) -> bool:
        """Submit one array; False where the scheduler does not take it now."""
        try:
            self._submit_array(needs, lists, throttle)
        except SchedulerUnavailableError as error:
            pause = self._backoff.failed()
            logger.warning("%s: nothing could be submitted: %s; next try in %.0f s", self.step.label, error, pause)
            return False
        except SubmissionLimitError as error:
            self._shrink(len(lists), error)
            return False
        except SubmissionRefusedError as error:
            if not self.excluded:
                raise
            names = ", ".join(self.excluded)
            logger.warning("%s: %s; nodes %s are no longer excluded", self.step.label, error, names)
            self.excluded.clear()
            self._strikes.clear()
            return False
        self._backoff.succeeded()
        return True

    def _submit_array(self, needs: Needs, lists: list[list[Order]], throttle: int) -> None:
        name = f"{self.step.label}-{self.step.fingerprint[:6]}-{uuid.uuid4().hex[:6]}"
        self.ledger.enter(name, self.step, lists, needs, self.timeout_s, self.advice)
        # Records of earlier attempts go, so that those of this one are told from them.
        for block in self.step.markers.failed_among(order.item.block for orders in lists for order in orders):
            self.step.markers.remove_failure(block)
        try:
            array_id = self.scheduler.submit(
                Submission(
                    name, self.ledger.address(name), self.ledger.logs, len(lists), needs, throttle, self.excluded
                )
            )
        except (SchedulerMissingError, SubmissionLimitError, SubmissionRefusedError):
            self.ledger.forget(name)
            raise
        self.ledger.submitted(name, array_id)
        array = Array(array_id, name, throttle)
        for index, orders in enumerate(lists):
            held = {order.item.block: order for order in orders}
            log = self.ledger.log(self.scheduler.log_name(array_id, name, index))
            array.jobs.append(Job(array_id, index, self.scheduler.task_name(array_id, index), needs, log, held))
        self.arrays.add(array)
        blocks = sum(map(len, lists))
        logger.info(
            "%s: submitted array %s: %d jobs for %d blocks, %s and %d min each",
            self.step.label, array_id, len(lists), blocks, needs.memory, needs.time_min,
        )  # fmt: skip

    def _shrink(self, jobs: int, error: Exception) -> None:
        """The scheduler takes fewer jobs than ``most_submitted`` says."""
        alive = self.arrays.alive
        smaller = max(1, alive, (alive + jobs) // 2)
        if smaller < min(self.most_submitted, alive + jobs):
            logger.warning("%s: %s; from now on at most %d jobs at a time", self.step.label, error, smaller)
            self.most_submitted = smaller
        else:
            logger.warning("%s: %s; next try in %.0f s", self.step.label, error, self._backoff.failed())

    def _throttle(self, array: Array, running: int) -> None:
        # Those that run are not ended by a lower throttle, and what is known of them is old.
        array.let_run = max(array.let_run, array.throttle)
        self.scheduler.throttle(array.id, running)
        array.throttle = running
