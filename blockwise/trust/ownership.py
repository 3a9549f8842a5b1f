"""Whether what lies in a step's place is the output that its markers vouch for: asked here, and nowhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blockwise.errors import UserError
from blockwise.grid import Region
from blockwise.identity import digest
from blockwise.records import read_json, write_json
from blockwise.region import region_as_json, region_from_json
from blockwise.step import BlockStep

OUTPUT = "output.json"
"""Record beside the markers: which output they are of."""

SETTLED_S = 2.0
"""A file that has not changed for so long has another state whenever it changes: file systems count time in steps."""


class OutputReplacedError(UserError):
    """The output of a step is no longer the one that this run has begun with."""


def recorded_id(step: BlockStep) -> str:
    """Id of the output that the step's markers vouch for; empty where there is none."""
    return str((read_json(step.records, OUTPUT) or {}).get("id", ""))


def recorded_region(step: BlockStep) -> Region | None:
    """Region that the step's blocks were last computed in; None where nobody can tell any more."""
    return _region(step, read_json(step.records, OUTPUT) or {})


def record_output(step: BlockStep, output_id: str) -> None:
    """Have the step's markers vouch for an output, in the present region."""
    region = step.grid.region
    if region.kept is not None:  # in a file of its own: the record is read at each block
        write_json(step.records, _kept_file(digest(region.kept)), {"kept": region.kept})
    layout = {} if step.layout == 1 else {"layout": step.layout}
    write_json(step.records, OUTPUT, {"id": output_id, **layout, "region": _region_record(region)})


def _region(step: BlockStep, record: Mapping[str, Any]) -> Region | None:
    found = record.get("region")
    if found is None:  # an earlier version's, whose fingerprint says it
        return step.grid.known or step.grid.region
    if found == _region_record(step.grid.region):
        return step.grid.region
    if found["kept"] is None:
        return region_from_json(found)
    kept = read_json(step.records, _kept_file(found["kept"])) or {}
    if digest(kept.get("kept", "")) != found["kept"]:
        return None
    return region_from_json({**found, **kept})


def _region_record(region: Region) -> dict[str, Any]:
    kept = None if region.kept is None else digest(region.kept)
    return {**region_as_json(region), "kept": kept}


def _kept_file(kept: str) -> str:
    return f"kept-{kept}.json"


def why_not_ours(step: BlockStep) -> str:
    """What is wrong with the output, for people; empty where the step's markers vouch for it."""
    record = read_json(step.records, OUTPUT)
    if record is None:
        return "no run has begun with it"
    layout = record.get("layout", 1)
    if layout != step.layout:
        return f"an earlier version kept it in another form (layout {layout} -> {step.layout})"
    region = _region(step, record)
    if region is None or not step.grid.covers(region):
        return "it was computed in a region that is not within the present one"
    found = step.output().found()
    if found is None:
        return "it is gone"
    if (found["fingerprint"], found["id"]) != (step.fingerprint, record["id"]):
        return "it was made by another run"
    return ""


def check_ours(step: BlockStep) -> None:
    """Refuse to vouch for a block of an output that is no longer this run's.

    Raises:
        OutputReplacedError: naming the output, and what has become of it.
    """
    if why := why_not_ours(step):
        raise OutputReplacedError(
            f"{step.label}: output {step.output().address}: {why}, while this run was writing it. Two runs must not "
            "write one output at once: give each an output of its own, or run one after the other"
        )


class Ownership:
    """``check_ours`` for one who asks at every block: its answer stays while the files do that it was read from."""

    def __init__(self, step: BlockStep) -> None:
        self.step = step
        self._vouched: tuple[FileState, ...] | None = None
        self._files: tuple[Path, ...] | None = None

    def check(self) -> None:
        """Refuse to vouch for a block of an output that is no longer this run's.

        Raises:
            OutputReplacedError: naming the output, and what has become of it.
        """
        if self._files is not None and self._vouched is not None and self._vouched == _states(self._files):
            return
        self._vouched = None
        described, record = self.step.output().description_files(), self.step.records.local(OUTPUT)
        self._files = (record, *described) if described and record else None
        states = None if self._files is None else _states(self._files)
        check_ours(self.step)
        self._vouched = states if states is not None and all(map(_is_settled, states)) else None


FileState = tuple[int, int, int, int]
"""Inode, size, times of change of content and of anything in nanoseconds; zeros of no file."""


def _states(files: tuple[Path, ...]) -> tuple[FileState, ...]:
    return tuple(map(_state, files))


def _state(path: Path) -> FileState:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # to open asks a file server; to look may not
    except (FileNotFoundError, NotADirectoryError):
        return 0, 0, 0, 0
    try:
        status = os.fstat(file)
    finally:
        os.close(file)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_settled(state: FileState) -> bool:
    return time.time() - state[3] * 1e-9 > SETTLED_S
