"""The whole pipeline on a cluster, by Luigi's command line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.luigid import Luigid
from tests.processes import wait_for
from tests.runs import Project, assert_same, environment, run_luigi
from tests.slurm.cluster import Cluster


@pytest.fixture
def project(unused: Project, cluster: Cluster) -> Iterator[Project]:
    unused.change("backend", {"name": "slurm", "slurm": {"poll_s": 1, "grace_s": 2, "blocks_per_job": 4}})
    yield unused
    try:
        cluster.wait_until_quiet(30)
    finally:
        cluster.cancel_all()


def test_same_results_as_on_one_machine(project: Project, expected):
    code, text = run_luigi(project)
    assert code == 0, text
    assert_same(project.results(), expected)
    assert "Nothing to do" in run_luigi(project)[1]


@pytest.mark.parametrize(
    ("workers", "how", "scheduler"),
    [
        ("1", "SIGTERM", "local"),
        *(
            pytest.param("2", how, at, marks=pytest.mark.soak)
            for how, at in (("SIGTERM", "local"), ("Ctrl-C", "luigid"))
        ),
    ],
)
def test_signals_to_luigi_cancel_all_jobs(
    project: Project, cluster: Cluster, luigid: Luigid, workers: str, how: str, scheduler: str
):
    """Luigi runs tasks in its own process, or each in a child that it ends by a signal."""
    log = project.folder / "luigi.out"
    options = ("--scheduler-port", str(luigid.port)) if scheduler == "luigid" else ()
    with log.open("wb") as out:
        process = subprocess.Popen(
            project.command("--workers", workers, *options),
            cwd=project.folder,
            env=environment(),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_for(cluster.alive_jobs, 60, log.read_text)
        if how == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert process.returncode
        # A child outlives Luigi's main process by a moment, to cancel its jobs.
        wait_for(lambda: not list(Path("work").glob("*/jobs/*")), 60)
        assert not cluster.alive_jobs()
        wait_for(lambda: not _session(process.pid), 60, lambda: _session(process.pid))
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def _session(leader: int) -> list[psutil.Process]:
    """Processes of the session that a process has started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
