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


ROOM = """
import numpy as np
from blockwise.compiled import compiled

@compiled
def total(n):
    if n < 0:
        raise ValueError("fewer than none")
    values = np.empty(n, np.float64)
    flat = values.reshape(-1, 1)
    found = 0.0
    for i in range(n):
        flat[i, 0] = 0.1 * i
        found += values[i]
    return found
"""
READING = """
import sys
import room
print(room.total(1000).hex())
for n, error in ((1 << 55, MemoryError), (-1, ValueError)):
    try:
        room.total(n)
    except error as e:
        print(type(e).__name__)
print(sum(room.total.stats.cache_hits.values()), "numba.np.linalg" in sys.modules)
"""


def test_code_that_is_kept_is_read_without_what_compiles_and_does_the_same(tmp_path: Path) -> None:
    """Numba's registries take half a second of CPU to load; memory and errors are those of code just made."""
    (tmp_path / "room.py").write_text(ROOM)
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
    }

    def output() -> list[str]:
        command = [sys.executable, "-c", READING]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    value, *errors, hits, compiles = output()
    assert (errors, hits, compiles) == (["MemoryError", "ValueError"], "0", "True")
    assert output() == [value, *errors, "1", "False"]


@pytest.mark.soak
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
