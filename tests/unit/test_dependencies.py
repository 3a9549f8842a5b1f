"""What is installed is what the program imports, no more and no less."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("blockwise", "tasks", "pipeline")
OURS = {*PRODUCT, "tests", "benchmarks"}
TOOLS = {"test", "check", "bench"}
"""Extras for those who change the program."""
COMES_WITH_OTHERS = {
    "botocore": "boto3's",
    "dask": "distributed's; it must be the version that distributed asks for",
    "llvmlite": "numba's; it must be the version that numba asks for",
}
NOT_ON_PYPI = {"ilastik", "vigra"}


def normalised(requirement: str) -> str:
    """Name of the distribution as pip compares names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


@functools.cache
def imported(*folders: str) -> set[str]:
    """Distributions that hold the modules which the files of some folders import, wherever in a file."""
    names: set[str] = set()
    for file in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
    names -= OURS | NOT_ON_PYPI | COMES_WITH_OTHERS.keys() | set(sys.stdlib_module_names)
    known = packages_distributions()
    return {normalised(distribution) for name in names for distribution in known.get(name, [name])}


def declared() -> tuple[set[str], dict[str, set[str]]]:
    """Dependencies, and each extra's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = {normalised(line) for line in project["dependencies"]}
    return needed, {name: {normalised(line) for line in lines} for name, lines in extras.items()}


def test_dependencies_are_what_is_imported() -> None:
    needed, extras = declared()
    optional = {name for extra, names in extras.items() if extra not in TOOLS for name in names}
    assert len(needed) > 10
    assert imported(*PRODUCT) - needed - optional == set(), "imported, but not declared"
    assert needed - imported(*PRODUCT) == set(), "declared, but not imported"


@pytest.mark.parametrize(("folder", "extra"), [("tests", "test"), ("benchmarks", "bench")])
def test_tools_are_what_is_imported_besides(folder: str, extra: str) -> None:
    needed, extras = declared()
    assert imported(folder) - needed - extras[extra] == set(), "imported, but not declared"
