"""What Dask workers must know of a step, as a record in the work folder: only its place goes through Dask.

Steps may be large, as those over many images are. Who can read the record shares the work folder with the driver.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from blockwise.advice import Advice
from blockwise.backends.dask.code import Code, present_code
from blockwise.faults import Faults
from blockwise.records import open_records, read_json, write_json
from blockwise.step import BlockStep, load_step

BRIEFS = "dask"
LEFT_S = 30 * 86400.0
"""Briefs that are older were left by drivers that were killed."""


@dataclass(frozen=True)
class Place:
    """Where a brief lies.

    Attributes:
        work_dir: the work folder; absolute, because Dask workers may be at home in another folder.
        key: of the record.
    """

    work_dir: str
    key: str


@dataclass(frozen=True)
class Brief:
    """What a Dask worker must know.

    Attributes:
        module: of the step's class.
        text: of the step.
        folder: that the driver runs in, which relative paths in the step begin at.
        timeout_s: longest time for one block; None for no limit.
        faults: what is to go wrong, for tests and trials.
        advice: for blocks that fail for want of memory or time.
        code: of the driver.
    """

    module: str
    text: str
    folder: str
    timeout_s: float | None
    faults: Faults
    advice: Advice
    code: Code

    @cached_property
    def step(self) -> BlockStep:
        """Whose blocks; made when it is first asked for, as that may need code that is not there."""
        return load_step(self.text)


def write_brief(step: BlockStep, timeout_s: float | None, faults: Faults, advice: Advice) -> Place:
    """Write a brief of a step; its place."""
    records = step.records
    for key in list(records.keys(BRIEFS)):
        left = read_json(records, key)
        if left is not None and time.time() - left["written_s"] > LEFT_S:
            records.delete(key)
    key = f"{step.label}/{step.fingerprint}/{BRIEFS}/{uuid.uuid4().hex[:12]}.json"
    place = Place(_absolute(step.work_dir), key)
    value = {
        "written_s": time.time(),
        "module": type(step).__module__,
        "text": step.to_json(),
        "folder": str(Path.cwd()),
        "timeout_s": timeout_s,
        "faults": faults.model_dump_json(),
        "advice": asdict(advice),
        "code": asdict(present_code(type(step).__module__)),
    }
    write_json(open_records(place.work_dir), place.key, value, indent=None)
    return place


def read_brief(place: Place) -> Brief | None:
    """Read a brief; None where it is not there."""
    value = read_json(open_records(place.work_dir), place.key)
    if value is None:
        return None
    return Brief(
        value["module"],
        value["text"],
        value["folder"],
        value["timeout_s"],
        Faults.model_validate_json(value["faults"]),
        Advice(**value["advice"]),
        Code(**value["code"]),
    )


def is_there(place: Place) -> bool:
    """Whether a brief lies at a place."""
    return open_records(place.work_dir).version(place.key) is not None


def forget_brief(place: Place) -> None:
    """Remove a brief: whoever comes for it from now on is not wanted any more."""
    open_records(place.work_dir).delete(place.key)


def _absolute(work_dir: str) -> str:
    return work_dir if "://" in work_dir else str(Path.cwd() / work_dir)
