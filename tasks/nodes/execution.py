"""How blocks are computed, as workflows hand it to the tasks."""

from __future__ import annotations

from dataclasses import dataclass

from blockwise.backends import Backend


@dataclass(frozen=True)
class Execution:
    """How blocks are computed, which never changes the result.

    Attributes:
        backend: where blocks are computed; steps may share it.
        max_attempts: how often a block is tried.
        show: whether to draw a progress bar where there is a terminal.
        resource: of Luigi, that a step needs while it runs, such as ``slurm_steps``; empty for none.
    """

    backend: Backend
    max_attempts: int
    show: bool = True
    resource: str = ""
