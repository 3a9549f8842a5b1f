"""Logs do not grow for ever."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from blockwise.backends import LocalBackend
from blockwise.backends.jobs.ledger import Ledger
from blockwise.backends.jobs.needs import Needs
from blockwise.errors import UserError
from blockwise.logs import LARGEST_LOG, keep_newest, put_aside
from blockwise.run import run_step
from pipeline.running.session import begin_session, end_sessions
from tests.unit.odd_step import odd_step


def large(path: Path, text: bytes = b"old") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    os.truncate(path, LARGEST_LOG + 1)
    return path


def test_a_large_log_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    log = large(tmp_path / "a.log", b"older")
    put_aside(log)
    large(log)
    put_aside(log)
    log.write_bytes(b"new")
    put_aside(log)
    assert {path.name for path in tmp_path.iterdir()} == {"a.log", "a.log.1"}
    assert log.read_bytes() == b"new"
    assert (tmp_path / "a.log.1").read_bytes()[:5] == b"old\0\0"
    put_aside(tmp_path / "absent.log")


def test_the_log_of_a_worker_between_two_runs_and_between_two_blocks(tmp_path: Path) -> None:
    log = large(tmp_path / "logs" / "odd" / "worker-0.log")
    step = odd_step(tmp_path, 6, orders=dict.fromkeys(range(4), "talk"))
    assert not run_step(step, LocalBackend(1, None), 1, lambda outcome: None).failed
    sizes = {path.name: path.stat().st_size for path in log.parent.iterdir()}
    assert sizes.keys() == {"worker-0.log", "worker-0.log.1"}
    assert sizes["worker-0.log"] == 0, "put aside after the last block that had much to say"
    assert LARGEST_LOG < sizes["worker-0.log.1"] < 2 * LARGEST_LOG, "never more than one block adds to a full one"


def test_the_log_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = large(tmp_path / "logs" / "run.log")
    begin_session(str(tmp_path))
    try:
        for text in ("first", "second"):
            logging.getLogger("pipeline").info(text)
    finally:
        end_sessions()
    assert {path.name for path in log.parent.iterdir()} == {"run.log", "run.log.1"}
    assert [line.split()[-1] for line in log.read_text().splitlines()] == ["first", "second"]


def test_of_the_logs_of_jobs_the_newest_are_kept(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"{number}_0.log"
        path.touch()
        os.utime(path, ns=(number, number))
    (tmp_path / "notes.txt").touch()
    keep_newest(tmp_path, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"17_0.log", "18_0.log", "19_0.log", "notes.txt"}
    keep_newest(tmp_path / "absent", 3)


def test_logs_of_jobs_go_only_when_no_array_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = odd_step(tmp_path, 1)
    monkeypatch.setattr(keep_newest, "__defaults__", (1,))
    ledger = Ledger(step, "jobs")
    left = []
    for name in ("first", "second"):
        for number in range(3):
            (step.logs / f"{name}_{number}.log").parent.mkdir(parents=True, exist_ok=True)
            (step.logs / f"{name}_{number}.log").touch()
        ledger.enter(name, step, [], Needs(512, 1), None)
        left.append(len(list(step.logs.iterdir())))
    assert left == [1, 4]


def test_where_there_can_be_no_log_the_lock_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store says so by an error of its own, and no system gives back what is locked there."""
    with monkeypatch.context() as failing:
        failing.setattr("pipeline.running.session._run_log", _denied)
        with pytest.raises(UserError, match="denied"):
            begin_session(str(tmp_path))
    begin_session(str(tmp_path))
    end_sessions()


def _denied(work_dir: str) -> Path:
    raise UserError(f"{work_dir}: denied")
