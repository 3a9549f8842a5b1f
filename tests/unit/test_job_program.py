"""The program that a scheduler starts on a node, or in a container."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blockwise.job import BEGINS, INDEX_VARIABLES, Order, task_index, write_orders
from blockwise.plan import begin, plan_step
from blockwise.records import open_records
from tests.contract.steps import Workspace
from tests.processes import wait_for
from tests.runs import environment


@pytest.fixture
def orders(tmp_path: Path) -> tuple[Workspace, str]:
    """A step that has begun, and an array of two tasks with one block each."""
    work = Workspace(tmp_path / "work", blocks=2)
    step = work.addition()
    plan = plan_step(step)
    begin(step, plan)
    [first, second] = map(Order, plan.items)
    place = tmp_path / "orders"
    write_orders(open_records(place), step, [[first], [second]])
    return work, str(place)


def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "blockwise.job", *arguments]
    return subprocess.run(command, env=environment() | variables, capture_output=True, text=True, check=False)


def test_every_scheduler_tells_the_index_in_its_own_way() -> None:
    for name in INDEX_VARIABLES:
        assert task_index({name: "7", "HOME": "/"}) == 7
    assert task_index({INDEX_VARIABLES[0]: "", INDEX_VARIABLES[1]: "3"}) == 3
    assert task_index({"AWS_BATCH_JOB_ARRAY_INDEX": "-1"}) is None
    assert task_index({}) is None


def test_a_task_computes_its_blocks_and_keeps_its_log(orders: tuple[Workspace, str]) -> None:
    work, place = orders
    done = call(place, JOB_COMPLETION_INDEX="1")
    assert done.returncode == 0, done.stderr
    log = work.addition().logs / "orders_1.log"
    assert done.stdout.startswith(f"{BEGINS}orders, task 1, on ")
    assert log.read_text() == done.stdout
    assert [len(work.runs(block)) for block in (0, 1)] == [0, 1]


def test_wrong_indices_are_told(orders: tuple[Workspace, str]) -> None:
    _, place = orders
    done = call(place)
    assert (done.returncode, "Give --task N, or set one of AWS_BATCH_JOB_ARRAY_INDEX" in done.stderr) == (2, True)
    done = call(place, "--task", "2")
    assert (done.returncode, "there is no task 2 in" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs unshare and root")
def test_as_the_first_process_of_a_container_it_ends_when_it_is_asked_to(orders: tuple[Workspace, str]) -> None:
    work, place = orders
    work.hold(0)
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-P", "-m", "blockwise.job", place]
    process = subprocess.Popen([*command, "--task", "0"], env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: work.runs(0) or process.poll() is not None, 60)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
        os.kill(int(children.stdout), signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()
