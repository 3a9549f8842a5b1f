"""Dask clusters for the whole session: a scheduler and two Dask workers, as processes and as jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blockwise.advice import Names
from blockwise.backends.dask.cluster import Cluster
from blockwise.backends.dask.options import DaskOptions
from tests.processes import wait_for
from tests.slurm.cluster import LASTING
from tests.slurm.cluster import Cluster as SlurmCluster

WORKERS = 2


JOBS: dict[str, Any] = {
    "memory": "500MB",
    "walltime": "00:10:00",
    "scheduler_options": {"host": "127.0.0.1"},
    "worker_extra_args": ["--host", "127.0.0.1", "--no-dashboard"],
}
"""Options of jobs of a SLURM that is this machine."""


@pytest.fixture(scope="session")
def dask_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the scheduler of a cluster that computes for many tests, as one that somebody else has started."""
    with _started(DaskOptions(workers=WORKERS), tmp_path_factory.mktemp("dask")) as address:
        yield address


@pytest.fixture(scope="session")
def dask_in_jobs(tmp_path_factory: pytest.TempPathFactory, cluster: SlurmCluster) -> Iterator[str]:
    """The same, of one whose workers are jobs of a real SLURM."""
    options = DaskOptions(slurm=JOBS | {"queue": LASTING, "walltime": "03:00:00"}, jobs=WORKERS)
    with _started(options, tmp_path_factory.mktemp("dask")) as address:
        yield address


@contextmanager
def _started(options: DaskOptions, folder: Path) -> Iterator[str]:
    pytest.importorskip("distributed")
    found = Cluster(options, WORKERS, Names())
    try:
        with found.connected(str(folder)) as client:
            wait_for(lambda: len(client.nthreads()) == WORKERS, 120)
            address = client.scheduler.address
        yield address
    finally:
        found.close()
