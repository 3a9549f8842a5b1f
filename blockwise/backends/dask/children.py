"""Worker processes of ours beside a Dask worker, one for each of its threads that has a slice of blocks."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from blockwise.advice import Advice
from blockwise.backends.dask.brief import Brief, Place
from blockwise.backends.pool import Pool
from blockwise.backends.worker_process import Home, WorkerProcess
from blockwise.faults import Faults

IDLE_S = 5.0
"""A process that has had no slice for so long lets go of its step, and ends by itself if it gets no other."""

Born = tuple[Home, Faults, Advice]
"""What a process keeps from its start."""


@dataclass
class _Child:
    """A process, in a pool of one.

    Attributes:
        slot: its number among those of the Dask worker; names its log.
        place: of the brief of its step.
        born: see there.
        idle_since: monotonic time of the end of its last slice.
    """

    pool: Pool
    slot: int
    place: Place
    born: Born
    idle_since: float = 0.0


class Children:
    """All of them, of one Dask worker; they stay between slices, and rest between steps as in ``Pool``.

    They end with the Dask worker, however that ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: list[_Child] = []
        self._idle: list[_Child] = []
        self._resting: list[tuple[Born, WorkerProcess]] = []
        self._watch: threading.Thread | None = None

    @contextlib.contextmanager
    def one(self, place: Place, brief: Brief, name: str) -> Iterator[Pool]:
        """A pool of one process while the body runs; on an error that process ends.

        Args:
            place: of the brief.
            brief: of the step.
            name: of the Dask worker, for the log.
        """
        with self._lock:
            child = self._taken(place, brief, name)
            self._busy.append(child)
        is_good = False
        try:
            yield child.pool
            is_good = True
        finally:
            if not is_good:
                child.pool.close()
            with self._lock:
                self._busy.remove(child)
                if is_good:
                    child.idle_since = time.monotonic()
                    self._idle.append(child)
                    self._begin_to_watch()

    def let_go(self, place: Place) -> int:
        """Have processes that are prepared for a step rest; number of those that are at work on it."""
        with self._lock:
            self._let_rest([child for child in self._idle if child.place == place])
            return sum(child.place == place for child in self._busy)

    def _taken(self, place: Place, brief: Brief, name: str) -> _Child:
        for child in self._idle:
            if child.place == place:
                self._idle.remove(child)
                return child
        self._let_rest(self._idle[:1])
        used = {child.slot for child in (*self._busy, *self._idle)}
        slot = next(number for number in itertools.count() if number not in used)
        born = (Home(f"dask-{name}", brief.folder), brief.faults, brief.advice)
        resting = next((pair for pair in self._resting if pair[0] == born), None)
        if resting is not None:
            self._resting.remove(resting)
        rested = [] if resting is None else [resting[1]]
        pool = Pool(brief.step, 1, brief.timeout_s, brief.faults, rested, brief.advice, born[0], slot)
        return _Child(pool, slot, place, born)

    def _let_rest(self, children: list[_Child]) -> None:
        for child in children:
            self._idle.remove(child)
            child.pool.rest()
            self._resting += [(child.born, process) for process in child.pool.resting]

    def _begin_to_watch(self) -> None:
        if self._watch is None:
            self._watch = threading.Thread(target=self._look_after_them, daemon=True, name="blockwise-children")
            self._watch.start()

    def _look_after_them(self) -> None:
        """See that idle ones rest, and that what has ended is no zombie, until there are neither."""
        while True:
            time.sleep(1.0)
            with self._lock:
                end = time.monotonic() - IDLE_S
                self._let_rest([child for child in self._idle if child.idle_since < end])
                for pair in [pair for pair in self._resting if pair[1].process.poll() is not None]:
                    self._resting.remove(pair)
                    pair[1].kill()
                if not self._idle and not self._resting:
                    self._watch = None
                    return
