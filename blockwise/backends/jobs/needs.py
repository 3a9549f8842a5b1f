"""What a job asks for, and what is set about jobs whichever scheduler runs them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from blockwise.advice import Names
from blockwise.step import BlockStep

MEMORY_SLACK = 1.25
"""Memory asked for, as a multiple of the projected one: a job that exceeds it is killed."""

LEAST_MEMORY_MB = 512
"""Less is not worth asking for: libraries alone need most of it."""


class JobOptions(BaseModel):
    """How blocks are dealt out to jobs. See ``configs/reference.yaml`` for the meaning of every key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    time_min: PositiveInt = 60
    memory_gb: PositiveFloat | None = None
    cpus: PositiveInt = 1
    job_minutes: PositiveFloat = 10
    blocks_per_job: PositiveInt | None = None
    max_running: PositiveInt = 100
    python: str | None = None
    poll_s: PositiveFloat = 10
    grace_s: Annotated[float, Field(ge=0)] = 30

    @property
    def most_submitted(self) -> int:
        """Most jobs in the queue at once, those that run included."""
        return self.max_running


@dataclass(frozen=True)
class Needs:
    """What one task of an array asks for.

    Attributes:
        memory_mb: in units of 2^20 bytes, as schedulers count.
        time_min: time limit.
        raised: it has been given more memory already.
    """

    memory_mb: int
    time_min: int
    raised: bool = False

    def with_more_memory(self) -> Needs:
        """Twice the memory."""
        return replace(self, memory_mb=2 * self.memory_mb, raised=True)

    def with_more_time(self) -> Needs:
        """Twice the time."""
        return replace(self, time_min=2 * self.time_min)

    @property
    def memory(self) -> str:
        """For people."""
        return f"{self.memory_mb / 1024:.2f} GiB"


def memory_limit(options: JobOptions, names: Names) -> tuple[float, str]:
    """Bytes that a job may have, and who says so; what is not set follows from the step, and has no limit."""
    memory_gb = options.memory_gb or math.inf
    return memory_gb * 1e9, f"{names.option}memory_gb asks for {memory_gb:.2f} GB"


def at_once(options: JobOptions) -> tuple[int, str]:
    """How many blocks are computed at a time, one for each job that may run, and what there are so many of."""
    most = options.max_running
    return most, f"up to {most} jobs at a time, on nodes as fast as this machine; time in the queue not counted"


def first_needs(step: BlockStep, options: JobOptions) -> Needs:
    """What a step's jobs ask for at first: as set, else what the step projects and some slack."""
    if options.memory_gb:
        return Needs(math.ceil(options.memory_gb * 1e9 / 2**20), options.time_min)
    projected = math.ceil(step.projected_memory() * MEMORY_SLACK / 2**20)
    return Needs(max(LEAST_MEMORY_MB, projected), options.time_min)
