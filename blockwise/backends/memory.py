"""How much memory there is: that of the machine, or less where a container, a job or a session is given less.

And whether the kernel has ended a process for want of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

GROUPS = "sys/fs/cgroup"
MEMBERSHIP = "proc/self/cgroup"
MACHINE = "proc/vmstat"
OOM_KILL = "oom_kill"


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


def oom_kills(root: Path = Path("/")) -> int:
    """How many processes the kernel has ended so far for want of memory, in the control group of this process.

    Its children belong to it, and those of it that the whole machine had no memory for count as well. Where there is
    no such group, all of the machine count; where nobody counts, none.

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    for top, path, is_first in _groups(root):
        name = "memory.oom_control" if is_first else "memory.events"
        count = _count(top.joinpath(*path, name))
        if count is not None:
            return count
    return _count(root / MACHINE) or 0


def _count(file: Path) -> int | None:
    """What a file of names and numbers says of kills; None where it does not."""
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == OOM_KILL:
                return int(number)
    return None


def _limits(root: Path) -> Iterator[int]:
    """Limits of all control groups that the process is in, version 1 and 2, from its own to the outermost."""
    for top, path, is_first in _groups(root):
        name = "memory.limit_in_bytes" if is_first else "memory.max"
        for depth in range(len(path), -1, -1):
            # "max" is no limit; where there is no file, there is none either.
            with contextlib.suppress(OSError, ValueError):
                yield int(top.joinpath(*path[:depth], name).read_text())


def _groups(root: Path) -> Iterator[tuple[Path, list[str], bool]]:
    """The group that limits memory, of each version: its tree, its place in it, and whether it is of version 1."""
    try:
        lines = (root / MEMBERSHIP).read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / GROUPS / "memory" if controllers else root / GROUPS
        # Within a container the path may be that of the host, of which only the outermost group is to be seen.
        yield top, [part for part in path.split("/") if part not in ("", "..")], bool(controllers)
