"""Leases: a record that says who has something, for homes without locks that end with their holder.

Only one can create the record. Its holder writes it again all the time, each time with another number, so that no two
writings are equal. Who wants it watches: a record that stays the same for ``SILENCE_S``, by the clock of the one who
watches and nobody else's, belongs to a holder who is dead, and is replaced on condition that it is still the same. Of
a holder on the same machine the system tells at once whether it is alive.

A store's answer to a write may be lost, and the repetition is then refused: so whoever is refused looks whether what
lies there is his own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from blockwise.errors import UserError
from blockwise.records.base import ABSENT, Records, Version, read_json

logger = logging.getLogger(__name__)

BEAT_S = 20.0
SILENCE_S = 120.0
"""A holder who has not been heard of for so long is dead."""

LOOK_S = 1.0
"""What another holds is not asked for more often."""


@dataclass
class _Watch:
    """What was seen of another's lease: since when it is the same, and when to look again."""

    version: Version
    since: float
    again: float


class Lease:
    """A lease that was taken; renewed until it is released, or another has taken it.

    Attributes:
        on_loss: called in another thread when another has taken it: this one was not heard of for too long.
    """

    def __init__(self, records: Records, key: str, on_loss: Callable[[], None] | None = None) -> None:
        self.records = records
        self.key = key
        self.on_loss = on_loss
        self._me = {**_process(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "id": uuid.uuid4().hex}
        self._beats = 0
        self._version: Version | None = None
        self._heard = 0.0
        self._mutex = threading.Lock()

    def take(self) -> bool:
        """Take it if it is free, or its holder dead; never waits."""
        watch = _watched.get(self._place)
        if watch is not None and time.monotonic() < watch.again:
            return False
        if not (self._write(ABSENT) or self._follow()):
            return False
        _watched.pop(self._place, None)
        _keeper.keep(self)
        return True

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        _keeper.drop(self)
        with self._mutex:
            if self._version is None:
                return
            self._version = None
            # Nobody has taken it, unless this one was silent for long.
            if time.monotonic() - self._heard < SILENCE_S / 2 or self._is_mine(read_json(self.records, self.key)):
                self.records.delete(self.key)

    def holder(self) -> dict[str, Any]:
        """Whose it is, as its record says; empty where there is none."""
        return read_json(self.records, self.key) or {}

    def seems_silent(self) -> bool:
        """Whether its holder seems to be silent, if his clock and this machine's agree: then it is worth to watch."""
        at = self.holder().get("at")
        return isinstance(at, int | float) and time.time() - at >= SILENCE_S

    def watch(self) -> bool:
        """Take it when it has been the same for long enough; False as soon as it is written by another."""
        id_, beat = (self.holder().get(name) for name in ("id", "beat"))
        while not self.take():
            found = self.holder()
            if found and (found.get("id"), found.get("beat")) != (id_, beat):
                return False
            time.sleep(LOOK_S)
        return True

    def beat(self) -> None:
        """Write it again; what passes is for the next time."""
        with self._mutex, contextlib.suppress(OSError, UserError):
            if self._version is None or time.monotonic() - self._heard < BEAT_S / 2:
                return
            if self._write(self._version) or self._find_out():
                return
            self._version = None
            _keeper.drop(self)
            if self.on_loss is not None:
                self.on_loss()

    def _find_out(self) -> bool:
        """After a refusal: whether it is this one's all the same; an answer was lost, or somebody has removed it."""
        version, found = self.records.version(self.key), read_json(self.records, self.key)
        if version is None or found is None:
            return self._write(ABSENT)
        if self._is_mine(found):
            self._version = version
            return True
        return False

    def _follow(self) -> bool:
        """Take it from a dead holder."""
        version, found = self.records.version(self.key), read_json(self.records, self.key)
        if version is None or found is None:
            return self._write(ABSENT)
        now = time.monotonic()
        watch = _watched.get(self._place)
        if watch is None or watch.version != version:
            watch = _Watch(version, now, now)
        _watched[self._place] = _Watch(version, watch.since, now + LOOK_S)
        if not (_is_dead(found) or now - watch.since >= SILENCE_S):
            return False
        return self._write(version)

    def _write(self, expected: Any) -> bool:
        self._beats += 1
        content = json.dumps({**self._me, "beat": self._beats, "at": round(time.time())}, indent=1).encode() + b"\n"
        version = self.records.put(self.key, content, expected)
        if version is None and self.records.get(self.key) == content:
            version = self.records.version(self.key)
        if version is None:
            return False
        self._version, self._heard = version, time.monotonic()
        return True

    def _is_mine(self, found: dict[str, Any] | None) -> bool:
        return found is not None and found.get("id") == self._me["id"]

    @property
    def _place(self) -> str:
        return self.records.place(self.key)


class _Keeper:
    """Renews the leases of this process, in a thread that is there as long as there are any."""

    def __init__(self) -> None:
        self._leases: set[Lease] = set()
        self._mutex = threading.Lock()
        self._has_thread = False

    def keep(self, lease: Lease) -> None:
        with self._mutex:
            self._leases.add(lease)
            if not self._has_thread:
                self._has_thread = True
                threading.Thread(target=self._beat, daemon=True, name="leases").start()

    def drop(self, lease: Lease) -> None:
        with self._mutex:
            self._leases.discard(lease)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            with self._mutex:
                leases = list(self._leases)
                if not leases:
                    self._has_thread = False
                    return
            for lease in leases:
                lease.beat()


_keeper = _Keeper()
_watched: dict[str, _Watch] = {}


def _process() -> dict[str, Any]:
    """What tells this process from all others, of all machines and containers."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "system": _system(),
        "started": round(psutil.Process().create_time(), 1),
    }


def _system() -> str:
    """Which processes can see each other: those of one boot of one machine, and one space of process numbers."""
    found = [socket.gethostname()]
    with contextlib.suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        found.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(found)


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether a holder was a process of this machine, and is no more."""
    if holder.get("system") != _system():
        return False
    try:
        process = psutil.Process(int(holder["pid"]))
        return abs(process.create_time() - float(holder["started"])) > 1 or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (KeyError, TypeError, ValueError, psutil.Error):
        return False
