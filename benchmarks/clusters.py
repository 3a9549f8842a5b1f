"""The engines of ``benchmarks.engines``, as the tests have them: each is started, told of, and can lose a machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

JOBS = {"poll_s": 0.5, "grace_s": 2, "blocks_per_job": 4, "max_running": 2}


@dataclass(frozen=True)
class Engine:
    """What a run is told of an engine.

    Attributes:
        backend: section of the configuration.
        kill: has a machine die, given the driver's process; the number of blocks that were at work on it.
        place: of raw volume, work folder and results; empty for a folder of this machine.
        look_s: pause between two looks at the markers.
    """

    backend: Mapping[str, Any]
    kill: Callable[[psutil.Process], int]
    place: str = ""
    look_s: float = 0.2


@contextmanager
def local(folder: Path) -> Iterator[Engine]:
    """Two workers of this machine, one of which is killed."""

    def kill(driver: psutil.Process) -> int:
        _workers(driver)[0].kill()
        return 1

    yield Engine({"name": "local", "workers": 2}, kill)


@contextmanager
def slurm(folder: Path) -> Iterator[Engine]:
    """A SLURM of two nodes, one of which loses its power."""
    with _slurm(folder) as kill:
        yield Engine({"name": "slurm", "slurm": JOBS}, kill)


@contextmanager
def dask(folder: Path) -> Iterator[Engine]:
    """Two Dask workers, one of which is killed with what computes beside it."""

    def kill(driver: psutil.Process) -> int:
        dask_worker = _workers(driver)[0].parent()
        if dask_worker is None:
            raise RuntimeError("no Dask worker")
        for process in (*dask_worker.children(recursive=True), dask_worker):
            process.kill()
        return 1

    yield Engine({"name": "dask", "dask": {"workers": 2}}, kill)


@contextmanager
def dask_in_jobs(folder: Path) -> Iterator[Engine]:
    """Two Dask workers in jobs of a SLURM, one on each node, one of which loses its power."""
    from tests.dask import cluster

    with _slurm(folder) as kill:
        section = {"slurm": {**cluster.JOBS, "memory": "3GB"}, "jobs": 2}
        yield Engine({"name": "dask", "dask": section}, kill)


@contextmanager
def aws_batch(folder: Path) -> Iterator[Engine]:
    """The stand-in for AWS Batch; all data is in a store, and jobs share no folder with the driver."""
    from tests.aws_batch.fixtures import VARIABLES
    from tests.aws_batch.stand_in import StandIn
    from tests.contract.servers import s3

    for name in ("batch", "there"):
        (folder / name).mkdir()
    stand_in = StandIn(folder / "batch", slots=2)
    try:
        with s3() as url:
            os.environ.update(VARIABLES, AWS_ENDPOINT_URL_BATCH=stand_in.url, AWS_ENDPOINT_URL=url)
            keys = {name: VARIABLES[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
            stand_in.role = {**keys, "AWS_ENDPOINT_URL": url, "TMPDIR": str(folder / "there")}

            def kill(driver: psutil.Process) -> int:
                stand_in.lose_instance(stand_in.running()[0])
                return 1

            section = {**JOBS, "queue": "main", "job_definition": "blocks", "python": sys.executable}
            yield Engine({"name": "aws_batch", "aws_batch": section}, kill, "s3://bucket/run", 1.0)
            stand_in.wait_until_quiet()
    finally:
        stand_in.close()


ENGINES: Mapping[str, Callable[[Path], AbstractContextManager[Engine]]] = {
    "local": local,
    "slurm": slurm,
    "dask": dask,
    "dask-in-slurm": dask_in_jobs,
    "aws-batch-and-s3": aws_batch,
}
"""By the names under which they are asked for."""


@contextmanager
def _slurm(folder: Path) -> Iterator[Callable[[psutil.Process], int]]:
    """A SLURM; gives the function that kills a node of it."""
    from tests.slurm.cluster import Cluster

    cluster = Cluster(folder / "slurm")
    os.environ["SLURM_CONF"] = str(cluster.conf)

    def kill(driver: psutil.Process) -> int:
        at_work = cluster.run("squeue", "-h", "-t", "R", "-o", "%N").split()
        cluster.kill_node(at_work[0])
        return at_work.count(at_work[0])

    try:
        cluster.start()
        yield kill
        cluster.wait_until_quiet()
    finally:
        cluster.stop()


def _workers(driver: psutil.Process) -> list[psutil.Process]:
    """Processes that compute blocks, below a driver."""
    return [one for one in driver.children(recursive=True) if "blockwise.worker" in one.cmdline()]
