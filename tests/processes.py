"""Processes that come and go while a test looks at them, and waiting for what they do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

T = TypeVar("T")


def command_line(process: psutil.Process) -> list[str]:
    """A process's words; none of one that has ended, whether or not its parent has noticed."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def processes_in(folder: Path) -> list[psutil.Process]:
    """All processes that run in a folder, this one excepted."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.cwd() == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], T], seconds: float, what: Callable[[], object] = lambda: "") -> T:
    """What a condition returns as soon as that is true; fail with an account of how things are if it never is.

    Asked the less often the longer an answer takes, so that waiting leaves the machine to what is waited for.
    """
    end = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if value := condition():
            return value
        answered = time.monotonic()
        if answered > end:
            pytest.fail(f"not so after {seconds} s: {what()}")
        time.sleep(max(0.02, 5 * (answered - asked)))
