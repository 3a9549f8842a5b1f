"""Dask with the work folder in a store: no disk is shared, and nothing of it is written beside the driver."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blockwise.backends.dask.options import DaskOptions
from blockwise.backends.kind import Setup
from blockwise.backends.registry import BACKENDS
from blockwise.demand import Demand
from blockwise.demand.presence import Presence
from blockwise.plan import is_complete
from blockwise.run import run_step
from tests.contract import servers
from tests.contract.steps import Workspace

pytestmark = pytest.mark.soak


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.chdir(tmp_path)
    with servers.s3() as url:
        for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "ENDPOINT_URL": url}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        work = Workspace(tmp_path / "here", 6, f"s3://bucket/{tmp_path.name}")
        yield work
        work.addition().work.leave_this_machine()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_blocks_are_computed_once_and_found_by_a_viewer(stored: Workspace) -> None:
    setup = Setup(DaskOptions(workers=2), workers=2, timeout_s=60)
    stored.tell(2, "kill 1")
    stored.tell(4, "raise 9")
    step = stored.addition()
    backend: Any = BACKENDS["dask"].make(setup, ())
    try:
        outcome = run_step(step, backend, 2, lambda outcome: None)
    finally:
        backend.close()
    assert (outcome.computed, list(outcome.failed), outcome.stopped) == (5, [4], "")
    assert [len(stored.runs(block)) for block in range(6)] == [1, 1, 2, 1, 2, 1]
    failure = step.markers.read_failure(4)
    assert failure is not None
    assert failure.log.startswith(f"{stored.place}/work/logs/addition/dask-")
    stored.tell(4)

    executor = BACKENDS["dask"].make_executor(setup)
    assert executor is not None
    demand = Demand(Presence(), executor, 1)

    async def ask() -> None:
        try:
            await demand.need(step, [3, 4])
        finally:
            demand.close()

    asyncio.run(ask())
    assert [len(stored.runs(block)) for block in range(6)] == [1, 1, 2, 1, 3, 1]
    assert run_step(step, BACKENDS["local"].make(Setup(BACKENDS["local"].options()), ()), 1, print).total == 0
    assert is_complete(step)
    assert (stored.result() == stored.values + 1).all()
