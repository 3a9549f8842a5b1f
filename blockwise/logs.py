"""Logs that do not grow for ever: a file is put aside when it is large, and of many files the newest are kept.

They are files of the machine that writes them. Where the work folder is in a store, they are copied there with each
failure and at the end.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from blockwise.errors import UserError
from blockwise.records import Records, in_store, open_records
from blockwise.step import BlockStep

LARGEST_LOG = 10_000_000
"""Bytes from which on a log is put aside, in place of the one that was put aside before."""

MOST_LOGS = 1000
"""So many files of a step's jobs are kept."""


LOGS = "logs"
"""What the keys of logs in a store begin with, as the folder of logs in a work folder is called."""


def keep_log(step: BlockStep, log: str) -> str:
    """Copy a worker's log to where the step's records are, if that is a store.

    Returns:
        Where it is found from then on.
    """
    path = Path(log)
    if not in_store(step.work_dir) or not path.is_file():
        return log
    key = f"{LOGS}/{step.label}/{path.name}"
    return step.work.place(key) if _copy(step.work, path, key) else log


def keep_logs(step: BlockStep) -> None:
    """Copy the logs of this machine's workers of a step, which have changed since they were copied."""
    if in_store(step.work_dir):
        for path in sorted(step.logs.glob("*.log")):
            keep_log(step, str(path))


def keep_run_log(work_dir: str, name: str) -> None:
    """Copy the log of a run."""
    if in_store(work_dir):
        records = open_records(work_dir)
        _copy(records, records.on_this_machine / LOGS / name, f"{LOGS}/{name}")


def _copy(records: Records, path: Path, key: str) -> bool:
    """A log that cannot be copied must not end what it tells of."""
    try:
        size, content = path.stat().st_size, path.read_bytes()
        if _copied.get(str(path)) != size:
            records.put(key, content)
            _copied[str(path)] = size
    except (OSError, UserError):
        return False
    return True


_copied: dict[str, int] = {}
"""Sizes of logs when they were copied."""


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
