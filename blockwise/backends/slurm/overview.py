"""How the jobs of a run stand, for somebody who looks from outside: nothing is changed, and nothing waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from blockwise.backends.slurm.answers import SlurmMissingError, SlurmUnavailableError, SubmissionLimitError, TaskState
from blockwise.backends.slurm.commands import SlurmCommands
from blockwise.backends.slurm.jobs import describe_state
from blockwise.backends.slurm.ledger import Ledger
from blockwise.step import BlockStep

PATIENCE_S = 3.0
"""How long squeue may take."""


def describe_jobs(steps: Mapping[str, BlockStep], commands: SlurmCommands | None = None) -> list[str]:
    """Tell of the job arrays that runs have at work, or have left, a line for each step that has any.

    Args:
        steps: whose arrays, by names for people.
        commands: SLURM; by default asked once, and not for long.
    """
    found = {name: Ledger(step).look() for name, step in steps.items()}
    found = {name: arrays for name, arrays in found.items() if arrays}
    ids = sorted({job for arrays in found.values() for job in arrays.values() if job is not None})
    if not found:
        return []
    commands = commands or SlurmCommands(attempts=1, limit_s=PATIENCE_S)
    states: list[TaskState] | None = None
    silence = ""
    try:
        states = list(commands.states(ids).values())
    except SlurmMissingError:
        silence = "how they stand is not known here: squeue is not on this machine"
    except (SlurmUnavailableError, SubmissionLimitError) as error:
        silence = f"how they stand is not known: SLURM does not answer ({error})"
    return [f"{name}: {_line(arrays, states, silence)}" for name, arrays in found.items()]


def _line(arrays: dict[str, int | None], states: list[TaskState] | None, silence: str) -> str:
    ids = sorted(job for job in arrays.values() if job is not None)
    parts = []
    if ids:
        parts.append(f"SLURM {'array' if len(ids) == 1 else 'arrays'} {', '.join(map(str, ids))}")
        if states is None:
            parts[-1] += f"; {silence}"
        else:
            parts[-1] += f": {_counts(ids, states)}"
    if len(ids) < len(arrays):
        number = len(arrays) - len(ids)
        which = "array without an id: it is" if number == 1 else "arrays without ids: they are"
        parts.append(f"{number} {which} being submitted, or the driver was killed then")
    return "; ".join(parts)


def _counts(ids: list[int], states: list[TaskState]) -> str:
    counts = Counter(describe_state(state) for state in states if state.job in ids)
    words = [f"{number} {state}" for state, number in sorted(counts.items())]
    forgotten = sorted(set(ids) - {state.job for state in states})
    if forgotten:
        words.append(f"no longer known to SLURM: {', '.join(map(str, forgotten))}")
    return ", ".join(words)
