"""Imports point downwards only: pipeline -> tasks -> blockwise."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {"blockwise": {"tasks", "pipeline", "luigi", "ilastik"}, "tasks": {"pipeline"}, "pipeline": {"ilastik"}}


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_imports_point_downwards(layer: str) -> None:
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & FORBIDDEN[layer], f"{file}:{node.lineno}"
