"""Control groups with little memory, made for a test where the machine allows it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def little_memory(size: int) -> Iterator[Path]:
    """A group with a limit in bytes; a process joins it by writing its id into ``cgroup.procs``.

    Skips the test where none can be made: that takes a right that few have outside of containers.
    """
    for top, name in ((GROUPS / "memory", "memory.limit_in_bytes"), (GROUPS, "memory.max")):
        group = top / f"test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(size))
        except OSError:
            group.rmdir()
            continue
        break
    else:
        pytest.skip("no control group with a limit of memory can be made here")
    try:
        yield group
    finally:
        while True:  # the kernel may take a moment after the last process has ended
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.05)
