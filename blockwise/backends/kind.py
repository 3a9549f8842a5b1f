"""What the floors above must know of a backend before there is one: an entry of the registry."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from blockwise.advice import Names
from blockwise.backends.base import Backend
from blockwise.backends.executor import Executor
from blockwise.faults import Faults
from blockwise.step import BlockStep

Options = TypeVar("Options", bound=BaseModel)


class NoOptions(BaseModel):
    """Of a backend that needs no more than what all of them share."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


@dataclass(frozen=True)
class Setup(Generic[Options]):
    """Settings for a backend of one kind. It takes what it has a use for.

    Attributes:
        options: its own.
        workers: number of processes on this machine.
        timeout_s: longest time for one block; None for no limit.
        detach: leave jobs running when the driver is asked to end.
        faults: what is to go wrong, for tests and trials.
        names: what messages call these settings.
    """

    options: Options
    workers: int = 2
    timeout_s: float | None = None
    detach: bool = False
    faults: Faults = field(default_factory=Faults)
    names: Names = field(default_factory=Names)


class Kind(ABC, Generic[Options]):
    """A kind of backend.

    It is loaded with the configuration, whichever kind that names: what takes long to import is imported in ``make``.

    Attributes:
        title: its name for people.
        options: model of its own settings; each needs a default.
        needed: those that must be set, other than to None, where this kind is chosen.
        resource: of Luigi, that a step needs while it runs; empty for none.
        paths: those of its options that hold a path.
        ledger: prefix, below that of a step, with an entry for each piece of work that may outlive its driver: a
            prefix with records; empty where nothing does.
        needs_folder: the work folder must be one that all who compute share; it may not be in a store.
    """

    title: ClassVar[str]
    options: type[Options]
    needed: ClassVar[tuple[str, ...]] = ()
    resource: ClassVar[str] = ""
    paths: ClassVar[tuple[str, ...]] = ()
    ledger: ClassVar[str] = ""
    needs_folder: ClassVar[bool] = False

    @abstractmethod
    def make(self, setup: Setup[Options], others: Sequence[Backend]) -> Backend:
        """Make a backend.

        Args:
            setup: its settings.
            others: backends of other kinds; in ``take_over`` it has each of them ``clear`` the step.
        """

    def make_executor(self, setup: Setup[Options]) -> Executor | None:
        """Make what computes single blocks as they are asked for; None where there is no such thing."""
        return None

    def memory_limit(self, setup: Setup[Options]) -> tuple[float, str]:
        """Bytes that a worker may have, infinite where nothing limits them, and a clause that says who says so."""
        return math.inf, ""

    def at_once(self, setup: Setup[Options]) -> tuple[int, str] | None:
        """How many blocks are computed at a time at most, and of what there are so many; None where nobody knows."""
        return None

    def describe_jobs(self, steps: Mapping[str, BlockStep]) -> list[str]:
        """How work that outlives its driver stands, in lines for people; nothing is changed, nor waited for long.

        Args:
            steps: whose work, by names for people.
        """
        return []
