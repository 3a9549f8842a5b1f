"""ilastik's process when it dies: a stand-in for ilastik's Python API, which needs conda, kills itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.unit.pixel_cases import ROOT

API = """
import os, signal
import numpy as np
from xarray import DataArray

class Pipeline:
    def get_probabilities(self, image):
        if image.values.max() == 255:
            os.kill(os.getpid(), signal.SIGKILL)
        if image.values.max() == 254:
            os._exit(3)
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

SCRIPT = """
import sys
import numpy as np
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.project import load_project

if __name__ == "__main__":
    engine = make_engine("ilastik", load_project(sys.argv[1]))
    whole = (slice(0, 4),) * 3
    for value in (10, 255, 20, 254, 30):
        try:
            print(engine.predict(np.full((4, 4, 4, 1), value, np.uint8), whole)[0].max())
        except RuntimeError as error:
            print(error)
"""


def test_after_its_process_has_died_the_next_block_gets_a_new_one(tmp_path: Path) -> None:
    package = tmp_path / "ilastik" / "experimental"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "api.py").write_text(API)
    (tmp_path / "xarray.py").write_text(XARRAY)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", str(ROOT / "data" / "membranes.ilp")]
    paths = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    run = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.splitlines() == [
        "0.1",
        "ilastik's process has ended (signal SIGKILL); the next block gets a new one",
        "0.2",
        "ilastik's process has ended (exit code 3); the next block gets a new one",
        "0.3",
    ]
