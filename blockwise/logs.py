"""Logs that do not grow for ever: a file is put aside when it is large, and of many files the newest are kept."""

from __future__ import annotations

import contextlib
from pathlib import Path

LARGEST_LOG = 10_000_000
"""Bytes from which on a log is put aside, in place of the one that was put aside before."""

MOST_LOGS = 1000
"""So many files of a step's jobs are kept."""


def put_aside(path: Path) -> None:
    """Put a log aside, as ``<name>.1``, where it has become large; nothing happens where that cannot be done."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_name(f"{path.name}.1"))


def keep_newest(folder: Path, number: int = MOST_LOGS) -> None:
    """Remove all but the newest logs of a folder; nobody may be writing to them."""
    with contextlib.suppress(OSError):
        logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
        for path in logs[: max(0, len(logs) - number)]:
            path.unlink(missing_ok=True)
