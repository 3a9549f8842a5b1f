"""``blockwise-ilastik view``: serve a run, print where, and open it."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path

from blockwise.demand.presence import stands_alone
from blockwise.errors import UserError
from blockwise.files import replacing
from pipeline.viewing.first_look import picture
from pipeline.viewing.gallery import Gallery
from pipeline.viewing.handler import Access, new_token
from pipeline.viewing.programs.boxes import parse_roi
from pipeline.viewing.programs.formats import format_of
from pipeline.viewing.refusals import RefusedError
from pipeline.viewing.server import listen, make_application
from pipeline.viewing.site import Site

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Wishes:
    """How a run is to be served.

    Attributes:
        host: address of this machine to be reached at.
        port: 0 for any that is free.
        browser: whether to open the page, where there is a display.
        cors: whether pages of other servers may read.
    """

    host: str = "127.0.0.1"
    port: int = 0
    browser: bool = True
    cors: bool = False


def view(site: Site | Gallery, wishes: Wishes) -> None:
    """Serve a site, or several to choose from, until somebody ends it.

    Raises:
        UserError: it cannot be served at this address, or the viewer's page is not installed.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("blockwise").setLevel(logging.INFO)  # such as jobs that are waited for
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(site, wishes))
    finally:
        site.close()


def compute_once(site: Site, roi: str, target: str) -> str:
    """Write a box of a layer into a file, computing what is not there; what was written, for people.

    Args:
        site: what there is.
        roi: the box; see ``parse_roi``.
        target: path; its ending says the format.

    Raises:
        UserError: there is no such box, it cannot be computed, or the file cannot be written.
    """
    try:
        form = format_of(Path(target).suffix.lstrip("."))
        layer, box = parse_roi(roi, _last_on_demand(site), site.layer)
        form.check(layer, box)
        content = form.write(asyncio.run(site.box(layer, box)), layer)
        with replacing(Path(target)) as temporary:
            temporary.write_bytes(content)
    except RefusedError as error:
        raise UserError(f"view --once {roi} {target}: {error.error}") from error
    except OSError as error:
        raise UserError(f"view --once {roi} {target}: cannot be written: {error.strerror or error}") from error
    finally:
        site.close()
    return f"{target}: {layer.name}, axes {layer.axes}, from {[s.start for s in box]} to {[s.stop for s in box]}"


def _last_on_demand(site: Site) -> str:
    """Name of the uppermost layer that can be computed box by box."""
    alone = [layer.name for layer in site.layers.values() if layer.step is None or stands_alone(layer.step)]
    return alone[-1]


async def _serve(site: Site | Gallery, wishes: Wishes) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    access = Access(new_token(), wishes.cors)
    application = make_application(site, access)
    try:
        server, port = listen(application, wishes.host, wishes.port)
    except OSError as error:
        raise UserError(
            f"{wishes.host}:{wishes.port}: cannot be served there: {error.strerror or error}; give another --port, "
            "or none for any that is free"
        ) from error
    url = page_address(wishes.host, port, access.token)
    print(url, flush=True)
    if line := tunnel_line(wishes.host, port):
        print(line, file=sys.stderr, flush=True)
    if wishes.browser and has_display():
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    preparing = asyncio.create_task(_prepare(site, access.token))
    await ended.wait()
    preparing.cancel()
    server.stop()
    await server.close_all_connections()


async def _prepare(site: Site | Gallery, token: str) -> None:
    """Open, and load, what the first page needs, while its browser begins."""
    if isinstance(site, Site):
        with contextlib.suppress(Exception):  # whoever opens the page is told
            await picture(site, await site.state(token))


def page_address(host: str, port: int, token: str) -> str:
    """Address of the page."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host  # noqa: S104 (it is compared, not bound)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/v/{token}/"


def tunnel_line(host: str, port: int) -> str:
    """How to bring the page to one's desk, where this machine is another one; empty where it is not."""
    if host not in LOOPBACK or not os.environ.get("SSH_CONNECTION"):
        return ""
    return (
        f"on your own machine: ssh -N -L {port}:127.0.0.1:{port} {getpass.getuser()}@{socket.getfqdn()}  "
        "and open the address above there"
    )


def has_display() -> bool:
    """Whether a browser would be seen by whoever has started this."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
