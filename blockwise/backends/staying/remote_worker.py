"""A worker in a job, to which there is a connection."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable

from blockwise.advice import Advice
from blockwise.backends.staying.jobs import Fate
from blockwise.backends.worker_link import WorkerLink
from blockwise.backends.worker_process import open_log
from blockwise.step import BlockStep


class RemoteWorker(WorkerLink):
    """See ``WorkerLink``.

    Attributes:
        fate: what has become of it, when it has ended; None before, and where nobody knows.
    """

    def __init__(
        self, link: socket.socket, title: Callable[[], str], ask_fate: Callable[[], Fate | None], advice: Advice
    ) -> None:
        """Take a connection.

        Args:
            link: the connection.
            title: gives that of the job, for people, whose id may not be known yet.
            ask_fate: gives what the scheduler says of a job that has ended; may wait a moment for it.
            advice: for blocks that fail for want of memory or time.
        """
        super().__init__(link.fileno(), link.makefile("wb"), advice, "on-demand")
        self.fate: Fate | None = None
        self.order = None
        self._link = link
        self._title = title
        self._ask_fate = ask_fate

    @property
    def title(self) -> str:
        """See ``WorkerLink``."""
        return self._title()

    @property
    def is_gone(self) -> bool:
        """Whether a worker that has nothing to do has ended: it would say nothing otherwise."""
        waiting = select.poll()  # not select(), which knows no more than 1024 open files
        waiting.register(self._link, select.POLLIN)
        return bool(waiting.poll(0))

    def serves(self, step: BlockStep) -> bool:
        """Whether it has prepared for a step."""
        return getattr(self, "step", None) == step

    def begin(self, step: BlockStep, number: int) -> None:
        """See ``WorkerLink``."""
        self.log = step.logs / f"{self._log_name}-{number}.log"
        open_log(self.log).close()  # where nothing can be written is for this process to tell
        super().begin(step, number)

    def end(self, why: str) -> tuple[str, bool]:
        """See ``WorkerLink``."""
        self.hang_up()
        if why:
            return why, False
        self.fate = self._ask_fate()
        return (self.fate.text if self.fate else "the connection to it has ended"), False

    def hang_up(self) -> None:
        """End the connection, and so the worker; whoever waits for its answers finds that they have ended."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection; to be called when nobody waits for answers."""
        self.hang_up()
        with contextlib.suppress(OSError):
            self._writing.close()
        self._link.close()
