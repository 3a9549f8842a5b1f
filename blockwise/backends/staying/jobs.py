"""What executors need of a scheduler: jobs of one worker each, submitted, looked at, ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blockwise.backends.staying.connection import Call
from blockwise.errors import UserError
from blockwise.step import BlockStep


class NotNowError(Exception):
    """The scheduler does not answer, or takes no more jobs now."""


@dataclass(frozen=True)
class Fate:
    """What has become of a job.

    Attributes:
        text: for people.
        lacked_memory: it was ended because it needed more.
    """

    text: str
    lacked_memory: bool = False


class StayingJobs(Protocol):
    """Jobs of one scheduler.

    Attributes:
        title: what a job is, for people.
        life_s: how long one may last, in seconds.
        end_command: ends the job of a name, which stands in it as ``{name}``; see ``keeper``.
    """

    title: str
    life_s: float
    end_command: tuple[str, ...]

    def memory_for(self, step: BlockStep) -> int:
        """Memory that a worker of a step is to have, in units of 2^20 bytes."""

    def submit(self, call: Call, memory_mb: int, logs: Path) -> int:
        """Submit a job that calls; its id.

        Raises:
            NotNowError: it may be submitted later.
            UserError: it will never be.
        """

    def log(self, job: int, logs: Path) -> Path:
        """Where a job writes until it serves a step."""

    def fates(self, jobs: list[int]) -> dict[int, Fate]:
        """Of some jobs those that have ended, with what is known of it; tells people why others wait.

        Raises:
            NotNowError: nothing is known.
        """

    def end(self, names: list[str], jobs: list[int]) -> None:
        """End jobs, without waiting for it, or long for an answer."""


class NoWorkersError(UserError):
    """Jobs end before they can compute anything."""
