"""One run at a time in a work folder, on this host and on others that share it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from blockwise.errors import UserError
from blockwise.files import create_new, read_json
from blockwise.identity import digest

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


class WorkDirLock:
    """A lock on a work folder that dies with its process.

    On one host, and over file systems that pass locks on, the operating system's lock decides: it is gone as soon as
    its process is, however that ended. Other shared file systems do not tell one host of another's locks; there the
    owner's file decides, which only one can create, and which the owner touches all the time. Its age is measured
    with the file system's clock.

    Attributes:
        folder: the work folder.
        on_loss: called in another thread, with a message, when the folder has got another owner: this one was not
            heard of for too long.
    """

    def __init__(self, folder: Path, on_loss: Callable[[str], None]) -> None:
        self.folder = folder
        self.on_loss = on_loss
        self._lock = FileLock(folder / LOCK, timeout=0)
        self._ended = threading.Event()
        self._beating = threading.Lock()
        self._path = folder / OWNER
        self._mine = b""

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
            if self._content() == self._mine:
                self._path.unlink(missing_ok=True)
        self._lock.release()

    def _become_owner(self) -> bool:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "id": uuid.uuid4().hex}
        self._mine = json.dumps(me, indent=1).encode() + b"\n"
        for _ in range(TRIES):
            if create_new(self._path, self._mine):
                return True
            found = self._content()
            if found is not None and self._is_dead(found):
                self._remove_dead(found)
            elif found is not None and found == self._content():
                return False
        return False

    def _is_dead(self, owner: bytes) -> bool:
        """Whether an owner is of this host, whose lock was free, or has not been heard of for too long."""
        here = socket.gethostname()
        return _parsed(owner).get("host", here) == here or self._is_silent(self._path)

    def _remove_dead(self, owner: bytes) -> None:
        """Remove the file of an owner who is dead, and never that of one who has come meanwhile.

        Of several who find him dead, one gets the right to remove him, by a file that only one can create. He looks
        again at whose file it is, because another may have had that right before.
        """
        right = self.folder / f"{OWNER}.{digest(owner)[:12]}"
        if create_new(right, self._mine):
            try:
                if self._content() == owner:
                    self._path.unlink(missing_ok=True)
            finally:
                right.unlink(missing_ok=True)
        else:
            time.sleep(PAUSE_S)
            if self._is_silent(right):  # who had it has died as well
                right.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            # The folder may be away for a while; the next beat tries again.
            with contextlib.suppress(OSError), self._beating:
                if not self._ended.is_set() and not self._is_ours():
                    self.on_loss(self._busy_message())
                    return

    def _is_ours(self) -> bool:
        """Whether the owner's file is that of this lock; touched, and written again where somebody removed it."""
        found = self._content()
        if found == self._mine:
            os.utime(self._path)
        return found == self._mine or (found is None and create_new(self._path, self._mine))

    def _content(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def _is_silent(self, path: Path) -> bool:
        """Whether nobody has touched a file for long, by the file system's clock; not so where it is gone."""
        (self.folder / LOCK).touch()
        try:
            return (self.folder / LOCK).stat().st_mtime - path.stat().st_mtime >= SILENCE_S
        except FileNotFoundError:
            return False

    def _busy_message(self) -> str:
        owner = read_json(self._path) or {}
        who = "process {pid} on {host}, since {since}".format(**owner) if owner else "owner unknown"
        return (
            f"work_dir {self.folder}: another run is using it ({who}); wait for it, stop it, or set another "
            "`work_dir` and `output`"
        )


def _parsed(owner: bytes) -> dict[str, Any]:
    try:
        value = json.loads(owner)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
