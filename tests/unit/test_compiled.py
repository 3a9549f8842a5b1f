"""Code that many processes need at once is compiled by one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blockwise.compiled import compiling_once
from tests.runs import ROOT

TOY = """
from blockwise.compiled import compiled

@compiled
def double(x):
    return 2 * x
"""
PROCESS = """
import sys
from pathlib import Path
import toy
from blockwise.compiled import compiling_once
print("ready", flush=True)
sys.stdin.readline()
with compiling_once(Path(toy.__file__).parent, "double of int64"):
    assert toy.double(4) == 8
print(sum(toy.double.stats.cache_misses.values()))
"""


def compiled_by(folder: Path, count: int) -> list[str]:
    """How many functions each of several processes has compiled that begin at the same time."""
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "TMPDIR": str(folder),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
    }
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROCESS]
    started = [subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) for _ in range(count)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sorted(process.communicate()[0].strip() for process in started)


def test_one_of_many_processes_compiles(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    assert compiled_by(tmp_path, 3) == ["0", "0", "1"]
    assert compiled_by(tmp_path, 1) == ["0"]


@pytest.mark.soak
def test_a_process_that_fails_leaves_it_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(TOY.replace("2 * x", "x.none"))
    assert compiled_by(tmp_path, 2) == ["", ""], "both have ended with an error, and none waits for ever"
    (tmp_path / "toy.py").write_text(TOY)
    assert compiled_by(tmp_path, 2) == ["0", "1"]


def test_nobody_waits_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with compiling_once(tmp_path, "anything"), compiling_once(tmp_path, "anything"):
        pass
