"""How fast a step goes, whoever computes it: from how many blocks were done at the times when somebody looked."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WINDOW_S = 120.0
"""What was seen longer ago says nothing of the present, once there is something newer."""

SHORTEST_S = 1.0
"""From two looks that lie nearer together no pace is told."""


@dataclass
class Pace:
    """Looks at one step.

    Attributes:
        looks: time in seconds, on any clock, and number of blocks done, of the looks within the window.
    """

    looks: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, now: float, done: int) -> None:
        """Note what was seen; fewer blocks than before mean that the step was begun anew."""
        if self.looks and done < self.looks[-1][1]:
            self.looks.clear()
        self.looks.append((now, done))
        while len(self.looks) > 2 and self.looks[1][0] < now - WINDOW_S:
            self.looks.popleft()

    @property
    def per_second(self) -> float:
        """Blocks per second; 0 where nothing was done, or too little is known.

        >>> pace = Pace()
        >>> pace.note(10.0, 4), pace.note(20.0, 9), pace.per_second
        (None, None, 0.5)
        """
        if not self.looks:
            return 0.0
        (start, first), (end, last) = self.looks[0], self.looks[-1]
        return (last - first) / (end - start) if end - start >= SHORTEST_S else 0.0

    def seconds_left(self, blocks: int) -> float | None:
        """Time for so many more blocks at this pace; None where nothing goes on."""
        return blocks / self.per_second if self.per_second else None
