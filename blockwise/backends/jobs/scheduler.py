"""What a run over jobs asks of the scheduler that runs them.

What a scheduler says only speeds up noticing that a job has ended. No answer, or an empty one, is never read as
"ended".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar, Protocol

from blockwise.advice import Names
from blockwise.backends.jobs.needs import Needs
from blockwise.errors import UserError

TaskId = tuple[str, int]
"""A scheduler's id of an array, and index of the task in it."""

NO_TASK = -1
"""Index of what is said of tasks of an array that are not told apart any more."""


class SchedulerUnavailableError(Exception):
    """The scheduler has not answered, or not in a way that says anything."""


class SchedulerMissingError(UserError):
    """What the scheduler is spoken to with is not on this machine."""


class SubmissionLimitError(Exception):
    """The scheduler takes no more jobs for now."""


class SubmissionRefusedError(UserError):
    """The scheduler will never take this job as it is."""


class Cause(Enum):
    """Why a job has ended before its blocks were done."""

    OUT_OF_MEMORY = "out of memory"
    TIME_LIMIT = "time limit"
    NODE_FAILURE = "node failure"
    NOT_STARTED = "the job's program did not start"
    KILLED = "the job's program was killed"
    GAVE_UP = "a block took too long"
    INTERRUPTED = "the job was cancelled or preempted"
    UNKNOWN = "nobody knows why"


@dataclass(frozen=True)
class TaskState(ABC):
    """What a scheduler says about one task of an array.

    Attributes:
        array: id of the array.
        index: of the task in it.
        state: the scheduler's word for it.
        reason: and why it is so, in its words.
        node: where it runs or ran, if that is told.
    """

    array: str
    index: int
    state: str
    reason: str
    node: str

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the task will not go on."""

    @property
    @abstractmethod
    def waits(self) -> bool:
        """Whether it has not started yet."""

    @property
    def runs(self) -> bool:
        """Whether the task is on a node."""
        return not self.ended and not self.waits

    @property
    @abstractmethod
    def cause(self) -> Cause | None:
        """Why it has ended; None where its log must tell."""

    @property
    def preempted(self) -> bool:
        """Whether it had to make room for others, which is no sign of anything."""
        return False

    def when_gone(self) -> TaskState | None:
        """What has become of a task in this state that is no longer listed; None where nobody knows."""
        return None

    @property
    def description(self) -> str:
        """A word or two for people."""
        why = f" ({self.reason})" if self.waits and self.reason not in ("None", "") else ""
        return f"{self.state.lower()}{why}"

    def __str__(self) -> str:
        where = f" on {self.node}" if self.node else ""
        return f"{self.state}/{self.reason}{where}"


@dataclass(frozen=True)
class Submission:
    """An array that is to be submitted.

    Attributes:
        name: of the array, which no other has.
        work: address of the records with its orders, for ``python -m blockwise.job``.
        logs: folder for its logs.
        tasks: number of its tasks.
        needs: what each task asks for.
        throttle: most tasks that may run at once, where the scheduler can see to that.
        excluded: nodes that get none of them.
    """

    name: str
    work: str
    logs: Path
    tasks: int
    needs: Needs
    throttle: int
    excluded: Sequence[str] = ()


@dataclass(frozen=True)
class Watched:
    """An array whose tasks are of interest.

    Attributes:
        array: its id.
        busy: tasks that hold blocks without a result.
        idle: tasks that hold none, so that they end soon if they have not.
    """

    array: str
    busy: Collection[int]
    idle: Collection[int] = ()


@dataclass(frozen=True)
class Target:
    """An array, or one task of it.

    Attributes:
        array: its id.
        index: of the task; None for all of them.
    """

    array: str
    index: int | None = None


class Words(ABC):
    """What messages say of a scheduler.

    Attributes:
        title: its name.
        settings: the options that decide whether it takes a job, as in a sentence, without what stands before them.
        tools: what it is spoken to with, and a verb.
        place: where that is to be had.
        works: what must be so that it can be asked.
    """

    title: ClassVar[str]
    settings: ClassVar[str]
    tools: ClassVar[str]
    place: ClassVar[str]
    works: ClassVar[str]

    @abstractmethod
    def how_to_look(self, arrays: Sequence[str]) -> str:
        """The command that shows arrays."""

    @abstractmethod
    def how_to_end(self, arrays: Sequence[str], names: Sequence[str]) -> str:
        """The commands that end arrays by id, or by name where no id is known."""

    @abstractmethod
    def remedy(self, reason: str, names: Names) -> str:
        """What to do about a reason for which jobs wait; empty where waiting is all there is to do."""


class Scheduler(Protocol):
    """A scheduler of job arrays.

    Each call may raise SchedulerUnavailableError where there is no answer, so that nothing is known, and
    SchedulerMissingError where there cannot be one on this machine.

    Attributes:
        words: what messages say of it.
        throttles: it can be told how many tasks of an array may run at once. Where not, no more are submitted.
        end_s: how long it may take to tell that tasks have ended which had nothing left to do.
        grace_s: how long tasks that are cancelled have to go before they are killed.
    """

    words: Words
    throttles: bool
    end_s: float
    grace_s: float

    def max_array_size(self) -> int:
        """Most tasks of an array."""

    def task_name(self, array: str, index: int) -> str:
        """As the scheduler's own commands name a task."""

    def log_name(self, array: str, name: str, index: int) -> str:
        """Name of the log of a task, by id and name of its array."""

    def submit(self, submission: Submission) -> str:
        """Submit an array; its id. One that seems lost and is not is found again, and not submitted twice.

        Raises:
            SubmissionLimitError: the scheduler takes no more jobs now.
            SubmissionRefusedError: it never will.
        """

    def named(self, name: str) -> frozenset[str]:
        """Ids of the arrays with a name."""

    def states(self, arrays: Sequence[Watched]) -> Mapping[TaskId, TaskState]:
        """How tasks stand.

        Of an array that is in the answer, tasks that are left out are not there any more; what is said of them all
        stands at ``NO_TASK``. An array that has been forgotten, or of which nothing is said, is left out whole.
        """

    def counts(self, arrays: Sequence[str]) -> Mapping[str, Counter[str]]:
        """How many tasks of each array stand how, in words for people; forgotten ones are left out."""

    def is_forgotten(self, array: str) -> bool:
        """Whether the scheduler says that it does not know an array; False where it says nothing."""

    def alive(self, targets: Sequence[Target], leaving: bool = True) -> bool:
        """Whether something of these has not ended, as far as known.

        Args:
            targets: arrays, or tasks of them.
            leaving: tasks count of which no process is left, but which the scheduler is still clearing away.
        """

    def cancel(self, targets: Sequence[Target], kill: bool = False) -> None:
        """End arrays or tasks, or kill them at once; what has ended already is no error."""

    def throttle(self, array: str, running: int) -> None:
        """Let at most so many tasks of an array run at once from now on; no error where that cannot be."""
