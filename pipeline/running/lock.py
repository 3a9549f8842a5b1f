"""One run at a time in a work folder, on this host and on others that share it."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from blockwise.errors import UserError
from blockwise.files import read_json, write_json

LOCK = ".lock"
OWNER = ".lock-owner.json"
HEARTBEAT_S = 20.0
SILENCE_S = 120.0
"""An owner on another host that has not been heard of for so long is dead."""


class WorkDirBusyError(UserError):
    """Another run uses the work folder."""


class WorkDirLock:
    """A lock on a work folder that dies with its process.

    On one host, and over file systems that pass locks on, the operating system's lock decides: it is gone as soon as
    its process is, however that ended. Other shared file systems do not tell one host of another's locks; there the
    owner's file decides, which the owner touches all the time. Its age is measured with the file system's clock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / LOCK, timeout=0)
        self._ended = threading.Event()

    def acquire(self) -> None:
        """Take the lock; the folder is made.

        Raises:
            WorkDirBusyError: another run holds it.
            OSError: the folder cannot be made or written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise WorkDirBusyError(self._busy_message()) from None
        if self._other_host_lives():
            self._lock.release()
            raise WorkDirBusyError(self._busy_message())
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        write_json(self.folder / OWNER, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        threading.Thread(target=self._beat, daemon=True, name="work-dir-heartbeat").start()

    def release(self) -> None:
        """Give the lock back."""
        self._ended.set()
        (self.folder / OWNER).unlink(missing_ok=True)
        self._lock.release()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            try:
                os.utime(self.folder / OWNER)
            except OSError:  # the folder may be away for a while; the next beat tries again
                continue

    def _other_host_lives(self) -> bool:
        owner = self._owner()
        if not owner or owner.get("host") == socket.gethostname():
            return False  # the lock of this host was free
        try:
            (self.folder / LOCK).touch()
            return (self.folder / LOCK).stat().st_mtime - (self.folder / OWNER).stat().st_mtime < SILENCE_S
        except FileNotFoundError:
            return False

    def _owner(self) -> dict[str, Any]:
        return read_json(self.folder / OWNER) or {}

    def _busy_message(self) -> str:
        owner = self._owner()
        who = "process {pid} on {host}, since {since}".format(**owner) if owner else "owner unknown"
        return (
            f"work_dir {self.folder}: another run is using it ({who}); wait for it, stop it, or set another "
            "`work_dir` and `output`"
        )
