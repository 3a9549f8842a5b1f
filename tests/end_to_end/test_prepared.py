"""What is slow to load is loaded while a worker prepares, so that the first block's time is that of a block."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.runs import Project, environment

PROCESS = """
import gc, sys
from blockwise.compiled import Compiled
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import load_settings

LIBRARIES = {"numba", "llvmlite", "scipy", "skimage", "sklearn", "pyarrow", "tensorstore", "matplotlib"}
known = {}

def loaded():
    "Compiled functions whose machine code has been asked for."
    known.update((id(thing), thing) for thing in gc.get_objects() if type(thing) is Compiled)
    return {thing.__name__ for thing in known.values() if thing.found}

def as_if_new():
    "Have all functions ask for their machine code again, as in a process of their own."
    loaded()
    for thing in known.values():
        thing.found.clear()

for step in build_steps(load_settings("config.yaml")).everything():
    if step.name not in sys.argv[1:]:
        continue
    as_if_new()
    prepared = step.prepare()
    functions, modules = loaded(), {name.partition(".")[0] for name in sys.modules}
    step.compute(next(iter(step.grid)), prepared)
    late = loaded() - functions
    late |= ({name.partition(".")[0] for name in sys.modules} - modules) & LIBRARIES
    print(step.name, *late)
"""

STEPS = [
    "prediction",
    "threshold",
    "component_faces",
    "component_merge",
    "connected_components",
    "object_table",
    "simple_segmentation",
]


def late(*steps: str) -> list[str]:
    """A line for each step: its name, and what its first block has loaded."""
    command = [sys.executable, "-c", PROCESS, *steps]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


@pytest.mark.soak
def test_no_block_pays_for_what_a_worker_loads(project: Project) -> None:
    assert late(*STEPS) == sorted(STEPS)
    project.change("connected_components", {"intensities": True, "probabilities": True})
    project.change("threshold", {"as": "ilastik", "class": 1, "sigma": 1.6, "threshold": 0.25})
    assert late("threshold", "measures") == ["measures", "threshold"]
