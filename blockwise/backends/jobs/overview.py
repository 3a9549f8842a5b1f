"""How the jobs of a run stand, for somebody who looks from outside: nothing is changed, and nothing waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from blockwise.backends.jobs.arrays import natural
from blockwise.backends.jobs.ledger import Ledger
from blockwise.backends.jobs.scheduler import (
    Scheduler,
    SchedulerMissingError,
    SchedulerUnavailableError,
    SubmissionLimitError,
    Words,
)
from blockwise.step import BlockStep

Counts = Mapping[str, Counter[str]]


def describe_jobs(steps: Mapping[str, BlockStep], scheduler: Scheduler, folder: str) -> list[str]:
    """Tell of the job arrays that runs have at work, or have left, a line for each step that has any.

    Args:
        steps: whose arrays, by names for people.
        scheduler: asked once; it should not take long.
        folder: name of the ledgers.
    """
    found = {name: Ledger(step, folder).look() for name, step in steps.items()}
    found = {name: arrays for name, arrays in found.items() if arrays}
    ids = natural({array for arrays in found.values() for array in arrays.values() if array is not None})
    if not found:
        return []
    words = scheduler.words
    counts: Counts | None = None
    silence = ""
    try:
        counts = scheduler.counts(ids)
    except SchedulerMissingError:
        silence = f"how they stand is not known here: {words.tools} not on this machine"
    except (SchedulerUnavailableError, SubmissionLimitError) as error:
        silence = f"how they stand is not known: {words.title} does not answer ({error})"
    return [f"{name}: {_line(arrays, counts, silence, words)}" for name, arrays in found.items()]


def _line(arrays: Mapping[str, str | None], counts: Counts | None, silence: str, words: Words) -> str:
    ids = natural(array for array in arrays.values() if array is not None)
    parts = []
    if ids:
        parts.append(f"{words.title} {'array' if len(ids) == 1 else 'arrays'} {', '.join(ids)}")
        parts[-1] += f"; {silence}" if counts is None else f": {_states(ids, counts, words)}"
    if len(ids) < len(arrays):
        number = len(arrays) - len(ids)
        which = "array without an id: it is" if number == 1 else "arrays without ids: they are"
        parts.append(f"{number} {which} being submitted, or the driver was killed then")
    return "; ".join(parts)


def _states(ids: list[str], counts: Counts, words: Words) -> str:
    total: Counter[str] = Counter()
    for array in ids:
        total.update(counts.get(array, {}))
    parts = [f"{number} {state}" for state, number in sorted(total.items())]
    forgotten = [array for array in ids if array not in counts]
    if forgotten:
        parts.append(f"no longer known to {words.title}: {', '.join(forgotten)}")
    return ", ".join(parts)
