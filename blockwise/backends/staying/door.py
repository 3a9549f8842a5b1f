"""Where workers on other machines call, and who is let in."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Callable

from blockwise.backends.staying.connection import Call, own_hosts, who_calls

MOST_AT_THE_DOOR = 64
"""Callers who have not proved yet who they are; more of them are sent away."""


class Door:
    """A port of this machine, and a thread that waits there.

    Attributes:
        port: where to call.
    """

    def __init__(self, let_in: Callable[[str, socket.socket], None]) -> None:
        """Open a port.

        Args:
            let_in: is called, in some thread, with the name of a job that has called, and the connection.

        Raises:
            OSError: no port is to be had.
        """
        self._let_in = let_in
        self._key = secrets.token_hex(32)
        self._at_the_door = threading.BoundedSemaphore(MOST_AT_THE_DOOR)
        self._socket = socket.create_server(("", 0), backlog=MOST_AT_THE_DOOR)
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._wait, name="door", daemon=True).start()

    def call_from(self, name: str) -> Call:
        """What a job of this name must know to call."""
        return Call(name, own_hosts(), self.port, self._key)

    def close(self) -> None:
        """Let nobody in any more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes who waits there
        self._socket.close()

    def _wait(self) -> None:
        while True:
            try:
                link, _ = self._socket.accept()
            except ConnectionError:
                continue
            except OSError:
                return
            if not self._at_the_door.acquire(blocking=False):
                link.close()
                continue
            threading.Thread(target=self._answer, args=(link,), name="caller", daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        try:
            name = who_calls(link, self._key)
        finally:
            self._at_the_door.release()
        if name is None:
            link.close()
        else:
            self._let_in(name, link)
