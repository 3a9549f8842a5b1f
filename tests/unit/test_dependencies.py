"""What is installed is what the program imports, no more and no less."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = {"blockwise", "tasks", "pipeline"}
TOOLS = {"test", "check", "bench"}
"""Extras for those who change the program."""
LOADED_BY_OTHERS = {"imagecodecs": "tifffile's codecs"}
COMES_WITH_OTHERS = {"llvmlite": "numba's; it must be the version that numba asks for"}
NOT_ON_PYPI = {"ilastik"}


def normalised(requirement: str) -> str:
    """Name of the distribution as pip compares names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def imported() -> set[str]:
    """Distributions that hold the modules which our packages import, wherever in a file."""
    names: set[str] = set()
    for file in (path for package in OURS for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
    names -= OURS | NOT_ON_PYPI | COMES_WITH_OTHERS.keys() | set(sys.stdlib_module_names)
    known = packages_distributions()
    return {normalised(distribution) for name in names for distribution in known.get(name, [name])}


def test_dependencies_are_what_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {normalised(requirement) for requirement in project["dependencies"]}
    extras = project["optional-dependencies"].items()
    optional = {normalised(line) for name, lines in extras if name not in TOOLS for line in lines}
    assert len(needed) > 10
    assert imported() - needed - optional == set(), "imported, but not declared"
    assert needed - imported() - LOADED_BY_OTHERS.keys() == set(), "declared, but not imported"
