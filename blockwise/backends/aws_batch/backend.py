"""Blocks computed by the array jobs of AWS Batch."""

from __future__ import annotations

from collections.abc import Sequence

from blockwise.advice import Names
from blockwise.backends.aws_batch.options import AwsBatchOptions
from blockwise.backends.aws_batch.queue import AwsBatchQueue
from blockwise.backends.base import Backend
from blockwise.backends.jobs.backend import JobsBackend

JOBS = "aws_batch_jobs"
"""Folder of the ledger in that of its step."""


class AwsBatchBackend(JobsBackend):
    """A run over jobs in a queue of AWS Batch."""

    def __init__(
        self,
        options: AwsBatchOptions,
        queue: AwsBatchQueue,
        detach: bool = False,
        timeout_s: float | None = None,
        others: Sequence[Backend] = (),
        names: Names | None = None,
    ) -> None:
        super().__init__(options, queue, JOBS, detach, timeout_s, others, names)
