"""``blockwise-ilastik view``: serve a run, print where, and open it."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import signal
import socket
import sys
import threading
import webbrowser
from dataclasses import dataclass

from blockwise.errors import UserError
from pipeline.viewing.server import Access, listen, make_application, new_token
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


def view(site: Site, wishes: Wishes) -> None:
    """Serve a site until somebody ends it.

    Raises:
        UserError: it cannot be served at this address, or the viewer's page is not installed.
    """
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(site, wishes))
    finally:
        site.close()


async def _serve(site: Site, wishes: Wishes) -> None:
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
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    server.stop()
    await server.close_all_connections()


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
