"""A run served in this process, and requests as viewers and programs make them."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import tensorstore
from numpy.typing import NDArray

from blockwise.backends.local_executor import LocalExecutor
from blockwise.faults import Faults
from pipeline.configuration.settings import load_settings
from pipeline.viewing.gallery import Gallery
from pipeline.viewing.handler import Access
from pipeline.viewing.live.stores import Stores
from pipeline.viewing.server import listen, make_application
from pipeline.viewing.site import Site
from tests.runs import Project

TOKEN = "token"


def computing(project: Project, workers: int, faults: Faults | None = None) -> Site:
    """A run's site with workers, and with other thresholds to try."""
    steps, settings = project.steps(), load_settings(str(project.config))
    stores = Stores(settings, str(project.config), steps)
    return Site.of(steps, LocalExecutor(workers, 120.0, faults), max_attempts=1, stores=stores)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A site at work in a thread.

    Attributes:
        site: what is shown; its methods belong to the thread's loop.
        port: of this machine.
    """

    def __init__(self, site: Site | Gallery, port: int, loop: asyncio.AbstractEventLoop) -> None:
        if isinstance(site, Site):
            self.site = site
        self.port = port
        self.loop = loop

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def page(self) -> str:
        return f"{self.origin}/v/{TOKEN}/"

    def path(self, layer: str) -> str:
        return f"/{TOKEN}/data/{layer}/{self.site.layers[layer].fingerprint}"

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()

    def api(self, call: str, image: str = "", **headers: str) -> Answer:
        """A call of the interface for programs."""
        return self.ask(f"/{TOKEN}{image and '.' + image}/api{call}", **headers)

    def roi(self, layer: str, start: str | None, stop: str | None, more: str = "", image: str = "") -> NDArray[Any]:
        corners = "&".join(f"{n}={v}" for n, v in (("start", start), ("stop", stop)) if v is not None)
        answer = self.api(f"/roi/{layer}?{corners}{more}", image)
        assert answer.status == 200, answer.body
        found: NDArray[Any] = np.load(io.BytesIO(answer.body))
        return found

    def chunk(self, layer: str, *index: int, scale: int = 0) -> NDArray[Any]:
        """A chunk, decoded as its array's document says."""
        about = self.ask(f"{self.path(layer)}/{scale}/.zarray").json
        answer = self.ask(f"{self.path(layer)}/{scale}/{'/'.join(map(str, index))}")
        assert answer.status == 200, answer
        assert about["compressor"]["id"] == "blosc"
        data = np.frombuffer(imagecodecs.blosc_decode(answer.body), about["dtype"])
        return data.reshape(about["chunks"])

    def read_all(self, path: str, scale: int = 0) -> NDArray[Any]:
        """All of a scale of a layer at a path, as TensorStore reads it over HTTP."""
        spec = {"driver": "zarr", "kvstore": {"driver": "http", "base_url": f"{self.origin}{path}/{scale}/"}}
        return np.asarray(tensorstore.open(spec).result().read().result())


@contextmanager
def served(make: Callable[[], Site | Gallery], access: Access | None = None) -> Iterator[Served]:
    """A site that is served while the body runs; what the thread's loop has to complain of fails the test."""
    site = make()
    ready: list[Served] = []
    complaints: list[str] = []
    begun, end = threading.Event(), asyncio.Event()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(repr(context)))
        server, port = listen(make_application(site, access or Access(TOKEN)), "127.0.0.1", 0)
        ready.append(Served(site, port, loop))
        begun.set()
        await end.wait()
        server.stop()
        await server.close_all_connections()
        site.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert begun.wait(60)
    try:
        yield ready[0]
    finally:
        ready[0].loop.call_soon_threadsafe(end.set)
        thread.join(60)
    assert not complaints
