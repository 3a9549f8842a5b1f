"""The server: addresses, what is answered there, and what is answered to what nobody should ask."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tornado.httpserver
import tornado.netutil
import tornado.web

from pipeline.viewing.chunks import read_chunk
from pipeline.viewing.client import PANEL, START, client_files, compressed, mime_type, page
from pipeline.viewing.first_look import PICTURE, picture, place
from pipeline.viewing.gallery import BETWEEN, Gallery
from pipeline.viewing.gallery import page as list_page
from pipeline.viewing.handler import Access, Handler
from pipeline.viewing.held import Held, browser_of
from pipeline.viewing.images.keys import chunk_at, document, documents
from pipeline.viewing.live.handlers import trial_rules
from pipeline.viewing.panel.handlers import panel_rules
from pipeline.viewing.programs.handlers import api_rules
from pipeline.viewing.refusals import RefusedError, nothing_there
from pipeline.viewing.site import Site

MOST_BODY = 1 << 20
"""Bytes of a request's content: the viewer sends its state."""
SILENCE_S = 60.0
"""A connection on which nothing is asked ends after this time."""


class NotHere(Handler):
    """All other addresses."""

    async def prepare(self) -> None:
        """There is nothing."""
        raise nothing_there()


class Favicon(Handler):
    """Browsers ask for it, without a token."""

    async def prepare(self) -> None:
        """Anybody may know that there is none."""

    def get(self) -> None:
        """There is none."""
        self.set_status(204)


class Page(Handler):
    """The viewer's page and its files."""

    files: dict[str, Path]
    of_gallery = True

    async def get(self, name: str) -> None:
        """A file of the client, or the script that gives it its first state; of several images a list."""
        if self.gallery is not None and BETWEEN not in self.token:
            if name:
                raise nothing_there()
            images = await self.gallery.document(self.access.token)
            self.send_content(list_page(self.gallery.title, images["images"]).encode(), mime_type("index.html"))
        elif name == START:
            self.site.presence.look_again()
            state = await self.wanted(self.site.state(self.token))
            self.send_content(
                start_script(state, self._documents(), place(self.site, state)).encode(), mime_type(START)
            )
        elif name == PICTURE:
            await self._send_picture()
        elif name in ("", "index.html"):
            self.send_content(page(self.files), mime_type("index.html"))
        elif name in self.files:
            await self._send_file(self.files[name])
        else:
            raise nothing_there()

    head = get

    async def _send_picture(self) -> None:
        """Send what is seen until the viewer has drawn; nothing where that would take as long."""
        content = await self.wanted(picture(self.site, await self.site.state(self.token)))
        if content:
            self.send_content(content, mime_type(PICTURE))
        else:
            self.set_status(204)

    async def _send_file(self, path: Path) -> None:
        """Send a file of the client, whose name changes with its content, or of the panel, whose name does not."""
        read = path.read_bytes
        if path.parent != PANEL:
            self.set_header("Cache-Control", "max-age=86400, immutable")
            self.set_header("Vary", "Accept-Encoding")
            if "gzip" in self.request.headers.get("Accept-Encoding", ""):
                self.set_header("Content-Encoding", "gzip")
                read = functools.partial(compressed, path)
        self.send_content(await self.site.in_thread(read), mime_type(path.name))

    def _documents(self) -> dict[str, str]:
        """What viewers ask of each layer before they ask for its voxels, by address."""
        return {
            f"/{self.token}/data/{layer.name}/{layer.fingerprint}/{key}": found.decode()
            for layer in self.site.layers.values()
            for key, found in documents(layer)
        }


def start_script(state: Mapping[str, Any], documents: Mapping[str, str], first_look: Mapping[str, Any]) -> str:
    """A script that gives a page this state if it is opened without one, and what the viewer would ask for first.

    Args:
        state: of the viewer.
        documents: contents by address, for ``quiet.js``.
        first_look: where the picture lies that is seen first, for ``look.js``.
    """
    return (
        f"window.documentsOfLayers = {json.dumps(documents)};\n"
        "if (location.hash.length < 3) {\n"
        f"  const state = {json.dumps(json.dumps(state))}.replaceAll('{{origin}}', location.origin);\n"
        "  history.replaceState(null, '', '#!' + encodeURIComponent(state));\n"
        f"  window.firstLook = {json.dumps(first_look)};\n"
        "}\n"
    )


class State(Handler):
    """Where the client tells of changes to its state, which lives in its address."""

    def post(self) -> None:
        """Say that it was heard."""
        try:
            message = json.loads(self.request.body)
            self.write_json({"g": f"{message['c']}/{message['g']}"})
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RefusedError(400, "expected JSON with c and g") from None


class Data(Handler):
    """The layers, each a virtual OME-Zarr image."""

    held: Held

    async def get(self, name: str, fingerprint: str, key: str) -> None:
        """A document or a chunk."""
        layer = self.site.layer(name, fingerprint)
        found = document(layer, key)
        if found is not None:
            self.send_content(found, "application/json")
            return
        chunk = chunk_at(layer, key)
        if chunk is None:
            raise nothing_there(f"layer {name} has no {key!r}")
        known = self.request.headers.get("If-None-Match", "").strip('"')
        work = functools.partial(read_chunk, self.site, layer, key, chunk, known)
        browser = browser_of(str(self.request.remote_ip), self.request.headers.get("User-Agent", ""))
        content = await self.wanted(work() if browser is None else self.held.wait(browser, work))
        self.set_header("Cache-Control", "private, no-cache")  # to be kept, and asked for again
        self.set_header("Etag", f'"{content.tag}"')
        if known == content.tag:
            self.set_status(304)
            return
        self.send_content(content.data, "application/octet-stream")

    head = get


def make_application(site: Site | Gallery, access: Access) -> tornado.web.Application:
    """The application of a site, or of several to choose from.

    Args:
        site: what is shown.
        access: who may read.
    """
    shared = {"site": site, "access": access}
    first = r"(?P<token>[^/]+)"
    rules = [
        (rf"/v/{first}/(?P<name>[^/]*)", Page, shared | {"files": client_files()}),
        (rf"/state/{first}", State, shared),
        (r"/favicon\.ico", Favicon, shared),
        (rf"/{first}/data/(?P<name>[^/]+)/(?P<fingerprint>[^/]+)/(?P<key>.+)", Data, shared | {"held": Held()}),
        *panel_rules(shared),
        *trial_rules(shared),
        *api_rules(shared),
    ]
    return tornado.web.Application(
        rules,
        default_handler_class=NotHere,
        default_handler_args=shared,
        log_function=lambda handler: None,
        cors=access.cors,
        compress_response=False,
    )


def listen(application: tornado.web.Application, host: str, port: int) -> tuple[tornado.httpserver.HTTPServer, int]:
    """Begin to answer; to be called where an event loop runs.

    Args:
        application: what answers.
        host: on which address of this machine.
        port: 0 for any that is free.

    Returns:
        The server, and its port.

    Raises:
        OSError: the port is taken, or the address is none of this machine.
    """
    sockets = tornado.netutil.bind_sockets(port, host)
    server = tornado.httpserver.HTTPServer(
        application, max_body_size=MOST_BODY, max_header_size=1 << 16, idle_connection_timeout=SILENCE_S,
        body_timeout=SILENCE_S,
    )  # fmt: skip
    server.add_sockets(sockets)
    return server, int(sockets[0].getsockname()[1])
