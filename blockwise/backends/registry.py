"""All kinds of backends, by the names under which a configuration chooses one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blockwise.backends.aws_batch.kind import AwsBatchKind
from blockwise.backends.base import Backend
from blockwise.backends.dask.kind import DaskKind
from blockwise.backends.executor import Executor
from blockwise.backends.kind import Kind, Setup
from blockwise.backends.local import LocalKind
from blockwise.backends.slurm.kind import SlurmKind
from blockwise.records import Records
from blockwise.step import BlockStep

BACKENDS: Mapping[str, Kind[Any]] = {
    "local": LocalKind(),
    "slurm": SlurmKind(),
    "aws_batch": AwsBatchKind(),
    "dask": DaskKind(),
}

Setups = Mapping[str, Setup[Any]]
"""Settings for each kind, whichever is chosen: what another one has left must be ended too."""


@dataclass(frozen=True)
class BlocksAtOnce:
    """How many blocks a backend computes at a time.

    Attributes:
        title: of the kind of backend, for people.
        number: of blocks, at most.
        what: of what there are so many, for people.
    """

    title: str
    number: int
    what: str


def make_backend(name: str, setups: Setups) -> Backend:
    """Make a backend that ends, before it begins with a step, what those of other kinds have left at work."""
    return BACKENDS[name].make(setups[name], [backend for other, backend in _lasting(setups) if other != name])


def make_executor(name: str, setups: Setups) -> Executor | None:
    """Make what computes single blocks as they are asked for; None where this kind of backend has no such thing."""
    return BACKENDS[name].make_executor(setups[name])


def make_some_executor(name: str, setups: Setups) -> Executor:
    """Make what computes single blocks: that of a kind, or, where it has none, of the first that has one."""
    for kind in (name, *BACKENDS):
        if executor := make_executor(kind, setups):
            return executor
    raise RuntimeError("no kind of backend computes single blocks")


def blocks_at_once(setups: Setups) -> dict[str, BlocksAtOnce]:
    """How many blocks each kind computes at a time, as it is set up; those are left out that do not know."""
    found = ((name, kind, kind.at_once(setups[name])) for name, kind in BACKENDS.items() if name in setups)
    return {name: BlocksAtOnce(kind.title, *told) for name, kind, told in found if told}


def end_leftovers(step: BlockStep, setups: Setups) -> None:
    """End work of earlier drivers on a step, of whichever kind; where there is none, nothing happens.

    Raises:
        UserError: it cannot be ended.
    """
    for _, backend in _lasting(setups):
        backend.clear(step)


def left_at_work(work: Records, *steps: str) -> dict[str, str]:
    """Steps that list work which may outlive its driver, each with the title of the kind that does it.

    Args:
        work: records of a work folder.
        steps: what the keys of a step begin with, without its fingerprint, or a pattern of it.

    Returns:
        By what the keys of a step begin with.
    """
    titles = {kind.ledger: kind.title for kind in BACKENDS.values() if kind.ledger}
    found = work.matching(*(f"{step}/{ledger}/*/*" for step in steps for ledger in titles))
    parts = (key.rsplit("/", 3) for key in found)
    return {step: titles[ledger] for step, ledger, *_ in parts}


def describe_jobs(steps: Mapping[str, BlockStep]) -> list[str]:
    """How work that outlives its driver stands, in lines for people.

    Args:
        steps: whose work, by names for people.
    """
    return [line for kind in BACKENDS.values() for line in kind.describe_jobs(steps)]


def _lasting(setups: Setups) -> list[tuple[str, Backend]]:
    """Backends, with their names, whose work may outlive a driver."""
    return [(name, kind.make(setups[name], ())) for name, kind in BACKENDS.items() if kind.ledger]
