"""Which code computes: what must be equal wherever blocks are computed, so that bytes are equal."""

from __future__ import annotations

import functools
import importlib.util
import platform
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from blockwise.identity import digest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("blockwise", "pipeline", "tasks")
"""What is installed together; a worker may load any of it."""


@dataclass(frozen=True)
class Code:
    """What computes.

    Attributes:
        sources: digest of the sources of our packages, and of the step's own where it is another.
        python: version of the interpreter.
        numpy: version of the library.
    """

    sources: str
    python: str
    numpy: str

    def differences(self, other: Code) -> list[str]:
        """What another one has instead, for people."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return [f"{name} {theirs} instead of {ours}" for name, ours, theirs in pairs if ours != theirs]


def present_code(module: str) -> Code:
    """The code of this process.

    Args:
        module: of the step whose blocks are computed.
    """
    package = module.partition(".")[0]
    names = PACKAGES if package in PACKAGES else (*PACKAGES, package)
    return Code(_sources(names), platform.python_version(), np.__version__)


@functools.cache
def _sources(names: tuple[str, ...]) -> str:
    lines = []
    for name in names:
        for root, file in _files(name):
            lines.append(f"{name} {file.relative_to(root).as_posix()} {digest(file.read_bytes())}")
    return digest("\n".join(sorted(lines)))[:12]


def _files(name: str) -> Iterator[tuple[Path, Path]]:
    """Source files of a package or module, each with the folder that it is named in."""
    beside = ROOT / name
    spec = None if beside.is_dir() else importlib.util.find_spec(name)
    for folder in [beside] if spec is None else map(Path, spec.submodule_search_locations or ()):
        yield from ((folder, file) for file in folder.rglob("*.py"))
    if spec is not None and spec.origin and not spec.submodule_search_locations:
        yield Path(spec.origin).parent, Path(spec.origin)
