"""What cron fires every ten minutes: quiet, idempotent, one at a time, with exit codes that mean something."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
import z5py

from pipeline.__main__ import main
from pipeline.running.lock import OWNER, SILENCE_S
from tests.runs import Project, assert_same, run_luigi


def cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def computed(project: Project, since: float) -> set[str]:
    """Steps that have computed blocks since a moment."""
    markers = (path for path in (project.folder / "work").glob("*/*/done/*/*.json"))
    return {path.parents[3].name for path in markers if path.stat().st_mtime > since}


def rewrite_a_chunk(project: Project, value: int) -> None:
    raw = z5py.File(str(project.folder / "raw.n5"), mode="a")["raw"]
    raw[:18, :18, :16] = np.full((18, 18, 16), value, np.uint8)


@pytest.mark.parametrize("firings", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_firings_over_a_changing_input(project: Project, firings: int) -> None:
    for firing in range(firings):
        changed = firing % 7 == 3  # computes; the firings before and after it have nothing to do
        if changed:
            rewrite_a_chunk(project, 10 * firing)
        since = time.time()
        assert run_luigi(project, "--quiet") == (0, ""), firing
        if changed:
            assert "prediction" in computed(project, since)
        else:
            assert computed(project, since) == set()
    assert main(["verify", "--config", "config.yaml"]) == 0


def test_nothing_to_do_is_quiet_and_quick(project: Project) -> None:
    """In processor time, and at best: the machine is busy with other tests."""

    def took() -> float:
        before = cpu_seconds_of_children()
        done = project.luigi("--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return cpu_seconds_of_children() - before

    assert any(took() < 4 for _ in range(3))


@pytest.mark.soak
def test_a_failure_is_told_and_the_next_firing_goes_on(project: Project) -> None:
    before = project.results()
    project.change("threshold.threshold", 0.4)
    chunk = next(path for path in (project.folder / "raw.n5" / "raw" / "0" / "0").iterdir())
    good = chunk.read_bytes()
    chunk.write_bytes(good[: len(good) // 2])
    code, text = run_luigi(project, "--quiet")
    assert code == 30
    assert "blocks failed" in text
    assert str(chunk.relative_to(project.folder)) in text
    assert "Traceback" not in text
    chunk.write_bytes(good)
    assert run_luigi(project, "--quiet") == (0, "")
    project.change("threshold.threshold", 0.25)
    assert run_luigi(project, "--quiet") == (0, "")
    assert_same(project.results(), before)


@pytest.mark.parametrize(
    ("age", "code"), [(SILENCE_S / 4, 10), pytest.param(2 * SILENCE_S, 0, marks=pytest.mark.soak)]
)
def test_a_run_on_another_host_is_seen_by_its_heartbeat(project: Project, age: float, code: int) -> None:
    """As over a file system that does not pass locks on: only the owner's file tells."""
    project.change("threshold.threshold", 0.3)
    owner = Path(project.folder / "work" / OWNER)
    owner.write_text(json.dumps({"pid": 77, "host": "another-host", "since": "2026-01-01 00:00:00"}))
    os.utime(owner, (time.time() - age,) * 2)
    found, text = run_luigi(project, "--quiet")
    assert found == code
    assert ("process 77 on another-host" in text) == (code == 10)
