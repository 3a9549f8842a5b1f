"""How many random examples a test tries: few in `make test`, all of them in `make soak`."""

from __future__ import annotations

import os

MANY = "MANY_EXAMPLES" in os.environ
FEWEST = 8


def examples(number: int, part: int = 4) -> int:
    """Of so many examples, those that are tried now: all, or one of each ``part`` of them."""
    return number if MANY else min(number, max(FEWEST, number // part))
