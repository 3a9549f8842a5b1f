"""What is chosen, what is dealt, and what must be equal: without any cluster."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from blockwise.advice import Names
from blockwise.backends.dask import code
from blockwise.backends.dask.dealing import AHEAD, MOST, MOST_LOSSES, SOLITARY, Dealing, is_solitary, moved
from blockwise.backends.dask.options import DaskOptions
from blockwise.backends.kind import Setup
from blockwise.backends.registry import BACKENDS
from blockwise.errors import UserError
from blockwise.job import Order
from blockwise.plan import Item
from tests.contract.steps import AdditionStep

KIND = BACKENDS["dask"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "tcp://a:1", "workers": 2}, "address and workers are set, and each chooses a cluster"),
        ({"workers": 2, "slurm": {}, "jobs": 1}, "workers and slurm are set"),
        ({"jobs": 3}, "set slurm as well"),
        ({"slurm": {"memory": "2GB"}}, "slurm is set without jobs"),
        ({"worker": 2}, "Extra inputs are not permitted"),
    ],
)
def test_one_cluster_is_chosen(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DaskOptions(**options)


def test_the_command_that_installs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    setup = Setup(DaskOptions(slurm={}, jobs=1), names=Names(kind="backend.name: dask"))
    expected = r"backend.name: dask is chosen, and distributed and dask_jobqueue cannot be imported; .*\[dask\]"
    for make in (lambda: KIND.make(setup, ()), lambda: KIND.make_executor(setup)):
        with pytest.raises(UserError, match=expected):
            make()


def test_only_who_computes_loads_dask() -> None:
    """Commands that look at a run, and runs that have nothing to do, need none of it."""
    names = "blockwise.backends.dask.backend, blockwise.backends.dask.executor, blockwise.backends.registry"
    text = f"import sys, {names}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert "blockwise.backends.dask.backend" in done.stdout.split()
    assert not {"distributed", "dask", "dask_jobqueue"} & set(done.stdout.split())


def test_memory_is_known_of_this_machine_only() -> None:
    limit, text = KIND.memory_limit(Setup(DaskOptions(workers=4)))
    assert limit > 0
    assert text.endswith("GB for each of 4 Dask workers")
    for options in (DaskOptions(address="tcp://a:1"), DaskOptions(slurm={}, jobs=1)):
        assert KIND.memory_limit(Setup(options)) == (float("inf"), "")


def test_how_many_blocks_at_a_time_is_known_where_the_cluster_is_our_own() -> None:
    chosen = (DaskOptions(workers=4), DaskOptions(slurm={}, jobs=7), DaskOptions(address="tcp://a:1"))
    found = [KIND.at_once(Setup(options)) for options in chosen]
    assert [most and most[0] for most in found] == [4, 7, None]


def orders(number: int) -> list[Order]:
    return [Order(Item(block, {})) for block in range(number)]


def blocks(found: list[Order]) -> list[int]:
    return [order.item.block for order in found]


@given(
    number=st.integers(0, 3000),
    threads=st.integers(0, 40),
    seconds=st.floats(1e-5, 100),
    alone=st.sets(st.integers(0, 3000), max_size=5),
    solitary=st.sets(st.integers(0, 3000), max_size=3),
)
def test_each_block_is_dealt_once_and_few_are_in_the_scheduler(
    number: int, threads: int, seconds: float, alone: set[int], solitary: set[int]
) -> None:
    dealt = [
        Order(order.item, alone=order.item.block in alone, moves=SOLITARY * (order.item.block in solitary))
        for order in orders(number)
    ]
    dealing = Dealing(dealt)
    slices: list[list[Order]] = []
    seen: list[int] = []
    while True:
        while found := dealing.next_slice(threads, slices):
            slices.append(found)
            assert len(slices) <= AHEAD * threads
            assert len(found) <= MOST
            assert len(found) == 1 or not {*blocks(found)} & (alone | solitary)
            assert len(slices) == 1 or not any(map(is_solitary, slices))
        if not slices:
            break
        ended = slices.pop(0)
        seen += blocks(ended)
        for _ in ended:
            dealing.took(seconds)
    assert sorted(seen) == (list(range(number)) if threads else [])
    assert dealing.left == (0 if threads else number)


def test_slices_grow_to_seconds_and_shrink_at_the_end() -> None:
    dealing = Dealing(orders(1000))
    assert len(dealing.next_slice(2, [])) == 1
    dealing.took(0.1)
    assert len(dealing.next_slice(2, [])) == 20
    while dealing.left > 12:
        dealing.next_slice(2, [])
    assert len(dealing.next_slice(2, [])) < 5


def test_a_block_that_loses_dask_workers_is_suspected_and_given_up() -> None:
    order: Order | None = orders(1)[0]
    assert order is not None
    for losses in range(1, MOST_LOSSES + 1):
        order = moved(order, 1)
        assert order is not None
        assert is_solitary([order]) is (losses >= SOLITARY)
    assert moved(order, 1) is None


def test_code_is_equal_where_sources_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = code.present_code("tasks.threshold")
    assert ours == code.present_code("pipeline.batch.image_step")
    assert ours.differences(ours) == []
    # A step of somebody else's module: its sources count as well.
    assert code.present_code(AdditionStep.__module__).sources != ours.sources
    for text in ("A = 1", "A = 2"):
        (tmp_path / "own_step.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        code._sources.cache_clear()
        other = code.present_code("own_step")
        (said,) = ours.differences(other)
        assert said == f"sources {other.sources} instead of {ours.sources}"
        ours = other
    code._sources.cache_clear()
