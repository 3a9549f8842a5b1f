"""Where single blocks are computed as they are asked for: the part of a backend that a server needs."""

from __future__ import annotations

from typing import Protocol

from blockwise.job import Order
from blockwise.step import BlockStep
from blockwise.worker import Result


class Executor(Protocol):
    """Workers that stay, and compute blocks of one step or another.

    It keeps no queue: who asks has one, in which blocks change places or are given up.

    Attributes:
        size: how many blocks it computes at once.
    """

    size: int

    def compute(self, step: BlockStep, order: Order) -> Result:
        """Compute a block by the code of ``Worker``, and wait for it. Called by ``size`` threads at a time at most.

        The truth about the block is in its marker. A worker that is lost has failed the block, and is replaced.

        Raises:
            UserError: no worker can be had.
        """

    def close(self) -> None:
        """End all workers; from now on nothing is computed. What is being computed is not waited for."""
