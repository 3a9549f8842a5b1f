"""What several processes do with records at once; small, because each of them loads it."""

from __future__ import annotations

import time

from blockwise.records import ABSENT, Records

CROWD = 3
ROUNDS = 40


def create_and_count(records: Records, number: int, rounds: int) -> None:
    """One is the first; each counts, and nothing of it is lost; whoever reads finds all of what somebody wrote."""
    start_together(records, number)
    if records.put("first", f"{number}".encode(), ABSENT) is not None:
        records.put(f"won/{number}", b"")
    records.put("counter", b"0", ABSENT)
    for _ in range(rounds):
        add_one(records)
    for _ in range(rounds):
        records.put("whole", b"%d" % number * (1 + 50_000 * number))
        found = records.get("whole")
        assert found is not None
        assert len(found) == 1 + 50_000 * (found[0] - ord("0"))
        assert set(found) == {found[0]}


def start_together(records: Records, number: int) -> None:
    records.put(f"ready/{number}", b"")
    while len(list(records.keys("ready"))) < CROWD:
        time.sleep(0.001)


def add_one(records: Records) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        version, content = records.version("counter"), records.get("counter")
        assert version is not None
        assert content is not None
        if records.put("counter", f"{int(content) + 1}".encode(), version) is not None:
            return
    raise TimeoutError
