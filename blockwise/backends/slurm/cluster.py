"""SLURM as the scheduler of a run over jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from blockwise.backends.jobs.scheduler import Submission, Target, TaskId, Watched, Words
from blockwise.backends.slurm.answers import SlurmTask
from blockwise.backends.slurm.commands import SlurmCommands
from blockwise.backends.slurm.reasons import SlurmWords
from blockwise.backends.slurm.script import SlurmOptions, batch_script
from blockwise.files import replacing

SCRIPT = "script.sh"

LEAVING = frozenset({"COMPLETING"})
"""Of a task in such a state no process is left; a node's epilog may keep it there for minutes."""


class SlurmCluster:
    """A cluster; see ``Scheduler``.

    Attributes:
        options: how jobs are submitted.
        commands: SLURM's.
    """

    words: Words = SlurmWords()
    throttles = True
    end_s = 5.0
    grace_s = 10.0
    """SLURM itself sends KILL after its KillWait, often 30 s."""

    def __init__(self, options: SlurmOptions, commands: SlurmCommands) -> None:
        self.options = options
        self.commands = commands

    def max_array_size(self) -> int:
        """The cluster's MaxArraySize."""
        return self.commands.max_array_size()

    def task_name(self, array: str, index: int) -> str:
        """As in ``17_3``."""
        return f"{array}_{index}"

    def log_name(self, array: str, name: str, index: int) -> str:
        """As the batch script has it."""
        return f"{array}_{index}.log"

    def submit(self, submission: Submission) -> str:
        """Write the batch script beside the orders, and submit it."""
        script = Path(submission.work) / SCRIPT
        with replacing(script) as temporary:
            temporary.write_text(batch_script(self.options, submission, self.commands.faults))
        return self.commands.submit(script, submission.name)

    def named(self, name: str) -> frozenset[str]:
        """Ids of the arrays with a name."""
        return self.commands.named(name)

    def states(self, arrays: Sequence[Watched]) -> Mapping[TaskId, SlurmTask]:
        """Ask for all tasks at once."""
        return self.commands.states([one.array for one in arrays])

    def counts(self, arrays: Sequence[str]) -> Mapping[str, Counter[str]]:
        """Count all tasks."""
        found: dict[str, Counter[str]] = {}
        for state in self.commands.states(arrays).values():
            found.setdefault(state.array, Counter())[state.description] += 1
        return found

    def is_forgotten(self, array: str) -> bool:
        """Ask for an array by itself: only then SLURM says that it does not know it."""
        return self.commands.is_forgotten(array)

    def alive(self, targets: Sequence[Target], leaving: bool = True) -> bool:
        """Ask for all tasks of the arrays; see ``Scheduler``."""
        wanted = {(one.array, one.index) for one in targets}
        arrays = sorted({one.array for one in targets})
        states = list(self.commands.states(arrays).values())
        for state in states:
            mine = {(state.array, None), (state.array, state.index)} & wanted
            if mine and not state.ended and (leaving or state.state not in LEAVING):
                return True
        unknown = set(arrays).difference(state.array for state in states)
        return not all(map(self.commands.is_forgotten, unknown))

    def cancel(self, targets: Sequence[Target], kill: bool = False) -> None:
        """TERM and, after the cluster's KillWait, KILL; or KILL at once."""
        names = [one.array if one.index is None else self.task_name(one.array, one.index) for one in targets]
        self.commands.cancel(names, kill)

    def throttle(self, array: str, running: int) -> None:
        """Change the array's throttle."""
        self.commands.throttle(array, running)
