"""What a block takes: time, processor time, memory."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from pathlib import Path


class Stopwatch:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._cpu = time.process_time()

    @property
    def seconds(self) -> float:
        """Wall time."""
        return time.monotonic() - self._wall

    @property
    def cpu_seconds(self) -> float:
        """Processor time of this process."""
        return time.process_time() - self._cpu


def peak_memory() -> int:
    """Largest resident memory of this process so far, or since it was told to forget, in bytes.

    Linux counts in ``ru_maxrss`` what the process that has started this one held at that moment.
    """
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_memory() -> None:
    """Begin to count anew."""
    with contextlib.suppress(OSError):  # where this may not be done, steps count what those before them needed
        Path("/proc/self/clear_refs").write_text("5")
