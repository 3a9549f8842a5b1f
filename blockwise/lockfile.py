"""Numbered locks that the kernel keeps: they end with their holder, however it ended, and need no cleaning up."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from pathlib import Path


class KernelLocks(ABC):
    """Locks by number, of one place on a disk.

    One object excludes every other one of the same place, in this process, in others, and on other hosts as far as
    the file system passes locks on. Threads may share an object. A fork holds none of its parent's locks.

    Attributes:
        path: of the lock file; others may lie beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptors: dict[int, int] = {}
        self._held: dict[int, _Held] = {}
        self._mutex = threading.Lock()
        weakref.finalize(self, _close, self._descriptors)
        _everywhere.add(self)

    def try_lock(self, number: int, *, shared: bool = False) -> bool:
        """Take a lock if it is free.

        Args:
            number: which one, from 0.
            shared: with others who share it; else alone.

        Returns:
            Whether it was got; nobody waits here.

        Raises:
            OSError: the file system gives no locks, or the file cannot be made.
        """
        with self._mutex:
            held = self._held.get(number)
            if held is not None:
                # The kernel excludes open files from each other, not those who share one.
                if not (shared and held.shared):
                    return False
                held.times += 1
                return True
            if not self._lock(number, shared):
                return False
            self._held[number] = _Held(shared)
            return True

    def unlock(self, number: int) -> None:
        """Give back a lock that this object holds."""
        with self._mutex:
            held = self._held.get(number)
            if held is None:  # in a fork, which has inherited what it does not hold
                return
            held.times -= 1
            if not held.times:
                del self._held[number]
                self._unlock(number, held.shared)

    @abstractmethod
    def _lock(self, number: int, shared: bool) -> bool:
        """Ask the kernel."""

    @abstractmethod
    def _unlock(self, number: int, shared: bool) -> None:
        """Tell the kernel."""

    def _forget(self) -> None:
        """In a fork: its parent's locks are not its own, and must end with the parent."""
        _close(self._descriptors)
        self._held.clear()
        self._mutex = threading.Lock()


class RangeLocks(KernelLocks):
    """Lock ``i`` is byte ``i`` of one file that stays open: a few microseconds each.

    Locks of *open file descriptions*, which Linux has. Those of POSIX belong to the process: they do not exclude
    threads, and all of them end when the process closes any descriptor of the file.
    """

    def _lock(self, number: int, shared: bool) -> bool:
        while True:
            if not self._descriptors:
                self._descriptors[0] = _open(self.path)
            file = self._descriptors[0]
            try:
                _set_range(file, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, number)
            except BlockingIOError:
                return False
            try:
                if self._held or _is_at(file, self.path):
                    return True
            except OSError:
                _set_range(file, fcntl.F_UNLCK, number)
                raise
            _close(self._descriptors)  # the file was removed, with its folder: whoever comes now locks another one

    def _unlock(self, number: int, shared: bool) -> None:
        _set_range(self._descriptors[0], fcntl.F_UNLCK, number)


class FileLocks(KernelLocks):
    """Lock ``i`` is a file of its own, ``<path>.<i>``: slower by far, and for every Unix."""

    def _lock(self, number: int, shared: bool) -> bool:
        path = self._path(number)
        while True:
            file = _open(path)
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                if _is_at(file, path):
                    self._descriptors[number] = file
                    return True
            except BlockingIOError:
                os.close(file)
                return False
            except BaseException:
                os.close(file)
                raise
            os.close(file)  # its holder has removed it

    def _unlock(self, number: int, shared: bool) -> None:
        if not shared:
            with contextlib.suppress(OSError):
                self._path(number).unlink(missing_ok=True)
        os.close(self._descriptors.pop(number))

    def _path(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


HAS_RANGES = sys.platform == "linux" and sys.maxsize > 1 << 32 and hasattr(fcntl, "F_OFD_SETLK")


def kernel_locks(path: Path) -> KernelLocks:
    """Locks of the kind that this system offers; all of one place are of one kind."""
    return RangeLocks(path) if HAS_RANGES else FileLocks(path)


def locked_numbers(path: Path, stop: int) -> list[int]:
    """Numbers below ``stop`` of the locks at a path that somebody holds, as far as the system tells; takes none.

    Raises:
        OSError: the file cannot be opened, or the file system gives no locks.
    """
    if not HAS_RANGES:
        return []
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    found: list[int] = []
    try:
        first = 0
        while first < stop:
            asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, first, stop - first, 0)
            kind, _, start, length, _ = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))
            if kind == fcntl.F_UNLCK:
                break
            end = stop if length == 0 else min(start + length, stop)
            found += range(max(start, first), end)
            first = end
    finally:
        os.close(file)
    return found


class _Held:
    def __init__(self, shared: bool) -> None:
        self.shared = shared
        self.times = 1


_everywhere: weakref.WeakSet[KernelLocks] = weakref.WeakSet()


def _forget_all() -> None:
    for locks in list(_everywhere):
        locks._forget()


os.register_at_fork(after_in_child=_forget_all)


def _set_range(file: int, kind: int, number: int) -> None:
    # struct flock of 64-bit Linux: type, whence, start, length, process; the last must be 0.
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, number, 1, 0))


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _is_at(file: int, path: Path) -> bool:
    try:
        there, own = os.stat(path), os.fstat(file)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)


def _close(descriptors: dict[int, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
