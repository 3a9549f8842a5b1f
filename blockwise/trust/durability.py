"""What is left after the power has failed: nothing is taken for done that may not have reached the disk.

Data that is written lies in the system's memory for a while. To wait for the disk at each block would cost more than
small blocks do. Instead a record says, from a step's first block to its end, in which *boot* of the machine it is
written. When the step ends, all its data is brought to the disk once, then the record goes, then the target comes.
Where a run finds a record of an earlier boot, the machine has gone down in between: what has a marker is read back,
and compared with its checksum, before it counts.

Jobs on other machines write through a network file system, which has the data before it has the marker.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import psutil

from blockwise.files import sync
from blockwise.records import read_json, write_json
from blockwise.step import BlockStep

UNSETTLED = "unsettled.json"
"""Record beside the markers: in which boot, of which machine, blocks were last being written."""

UNSETTLED_FILES = "unsettled"
"""Stands in a marker for the state of files that may not have reached the disk."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Changes whenever this machine is started."""
    with contextlib.suppress(OSError):
        return BOOT_ID.read_text().strip()
    return str(round(psutil.boot_time()))


def begin_to_write(step: BlockStep) -> None:
    """Note that blocks of a step are about to be written."""
    record = {"host": socket.gethostname(), "boot": boot_id()}
    if read_json(step.records, UNSETTLED) != record:
        write_json(step.records, UNSETTLED, record)
        step.records.settle(UNSETTLED)


def power_was_lost(step: BlockStep) -> bool:
    """Whether this machine has gone down since blocks of a step were written, and before all of them were safe."""
    record = read_json(step.records, UNSETTLED)
    return record is not None and record.get("host") == socket.gethostname() and record.get("boot") != boot_id()


def settle(step: BlockStep) -> None:
    """Bring all that a step has written to the disk."""
    by_disk = {path.stat().st_dev: path for path in map(Path, step.output().places()) if path.exists()}
    for path in by_disk.values():
        sync(path, whole=True)
    step.records.settle()
    step.records.delete(UNSETTLED)
