"""The jobs that a run has at work: arrays of tasks, each with the orders that have no result yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from blockwise.backends.jobs.needs import Needs
from blockwise.backends.jobs.recovery import Ended
from blockwise.backends.jobs.scheduler import TaskState, Watched
from blockwise.job import Order
from blockwise.logs import JobLog

SHOWN = 4
"""Most ids of arrays in a line that tells how they stand."""


@dataclass
class Job:
    """One task of an array.

    Attributes:
        array: the scheduler's id of the array.
        index: of the task in it.
        name: as the scheduler's own commands call it.
        needs: what it has asked for.
        log: its log.
        orders: by block, those without a result yet, in the order in which the job works.
        progressed: some block has a result.
        state: the scheduler's last word.
        ended_since: monotonic time since which it is known to have ended.
        over: nothing more is expected of it.
    """

    array: str
    index: int
    name: str
    needs: Needs
    log: JobLog
    orders: dict[int, Order]
    progressed: bool = False
    state: TaskState | None = None
    ended_since: float | None = None
    over: bool = False

    def ended(self, title: str) -> Ended:
        """Account of how it has ended, for the decision what to do; ``title``: of the scheduler."""
        head, tail = self.log.ends()
        orders = tuple(self.orders.values())
        return Ended(self.name, title, self.state, head, tail, orders, self.progressed, self.needs)


@dataclass
class Array:
    """An array that has been submitted.

    Attributes:
        id: the scheduler's.
        name: the scheduler's name, and that in the ledger.
        throttle: most tasks that the scheduler lets run at once.
        jobs: its tasks that hold, or have held, blocks.
        let_run: most tasks that the scheduler has let run since it was last asked how they stand.
    """

    id: str
    name: str
    throttle: int
    jobs: list[Job] = field(default_factory=list)
    let_run: int = 0

    @property
    def alive(self) -> int:
        """Number of tasks that have not ended, as far as known."""
        return sum(not job.over for job in self.jobs)

    @property
    def watched(self) -> Watched:
        """What the scheduler is asked about."""
        left = [job for job in self.jobs if not job.over]
        busy = frozenset(job.index for job in left if job.orders)
        return Watched(self.id, busy, frozenset(job.index for job in left) - busy)

    @property
    def slots(self) -> int:
        """Number of tasks that run, or may start to run at any moment."""
        running = sum(not job.over and job.state is not None and job.state.runs for job in self.jobs)
        return max(running, min(max(self.throttle, self.let_run), self.alive))


class Arrays:
    """All arrays of a run that are not over."""

    def __init__(self) -> None:
        self.by_id: dict[str, Array] = {}

    def __iter__(self) -> Iterator[Array]:
        return iter(list(self.by_id.values()))

    def add(self, array: Array) -> None:
        """Take in a new array."""
        self.by_id[array.id] = array

    @property
    def alive(self) -> int:
        """Number of tasks that have not ended."""
        return sum(array.alive for array in self)

    def jobs(self) -> Iterator[Job]:
        """Tasks that are not over."""
        return (job for array in self for job in array.jobs if not job.over)

    def held(self) -> dict[int, Job]:
        """For each block without a result, the job that holds it."""
        return {block: job for job in self.jobs() for block in job.orders}

    def drop_over(self) -> list[Array]:
        """Leave out arrays of which no task is alive; the result is what was left out."""
        over = [array for array in self if not array.alive]
        for array in over:
            del self.by_id[array.id]
        return over

    def note(self, title: str) -> str:
        """One line on how the jobs stand, for people; ``title``: of the scheduler."""
        if not self.by_id:
            return ""
        states = Counter(describe_state(job.state) for job in self.jobs())
        counts = ", ".join(f"{number} {state}" for state, number in states.most_common())
        return f"{title} {few(self.by_id)}: {counts or 'ending'}"


def describe_state(state: TaskState | None) -> str:
    """A word or two on a task, for people; None: nothing has been said yet."""
    return "submitted" if state is None else state.description


def few(ids: Iterable[str]) -> str:
    """Some ids of arrays, and how many more there are."""
    shown, left = natural(ids)[:SHOWN], natural(ids)[SHOWN:]
    return ", ".join(shown) + (f" and {len(left)} more" if left else "")


def natural(ids: Iterable[str]) -> list[str]:
    """Ids of arrays in the order in which people expect them: numbers as numbers."""
    return sorted(ids, key=lambda one: (len(one), one))
