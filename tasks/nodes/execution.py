"""How blocks are computed, as workflows hand it to the tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

from blockwise.backends import Backend
from blockwise.completeness import Completeness


@dataclass(frozen=True)
class Execution:
    """How blocks are computed, which never changes the result.

    Attributes:
        backend: where blocks are computed; steps may share it.
        max_attempts: how often a block is tried.
        show: whether to draw a progress bar where there is a terminal.
        resource: of Luigi, that a step needs while it runs, as its configuration names it; empty for none.
        completeness: what this process knows of the steps.
    """

    backend: Backend
    max_attempts: int
    show: bool = True
    resource: str = ""
    completeness: Completeness = field(default_factory=Completeness)
