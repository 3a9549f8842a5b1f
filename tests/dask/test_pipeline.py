"""The whole pipeline on Dask, by its command lines."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from tests.end_to_end.test_object_classification import assert_ilastiks_objects, case
from tests.processes import command_line, wait_for
from tests.runs import Project, assert_same, environment

__all__ = ["case"]

pytestmark = pytest.mark.soak


def told(*command: str) -> tuple[int, str]:
    """Exit code of a program, and what it has said."""
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, done.stdout + done.stderr


def pipeline(*arguments: str) -> tuple[int, str]:
    return told(sys.executable, "-m", "pipeline", *arguments, "--config", "config.yaml")


def left(folder: Path) -> list[list[str]]:
    """Processes that a run in a folder has started and left: hosts, Dask workers, and ours beside them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(folder) and process.pid != os.getpid():
                found.append(command_line(process))
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_same_results_as_on_one_machine(unused: Project, expected: dict[str, NDArray[Any] | bytes], workers: str):
    """With two, Luigi computes each step in a process of its own, which starts a cluster of its own."""
    unused.change("backend", {"name": "dask", "dask": {"workers": 2}})
    code, text = told(*unused.command("--workers", workers))
    assert code == 0, text
    assert_same(unused.results(), expected)
    wait_for(lambda: not left(unused.folder), 30, lambda: left(unused.folder))
    code, text = told(*unused.command("--workers", workers))
    assert (code, "Nothing to do" in text) == (0, True), text


def test_two_steps_at_once_on_a_cluster_that_is_there(
    unused: Project, expected: dict[str, NDArray[Any] | bytes], dask_address: str
) -> None:
    unused.change("backend", {"name": "dask", "dask": {"address": dask_address}})
    code, text = told(*unused.command("--workers", "2"))
    assert code == 0, text
    assert_same(unused.results(), expected)


def test_objects_are_classified_as_ilastik_does(case: Project) -> None:
    case.change("connected_components", {"features": "project"})
    case.change("backend", {"name": "dask", "dask": {"workers": 2}})
    command = case.command(workflow="ObjectClassificationWorkflow")
    code, text = told(*command)
    assert code == 0, text
    assert_ilastiks_objects()
    code, text = told(*command)
    assert (code, "Nothing to do" in text) == (0, True), text
    wait_for(lambda: not left(case.folder), 30, lambda: left(case.folder))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_to_luigi_leaves_nothing(unused: Project, workers: str) -> None:
    unused.change("backend", {"name": "dask", "dask": {"workers": 2}, "faults": {"hang": 0.3}})
    log = unused.folder / "luigi.out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            unused.command("--workers", workers), env=environment(), stdout=out, stderr=out, start_new_session=True
        )
    wait_for(lambda: list(unused.folder.glob("work/prediction/*/done/*/*")), 120, log.read_text)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) != 0
    wait_for(lambda: not left(unused.folder), 60, lambda: left(unused.folder))
    assert "Traceback" not in log.read_text(), log.read_text()


def test_where_no_scheduler_answers_the_exit_code_is_that_of_a_failure(unused: Project) -> None:
    unused.change("backend", {"name": "dask", "dask": {"address": "tcp://127.0.0.1:9"}})
    code, text = told(*unused.command())
    assert code == 30, text
    assert "backend.name: dask is chosen, and no Dask scheduler answers at tcp://127.0.0.1:9" in text
    assert "Traceback" not in text
    code, text = pipeline("view", "--once", "thresholded:0:9,0:18,0:16", "box.npy")
    assert (code, "no Dask scheduler answers at" in text, "Traceback" in text) == (40, True, False), text


def test_a_run_is_planned_looked_at_and_viewed(
    unused: Project, expected: dict[str, NDArray[Any] | bytes], dask_address: str
) -> None:
    unused.change("backend", {"name": "dask", "dask": {"address": dask_address}})
    code, text = pipeline("plan")
    assert (code, "prediction" in text) == (0, True), text
    code, text = pipeline("view", "--once", "thresholded:0:9,0:18,0:16", "box.npy")
    assert code == 0, text
    np.testing.assert_array_equal(np.load("box.npy"), expected["thresholded"][0:9, 0:18, 0:16])
    code, text = pipeline("status")
    assert (code, "missing" in text) == (0, True), text
    unused.change("backend", {"name": "dask", "dask": {"workers": 1000}})
    code, text = pipeline("plan")
    assert code == 40, text
    assert "GB for each of 1000 Dask workers; use smaller blocks, fewer workers" in text
