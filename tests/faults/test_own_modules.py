"""Files of the user's that are called like our packages, in the folder from which the commands are said."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.runs import ROOT, Project, environment

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.fixture
def beside(unused: Project) -> Project:
    for name in ("blockwise", "pipeline", "tasks"):
        Path(f"{name}.py").write_text("raise SystemExit('the wrong file was run')\n")
    return unused


def call(project: Project, *command: str) -> subprocess.CompletedProcess[str]:
    """Run as an installed command does, which has its own folder on its path and not the one it is called in."""
    return subprocess.run(
        [sys.executable, "-P", *command],
        cwd=project.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_command_of_its_own(beside: Project) -> None:
    module, _, function = SCRIPTS["blockwise-ilastik"].partition(":")
    assert callable(getattr(import_module(module), function))
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    shown = call(beside, "-c", code, "plan", "--config", "config.yaml")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "prediction" in shown.stdout
    assert call(beside, "-c", code, "--help").stdout.startswith("usage: blockwise-ilastik ")
    refused = call(beside, "-c", code, "plan", "--config", "none.yaml")
    assert refused.returncode
    assert "none.yaml" in refused.stderr


@pytest.mark.soak
def test_workers_run_our_files(beside: Project) -> None:
    run = call(
        beside, "-m", "luigi", "--module", "pipeline", "PredictionWorkflow", "--config", "config.yaml",
        "--local-scheduler",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "is finished" in run.stderr + run.stdout
