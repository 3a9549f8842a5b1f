"""The jobs of one executor: which are submitted, have called, are at work, and how many more are wanted."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from blockwise.backends.staying.jobs import Fate, NoWorkersError, StayingJobs
from blockwise.backends.staying.remote_worker import RemoteWorker

logger = logging.getLogger(__name__)

IDLE_S = 600.0
"""A job without work ends after this time; the next block starts another one."""
USED_UP = 0.8
"""Part of a job's time after which it gets no more blocks."""
MOST_IN_VAIN = 3
"""So many jobs one after the other may end before they have called; then whoever waits is told."""


@dataclass
class Member:
    """A job that has not ended.

    Attributes:
        name: of the job, as it calls.
        number: of the worker, among those of the executor.
        job: the scheduler's id; 0 while it is submitted.
        memory_mb: that it has.
        log: where it writes before it serves a step; empty while it is submitted.
        worker: its connection; None before it has called.
        busy: somebody has it.
        since: monotonic time at which it was submitted, or has called.
        idle_since: monotonic time at which it was given back.
    """

    name: str
    number: int
    memory_mb: int
    job: int = 0
    log: Path = Path()
    worker: RemoteWorker | None = None
    busy: bool = False
    since: float = field(default_factory=time.monotonic)
    idle_since: float = field(default_factory=time.monotonic)

    @property
    def is_idle(self) -> bool:
        """Whether it waits for work."""
        return self.worker is not None and not self.busy


class Crew:
    """Jobs by name. Its methods wait for nobody; who calls them holds the executor's lock.

    Attributes:
        size: most jobs at a time.
        members: those that have not ended, or not that anybody knows.
        refusal: why nobody gets a worker; empty where nothing is wrong.
    """

    def __init__(self, size: int, jobs: StayingJobs) -> None:
        self.size = size
        self.members: dict[str, Member] = {}
        self.refusal = ""
        self._in_vain = 0
        self._jobs = jobs
        self._begins = f"blockwise-{secrets.token_hex(4)}"
        self._submitted = 0

    def new(self, memory_mb: int) -> Member:
        """A member for a job that is about to be submitted."""
        self._submitted += 1
        taken = {member.number for member in self.members.values()}
        number = next(number for number in range(self.size) if number not in taken)
        member = Member(f"{self._begins}-{self._submitted}", number, memory_mb)
        self.members[member.name] = member
        return member

    def wanted(self, needs_mb: list[int]) -> int:
        """Memory of the job that should be submitted now; 0 for none.

        Args:
            needs_mb: memory that each of those needs who wait for a worker.
        """
        unmet = self._unmet(needs_mb)
        return max(unmet) if unmet and len(self.members) < self.size else 0

    def make_room(self, needs_mb: list[int]) -> Member | None:
        """A job without work that is to end: those who wait need more memory, and there may be no more jobs."""
        idle = [member for member in self.members.values() if member.is_idle]
        if len(self.members) < self.size or not idle or not self._unmet(needs_mb):
            return None
        return min(idle, key=lambda member: member.memory_mb)

    def _unmet(self, needs_mb: list[int]) -> list[int]:
        """Needs of those for whom there is no job, nor is one coming."""
        coming = sorted(m.memory_mb for m in self.members.values() if m.is_idle or m.worker is None)
        return [need for need in sorted(needs_mb) if not _taken(coming, need)]

    def idle_for(self, memory_mb: int) -> list[Member]:
        """Members without work that have so much memory and time."""
        return [
            member
            for member in self.members.values()
            if member.is_idle and member.memory_mb >= memory_mb and not self.is_used_up(member)
        ]

    def is_used_up(self, member: Member) -> bool:
        """Whether its time is nearly over."""
        return time.monotonic() - member.since > USED_UP * self._jobs.life_s

    def leaving(self) -> list[Member]:
        """Members without work that have ended, or are to end."""
        now = time.monotonic()
        return [
            member
            for member in self.members.values()
            if member.worker is not None
            and not member.busy
            and (member.worker.is_gone or self.is_used_up(member) or now - member.idle_since > IDLE_S)
        ]

    def called(self, name: str, worker: RemoteWorker) -> None:
        """A job has called."""
        member = self.members[name]
        member.worker, member.since, member.idle_since = worker, time.monotonic(), time.monotonic()
        self._in_vain = 0

    def ended_in_vain(self, member: Member, fate: Fate) -> None:
        """A job has ended before it has called."""
        del self.members[member.name]
        self._in_vain += 1
        why = f"{self._jobs.title} {member.job} has ended before it could compute anything: {fate.text}"
        words = _last_line(member.log)
        why += f"; last line of its log: {words} [log: {member.log}]" if words else f" [log: {member.log}]"
        logger.warning("%s", why)
        if self._in_vain >= MOST_IN_VAIN:
            self.refuse(f"{self._in_vain} jobs one after the other were in vain; {why}")

    def refuse(self, why: str) -> None:
        """Have nobody of those who wait get a worker."""
        self.refusal = why

    def check(self) -> None:
        """Raise where nobody is to get a worker.

        Raises:
            NoWorkersError: see above.
        """
        if self.refusal:
            raise NoWorkersError(self.refusal)

    def try_again(self) -> None:
        """Those who have been refused know it."""
        self.refusal, self._in_vain = "", 0


def _taken(coming: list[int], need: int) -> bool:
    """Whether one of the jobs that are coming is enough; it is taken out."""
    for i, memory in enumerate(coming):
        if memory >= need:
            del coming[i]
            return True
    return False


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4000))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
