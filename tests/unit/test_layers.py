"""Imports point downwards only: pipeline -> tasks -> blockwise."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {"blockwise": {"tasks", "pipeline", "luigi", "ilastik"}, "tasks": {"pipeline"}, "pipeline": {"ilastik"}}
LUIGI = ROOT / "tasks" / "nodes"
"""Room of `tasks` that holds Luigi's tasks."""


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_imports_point_downwards(layer: str) -> None:
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & FORBIDDEN[layer], f"{file}:{node.lineno}"


def test_workers_load_no_library_that_only_drivers_need() -> None:
    """Each worker of each step would pay for it: Luigi alone takes as long as all else."""
    files = [path for path in (ROOT / "tasks").rglob("*.py") if "_step" in path.stem or path.parent.name == "tasks"]
    steps = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files if LUIGI not in path.parents]
    code = f"import sys, blockwise.worker, {', '.join(steps)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "tasks.threshold" in done.stdout.split(), done.stderr
    assert not {"luigi", "matplotlib", "pandas", "scipy.sparse", "skimage", "sklearn"} & set(done.stdout.split())
