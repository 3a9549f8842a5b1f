"""The end of the log of a failed block: of the step's own logs, and of no other file."""

from __future__ import annotations

from pathlib import Path

from blockwise.logs import LOGS
from blockwise.records import in_store
from blockwise.step import BlockStep
from pipeline.viewing.refusals import nothing_there

LOG_BYTES = 32_000
"""Of a log that are shown, from its end."""


def failure_log(step: BlockStep, block: int) -> str:
    """Traceback of a block's last failed attempt, and the end of its worker's log.

    Raises:
        RefusedError: 404: the block has not failed.
    """
    failure = step.markers.read_failure(block)
    if failure is None:
        raise nothing_there(f"{step.label}: block {block} has not failed")
    head = f"{step.label}: {step.title(block)}\n{failure.error}: {failure.message}\n\n{failure.traceback}\n"
    return f"{head}\n{failure.log}\n{_end_of(step, failure.log)}"


def _end_of(step: BlockStep, log: str) -> str:
    key = f"{LOGS}/{step.label}/{log.partition('?')[0].rpartition('/')[2]}"
    if log == step.work.place(key) and in_store(step.work_dir):
        return (step.work.get(key) or b"(this log is gone)")[-LOG_BYTES:].decode(errors="replace")
    path, folder = Path(log).resolve(), step.logs.resolve()
    if folder not in path.parents:  # a record may say anything
        return ""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return "(this log is gone)"
