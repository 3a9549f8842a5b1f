"""A proxy on this machine before a store: it counts requests, and answers badly where it is told to."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.contract.servers import Quick, serving

KEPT = ("content-type", "etag", "last-modified", "content-range", "x-goog-generation", "date")
"""Headers of an answer that are handed on."""


@dataclass
class Weather:
    """How well the store answers; may change while it is asked.

    Attributes:
        refused: share of requests that are answered by 503 and not handed on.
        lost: share of requests that are handed on, and whose answer is not.
        slow: share of requests whose answer takes ``slow_s`` longer.
        conflicts: share of conditional writes that are answered by 409.
        down: nothing is answered but 503.
        asked: requests by kind: ``GET``, ``HEAD``, ``LIST``, ``PUT``, ``DELETE``.
        spoilt: what has happened to them.
    """

    refused: float = 0.0
    lost: float = 0.0
    slow: float = 0.0
    slow_s: float = 0.5
    conflicts: float = 0.0
    down: bool = False
    asked: Counter[str] = field(default_factory=Counter)
    actions: dict[int, Callable[[], None]] = field(default_factory=dict)
    spoilt: Counter[str] = field(default_factory=Counter)
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    mutex: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def at_request(self, number: int, action: Callable[[], None]) -> Iterator[None]:
        """While the body runs, do something when the so many-th request from now comes in, before it is handed on."""
        self.actions[sum(self.asked.values()) + number] = action
        yield
        self.actions.clear()

    def count(self, kind: str) -> None:
        with self.mutex:
            self.asked[kind] += 1
            action = self.actions.pop(sum(self.asked.values()), None)
        if action is not None:
            action()

    def happens(self, what: str) -> bool:
        with self.mutex:
            found = self.dice.random() < float(getattr(self, what))
            self.spoilt[what] += found
            return found


@contextmanager
def before(url: str, weather: Weather) -> Iterator[str]:
    """URL of a proxy before a server."""
    host = urlsplit(url).netloc
    local = threading.local()

    class Proxy(Quick):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = "LIST" if self.command == "GET" and "list-type" in self.path else self.command
            weather.count(kind)
            if weather.down or weather.happens("refused"):
                self.answer(503)
                return
            is_conditional = kind == "PUT" and ("If-Match" in self.headers or "If-None-Match" in self.headers)
            if is_conditional and weather.happens("conflicts"):
                self.answer(409)
                return
            status, headers, answer = self.hand_on(content)
            if weather.happens("slow"):
                time.sleep(weather.slow_s)
            if weather.happens("lost"):
                self.close_connection = True
                return
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() in KEPT:
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers}.get("content-length", "0")
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_HEAD = do_PUT = do_DELETE = do_POST = do_GET

        def hand_on(self, content: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            for again in (True, False):
                connection = getattr(local, "connection", None)
                if connection is None:
                    connection = local.connection = http.client.HTTPConnection(host, timeout=60)
                try:
                    headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                    connection.request(self.command, self.path, content or None, headers)
                    answer = connection.getresponse()
                    return answer.status, answer.getheaders(), answer.read()
                except (OSError, http.client.HTTPException):
                    connection.close()
                    local.connection = None
                    if not again:
                        raise
            raise AssertionError

    with serving(Proxy) as address:
        yield address
