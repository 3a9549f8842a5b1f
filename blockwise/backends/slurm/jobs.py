"""The jobs that a run has at work: arrays of tasks, each with the orders that have no result yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from blockwise.backends.slurm.answers import TaskState, index_list
from blockwise.backends.slurm.recovery import Ended
from blockwise.backends.slurm.script import Needs
from blockwise.job import Order

HEAD_BYTES = 2000
TAIL_BYTES = 4000


@dataclass
class Job:
    """One task of an array.

    Attributes:
        array: SLURM's id of the array.
        index: of the task in it.
        needs: what it has asked for.
        log: path of its log.
        orders: by block, those without a result yet, in the order in which the job works.
        progressed: some block has a result.
        state: SLURM's last word.
        ended_since: monotonic time since which it is known to have ended.
        over: nothing more is expected of it.
    """

    array: int
    index: int
    needs: Needs
    log: Path
    orders: dict[int, Order]
    progressed: bool = False
    state: TaskState | None = None
    ended_since: float | None = None
    over: bool = False

    @property
    def name(self) -> str:
        """As SLURM writes it."""
        return f"{self.array}_{self.index}"

    def ended(self) -> Ended:
        """Account of how it has ended, for the decision what to do."""
        head, tail = read_ends(self.log)
        return Ended(self.name, self.state, head, tail, tuple(self.orders.values()), self.progressed, self.needs)


@dataclass
class Array:
    """An array that has been submitted.

    Attributes:
        job: SLURM's id.
        name: SLURM's name, and that of the folder in the ledger.
        throttle: most tasks that SLURM lets run at once.
        jobs: its tasks that hold, or have held, blocks.
        let_run: most tasks that SLURM has let run since it was last asked how they stand.
    """

    job: int
    name: str
    throttle: int
    jobs: list[Job] = field(default_factory=list)
    let_run: int = 0

    @property
    def alive(self) -> int:
        """Number of tasks that have not ended, as far as known."""
        return sum(not job.over for job in self.jobs)

    @property
    def slots(self) -> int:
        """Number of tasks that run, or may start to run at any moment."""
        running = sum(not job.over and job.state is not None and job.state.runs for job in self.jobs)
        return max(running, min(max(self.throttle, self.let_run), self.alive))


class Arrays:
    """All arrays of a run that are not over."""

    def __init__(self) -> None:
        self.by_id: dict[int, Array] = {}

    def __iter__(self) -> Iterator[Array]:
        return iter(list(self.by_id.values()))

    def add(self, array: Array) -> None:
        """Take in a new array."""
        self.by_id[array.job] = array

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
            del self.by_id[array.job]
        return over

    def note(self) -> str:
        """One line on how the jobs stand, for people."""
        if not self.by_id:
            return ""
        states = Counter(describe_state(job.state) for job in self.jobs())
        counts = ", ".join(f"{number} {state}" for state, number in states.most_common())
        return f"SLURM {index_list(self.by_id)}: {counts or 'ending'}"


def describe_state(state: TaskState | None) -> str:
    """A word or two on a task, for people; None: SLURM has not said anything yet."""
    if state is None:
        return "submitted"
    if state.state == "PENDING" and state.reason not in ("None", ""):
        return f"pending ({state.reason})"
    return state.state.lower()


def read_ends(log: Path) -> tuple[str, str]:
    """Beginning and end of a log; empty where there is none."""
    try:
        with log.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return head.decode(errors="replace"), file.read().decode(errors="replace")
    except OSError:
        return "", ""
