"""What a block takes: time, processor time, memory; of this process and those that compute for it."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import sys
import time
from pathlib import Path

import psutil


class Stopwatch:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._cpu = _cpu_seconds()

    @property
    def seconds(self) -> float:
        """Wall time."""
        return time.monotonic() - self._wall

    @property
    def cpu_seconds(self) -> float:
        """Processor time of this process and of those that it has started with ``multiprocessing``."""
        return _cpu_seconds() - self._cpu


def _cpu_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = time.process_time() + ended.ru_utime + ended.ru_stime
    for pid in _children():
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            found += times.user + times.system
    return found


def _children() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def peak_memory() -> int:
    """Largest resident memory of this process so far, or since it was told to forget, in bytes.

    With that of each process that it has started with ``multiprocessing``, whether or not they had it at once. Linux
    counts in ``ru_maxrss`` what the process that has started this one held at that moment.
    """
    own = _peak("self")
    if own is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        own = peak if sys.platform == "darwin" else peak * 1024
    return own + sum(_peak(pid) or 0 for pid in _children())


def _peak(pid: int | str) -> int | None:
    """Of a process; None where the system does not tell."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def forget_peak_memory() -> None:
    """Begin to count anew."""
    for pid in ("self", *_children()):
        with contextlib.suppress(OSError):  # where this may not be done, steps count what those before them needed
            Path(f"/proc/{pid}/clear_refs").write_text("5")
