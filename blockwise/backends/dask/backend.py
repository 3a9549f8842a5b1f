"""Blocks computed by a Dask cluster.

A Dask task is a slice of blocks, and its result says what became of each: data never goes through Dask. Markers are
the truth, as everywhere; so a slice that Dask computes a second time finds what the first has finished.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import TYPE_CHECKING

from blockwise.advice import Advice, Names
from blockwise.backends.base import AfterOthers, Backend, Outcome, Referee, check_parent, queue_again
from blockwise.backends.dask.afar import ANSWER_S, PATIENCE_S, afar, asked, cannot_load, check_workers, packed
from blockwise.backends.dask.brief import Place, forget_brief, write_brief
from blockwise.backends.dask.cluster import CONNECT_S, Cluster
from blockwise.backends.dask.dealing import Dealing, moved
from blockwise.backends.dask.options import DaskOptions
from blockwise.backends.kind import Setup
from blockwise.backends.worker_link import POLL_S, Ended
from blockwise.errors import UserError
from blockwise.grid import box_size
from blockwise.job import Order
from blockwise.plan import Item, present_marker
from blockwise.step import BlockStep
from blockwise.transient import patiently
from blockwise.worker import Result

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

COUNT_S = 1.0
"""Pause between two looks at how many Dask workers there are."""
LONELY_S = 60.0
"""After so long without any Dask worker people are told."""


class DaskBackend(AfterOthers):
    """Deals slices of blocks to a Dask cluster.

    Attributes:
        cluster: where blocks are computed.
        timeout_s: longest time for one block; None for no limit.
        faults: what is to go wrong, for tests and trials.
        names: what messages call settings.
    """

    def __init__(self, setup: Setup[DaskOptions], others: Sequence[Backend] = ()) -> None:
        super().__init__(others)
        self.cluster = Cluster(setup.options, setup.workers, setup.names)
        self.timeout_s = setup.timeout_s
        self.faults = setup.faults
        self.names = setup.names

    def close(self) -> None:
        """End a cluster that was started for this run."""
        self.cluster.close()

    def run(self, step: BlockStep, items: list[Item], referee: Referee, report: Callable[[Outcome], None]) -> None:
        """Compute items; see ``Backend.run``."""
        with self.cluster.connected(step.work_dir) as client:
            place = write_brief(step, self.timeout_s, self.faults, dask_advice(self.names, self.cluster.options))
            run = SliceRun(client, step, place, items, referee)
            try:
                check_workers(client, place, step.label)
                while run.left and not referee.outcome.stopped:
                    run.submit()
                    run.look()
                    if run.is_cut_off:
                        raise UserError(f"{step.label}: {self.cluster.why_gone(client.scheduler.address)}")
                    report(referee.outcome)
                    check_parent()
            finally:
                forget_brief(place)
                run.leave_nothing()


class SliceRun:
    """Keeps a step's blocks at work until each has a result.

    Attributes:
        client: the connection to the scheduler.
        step: whose blocks.
        place: of the step's brief.
        referee: who decides about results.
        dealing: what waits.
        is_cut_off: the scheduler is gone, or has forgotten what it was given.
    """

    def __init__(self, client: Client, step: BlockStep, place: Place, items: list[Item], referee: Referee) -> None:
        self.client = client
        self.step = step
        self.place = place
        self.referee = referee
        self.dealing = Dealing(map(Order, items))
        self.is_cut_off = False
        self._slices: dict[Future, list[Order]] = {}
        self._ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._compute = afar("compute_slice")
        self._threads = 0
        self._counted = -COUNT_S
        self._in_touch = self._with_workers = time.monotonic()

    @property
    def left(self) -> int:
        """Number of blocks, or slices, without a final result."""
        return self.dealing.left + len(self._slices)

    def submit(self) -> None:
        """Hand slices to the scheduler, as long as there are few of them there."""
        self._count_threads()
        while orders := self.dealing.next_slice(self._threads, list(self._slices.values())):
            arguments = packed(self.place, orders, PATIENCE_S)
            # A key of its own: Dask would answer equal calls from its memory.
            key = f"blockwise-{self.step.label}-{uuid.uuid4().hex}"
            future = self.client.submit(self._compute, arguments, key=key, pure=False)
            self._slices[future] = orders
            future.add_done_callback(self._ended.put)

    def look(self) -> None:
        """Take in slices that have ended; waits a moment for one."""
        with contextlib.suppress(queue.Empty):
            self._settle(self._ended.get(timeout=POLL_S))
            while True:
                self._settle(self._ended.get_nowait())
        now = time.monotonic()
        if self.client.status == "running":
            self._in_touch = now
        elif self.client.status == "closed" or now - self._in_touch > CONNECT_S:
            self.is_cut_off = True
        self.referee.outcome.note = self._note()

    def leave_nothing(self) -> None:
        """End what is at work, and wait until it has ended, as long as Dask workers answer."""
        if self.client.status != "running":
            return  # then Dask workers end it, or have ended themselves
        self.client.cancel(list(self._slices), force=True)
        self._slices.clear()
        end = time.monotonic() + ANSWER_S
        while time.monotonic() < end and any(
            answer for answer in asked(self.client, "let_go", self.place).values() if isinstance(answer, int)
        ):
            time.sleep(0.1)

    def _count_threads(self) -> None:
        now = time.monotonic()
        if now - self._counted < COUNT_S or self.client.status != "running":
            return
        with contextlib.suppress(OSError):
            self._threads = sum(self.client.nthreads().values())
        self._counted = now
        if self._threads:
            self._with_workers = now
        elif now - self._with_workers > LONELY_S:
            self._with_workers = now
            logger.warning(
                "%s: the Dask cluster at %s has had no worker for %.0f s; blocks wait until one comes",
                self.step.label, self.client.scheduler.address, LONELY_S,
            )  # fmt: skip

    def _note(self) -> str:
        if not self._threads:
            return "waiting for a Dask worker"
        paused = len(self.dealing.pausing)
        later = f"; {paused} blocks wait until trouble of the file system or a store is over" if paused else ""
        return f"{self._threads} threads of Dask workers{later}"

    def _settle(self, future: Future) -> None:
        """Take in what became of a slice."""
        from distributed import KilledWorker

        orders = self._slices.pop(future)
        try:
            self._take_in(orders, future.result())
        except KilledWorker as error:  # also of a slice that has ended, where its result was lost
            self._move(orders, error.allowed_failures + 1, str(error.last_worker.address))
        except CancelledError:  # by a scheduler that has forgotten us
            self.is_cut_off = True
        except ImportError as error:
            raise UserError(f"{self.step.label}: a Dask worker cannot compute: {cannot_load(error)}") from error

    def _take_in(self, orders: list[Order], ended: list[Ended]) -> None:
        for one in ended:
            self._judge(one)
        answered = {one.order.item.block for one in ended}
        rest = [order for order in orders if order.item.block not in answered]
        if answered:  # it took longer than expected, or its Dask worker has left
            self.dealing.waiting.extendleft(reversed(rest))
        else:
            self._move(rest, 1, "which was asked to leave")

    def _judge(self, ended: Ended) -> None:
        order, result = ended.order, ended.result
        if result.state == "found" and order.moves:  # by ourselves, on a Dask worker that has died afterwards
            result = replace(result, state="computed")
        elif result.state in ("computed", "unchanged"):
            self.dealing.took(result.seconds)
        if ended.killed and not order.alone and self._threads > 1:
            # Most likely there is not memory enough for so many on that machine: that says nothing of the block.
            logger.warning("%s: %s; this block goes again at the end", self.step.label, result.message)
            self.dealing.waiting.append(replace(order, alone=True))
            return
        again = self.referee.next_order(order, result)
        if again is not None and again.pause_s:
            self.dealing.pausing.add(again, again.pause_s)
        elif again is not None:
            queue_again(self.dealing.waiting, again, self.referee.outcome)

    def _move(self, orders: list[Order], losses: int, worker: str) -> None:
        """Deal blocks again whose Dask worker has died or left; those that have lost too many are given up."""
        logger.warning(
            "%s: a slice of %d blocks has lost its Dask worker (%s); what of it is not done goes to another",
            self.step.label, len(orders), worker,
        )  # fmt: skip
        for order in orders:
            again = moved(order, losses)
            if again is not None:
                self.dealing.waiting.append(again)
            else:
                self.referee.next_order(order, self._given_up(order, order.moves + losses, worker))

    def _given_up(self, order: Order, losses: int, worker: str) -> Result:
        block = order.item.block
        voxels = box_size(self.step.grid.block(block).write_box)
        if patiently(present_marker, self.step, order.item):
            return Result(block, "computed", voxels, 0.0)
        message = (
            f"{losses} Dask workers have died or left while it was computed, the last one {worker}; look at their "
            "logs. If it takes a whole machine with it, use smaller blocks, or give Dask workers more memory"
        )
        return Result(block, "failed", voxels, 0.0, "WorkerLost", message, final=True)


def dask_advice(names: Names, options: DaskOptions) -> Advice:
    """What to do where workers beside Dask workers have not enough of something."""
    is_here = options.address is None and options.slurm is None
    own = f"lower {names.option}workers"
    return names.advice(own if is_here else "have fewer threads of Dask workers on a machine, or in a job")
