"""A driver that is killed again and again, at random moments, and is started again each time."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.runs import Project, assert_same, environment

KILLS = 50


def markers(project: Project) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (project.folder / "work").glob("*/*/done/*/*.json")}


@pytest.mark.soak
def test_driver_killed_fifty_times(project: Project, expected) -> None:
    chance = random.Random(7)
    project.change("blocks.shape", [18, 18, 16])
    project.change("backend.workers", 2)
    kills = 0
    while kills < KILLS:
        before = markers(project)
        driver = subprocess.Popen(
            project.command(),
            cwd=project.folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            driver.wait(chance.uniform(1.0, 6.0))
            # It was quicker than we: begin anew with another threshold, so that there is work again.
            project.change("threshold.threshold", round(chance.uniform(0.2, 0.4), 3))
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            kills += 1
            after = markers(project)
            kept = before.keys() & after.keys()
            assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
            time.sleep(0.5)  # its workers end by themselves
    project.change("threshold.threshold", 0.25)
    assert project.luigi().returncode == 0
    assert_same(project.results(), expected)
