"""What is compiled at installation is what workers ask for, so that these load no compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.__main__ import main
from tests.runs import Project, environment

WORKER = """
import sys
from pipeline.assembly.steps import build_steps
from pipeline.configuration.settings import load_settings

for step in build_steps(load_settings("config.yaml")).all():
    step.prepare()
print(*{"numba", "llvmlite"} & set(sys.modules))
"""


def test_workers_need_no_compiler_after_it(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compile"]) == 0
    said = capfd.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in said[::2]] == [
        "machine code of the prediction",
        "machine code of what smooths and labels objects",
    ]
    assert main(["compile"]) == 0
    assert capfd.readouterr().out.splitlines()[1::2] == ["  is there"] * 2
    command = [sys.executable, "-c", WORKER]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["llvmlite"], done.stderr
