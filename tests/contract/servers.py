"""Servers on this machine for the remote stores; each speaks as much of its protocol as TensorStore uses."""

from __future__ import annotations

import asyncio
import http.server
import itertools
import json
import logging
import re
import socket
import ssl
import threading
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.wsgi import WSGIContainer

_QUEUE = 128
"""Connections that may wait; those beyond the usual five try again after a whole second."""


class Quick(http.server.BaseHTTPRequestHandler):
    """Answers in one packet, because half answers wait 40 ms for an acknowledgement, and logs nothing."""

    wbufsize = 1 << 16
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


def wanted(header: str | None, size: int) -> slice | None:
    """The bytes that a Range header asks for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if not match:
        return None
    if not match[1]:
        return slice(max(0, size - int(match[2])), size)
    return slice(int(match[1]), min(size, int(match[2]) + 1) if match[2] else size)


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = _QUEUE


@contextmanager
def serving(handler: Any, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """URL of a server that answers by a handler."""
    server = _Server(("127.0.0.1", 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def files(folder: Path) -> type[Quick]:
    """A web server for a folder, with byte ranges and without entity tags."""

    class Files(Quick):
        def do_GET(self) -> None:
            path = folder / unquote(self.path).lstrip("/")
            if not path.is_file():
                self.answer(404)
                return
            content = path.read_bytes()
            part = wanted(self.headers.get("Range"), len(content))
            if part is None:
                self.answer(200, content)
                return
            shown = f"bytes {part.start}-{part.stop - 1}/{len(content)}"
            self.answer(206, content[part], Content_Range=shown)

    return Files


class Scripted(Quick):
    """Answers every request with the next status of a list, the last one for ever; ``0`` is no answer at all."""

    script: tuple[int, ...] = (404,)
    asked = 0
    over: threading.Event

    def do_GET(self) -> None:
        status = self.script[min(type(self).asked, len(self.script) - 1)]
        type(self).asked += 1
        if status == 0:
            self.over.wait()
            self.close_connection = True
            return
        self.answer(status)

    do_HEAD = do_PUT = do_GET


@contextmanager
def scripted(*statuses: int) -> Iterator[tuple[str, type[Scripted]]]:
    """URL of a server that answers by a list, and its class, which counts what it was asked."""
    handler = type("Handler", (Scripted,), {"script": statuses, "asked": 0, "over": threading.Event()})
    with serving(handler) as url:
        yield url, handler
        handler.over.set()


@contextmanager
def s3() -> Iterator[str]:
    """URL of an S3 server with the bucket ``bucket``.

    Its conditional writes look first and write then; of S3 both are one, so here writes come one after the other.
    """
    from moto.moto_server.werkzeug_app import create_backend_app

    # Of all that moto stands for, S3 alone: to ask whom a request is for, it looks through its own folder each time.
    with _served(create_backend_app("s3")) as url:
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
        yield url


@contextmanager
def _served(app: Callable[..., Any]) -> Iterator[str]:
    """URL of a WSGI application, which is asked one thing after the other.

    The server that comes with moto takes a thread for each, and ten milliseconds to end it.
    """
    loop = asyncio.new_event_loop()
    sockets = bind_sockets(0, "127.0.0.1", backlog=_QUEUE)

    async def serve() -> HTTPServer:
        server = HTTPServer(WSGIContainer(app), no_keep_alive=True)
        server.add_sockets(sockets)
        return server

    async def end(server: HTTPServer) -> None:
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(serve(), loop).result()
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def gs() -> Iterator[str]:
    """URL of a Google Cloud Storage emulator with the bucket ``bucket``.

    The emulator knows neither ranges from the end nor generations, nor writes that expect one, nor empty objects, as
    Google does; all of it is put right here.
    """
    from gcp_storage_emulator import server as emulator
    from gcp_storage_emulator.handlers import objects

    generations: dict[tuple[str, str], int] = {}
    numbers = itertools.count(1_700_000_000_000_000)

    class Handler(emulator.RequestHandler):  # type: ignore[misc]
        wbufsize = 1 << 16
        content: bytes | None = None
        generation = 0

        def do_GET(self) -> None:
            match = re.fullmatch(r".*/b/([^/]+)/o/([^?]+)\?.*alt=media.*", self.path)
            name = (match[1], unquote(match[2])) if match else ("", "")
            self.content = self.object(name) if match else None
            self.generation = generations.get(name, 0)
            part = None if self.content is None else wanted(self.headers.get("Range"), len(self.content))
            if part is not None and not self.content:
                self.answer(416, {})
            elif part is not None:
                self.headers.replace_header("Range", f"bytes={part.start}-{part.stop - 1}")
            if part is None or self.content:
                super().do_GET()

        def do_POST(self) -> None:
            address = urlsplit(self.path)
            query = dict(parse_qsl(address.query))
            match = re.fullmatch(r".*/upload/storage/v1/b/([^/]+)/o", address.path)
            if match is None or query.get("uploadType") != "media":
                super().do_POST()
                return
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            name = match[1], query["name"]
            if self.is_refused(name, query):
                self.answer(412, {})
                return
            described = objects._make_object_resource("", *name, "application/octet-stream", str(len(content)))
            generations[name] = next(numbers)
            described["generation"] = str(generations[name])
            self.storage.create_file(*name, content, objects._checksums(content, described))
            self.answer(200, described)

        def do_DELETE(self) -> None:
            address = urlsplit(self.path)
            match = re.fullmatch(r".*/b/([^/]+)/o/([^?]+)", address.path)
            name = (match[1], unquote(match[2])) if match else ("", "")
            if self.is_refused(name, dict(parse_qsl(address.query))):
                self.answer(412, {})
                return
            generations.pop(name, None)
            super().do_DELETE()

        def object(self, name: tuple[str, str]) -> bytes | None:
            try:
                found: bytes = self.storage.get_file(*name)
            except Exception:  # the emulator's own answer says what is wrong
                return None
            return found

        def is_refused(self, name: tuple[str, str], query: dict[str, str]) -> bool:
            expected = query.get("ifGenerationMatch")
            present = 0 if self.object(name) is None else generations.get(name, 0)
            return expected is not None and int(expected) != present

        def answer(self, status: int, value: dict[str, Any]) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            super().end_headers()
            self.wfile.write(content)

        def end_headers(self) -> None:
            if self.content is not None:
                self.send_header("x-goog-generation", str(self.generation or zlib.crc32(self.content) + 1))
            super().end_headers()

    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulator, "RequestHandler", Handler)
        patch.setattr("gcp_storage_emulator.storage.Storage._write_config_to_file", lambda _: None)  # nothing is kept
        patch.setattr(http.server.HTTPServer, "request_queue_size", _QUEUE)
        server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
        server.start()
        yield f"http://127.0.0.1:{port}"
        server.stop()
