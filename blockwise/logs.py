"""Logs that do not grow for ever: a file is put aside when it is large, and of many files the newest are kept.

They are files of the machine that writes them. Where the work folder is in a store, they are copied there with each
failure and at the end.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from blockwise.errors import UserError
from blockwise.records import Records, in_store, open_records
from blockwise.step import BlockStep

LARGEST_LOG = 10_000_000
"""Bytes from which on a log is put aside, in place of the one that was put aside before."""

MOST_LOGS = 1000
"""So many files of a step's jobs are kept."""


HEAD_BYTES = 2000
TAIL_BYTES = 4000

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
    key = _key(step, path)
    return step.work.place(key) if _copy(step.work, path, key) else log


@dataclass(frozen=True)
class JobLog:
    """The log of a job, as its driver finds it: a file, or, in a store, the copy that the job has sent there.

    Attributes:
        step: whose blocks it computes.
        path: of the file, where driver and job share a folder.
    """

    step: BlockStep
    path: Path

    def __str__(self) -> str:
        return self.step.work.place(_key(self.step, self.path)) if in_store(self.step.work_dir) else str(self.path)

    def ends(self) -> tuple[str, str]:
        """Its beginning and its end; empty where there is none, or it cannot be read now."""
        try:
            if in_store(self.step.work_dir):
                content = self.step.work.get(_key(self.step, self.path)) or b""
                return content[:HEAD_BYTES].decode(errors="replace"), content[-TAIL_BYTES:].decode(errors="replace")
            with self.path.open("rb") as file:
                head = file.read(HEAD_BYTES)
                file.seek(max(0, self.path.stat().st_size - TAIL_BYTES))
                return head.decode(errors="replace"), file.read().decode(errors="replace")
        except (OSError, UserError):
            return "", ""


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


def _key(step: BlockStep, path: Path) -> str:
    return f"{LOGS}/{step.label}/{path.name}"


def _copy(records: Records, path: Path, key: str) -> bool:
    """A log that cannot be copied must not end what it tells of."""
    try:
        size = path.stat().st_size
        if _copied.get(str(path)) != size:
            records.put(key, path.read_bytes())
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
