"""What tests have counted, such as faults that they injected: it is summed up and printed at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import pytest

COUNTED = "counted"
Tell = Callable[..., None]
"""Called with numbers by name, words of the name joined by ``_``."""


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    def note(**numbers: int) -> None:
        request.node.user_properties.append((COUNTED, dict(numbers)))

    return note


def lines(reports: Iterable[pytest.TestReport]) -> list[str]:
    """A line for each test, all of its parameters together."""
    times: Counter[str] = Counter()
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports:
        name = report.nodeid.partition("[")[0].rpartition("::")[2]
        for _, numbers in (one for one in report.user_properties if one[0] == COUNTED):
            times[name] += 1
            sums[name].update(numbers)
    return [
        ", ".join([f"{name}: {times[name]} times", *(f"{n:,} {what.replace('_', ' ')}" for what, n in found.items())])
        for name, found in sorted(sums.items())
    ]
