from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blockwise.advice import Names
from blockwise.backends import Outcome
from blockwise.backends.aws_batch import AwsBatchBackend, AwsBatchOptions
from blockwise.backends.aws_batch.client import BatchClient
from blockwise.backends.aws_batch.queue import AwsBatchQueue
from blockwise.run import run_step
from tests.aws_batch.stand_in import StandIn
from tests.contract.steps import Workspace
from tests.slurm.driver import Driver

QUEUE: dict[str, Any] = {"queue": "main", "job_definition": "blocks", "python": sys.executable}
OPTIONS: dict[str, Any] = {**QUEUE, "poll_s": 0.2, "grace_s": 0.5, "blocks_per_job": 2, "memory_gb": 0.5}

Run = Callable[..., Outcome]


@pytest.fixture
def work(tmp_path: Path, aws_batch: StandIn) -> Iterator[Workspace]:
    """Data for a step; no job may be left when the test is over."""
    yield Workspace(tmp_path / "work")
    aws_batch.wait_until_quiet(30)
    assert not list(tmp_path.glob("work/work/*/*jobs/*"))


def backend(stuck_s: float = 600.0, detach: bool = False, **options: Any) -> AwsBatchBackend:
    chosen = AwsBatchOptions(**{**OPTIONS, **options})
    queue = AwsBatchQueue(chosen, BatchClient(), wait_s=0.1, stuck_s=stuck_s)
    return AwsBatchBackend(chosen, queue, detach, names=Names(option="backend.aws_batch."))


@pytest.fixture
def run(work: Workspace) -> Run:
    """Run the addition in this process."""
    return lambda **options: run_step(work.addition(), backend(**options), 3, lambda outcome: None)


@pytest.fixture
def drive(work: Workspace) -> Iterator[Callable[..., Driver]]:
    """Start a driver in a process of its own; none survives the test."""
    drivers: list[Driver] = []
    make = partial(Driver, work, kind="aws_batch", **QUEUE)

    def start(**options: Any) -> Driver:
        drivers.append(make(**options))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.kill()
