"""Code that many processes need at once is compiled by one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blockwise.compiled import compiling_once, load_linker
from blockwise.machine_code import MachineCode
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
print(int("numba" in sys.modules))
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
from blockwise.compiled import compiled, part_of_compiled

@part_of_compiled
def tenth(i):
    return 0.1 * i

@compiled
def total(numbers, start, is_new):
    few, (many, factor) = numbers
    if many.size < few.shape[1]:
        raise ValueError("fewer than few")
    values = np.empty(many.size * factor, np.float64)
    flat = values.reshape(-1, 1)
    found = float(start)
    for i in range(many.size):
        flat[i, 0] = tenth(i) + few[i % few.shape[0], 0] + is_new
        found += values[i] * many[i]
    return found

@compiled
def doubled(values):
    return 2 * values
"""
READING = """
import sys
import numpy as np
import room
from blockwise.compiled import Compiled

few = np.arange(12, dtype=np.float32).reshape(3, 4)
for numbers in (few, few[:, ::2]):
    for start in (-3, np.float32(0.25)):
        print(room.total((numbers, (np.arange(1000, dtype=np.uint8), 3)), start, True).hex())
print("numba" in sys.modules)
for size, factor, error in ((8, 1 << 55, MemoryError), (1, 3, ValueError)):
    try:
        room.total((few, (np.arange(size, dtype=np.uint8), factor)), -3, True)
    except error as e:
        print(type(e).__name__)
print(room.doubled(few).sum(), Compiled.made)
"""


@pytest.mark.soak
def test_code_that_is_kept_is_called_without_the_compiler_and_does_the_same(tmp_path: Path) -> None:
    """Numba takes half a second of CPU to load; values and errors are those of code just made."""
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

    *values, is_compiled, memory, value, doubled, made = output()
    assert is_compiled == "True"
    assert [memory, value, doubled, made] == ["MemoryError", "ValueError", "132.0", "5"]
    for started, text in zip((-3, 0.25, -3, 0.25), values, strict=True):
        found = float(started)
        for i in range(1000):
            found += (0.1 * i + 4.0 * (i % 3) + 1) * (i % 256)
        assert float.fromhex(text) == found
    again = [*values, "False", "MemoryError", "ValueError", "132.0", "0"]
    assert output() == again, "read, and called without numba"
    kept = list((tmp_path / "cache").rglob("room.total-*.code"))
    assert len(kept) == 4
    for path, damaged in zip(kept, (b"", b"0 ", b"1 "), strict=False):
        path.write_bytes(damaged + path.read_bytes()[2:-100] if damaged else b"")
    assert output() == [*values, "True", *again[-4:-1], "3"], "made anew"
    assert output() == again


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


def test_a_call_that_has_failed_is_not_made_good_by_a_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have added to its arrays before it failed; the second call adds once more."""
    monkeypatch.setattr(MachineCode, "__call__", lambda code, values: (False, None))
    with pytest.raises(RuntimeError, match=r"compiled\._nothing has ended with an error.* cannot be trusted"):
        load_linker()


def test_the_linker_is_loaded_without_the_compiler() -> None:
    load_linker()  # compiles, and keeps, what it calls
    code = "import sys; from blockwise.compiled import load_linker; load_linker(); print('numba' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    )
