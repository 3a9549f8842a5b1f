"""ilastik's process, with a stand-in for ilastik's Python API, which needs conda: it computes, and it dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.pixel_cases import ROOT

API = """
import os, signal, time
import numpy as np
from xarray import DataArray

class Pipeline:
    def get_probabilities(self, image):
        if image.values.max() == 255:
            os.kill(os.getpid(), signal.SIGKILL)
        if image.values.max() == 254:
            os._exit(3)
        if image.values.max() == 253:
            kept = np.ones(25_000_000)
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
        value = image.values[..., 0].astype("float32") / 100
        return DataArray(np.stack([value, 1 - value]), ("c", "z", "y", "x"))

def from_project_file(path):
    return Pipeline()
"""

XARRAY = """
class DataArray:
    def __init__(self, values, dims):
        self.values, self.dims = values, dims
    def isel(self, places):
        return self
    def expand_dims(self, missing):
        return self
    def transpose(self, *dims):
        return self
    def to_numpy(self):
        return self.values
"""

BEGIN = """
import sys
import numpy as np
from blockwise.errors import UserError
from blockwise.usage import Stopwatch, peak_memory
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.project import load_project

whole = (slice(0, 4),) * 3

def image(value):
    return np.full((4, 4, 4, 1), value, np.uint8)

if __name__ == "__main__":
    project = load_project(sys.argv[1])
"""


def run_script(folder: Path, script: str, **libraries: str) -> list[str]:
    """What a script prints that finds the stand-in, and these libraries, each with the version that it tells."""
    package = folder / "ilastik" / "experimental"
    package.mkdir(parents=True)
    for library, version in {"ilastik": "1.4.2", **libraries}.items():
        (folder / library).mkdir(exist_ok=True)
        (folder / library / "__init__.py").write_text(f"__version__ = {version!r}\n" if version else "")
    (package / "__init__.py").touch()
    (package / "api.py").write_text(API)
    (folder / "xarray.py").write_text(XARRAY)
    (folder / "script.py").write_text(BEGIN + script)
    command = [sys.executable, "script.py", str(ROOT / "data" / "membranes.ilp")]
    paths = {"PYTHONPATH": f"{folder}:{ROOT}", "HOME": os.environ.get("HOME", "/")}
    run = subprocess.run(command, cwd=folder, env=paths, capture_output=True, text=True, check=True, timeout=120)
    return run.stdout.splitlines()


def test_after_its_process_has_died_the_next_block_gets_a_new_one(tmp_path: Path) -> None:
    script = """
    engine = make_engine("ilastik", project)
    for value in (10, 255, 20, 254, 30):
        try:
            print(engine.predict(image(value), whole)[0].max())
        except RuntimeError as error:
            print(error)
    """
    assert run_script(tmp_path, script, fastfilters="0.3") == [
        "0.1",
        "ilastik's process has ended (signal SIGKILL); the next block gets a new one",
        "0.2",
        "ilastik's process has ended (exit code 3); the next block gets a new one",
        "0.3",
    ]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.soak
def test_what_its_process_takes_is_counted_with_the_workers_own(tmp_path: Path) -> None:
    script = """
    engine = make_engine("ilastik", project)
    engine.predict(image(1), whole)
    watch, peak = Stopwatch(), peak_memory()
    engine.predict(image(1), whole)
    print(watch.cpu_seconds < 0.2, peak_memory() - peak < 50e6)
    engine.predict(image(253), whole)
    print(watch.cpu_seconds >= 0.29, peak_memory() - peak > 150e6)
    """
    assert run_script(tmp_path, script, fastfilters="0.3") == ["True True", "True True"]


@pytest.mark.soak
def test_other_filters_than_those_that_are_meant_are_refused(tmp_path: Path) -> None:
    script = """
    for tensor in ("fastfilters", "vigra"):
        try:
            print(dict(make_engine("ilastik", project, tensor).versions))
        except UserError as error:
            print(error)
    """
    without, chosen = run_script(tmp_path / "without", script, vigra="1.11")
    assert "ilastik finds no fastfilters for " in without
    assert "(ilastik 1.4.2, vigra 1.11, numpy " in without
    assert "by up to 0.25" in without
    assert "set prediction.structure_tensor: vigra" in without
    assert chosen.startswith("{'ilastik': '1.4.2', 'vigra': '1.11', 'numpy': '")
    default, refused = run_script(tmp_path / "with", script, vigra="1.11", fastfilters="")
    assert "'fastfilters': 'of a version that it does not tell'" in default
    assert refused.startswith("prediction.structure_tensor: 'vigra' cannot be had of the engine ilastik for ")
