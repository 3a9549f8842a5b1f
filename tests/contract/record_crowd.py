"""What several processes do with records at once; small, because each of them loads it."""

from __future__ import annotations

import time

from blockwise.records import ABSENT, Records


def create_and_count(records: Records, number: int) -> None:
    """One is the first; each counts to ten, none of it is lost; whoever reads finds all of what somebody wrote."""
    if records.put("first", f"{number}".encode(), ABSENT) is not None:
        records.put(f"won/{number}", b"")
    records.put("counter", b"0", ABSENT)
    for _ in range(10):
        deadline = time.monotonic() + 30
        while True:
            version, content = records.version("counter"), records.get("counter")
            assert version is not None
            assert content is not None
            if records.put("counter", f"{int(content) + 1}".encode(), version) is not None:
                break
            assert time.monotonic() < deadline
        records.put("whole", b"%d" % number * (1 + 50_000 * number))
        found = records.get("whole")
        assert found is not None
        assert len(found) == 1 + 50_000 * (found[0] - ord("0"))
        assert set(found) == {found[0]}
