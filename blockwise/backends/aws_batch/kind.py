"""AWS Batch's entry in the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from blockwise.backends.aws_batch.backend import JOBS, AwsBatchBackend
from blockwise.backends.aws_batch.client import BatchClient
from blockwise.backends.aws_batch.options import AwsBatchOptions
from blockwise.backends.aws_batch.queue import AwsBatchQueue
from blockwise.backends.base import Backend
from blockwise.backends.jobs.needs import at_once, memory_limit
from blockwise.backends.jobs.overview import describe_jobs
from blockwise.backends.kind import Kind, Setup
from blockwise.step import BlockStep

PATIENCE_S = 3.0
"""How long AWS may take when somebody only looks."""


class AwsBatchKind(Kind[AwsBatchOptions]):
    """The array jobs of a queue."""

    title: ClassVar[str] = "AWS Batch"
    options = AwsBatchOptions
    needed: ClassVar[tuple[str, ...]] = ("queue", "job_definition")
    resource: ClassVar[str] = "aws_batch_steps"
    ledger: ClassVar[str] = JOBS

    def make(self, setup: Setup[AwsBatchOptions], others: Sequence[Backend]) -> AwsBatchBackend:
        """Make a backend; see ``Kind``."""
        queue = AwsBatchQueue(setup.options, BatchClient(), setup.faults)
        return AwsBatchBackend(setup.options, queue, setup.detach, setup.timeout_s, others, setup.names)

    def memory_limit(self, setup: Setup[AwsBatchOptions]) -> tuple[float, str]:
        """As set; what is not set follows from the step, and has no limit."""
        return memory_limit(setup.options, setup.names)

    def at_once(self, setup: Setup[AwsBatchOptions]) -> tuple[int, str] | None:
        """A block for each job that may run; None where no queue is named."""
        return at_once(setup.options) if setup.options.queue else None

    def describe_jobs(self, steps: Mapping[str, BlockStep]) -> list[str]:
        """How job arrays stand; see ``Kind``."""
        client = BatchClient(attempts=1, limit_s=PATIENCE_S)
        return describe_jobs(steps, AwsBatchQueue(AwsBatchOptions(), client), JOBS)
