from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.steps import Workspace
from tests.slurm.cluster import Cluster
from tests.slurm.driver import Driver


@pytest.fixture
def work(tmp_path: Path, cluster: Cluster) -> Iterator[Workspace]:
    """Data for a step; no job may be left when the test is over."""
    yield Workspace(tmp_path / "work")
    try:
        cluster.wait_until_quiet(30)
        assert not list(tmp_path.glob("work/work/*/jobs/*"))
    finally:
        cluster.cancel_all()


@pytest.fixture
def drive(work: Workspace) -> Iterator[Callable[..., Driver]]:
    """Start a driver; none survives the test."""
    drivers: list[Driver] = []

    def start(*arguments: Any, **options: Any) -> Driver:
        drivers.append(Driver(*(arguments or (work,)), **options))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.kill()
