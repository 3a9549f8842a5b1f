"""How much memory there is: that of the machine, or less where a container, a job or a session is given less."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

GROUPS = "sys/fs/cgroup"
MEMBERSHIP = "proc/self/cgroup"


@dataclass(frozen=True)
class Memory:
    """Memory that this process and its children may have.

    Attributes:
        size: in bytes.
        owner: whose it is, for messages.
    """

    size: int
    owner: str


def available_memory(root: Path = Path("/"), total: int | None = None) -> Memory:
    """The least of what the machine has and what the control groups of this process allow.

    Args:
        root: folder that holds ``proc`` and ``sys``.
        total: memory of the machine, in bytes; None to ask for it.
    """
    machine = Memory(psutil.virtual_memory().total if total is None else total, "this machine")
    limits = [Memory(size, "the control group of this process (container, job or session)") for size in _limits(root)]
    return min((machine, *limits), key=lambda memory: memory.size)


def _limits(root: Path) -> Iterator[int]:
    """Limits of all control groups that the process is in, version 1 and 2, from its own to the outermost."""
    for file in _files(root):
        # "max" is no limit; where there is no file, there is none either.
        with contextlib.suppress(OSError, ValueError):
            yield int(file.read_text())


def _files(root: Path) -> Iterator[Path]:
    try:
        lines = (root / MEMBERSHIP).read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / GROUPS / "memory" if controllers else root / GROUPS
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        # Within a container the path may be that of the host, of which only the outermost group is to be seen.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield top.joinpath(*parts[:depth], name)
