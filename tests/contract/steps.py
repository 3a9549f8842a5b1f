"""A small real step, and blocks that misbehave as files beside the data tell them."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Block, Grid
from blockwise.outputs import VolumeOutput
from blockwise.sources import RawSource
from blockwise.step import BlockStep
from blockwise.upstream import BlocksSource
from blockwise.volume import Address, create_volume, open_volume, volume_exists
from blockwise.volume.info import VolumeInfo

CHUNK = 4


class AdditionStep(BlockStep):
    """Raw volume plus a number.

    Attributes:
        raw: the volume.
        addend: the number.
        address: output dataset.
        orders: folder; file ``<block>`` holds lines such as ``raise 2``: what to do, in how many first attempts.
        memory: what the step projects, in bytes.
    """

    name: ClassVar[str] = "addition"
    version: ClassVar[int] = 1

    raw: VolumeInfo
    addend: int
    address: str
    orders: str
    memory: int = 200_000_000

    def settings(self) -> Mapping[str, Any]:
        return {"addend": self.addend}

    def sources(self) -> tuple[RawSource, ...]:
        return (RawSource(self.raw, self.grid.axes, self.change_detection == "files"),)

    def output(self) -> VolumeOutput:
        return VolumeOutput(self.address, self.grid, (CHUNK,) * 3, "int32", 0, {})

    def projected_memory(self) -> int:
        return self.memory

    def compute(self, block: Block, prepared: Any) -> NDArray[np.int32]:
        misbehave(Path(self.orders), block.id)
        read = open_volume(self.raw.address).read(block.write_box)
        return (read + self.addend).astype(np.int32)


class DoublingStep(BlockStep):
    """Twice what an addition has given."""

    name: ClassVar[str] = "doubling"
    version: ClassVar[int] = 1

    addition: AdditionStep
    address: str

    def settings(self) -> Mapping[str, Any]:
        return {}

    def sources(self) -> tuple[BlocksSource, ...]:
        return (BlocksSource(self.addition),)

    def output(self) -> VolumeOutput:
        return VolumeOutput(self.address, self.grid, (CHUNK,) * 3, "int32", 0, {})

    def projected_memory(self) -> int:
        return 200_000_000

    def compute(self, block: Block, prepared: Any) -> NDArray[np.int32]:
        doubled: NDArray[np.int32] = 2 * open_volume(self.addition.address).read(block.write_box)
        return doubled


def misbehave(folder: Path, block: int) -> None:
    """Do what a block's file says, and count how often the block was begun."""
    with (folder / f"{block}.runs").open("a") as runs:
        runs.write(f"{os.getpid()} {os.environ.get('SLURMD_NODENAME', '-')}\n")
    run = len((folder / f"{block}.runs").read_text().splitlines())
    path = folder / str(block)
    for line in path.read_text().splitlines() if path.exists() else []:
        what, number, *rest = line.split()
        if run > int(number):
            continue
        if what == "raise":
            raise ValueError(f"block {block} was told to fail")
        if what == "refuse":
            raise UserError(f"block {block} was told that it cannot be")
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "orphan":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)  # until it is noticed
        if what == "sleep":
            time.sleep(float(rest[0]))
        if what == "hold":
            hold(folder, block)
        if what == "demand":
            np.empty(1 << 60, np.uint8)  # more than any machine has: a MemoryError
        if what == "seize":
            ctypes.PyDLL(None).sleep(int(rest[0]))  # keeps the interpreter's lock, unlike time.sleep
        if what == "fill":
            filled = np.ones(int(rest[0]) * 1_000_000, np.uint8)
            time.sleep(600)  # until it is killed
            del filled


def hold(folder: Path, block: int) -> None:
    """Wait until the test lets the block go on, or has cleared away its folder."""
    while folder.exists() and not (folder / f"{block}.released").exists():
        time.sleep(0.02)


class Workspace:
    """A raw volume, and steps over it, in a folder.

    Attributes:
        place: of work folder and results; the folder itself, or an address in a store.
    """

    def __init__(self, folder: Path, blocks: int = 8, place: str = "") -> None:
        self.folder = folder
        self.place = place or str(folder)
        self.orders = folder / "orders"
        self.orders.mkdir(parents=True, exist_ok=True)
        shape = (blocks * CHUNK, CHUNK, CHUNK)
        self.grid = Grid("zyx", shape, (CHUNK,) * 3)
        self.values = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
        self.raw = f"{folder / 'raw.n5'}:raw"
        if not volume_exists(self.raw):
            create_volume(Address.parse(self.raw), shape, (CHUNK,) * 3, "int32", {})
            open_volume(self.raw, "a").write(self.grid.domain, self.values)

    @classmethod
    def open(cls, folder: Path, place: str = "") -> Workspace:
        """The workspace that lies in a folder."""
        return cls(folder, open_volume(f"{folder / 'raw.n5'}:raw").shape[0] // CHUNK, place)

    def addition(self, addend: int = 1, memory: int = 200_000_000) -> AdditionStep:
        shape = self.grid.shape
        return AdditionStep(
            work_dir=f"{self.place}/work",
            grid=self.grid,
            raw=VolumeInfo(address=self.raw, axes="zyx", shape=shape, dtype="<i4", chunks=(CHUNK,) * 3),
            addend=addend,
            address=f"{self.place}/out.n5:addition",
            orders=str(self.orders),
            memory=memory,
        )

    def doubling(self, addend: int = 1) -> DoublingStep:
        return DoublingStep(
            work_dir=f"{self.place}/work",
            grid=self.grid,
            addition=self.addition(addend),
            address=f"{self.place}/out.n5:doubling",
        )

    def tell(self, block: int, *lines: str) -> None:
        """Have a block misbehave: ``raise 1``, ``refuse 1``, ``kill 99``, ``hold 1``, ``fill 1 400``."""
        (self.orders / str(block)).write_text("\n".join(lines))

    def hold(self, *blocks: int, attempts: int = 1) -> None:
        """Have blocks wait, in so many first attempts, until they are released."""
        for block in blocks:
            self.tell(block, f"hold {attempts}")

    def release(self, *blocks: int) -> None:
        """Let blocks that are held go on."""
        for block in blocks:
            (self.orders / f"{block}.released").touch()

    def runs(self, block: int) -> list[str]:
        """One line per time that a block was begun."""
        path = self.orders / f"{block}.runs"
        return path.read_text().splitlines() if path.exists() else []

    def result(self, name: str = "addition") -> NDArray[np.int32]:
        return open_volume(f"{self.place}/out.n5:{name}").read(self.grid.domain)
