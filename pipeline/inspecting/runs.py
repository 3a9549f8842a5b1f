"""What commands look at: a list of runs, of which a volume is one and a batch has one for each large image."""

from __future__ import annotations

from dataclasses import dataclass

from blockwise.plan import is_complete
from blockwise.step import BlockStep


@dataclass(frozen=True)
class Run:
    """The steps of one thing, as far as they can be made.

    Attributes:
        label: of the thing, for people; empty where there is but one, or the step's own says it.
        steps: each after those that it reads.
        error: why there are none; empty where there are.
    """

    label: str
    steps: tuple[BlockStep, ...]
    error: str = ""

    def name(self, step: BlockStep, between: str = " ") -> str:
        """What a step is called among those of all runs."""
        return f"{self.label}{between}{step.label}" if self.label else step.label

    def is_complete(self) -> bool:
        """Whether all steps are finished, and of what their sources are now."""
        return not self.error and all(map(is_complete, self.steps))
