"""Which steps are complete: looked at once in a run, because a look costs one state per chunk file."""

from __future__ import annotations

from blockwise.plan import is_complete
from blockwise.step import BlockStep


class Completeness:
    """Remembers which steps were found complete, by target and fingerprint, until they begin.

    Only what is complete is remembered: what is not is mostly seen at once, by its target, and another process may
    complete it meanwhile.
    """

    def __init__(self) -> None:
        self._complete: set[tuple[str, str]] = set()

    def of(self, step: BlockStep) -> bool:
        """Whether a step is complete."""
        key = (step.work.place(step.target), step.fingerprint)
        if key not in self._complete and is_complete(step):
            self._complete.add(key)
        return key in self._complete

    def remember(self, step: BlockStep) -> None:
        """A step has just been finished, with a look at all that it reads and writes."""
        self._complete.add((step.work.place(step.target), step.fingerprint))

    def forget(self, step: BlockStep) -> None:
        """A step is about to begin."""
        self._complete.discard((step.work.place(step.target), step.fingerprint))
