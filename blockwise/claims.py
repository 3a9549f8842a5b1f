"""Who computes which block: each block of a step is computed by one at a time, whoever it is.

A claim keeps others from doing the same work; it decides nothing. The truth is in the markers: whoever has got a
claim looks at the marker again, and where two compute one block nevertheless (a file system without locks, a holder
who does not answer), they write the same bytes, which costs time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from blockwise.errors import UserError
from blockwise.lockfile import KernelLocks, kernel_locks, locked_numbers
from blockwise.records import Records, in_store
from blockwise.records.lease import Lease
from blockwise.step import BlockStep
from blockwise.transient import is_transient

logger = logging.getLogger(__name__)

CLAIMS = "claims"
"""Lock file beside a step's markers: byte ``i`` is the claim on block ``i``. In a store, what begins their keys."""

LOCKS = ".locks"
"""Folder in the work folder with a lock file for each step. The step's own folders tell by their mere existence that
a run of ours was there, so that no lock may make one."""

PATIENCE_S = 600.0
"""How long one waits for another. A node that died with a lock may hold it until it is up again."""

FIRST_LOOK_S = 0.005
LONGEST_LOOK_S = 0.25


class Claim(Protocol):
    """The right to compute a block; ends with its holder at the latest."""

    def release(self) -> None:
        """Give it back; a second time does nothing."""

    def __enter__(self) -> Claim:
        """The claim itself, released at the end of the body."""

    def __exit__(self, *error: object) -> None:
        """Release it."""


class Claims(Protocol):
    """Claims on the blocks of one step with one fingerprint, kept by whatever can tell who is first."""

    def take(self, block: int) -> Claim | None:
        """Claim a block; None where another has it. Never waits, and never raises an OSError."""


class Unclaimed:
    """Stands for a claim where none is to be had."""

    def release(self) -> None:
        """There is nothing to release."""

    def __enter__(self) -> Unclaimed:
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """There is nothing to release."""


class FolderClaims:
    """Claims as locks of the kernel, which end with their holder, even one that is killed.

    Attributes:
        locks: those of the step's lock file.
    """

    def __init__(self, locks: KernelLocks) -> None:
        self.locks = locks

    def take(self, block: int) -> Claim | None:
        """See ``Claims.take``; threads of one process exclude each other as well."""
        return _try(self.locks, block)


class StoreClaims:
    """Claims as leases: where their holder is dead, they end after a while; see ``blockwise.records.lease``.

    Attributes:
        records: those of the claims.
    """

    def __init__(self, records: Records) -> None:
        self.records = records

    def take(self, block: int) -> Claim | None:
        """See ``Claims.take``; where the store does not answer, nothing is claimed."""
        lease = Lease(self.records, f"{block}.json")
        try:
            return _StoreClaim(lease) if lease.take() else None
        except (OSError, UserError) as error:
            _refuse_lasting(error)
            return Unclaimed()


def claims_of(step: BlockStep) -> Claims:
    """The claims on a step's blocks; each call opens the lock file anew, so keep what it gives."""
    if in_store(step.work_dir):
        return StoreClaims(step.records.below(CLAIMS))
    return FolderClaims(kernel_locks(step.folder / CLAIMS))


def claimed_blocks(step: BlockStep) -> list[int]:
    """Ids of the blocks of a step that somebody computes at present, as far as locks tell; for those who look on."""
    stop = math.prod(step.grid.blocks_per_axis)
    if in_store(step.work_dir):
        numbers = (key.partition(".")[0] for key in step.records.keys(CLAIMS))
        return sorted(int(number.rpartition("/")[2]) for number in numbers)
    try:
        return locked_numbers(step.folder / CLAIMS, stop)
    except OSError as error:
        _tell_once(step.folder / CLAIMS, error)
        return []


def waited_for(
    take: Callable[[], Claim | None],
    what: str,
    patience_s: float | None = None,
    tell: Callable[[str], None] = logger.info,
) -> tuple[Claim, bool]:
    """Ask for a claim until it is there.

    Args:
        take: asks; None where another has it.
        what: the other does, for people.
        patience_s: how long to wait; None for ``PATIENCE_S``.
        tell: is told of it, where one has to wait.

    Returns:
        The claim, one on nothing where the wait was in vain; and whether one had to wait.
    """
    found = take()
    if found is not None:
        return found, False
    patience_s = PATIENCE_S if patience_s is None else patience_s
    tell(f"waiting: another process {what}")
    start, pause_s = time.monotonic(), FIRST_LOOK_S
    while found is None and time.monotonic() - start < patience_s:
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_LOOK_S)
        found = take()
    if found is None:
        tell(f"another process still {what} after {patience_s:g} s: going on without waiting")
    return found or Unclaimed(), True


class StepLock:
    """What processes that work on one step, of whatever fingerprint, must not do at once.

    The locks are the kernel's, also where the work folder is in a store: they hold for the processes of a host. Those
    of others are kept out by the run's lock and by ``Ownership``.

    Many may *compute* its blocks at once. Whoever *begins* its output anew, which removes markers and data, does so
    alone. And one process of a host at a time *runs* the step: plans it, has it computed, and finishes it.
    """

    def __init__(self, step: BlockStep) -> None:
        self.label = step.label
        self.locks = kernel_locks(step.work.on_this_machine / LOCKS / step.label)

    @contextlib.contextmanager
    def computing(self) -> Iterator[bool]:
        """While a block is computed; gives whether one had to wait for a new output to be begun."""
        gate, has_waited = waited_for(lambda: self._try(_GATE, shared=True), self._begins)
        with gate:  # nobody is alone with the step while the gate is open
            blocks = self._try(_BLOCKS, shared=True) or Unclaimed()
        with blocks:
            yield has_waited

    @contextlib.contextmanager
    def beginning(self) -> Iterator[None]:
        """While an output is begun anew: all blocks that are being computed are finished first, and none begins."""
        # The gate is closed first, or those who compute one block after the other would never let anyone in.
        with waited_for(lambda: self._try(_GATE), self._begins)[0]:
            computes = f"computes blocks of {self.label}"
            with waited_for(lambda: self._try(_BLOCKS), computes)[0]:
                yield

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While the step is brought up to date; waits for another of this host, however long it takes."""
        with waited_for(lambda: self._try(_RUNS), f"brings {self.label} up to date", math.inf)[0]:
            yield

    @property
    def _begins(self) -> str:
        return f"begins the output of {self.label} anew"

    def _try(self, number: int, *, shared: bool = False) -> Claim | None:
        return _try(self.locks, number, shared=shared)


_GATE, _BLOCKS = 0, 1
# Runs on two hosts exclude each other by the work folder's lock. A number for each host: what a dead host has left
# locked on a file server must not stop the others for ever.
_RUNS = 2 + zlib.crc32(socket.gethostname().encode())


class _StoreClaim:
    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def release(self) -> None:
        # What is left of it is taken for a dead holder's after a while.
        try:
            self._lease.release()
        except (OSError, UserError) as error:
            _refuse_lasting(error)

    def __enter__(self) -> _StoreClaim:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


class _Lock:
    def __init__(self, locks: KernelLocks, number: int) -> None:
        self._locks = locks
        self._number = number
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._locks.unlock(self._number)

    def __enter__(self) -> _Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _try(locks: KernelLocks, number: int, *, shared: bool = False) -> Claim | None:
    try:
        return _Lock(locks, number) if locks.try_lock(number, shared=shared) else None
    except OSError as error:
        _tell_once(locks.path, error)
        return Unclaimed()


def _refuse_lasting(error: Exception) -> None:
    """Raise what does not pass."""
    if not is_transient(error):
        raise error


_told: set[int | None] = set()


def _tell_once(path: Path, error: OSError) -> None:
    if error.errno not in _told:
        _told.add(error.errno)
        logger.warning(
            "%s: cannot be locked: %s; results stay right, but processes that work on one step at once may compute "
            "blocks twice",
            path,
            error.strerror or error,
        )
