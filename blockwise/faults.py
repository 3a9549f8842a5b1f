"""Faults on purpose, for tests and trials: what goes wrong on clusters, with a probability and a seed.

The result of a run with faults must be that of a run without, bit for bit. Whether a fault strikes depends on seed,
kind, block and attempt alone, so a trial can be repeated.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from blockwise.errors import DiskFullError
from blockwise.grid import Block
from blockwise.identity import digest
from blockwise.outputs import FilesOutput, FolderOutput, Output, VolumeOutput
from blockwise.volume import open_volume

VARIABLE = "BLOCKWISE_FAULTS"
"""Environment variable by which backends hand faults to workers."""

Chance = Annotated[float, Field(ge=0, le=1)]


class InjectedError(RuntimeError):
    """A fault that was asked for."""


class Faults(BaseModel):
    """Probabilities of faults, for each attempt at a block.

    Attributes:
        fails: the block raises before it computes.
        wrong_data: it writes wrong data and raises.
        damaged_chunk: it writes its data, cuts off a file of it, and raises.
        kill: its process is killed between data and marker.
        hang: it never ends; needs a time limit of a block, or of a job.
        disk_full: the disk is full after its data.
        lost_answer: a scheduler takes a job, but its answer is lost.
        seed: another one strikes elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    fails: Chance = 0.0
    wrong_data: Chance = 0.0
    damaged_chunk: Chance = 0.0
    kill: Chance = 0.0
    hang: Chance = 0.0
    disk_full: Chance = 0.0
    lost_answer: Chance = 0.0
    seed: int = 0

    @classmethod
    def from_environment(cls) -> Faults:
        """Read what a backend has handed over; none where there is nothing."""
        return cls.model_validate_json(os.environ.get(VARIABLE) or "{}")

    def strikes(self, kind: str, *where: object) -> bool:
        """Whether a fault of a kind strikes at a place."""
        number = int(digest(f"{self.seed} {kind} {where}")[:12], 16) / 16**12
        return number < float(getattr(self, kind))

    def before(self, step: str, block: Block, attempt: int) -> None:
        """Strike before a block is computed.

        Raises:
            InjectedError: it struck.
        """
        if self.strikes("fails", step, block.id, attempt):
            raise InjectedError("the block fails, as asked for")
        if self.strikes("hang", step, block.id, attempt):
            while True:
                time.sleep(60)

    def after(self, step: str, output: Output, block: Block, data: Any, attempt: int) -> None:
        """Strike when a block's data lies there, and its marker does not.

        Raises:
            InjectedError: it struck.
            DiskFullError: it struck like a full disk.
        """
        where = (step, block.id, attempt)
        if self.strikes("wrong_data", *where):
            output.write(block, _wrong(data))
            raise InjectedError("the block has written wrong data, as asked for")
        if self.strikes("damaged_chunk", *where):
            _cut_off(output, block)
            raise InjectedError("the block has damaged a chunk, as asked for")
        if self.strikes("kill", *where):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.strikes("disk_full", *where):
            raise DiskFullError(f"{output.address}: the disk is full, as asked for")


def _wrong(data: Any) -> Any:
    if isinstance(data, np.ndarray):
        return np.ones_like(data) - data
    return {name: np.ones_like(values) - values for name, values in data.items()}


def _cut_off(output: Output, block: Block) -> None:
    for path in _files(output, block):
        if path.exists() and path.stat().st_size > 1:
            os.truncate(path, path.stat().st_size // 2)
            return


def _files(output: Output, block: Block) -> list[Path]:
    if isinstance(output, VolumeOutput):
        volume = open_volume(output.address)
        box = output.box(block.write_box)
        ranges = (range(s.start // f, -(-s.stop // f)) for s, f in zip(box, volume.file_shape, strict=True))
        return [Path(volume.file_of(index)) for index in itertools.product(*ranges)]
    if isinstance(output, FolderOutput):
        return [output.records.file(output.key(block.id))]
    if isinstance(output, FilesOutput):
        return [output.records.file(output.key(name)) for name in output.arrays]
    return []
