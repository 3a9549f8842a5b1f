"""A step whose blocks behave as they are told, for the engine's tests; workers import it like any other."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil

from blockwise.errors import UserError
from blockwise.grid import Block, Grid
from blockwise.logs import LARGEST_LOG
from blockwise.outputs import FolderOutput
from blockwise.sources import Source
from blockwise.step import BlockStep

FILLED_BYTES = 300_000_000
KEPT: list[Any] = []


class OddStep(BlockStep):
    """Writes block numbers, unless a block is told otherwise.

    Attributes:
        orders: by block id, what happens: ``raise``, ``refuse`` (an error that a user can mend), ``hang``, ``die``,
            ``fill`` (a lot of memory), ``keep`` (it for ever), ``talk`` (a third of what a log may hold), ``die in
            company`` (where its driver has other workers), ``fill in company`` (twice as much, until there are none);
            with ``once`` before it, only the first time.
        broken: ``prepare`` fails.
    """

    name: ClassVar[str] = "odd"
    version: ClassVar[int] = 1

    orders: dict[int, str] = {}  # noqa: RUF012 (pydantic copies it)
    broken: bool = False

    def settings(self) -> Mapping[str, Any]:
        return {}

    def sources(self) -> tuple[Source, ...]:
        return ()

    def output(self) -> FolderOutput:
        return FolderOutput(self.records, self.grid)

    def projected_memory(self) -> int:
        return 0

    def prepare(self) -> None:
        self.note("prepare")
        if self.broken:
            raise ValueError("cannot prepare")

    def compute(self, block: Block, prepared: Any) -> dict[str, Any]:
        seen = self.noted(f"compute {block.id}")
        self.note(f"compute {block.id}")
        order = self.orders.get(block.id, "")
        if order.startswith("once "):
            order = "" if seen else order.removeprefix("once ")
        if order == "raise":
            raise ValueError(f"block {block.id} is odd")
        if order == "raise bytes":
            raise ValueError(os.fsdecode(b"no \xff text"))
        if order == "refuse":
            raise UserError(f"block {block.id} is refused")
        if order == "hang":
            time.sleep(600)
        if order == "fill":
            np.ones(FILLED_BYTES, np.uint8)
        if order == "fill in company":
            filled = np.ones(2 * FILLED_BYTES, np.uint8)
            while _has_company():
                time.sleep(0.05)
            del filled
        if order == "keep":
            KEPT.append(np.ones(FILLED_BYTES, np.uint8))
        if order == "talk":
            sys.stderr.write("talk" * (LARGEST_LOG // 12))
            sys.stderr.flush()
        if order == "die in company" and _has_company():
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": np.array([block.id])}

    def note(self, text: str) -> None:
        with Path(self.work_dir, "events").open("a") as file:
            file.write(f"{os.getpid()} {text}\n")

    def noted(self, text: str) -> int:
        return sum(line.partition(" ")[2] == text for line in self.events())

    def events(self) -> list[str]:
        path = Path(self.work_dir, "events")
        return path.read_text().splitlines() if path.exists() else []


def _has_company() -> bool:
    """Whether memory might be short because another worker has it."""
    found = 0
    for process in psutil.Process(os.getppid()).children():  # which may have others, such as servers of tests
        with contextlib.suppress(psutil.Error):
            found += "blockwise.worker" in process.cmdline()
    return found > 1


def odd_step(folder: Path, blocks: int, **settings: Any) -> OddStep:
    folder.mkdir(exist_ok=True)
    return OddStep(work_dir=str(folder), grid=Grid("x", (blocks,), (1,)), **settings)
