"""How a worker on another machine is reached: it calls, and both sides prove that they know the same secret.

What is said afterwards is not encrypted, as little as what lies in a shared folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

import psutil

VARIABLE = "BLOCKWISE_CALL"
"""Of the environment of a job, where its ``Call`` stands: others may see the arguments of a program, not these."""

GREETING_S = 10.0
"""How long the other side may take to prove who it is."""

SILENT_S = 5
PROBES = 3
GONE_S = SILENT_S * (PROBES + 1)
"""A machine that answers nothing for so long, in seconds, has gone. A process that dies is noticed at once."""


@dataclass(frozen=True)
class Call:
    """Whom a job is to call.

    Attributes:
        name: of the job.
        hosts: names and addresses of the machine; not every network knows each of them.
        port: of it.
        key: secret of both sides, in hexadecimal digits.
    """

    name: str
    hosts: tuple[str, ...]
    port: int
    key: str

    def to_text(self) -> str:
        """For the environment of a job."""
        return json.dumps(asdict(self))

    @classmethod
    def take_from_environment(cls) -> Call:
        """What stands in the environment; from now on it does not."""
        values = json.loads(os.environ.pop(VARIABLE))
        return cls(**values | {"hosts": tuple(values["hosts"])})


def own_hosts() -> tuple[str, ...]:
    """Names and addresses of this machine, those first that others are most likely to know."""
    found = [socket.gethostname(), socket.getfqdn()]
    for addresses in psutil.net_if_addrs().values():
        found += [a.address for a in addresses if a.family == socket.AF_INET]
    outside = [host for host in dict.fromkeys(found) if not host.startswith("127.")]
    return (*outside, "127.0.0.1")


def call(whom: Call, limit_s: float) -> tuple[socket.socket | None, str]:
    """Call who has asked for a worker, and say who calls.

    Args:
        whom: who.
        limit_s: longest time to wait for one address.

    Returns:
        The connection, and nothing; or None, and why there is none, for people.
    """
    why = []
    for host in whom.hosts:
        try:
            link = socket.create_connection((host, whom.port), limit_s)
        except OSError as error:
            why.append(f"{host}: {error.strerror or error}")
            continue
        try:
            keep_watch(link)
            with _speaking(link) as speech:
                answer_challenge(speech, bytes.fromhex(whom.key))
                deliver_challenge(speech, bytes.fromhex(whom.key))
                speech.send_bytes(whom.name.encode())
            return link, ""
        except (OSError, EOFError, AuthenticationError) as error:
            link.close()
            why.append(f"{host}: somebody else answers ({error or type(error).__name__})")
    return None, "; ".join(why)


def who_calls(link: socket.socket, key: str) -> str | None:
    """The name of the job that calls; None where whoever calls does not know the secret."""
    try:
        keep_watch(link)
        with _speaking(link) as speech:
            deliver_challenge(speech, bytes.fromhex(key))
            answer_challenge(speech, bytes.fromhex(key))
            return speech.recv_bytes(1000).decode(errors="replace")
    except (OSError, EOFError, AuthenticationError):
        return None


def keep_watch(link: socket.socket) -> None:
    """Have the kernel break a connection whose other machine has gone."""
    link.setblocking(True)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    values = {
        "TCP_KEEPIDLE": SILENT_S, "TCP_KEEPINTVL": SILENT_S, "TCP_KEEPCNT": PROBES, "TCP_USER_TIMEOUT": 1000 * GONE_S,
    }  # fmt: skip
    for name, value in values.items():
        if hasattr(socket, name):  # as on Linux
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@contextlib.contextmanager
def _speaking(link: socket.socket) -> Iterator[Connection]:
    """A connection while both sides prove who they are, in whole messages; neither waits long for the other."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(GREETING_S), 0))
    with Connection(os.dup(link.fileno())) as speech:
        try:
            yield speech
        except AssertionError as error:  # so it meets what is no challenge at all
            raise AuthenticationError("it does not know how to ask") from error
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
