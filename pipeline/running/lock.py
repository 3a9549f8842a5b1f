"""One run at a time in a work folder, on this host and on others that share it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from blockwise.errors import UserError
from blockwise.records import ABSENT, FolderRecords, in_store, open_records, read_json
from blockwise.records.lease import Lease

LOCK = ".lock"
OWNER = ".lock-owner.json"
HEARTBEAT_S = 20.0
SILENCE_S = 120.0
"""An owner on another host that has not been heard of for so long is dead."""

TRIES = 20
PAUSE_S = 0.1
"""Between two tries to become the owner, while others try the same."""


class WorkDirBusyError(UserError):
    """Another run uses the work folder."""


class RunLock(Protocol):
    """Keeps other runs out of a work folder."""

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            WorkDirBusyError: another run holds it.
        """

    def release(self) -> None:
        """Give the lock back."""


def lock_of(work_dir: str, on_loss: Callable[[str], None]) -> RunLock:
    """The lock of a work folder, wherever that is.

    Args:
        work_dir: folder, or address in a store.
        on_loss: called in another thread, with a message, when it has got another owner.
    """
    return StoreLock(work_dir, on_loss) if in_store(work_dir) else WorkDirLock(Path(work_dir), on_loss)


class WorkDirLock:
    """A lock on a work folder that dies with its process.

    On one host, and over file systems that pass locks on, the operating system's lock decides: it is gone as soon as
    its process is, however that ended. Other shared file systems do not tell one host of another's locks; there the
    owner's record decides, which only one can create, and which the owner renews all the time. Its age is measured
    with the file system's clock.

    Attributes:
        folder: the work folder.
        on_loss: called in another thread, with a message, when the folder has got another owner: this one was not
            heard of for too long.
    """

    def __init__(self, folder: Path, on_loss: Callable[[str], None]) -> None:
        self.folder = folder
        self.on_loss = on_loss
        from filelock import FileLock  # slow to load: only runs with something to do lock their folder

        self._lock = FileLock(folder / LOCK, timeout=0)
        self._ended = threading.Event()
        self._beating = threading.Lock()
        self._records = FolderRecords(str(folder))
        self._mine = b""

    def acquire(self) -> None:
        """Take the lock; the folder is made.

        Raises:
            WorkDirBusyError: another run holds it.
            OSError: the folder cannot be made or written.
        """
        from filelock import Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise WorkDirBusyError(self._busy_message()) from None
        try:
            if not self._become_owner():
                raise WorkDirBusyError(self._busy_message())
        except BaseException:
            self._lock.release()
            raise
        threading.Thread(target=self._beat, daemon=True, name="work-dir-heartbeat").start()

    def release(self) -> None:
        """Give the lock back."""
        with self._beating:
            self._ended.set()
            if self._records.get(OWNER) == self._mine:
                self._records.delete(OWNER)
        self._lock.release()

    def _become_owner(self) -> bool:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "id": uuid.uuid4().hex}
        self._mine = json.dumps(me, indent=1).encode() + b"\n"
        for _ in range(TRIES):
            if self._records.put(OWNER, self._mine, ABSENT) is not None:
                return True
            version, found = self._records.version(OWNER), self._records.get(OWNER)
            if version is None or found is None:
                continue
            if self._is_dead(found):
                if self._records.put(OWNER, self._mine, version) is not None:
                    return True
                time.sleep(PAUSE_S)
            elif found == self._records.get(OWNER):
                return False
        return False

    def _is_dead(self, owner: bytes) -> bool:
        """Whether an owner is of this host, whose lock was free, or has not been heard of for too long."""
        here = socket.gethostname()
        return _parsed(owner).get("host", here) == here or self._is_silent()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            # The folder may be away for a while; the next beat tries again.
            with contextlib.suppress(OSError, UserError), self._beating:
                if not self._ended.is_set() and not self._is_ours():
                    self.on_loss(self._busy_message())
                    return

    def _is_ours(self) -> bool:
        """Whether the owner's record is that of this lock; renewed, and written again where somebody removed it."""
        version, found = self._records.version(OWNER), self._records.get(OWNER)
        if found is None:
            return self._records.put(OWNER, self._mine, ABSENT) is not None
        if found == self._mine and version is not None:
            self._records.renew(OWNER, version)
        return found == self._mine

    def _is_silent(self) -> bool:
        """Whether the owner has not been heard of for long; not so where his record is gone."""
        age = self._records.age_s(OWNER)
        return age is not None and age >= SILENCE_S

    def _busy_message(self) -> str:
        return _busy_message(str(self.folder), read_json(self._records, OWNER) or {})


class StoreLock:
    """A lock on a work folder in a store: a lease. That of a process that is dead goes to the next one.

    On the machine of the dead one at once. On others only where it is not written again for ``SILENCE_S``; to watch
    is worth the time where it seems to be silent already.

    Attributes:
        place: address of the work folder.
        on_loss: as that of ``WorkDirLock``.
    """

    def __init__(self, place: str, on_loss: Callable[[str], None]) -> None:
        self.place = place
        self.on_loss = on_loss
        self._lease = Lease(open_records(place), OWNER, self._lost)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            WorkDirBusyError: another run holds it.
        """
        if self._lease.take():
            return
        if self._lease.seems_silent():
            print(f"{self.place}: its last run has not been heard of; watching whether it is alive", file=sys.stderr)
            if self._lease.watch():
                return
        raise WorkDirBusyError(self._busy_message())

    def release(self) -> None:
        """Give the lock back."""
        self._lease.release()

    def _lost(self) -> None:
        self.on_loss(self._busy_message())

    def _busy_message(self) -> str:
        return _busy_message(self.place, self._lease.holder())


def _busy_message(place: str, owner: dict[str, Any]) -> str:
    who = "process {pid} on {host}, since {since}".format(**owner) if owner else "owner unknown"
    return (
        f"work_dir {place}: another run is using it ({who}); wait for it, stop it, or set another `work_dir` and "
        "`output`"
    )


def _parsed(owner: bytes) -> dict[str, Any]:
    try:
        value = json.loads(owner)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
