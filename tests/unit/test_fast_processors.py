"""Other kinds of processor give the same bits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import hashlib
import h5py
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.project import load_project
with h5py.File("data/raw.h5") as file:
    image = file["data"][:40, :48, :56][..., None]
engine = make_engine("fast", load_project("data/membranes.ilp"))
result = engine.predict(image, tuple(slice(0, n) for n in image.shape[:3]))
print(hashlib.sha256(result.tobytes()).hexdigest(), len(set(result.ravel().tolist())))
"""


def run(environment: dict[str, str]) -> str:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.check_output(command, cwd=root, env={**os.environ, **environment, "PYTHONPATH": "."}, text=True)


@pytest.mark.soak
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names kinds of x86 processors")
def test_code_for_other_processors_gives_the_same_bits() -> None:
    own = run({})
    assert int(own.split()[1]) > 20
    assert run({"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"}) == own
    haswell = "+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,+sse4.2,+lzcnt"
    assert run({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": haswell}) == own
