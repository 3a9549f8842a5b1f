"""Luigi's command line, as users call it: exit codes, messages, and what is loaded how often."""

from __future__ import annotations

import configparser
import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
import pytest

from blockwise.backends import LocalBackend
from blockwise.plan import begin, plan_step
from blockwise.run import run_step
from pipeline.running.luigi_defaults import DEFAULTS
from tests.runs import ROOT, Project, assert_same, chunk_files, environment, run_luigi

IN_OPEN = 0x20


@contextmanager
def counting_opens(path: str) -> Iterator[Callable[[], int]]:
    """Count how often any process opens a file, by inotify."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        pytest.skip("counting opens needs inotify")
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(descriptor, path.encode(), IN_OPEN)

    def count() -> int:
        try:
            return len(os.read(descriptor, 1 << 20)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0

    try:
        yield count
    finally:
        os.close(descriptor)


def test_defaults_are_those_of_the_file() -> None:
    file = configparser.ConfigParser()
    file.read(ROOT / "luigi.cfg")
    assert {name: {key: file[name].get(key) for key in values} for name, values in DEFAULTS.items()} == DEFAULTS
    assert dict(file["retcode"]) == DEFAULTS["retcode"]


@pytest.mark.soak
def test_a_folder_without_settings_of_luigi(unused: Project) -> None:
    """Luigi's own defaults: exit code 0 where steps have failed, and a line for all it does."""
    raw = np.zeros((40, 40), np.uint8)
    for z in range(40):
        imageio.v3.imwrite(f"z{z:03d}.png", raw if z != 7 else raw[:-1])
    unused.change("raw", "*.png")
    unused.change("blocks", {"shape": [40, 40, 40]})
    without = ("LUIGI_CONFIG_PATH", "PYTHONWARNINGS")
    surroundings = {key: value for key, value in environment().items() if key not in without}
    run = subprocess.run(unused.command(), env=surroundings, capture_output=True, text=True)
    assert run.returncode == 30
    assert run.stdout + run.stderr == (
        "ERROR: *.png: 1 of 40 slices differs from the first one (z000.png (40, 40) uint8): z007.png (39, 40) uint8; "
        "replace them, or narrow the pattern\n"
    )
    assert not Path("result.n5").exists()
    plan = [sys.executable, "-m", "pipeline", "plan"]
    for more, words in ((["--config", "config.yaml"], "z007.png (39, 40)"), ([], "give --config FILE")):
        run = subprocess.run([*plan, *more], env=surroundings, capture_output=True, text=True)
        assert run.returncode == 40
        assert words in run.stderr


def test_a_fresh_run_and_its_repetition(unused: Project, expected: Any) -> None:
    first = unused.luigi()
    assert first.returncode == 0, first.stderr
    assert "ConnectedComponentsWorkflow is finished." in first.stdout
    assert_same(unused.results(), expected)
    before = unused.state()
    assert "Warning" not in first.stderr
    code, text = run_luigi(unused)
    assert code == 0
    assert "Nothing to do: ConnectedComponentsWorkflow is finished and up to date." in text
    assert unused.state() == before
    unused.change("threshold.threshold", 0.3)
    code, text = run_luigi(unused)
    assert code == 0
    text = " ".join(text.split())
    assert "threshold: threshold: 0.25 -> 0.3" in text
    assert "prediction:" not in text


def test_failed_blocks_are_named_and_the_others_are_done(unused: Project) -> None:
    """The last raw chunk along x is damaged: the blocks that read it fail, the others are finished."""
    unused.change("backend.max_attempts", 2)
    for chunk in chunk_files(Path("raw.n5/raw")):
        if chunk.relative_to("raw.n5/raw").parts[0] == "7":
            chunk.write_bytes(chunk.read_bytes()[:20])
    code, text = run_luigi(unused)
    message = " ".join(text.split())
    assert code == 30, text
    assert "Traceback" not in text
    assert "prediction: 4 of 8 blocks failed, 4 done" in message
    for block, place in ((2, "(0, 0, 64)"), (3, "(0, 0, 96)"), (6, "(0, 18, 64)"), (7, "(0, 18, 96)")):
        assert f"block {block} at {place}: DamagedDataError: " in message
    assert "raw.n5/raw/7/" in message
    assert "log: work/logs/prediction/worker-0.log" in message
    assert "finished blocks are kept: mend the cause and run the same command again" in message
    assert sorted(unused.steps().prediction.markers.scan()) == [0, 1, 4, 5]
    failure = unused.steps().prediction.markers.failures()[7]
    assert (failure.attempt, failure.error) == (2, "DamagedDataError")
    assert "Traceback" in failure.traceback


@pytest.mark.soak
def test_project_is_loaded_once_a_worker(unused: Project) -> None:
    """Twice as many blocks open the project no more often."""
    opens = []
    for roi in ([[0, 36], [0, 18], [0, 64]], [[0, 36], [0, 36], [0, 128]]):
        unused.change("blocks.roi", roi)
        step = unused.steps().prediction
        with counting_opens("membranes.ilp") as count:
            outcome = run_step(step, LocalBackend(1, None), 1, lambda outcome: None)
            opens.append(count())
        assert not outcome.failed
        assert outcome.computed in (2, 8)
    assert opens[0] == opens[1] > 0


@pytest.mark.soak
def test_a_run_killed_between_two_targets_leaves_no_stale_one(project: Project, expected: Any) -> None:
    """The prediction is new and finished, everything after it is of the old one."""
    project.change("prediction.dtype", "uint8")
    prediction = project.steps().prediction
    assert not run_step(prediction, LocalBackend(2, None), 1, lambda outcome: None).failed
    run = project.run()
    assert "prediction" not in run.computed
    assert [len(run.computed[name]) for name in ("threshold", "component_faces")] == [8, 8]
    project.change("prediction.dtype", "float32")
    step = project.steps().prediction
    begin(step, plan_step(step))  # killed here: the old probabilities are gone, the targets after it are not
    run = project.run()
    assert run.ok
    assert len(run.computed["prediction"]) == 8
    assert_same(project.results(), expected)


def test_a_programming_error_keeps_its_traceback(unused: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.running.workflows.load_settings", lambda path: 1 / 0)
    code, text = run_luigi(unused)
    assert code == 40
    assert "Traceback" in text
    assert "ZeroDivisionError" in text
