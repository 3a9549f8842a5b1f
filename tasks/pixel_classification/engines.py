"""The engines by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from blockwise.errors import UserError
from tasks.pixel_classification.engine import Engine, ReferenceEngine
from tasks.pixel_classification.features import StructureTensor
from tasks.pixel_classification.project import Project


def _ilastik(project: Project, structure_tensor: StructureTensor) -> Engine:
    from tasks.pixel_classification.ilastik_engine import IlastikEngine

    return IlastikEngine(project, structure_tensor)


def _fast(project: Project, structure_tensor: StructureTensor) -> Engine:
    from tasks.pixel_classification.fast.fast_engine import FastEngine

    return FastEngine(project, structure_tensor)


ENGINES: dict[str, Callable[[Project, StructureTensor], Engine]] = {
    "fast": _fast,
    "reference": ReferenceEngine,
    "ilastik": _ilastik,
}
"""By name; an engine is imported only when it is asked for."""


@lru_cache(maxsize=4)
def make_engine(name: str, project: Project, structure_tensor: StructureTensor = "fastfilters") -> Engine:
    """Make the engine of this name; the same one for the same project, which `load_project` keeps.

    Raises:
        UserError: there is none of this name, or it cannot work here or with this project.
    """
    if name not in ENGINES:
        raise UserError(f"prediction.engine: {name!r} is not known; known are {', '.join(ENGINES)}")
    return ENGINES[name](project, structure_tensor)
