"""What a driver and a worker that computes blocks one by one say to each other: lines of JSON, by whatever way."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from blockwise.advice import Advice
from blockwise.grid import box_size
from blockwise.job import Order
from blockwise.step import BlockStep
from blockwise.worker import START_LIMIT_S, Result

POLL_S = 0.25


@dataclass(frozen=True)
class Ended:
    """An attempt at a block that has ended.

    Attributes:
        order: the block.
        result: what became of it.
        killed: its worker was killed from outside, most likely because memory was short.
    """

    order: Order
    result: Result
    killed: bool = False


class WorkerLink(ABC):
    """One worker, wherever it is, and the order that it works on. The worker's side is ``blockwise.worker.serve``.

    Attributes:
        step: whose blocks it computes.
        number: among those of the step.
        log: its log of the step.
        order: what it works on; None where it waits.
        ready: it has prepared for the step.
        since: monotonic time at which it began with its order, or with the step.
        reading: file descriptor of its answers.
    """

    step: BlockStep
    number: int
    log: Path
    order: Order | None

    def __init__(self, reading: int, writing: IO[bytes], advice: Advice, log_name: str) -> None:
        self.reading = reading
        self._writing = writing
        self._advice = advice
        self._log_name = log_name
        self._partial = b""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, for people."""

    @abstractmethod
    def end(self, why: str) -> tuple[str, bool]:
        """End it, and wait for its end.

        Args:
            why: it is given up; empty where its answers have ended.

        Returns:
            Why it has ended, for people, and whether somebody has killed it.
        """

    def begin(self, step: BlockStep, number: int) -> None:
        """Have it prepare for a step."""
        self.step = step
        self.number = number
        self.log = self.log_of(step, number)
        self.order = None
        self.ready = False
        self.since = time.monotonic()
        self.send({"step": step.to_json(), "log": str(self.log), "advice": asdict(self._advice)})

    def log_of(self, step: BlockStep, number: int) -> Path:
        """Log of a step."""
        return log_path(step, number, self._log_name)

    def send(self, message: object) -> None:
        """Send it a line of JSON."""
        # A worker that has died is noticed by the end of its answers.
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._writing.write(json.dumps(message).encode() + b"\n")
            self._writing.flush()

    def answers(self) -> list[dict[str, Any]] | None:
        """Answers that have come in; None when they have ended."""
        try:
            data = os.read(self.reading, 1 << 16)
        except OSError:  # of a connection: the other machine has gone
            data = b""
        if not data:
            return None
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def take(self, answer: dict[str, Any]) -> Ended | None:
        """Take in an answer; its order, if that has ended with it."""
        if "ready" in answer:
            self.ready, self.since = True, time.monotonic()
        elif "turn" in answer:  # it had to wait for another process that has computed the block
            self.since = time.monotonic()
        elif self.order is not None:
            order, self.order = self.order, None
            return Ended(order, Result(**answer))
        return None

    def give(self, order: Order) -> None:
        """Have it compute a block."""
        self.order = order
        self.since = time.monotonic()
        self.send(
            {
                "block": order.item.block,
                "stamps": dict(order.item.stamps),
                "check": order.item.check,
                "attempt": order.attempt,
            }
        )

    def overdue(self, timeout_s: float | None) -> bool:
        """Whether it takes too long, for its block or to prepare for it."""
        limit = timeout_s if self.ready else START_LIMIT_S
        return self.order is not None and limit is not None and time.monotonic() - self.since > limit

    def overdue_text(self) -> str:
        """Why one that is overdue is given up."""
        seconds = time.monotonic() - self.since
        if not self.ready:
            return f"not ready to compute after {seconds:.0f} s"
        return f"no result after {seconds:.0f} s; {self._advice.time}"

    def lost(self, why: str = "") -> Ended | None:
        """End it, as its answers have ended or for some other reason; what became of its order, if it had one."""
        why, killed = self.end(why)
        if self.order is None:
            return None
        item = self.order.item
        voxels = box_size(self.step.grid.block(item.block).write_box)
        message = f"{self.title}: {why}; see {self.log}"
        result = Result(item.block, "failed", voxels, time.monotonic() - self.since, "WorkerLost", message)
        return Ended(self.order, result, killed)

    def finish(self, timeout_s: float | None) -> Ended:
        """Wait until its order has ended; where the worker is lost, or overdue, it keeps the order."""
        with selectors.DefaultSelector() as selector:  # not select(), which knows no more than 1024 open files
            selector.register(self.reading, selectors.EVENT_READ)
            while True:
                answers = self.answers() if selector.select(POLL_S) else []
                if answers is None:
                    return self._given_up()
                for ended in filter(None, map(self.take, answers)):
                    return ended
                if self.overdue(timeout_s):
                    return self._given_up(self.overdue_text())

    def _given_up(self, why: str = "") -> Ended:
        ended = self.lost(why)
        if ended is None:
            raise RuntimeError("a worker without an order was waited for")
        return ended


def log_path(step: BlockStep, number: int, name: str = "worker") -> Path:
    """Log of a worker of a step."""
    return step.logs / f"{name}-{number}.log"
