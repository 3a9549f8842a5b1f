"""A run that is ended from outside leaves no process, and a state that the next run goes on from."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from blockwise.faults import Faults
from blockwise.records import open_records, read_json
from pipeline.__main__ import main
from pipeline.running.session import begin_session
from tests.luigid import Luigid
from tests.processes import command_line, processes_in, wait_for
from tests.runs import Project, assert_same, environment, run_luigi

DEADLINE_S = 60
LAST_BLOCK = 3


@pytest.fixture
def driver(project: Project) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a run whose prediction is to be done anew; whatever is left of it at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        with (project.folder / "driver.log").open("w") as log:
            command = project.command(*arguments, **options)
            process = subprocess.Popen(
                command, cwd=project.folder, env=environment(), stdout=log, stderr=log, start_new_session=True
            )
        started.append(process)
        return process

    yield start
    for process in started:
        for left in [*processes(project)]:
            left.kill()
        process.wait()


def processes(project: Project) -> list[psutil.Process]:
    return processes_in(project.folder)


def workers(project: Project) -> list[psutil.Process]:
    return [process for process in processes(project) if "blockwise.worker" in command_line(process)]


def spoil_prediction(project: Project) -> None:
    """Have all four blocks of a region predicted again, and the last one hang until its worker is replaced."""
    project.change("blocks.roi", [[0, 36], [0, 18], [0, 128]])
    project.change("backend.faults", hanging(LAST_BLOCK).model_dump())


def hanging(block: int) -> Faults:
    """Faults by which the first attempt at one block of four hangs, and nothing else."""
    for seed in itertools.count():
        faults = Faults(hang=0.5, seed=seed)
        struck = {i for i in range(4) if faults.strikes("hang", "prediction", i, 1)}
        if struck == {block} and not faults.strikes("hang", "prediction", block, 2):
            return faults
    raise AssertionError


def wait_until_it_hangs(project: Project) -> None:
    """Wait for the blocks before the last one."""
    folder = project.steps().prediction.markers
    wait_for(lambda: folder.count() == LAST_BLOCK, DEADLINE_S, (project.folder / "driver.log").read_text)


def markers(project: Project) -> set[int]:
    return set(project.steps().prediction.markers.scan())


def goes_on(project: Project) -> None:
    """The next run keeps finished blocks, and ends with the bytes of a run that nobody disturbed."""
    finished = markers(project)
    run = project.run()
    assert run.ok, run.text
    assert not finished & set(run.computed["prediction"])
    disturbed = project.results()
    for path in ("work", "result.n5"):
        Path(path).rename(f"disturbed-{path}")
    assert project.run().ok
    assert_same(disturbed, project.results())


@pytest.mark.parametrize(
    ("how", "luigi_workers"),
    [
        ("Ctrl-C", "2"),
        pytest.param("SIGTERM", "1", marks=pytest.mark.soak),
        pytest.param("SIGKILL", "2", marks=pytest.mark.soak),
        pytest.param("Ctrl-C", "1", marks=pytest.mark.soak),
        pytest.param("SIGTERM", "2", marks=pytest.mark.soak),
        pytest.param("SIGKILL", "1", marks=pytest.mark.soak),
    ],
)
def test_ended_from_outside(
    project: Project, driver: Callable[..., subprocess.Popen[str]], how: str, luigi_workers: str
) -> None:
    spoil_prediction(project)
    process = driver("--workers", luigi_workers, workflow="PredictionWorkflow")
    wait_until_it_hangs(project)
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.Signals[how])
    process.wait(DEADLINE_S)
    assert process.returncode not in (0, None)
    wait_for(lambda: not processes(project), DEADLINE_S)
    log = (project.folder / "driver.log").read_text()
    if how != "SIGKILL" and luigi_workers == "1":
        assert "interrupted; finished blocks are kept, the same command goes on from here" in log
    assert "Traceback" not in log, log
    assert len(markers(project)) == LAST_BLOCK
    if luigi_workers == "1":
        goes_on(project)


@pytest.mark.soak
def test_killed_worker_is_replaced(project: Project, driver: Callable[..., subprocess.Popen[str]]) -> None:
    spoil_prediction(project)
    process = driver(workflow="PredictionWorkflow")
    wait_until_it_hangs(project)
    [worker] = workers(project)
    worker.kill()
    assert process.wait(DEADLINE_S) == 0, (project.folder / "driver.log").read_text()
    assert max(marker.attempt for marker in project.steps().prediction.markers.scan().values()) == 2


def test_second_run_is_refused_and_a_dead_ones_lock_is_taken(
    project: Project, driver: Callable[..., subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_prediction(project)
    process = driver("--quiet", workflow="PredictionWorkflow")
    wait_until_it_hangs(project)
    code, text = run_luigi(project, "--quiet")
    assert code == 10
    message = " ".join(text.split())
    assert f"work_dir work: another run is using it (process {process.pid} on {socket.gethostname()}" in message
    assert "wait for it, stop it, or set another `work_dir`" in message
    assert "Traceback" not in text
    assert main(["clean", "--config", "config.yaml", "--yes"]) == 10
    assert "another run is using it" in capsys.readouterr().err
    assert markers(project)
    process.kill()
    process.wait()
    begin_session("work")
    assert read_json(open_records("work"), ".lock-owner.json")["pid"] == os.getpid()


@pytest.mark.soak
def test_luigid_shows_progress_and_may_vanish(
    project: Project, driver: Callable[..., subprocess.Popen[str]], luigid: Luigid
) -> None:
    spoil_prediction(project)
    config = project.folder / "luigi.cfg"
    config.write_text("[core]\nrpc_retry_attempts=1\nrpc_retry_wait=0\n")
    process = driver("--scheduler-host", "127.0.0.1", "--scheduler-port", str(luigid.port))

    def prediction() -> dict[str, Any]:
        tasks = luigid.ask("task_list", status="RUNNING", upstream_status="")
        return next((task for task in tasks.values() if task["name"] == "PredictionTask"), {})

    wait_until_it_hangs(project)
    wait_for(prediction, DEADLINE_S)
    name = next(iter(luigid.ask("task_list", status="RUNNING", upstream_status="")))
    status: dict[str, Any] = {}

    def told() -> bool:
        status.update(luigid.ask("get_task_status_message", task_id=name))
        status.update(luigid.ask("get_task_progress_percentage", task_id=name))
        return "3 of 4 blocks done" in (status["statusMessage"] or "")

    wait_for(told, DEADLINE_S)
    assert "3 of 4 blocks done, 0 failed" in status["statusMessage"]
    wait_for(lambda: status["progressPercentage"] is not None or told() is None, DEADLINE_S)
    assert 0 <= status["progressPercentage"] <= 100
    assert prediction()["params"] == {"fingerprint": project.steps().prediction.fingerprint}
    luigid.kill()
    [worker] = workers(project)
    worker.kill()
    process.wait(DEADLINE_S)
    wait_for(lambda: not processes(project), DEADLINE_S)
    # Luigi itself cannot go on without its scheduler, but the step that was running is finished.
    assert project.steps().prediction.read_target(), (project.folder / "driver.log").read_text()
    run = project.run()
    assert run.ok
    assert "prediction" not in run.computed
