"""Results of blocks, as markers and failure records tell them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from blockwise.advice import Names
from blockwise.backends.base import Referee
from blockwise.backends.jobs.arrays import Job
from blockwise.backends.jobs.needs import Needs
from blockwise.backends.jobs.recovery import too_little
from blockwise.grid import box_size
from blockwise.job import Order
from blockwise.plan import Item, present_marker
from blockwise.records import Version
from blockwise.records.markers import Failure, Marker
from blockwise.step import BlockStep
from blockwise.transient import patiently
from blockwise.watchdog import BlockTimeoutError
from blockwise.worker import OutOfMemoryError, Result

logger = logging.getLogger(__name__)

SAMPLE = 64
"""Markers of earlier runs that are read to learn how long a block takes."""


class Results:
    """Reads results of blocks and hands them to the referee.

    Attributes:
        step: whose blocks.
        referee: who decides.
        names: what messages call settings.
    """

    def __init__(self, step: BlockStep, referee: Referee, names: Names) -> None:
        self.names = names
        self.step = step
        self.referee = referee
        self._seconds = [marker.seconds for marker in step.markers.sample(SAMPLE)]
        self._checksums: dict[int, str] = {}
        self._known: dict[int, Version] = {}

    @property
    def seconds_per_block(self) -> float | None:
        """Mean wall time of a block; None while none is known."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else None

    def voxels(self, block: int) -> int:
        """Size of a block's write box."""
        return box_size(self.step.grid.block(block).write_box)

    def watch(self, items: Iterable[Item]) -> None:
        """Remember the markers of blocks that are only checked: their files exist from the start."""
        for item in items:
            marker = self.step.markers.read(item.block) if item.check else None
            if marker is not None:
                self._checksums[item.block] = marker.checksum

    def collect(self, held: Mapping[int, Job]) -> list[tuple[Order, Needs | None]]:
        """Take in all new results; the orders of blocks that should be tried again, each with its needs.

        A block with a result leaves its job. Needs are None where they are those of any other block.
        """
        again: list[tuple[Order, Needs | None]] = []
        for block, version in patiently(self.step.markers.done_among, held).items():
            # The marker of a block that is checked is read again only after it has been replaced.
            if self._known.get(block) == version:
                continue
            order = held[block].orders[block]
            marker = patiently(present_marker, self.step, order.item)
            if marker is not None:
                self._finish(held[block], order, marker)
            elif order.item.check:
                self._known[block] = version
        for block in patiently(self.step.markers.failed_among, held):
            failed = held[block].orders.get(block)
            if failed is not None:
                again += self._fail(held[block], failed)
        return again

    def _finish(self, job: Job, order: Order, marker: Marker) -> None:
        unchanged = self._checksums.get(marker.block) == marker.checksum
        self._seconds.append(marker.seconds)
        state = "unchanged" if unchanged else "computed"
        self._leave(job, Result(marker.block, state, self.voxels(marker.block), marker.seconds), order)

    def _fail(self, job: Job, order: Order) -> list[tuple[Order, Needs | None]]:
        """Take in a failure record; an order where the block should be tried again."""
        block = order.item.block
        failure = patiently(self.step.markers.read_failure, block)
        if failure is None or failure.attempt != order.attempt:
            return []
        if failure.error == OutOfMemoryError.__name__:
            return self._more_memory(job, order, failure)
        again = self._leave(job, self._result_of(failure), order)
        if again is None:
            return []
        # One that takes too long may do so again, and others should not wait for it.
        alone = order.alone or failure.error == BlockTimeoutError.__name__
        return [(replace(again, alone=alone), None)]

    def _more_memory(self, job: Job, order: Order, failure: Failure) -> list[tuple[Order, Needs | None]]:
        """As with a job that was ended for its memory: once more with twice of it, and that is no attempt."""
        if job.needs.raised:
            message = f"{too_little(job.needs, self.names)}; {failure.message}"
            self._leave(job, replace(self._result_of(failure), message=message, final=True), order)
            return []
        needs = job.needs.with_more_memory()
        logger.warning(
            "%s: job %s: block %d: out of memory with %s: it goes again with %s",
            self.step.label, job.name, failure.block, job.needs.memory, needs.memory,
        )  # fmt: skip
        job.orders.pop(failure.block)
        job.progressed = True
        return [(order, needs)]

    def _result_of(self, failure: Failure) -> Result:
        return Result(
            failure.block,
            "failed",
            self.voxels(failure.block),
            0.0,
            failure.error,
            failure.message,
            failure.final,
            failure.upstream,
            failure.transient,
        )

    def _leave(self, job: Job, result: Result, order: Order) -> Order | None:
        job.orders.pop(result.block)
        job.progressed = True
        return self.referee.next_order(order, result)
