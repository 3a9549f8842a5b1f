"""How jobs are submitted to AWS Batch."""

from __future__ import annotations

from pydantic import PositiveInt

from blockwise.backends.jobs.needs import JobOptions


class AwsBatchOptions(JobOptions):
    """How jobs are submitted. See ``configs/reference.yaml`` for the meaning of every key."""

    queue: str | None = None
    job_definition: str | None = None
    share_identifier: str | None = None
    max_running: PositiveInt = 1000
