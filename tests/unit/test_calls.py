"""Workers that call: who is let in, and who is not."""

from __future__ import annotations

import queue
import socket
import threading
from dataclasses import replace

import pytest

from blockwise.backends.staying import connection
from blockwise.backends.staying.connection import VARIABLE, Call, call, own_hosts
from blockwise.backends.staying.door import Door
from tests.processes import wait_for


def test_who_knows_the_secret_is_let_in_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    callers: queue.SimpleQueue[tuple[str, socket.socket]] = queue.SimpleQueue()
    door = Door(lambda name, link: callers.put((name, link)))
    right = replace(door.call_from("job-1"), hosts=("127.0.0.1",))
    monkeypatch.setenv(VARIABLE, right.to_text())
    assert Call.take_from_environment() == right
    assert connection.os.environ.get(VARIABLE) is None
    silent = socket.create_connection(("127.0.0.1", door.port))
    try:
        refused, why = call(replace(right, key="00" * 32), 5)
        assert refused is None
        assert "127.0.0.1" in why
        link, why = call(replace(right, hosts=("no.such.host.invalid", "127.0.0.1")), 5)  # the next address is tried
        assert link is not None
        name, other_end = callers.get(timeout=60)
        assert name == "job-1"
        link.sendall(b"hello")
        assert other_end.recv(5) == b"hello"
        link.close()
        assert other_end.recv(1) == b""  # the end of one side is seen by the other
        other_end.close()
    finally:
        silent.close()
        door.close()
    assert callers.empty()
    refused, why = call(right, 1)
    assert refused is None
    assert "127.0.0.1: " in why


def test_a_worker_proves_itself_to_none_who_does_not_know_the_secret() -> None:
    """Another program may have got the port of a server that has ended."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        answered, why = None, ""

        def ask() -> None:
            nonlocal answered, why
            answered, why = call(Call("job-1", ("127.0.0.1",), port, "11" * 32), 5)

        thread = threading.Thread(target=ask)
        thread.start()
        link, _ = stranger.accept()
        link.sendall(b"\0\0\0\x05hello")
        link.close()
        thread.join(60)
    wait_for(lambda: not thread.is_alive(), 60)
    assert answered is None
    assert "somebody else answers" in why


def test_own_addresses_end_with_the_loopback() -> None:
    assert own_hosts()[-1] == "127.0.0.1"
    assert len(set(own_hosts())) == len(own_hosts())
