"""What all answers of the server share: who may read, who still waits, what is answered to what cannot be."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import tornado.web

from blockwise.errors import UserError
from pipeline.viewing.gallery import BETWEEN, Gallery
from pipeline.viewing.refusals import RefusedError, nothing_there
from pipeline.viewing.site import Site

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Access:
    """Who may read.

    Attributes:
        token: part of each address; whoever knows it may.
        cors: whether pages of other servers may, too.
    """

    token: str
    cors: bool = False


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(16)


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


class Handler(tornado.web.RequestHandler):
    """What all answers share."""

    site: Site
    gallery: Gallery | None
    access: Access
    token: str
    of_gallery = False
    """Whether it answers for all images, too."""
    _work: asyncio.Future[Any] | None = None

    def initialize(self, site: Site | Gallery, access: Access, **more: Any) -> None:
        """Take what the application has: one site, or several to choose from."""
        self.gallery = site if isinstance(site, Gallery) else None
        if isinstance(site, Site):
            self.site = site
        self.access = access
        self.__dict__.update(more)

    async def prepare(self) -> None:
        """Refuse who does not know the token: an address with another one is like any that there is not.

        Of several images one is chosen by what comes after the token.
        """
        token, has_name, name = self.path_kwargs.pop("token", "").partition(BETWEEN)
        if not secrets.compare_digest(token.encode(), self.access.token.encode()):
            raise nothing_there()
        if self.gallery is None and has_name:
            raise nothing_there()
        if self.gallery is not None and has_name:
            self.site = await self.gallery.site(name)
        elif self.gallery is not None and not self.of_gallery:
            raise nothing_there(f"choose an image: /{self.access.token}/api/images names them")
        self.token = token + has_name + name

    def set_default_headers(self) -> None:
        """Who may read, and that nobody should guess what an answer is."""
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")
        if self.application.settings["cors"]:
            self.set_header("Access-Control-Allow-Origin", "*")
            self.set_header("Access-Control-Allow-Headers", "range, if-none-match")
            self.set_header("Access-Control-Expose-Headers", "*")

    def options(self, *_: str, **__: str) -> None:
        """What browsers ask before they ask."""
        self.set_status(204)

    def compute_etag(self) -> str | None:
        """No digest over whole answers: chunks have tags of their own."""
        return None

    async def wanted(self, work: Awaitable[T]) -> T:
        """Wait for work that is given up when whoever asked for it has gone.

        Raises:
            AbandonedError: he has.
        """
        future: asyncio.Future[T] = asyncio.ensure_future(work)
        self._work = future
        try:
            return await future
        except asyncio.CancelledError:
            raise AbandonedError from None

    def on_connection_close(self) -> None:
        """Give up what nobody waits for."""
        if self._work is not None:
            self._work.cancel()

    def write_json(self, document: Mapping[str, Any]) -> None:
        """Answer with JSON."""
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(document))

    def write_error(self, status_code: int, **about: Any) -> None:
        """Errors are JSON."""
        error = about["exc_info"][1] if "exc_info" in about else None
        if isinstance(error, RefusedError):
            self.set_status(error.status)
            if error.status == 503:
                self.set_header("Retry-After", "1")
            document = error.document()
        elif isinstance(error, UserError | OSError):
            document = {"error": str(error), "status": status_code}
        else:
            reason = getattr(error, "reason", None) or self._reason
            document = {"error": str(reason), "status": status_code}
        if not self._headers_written:
            self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document))

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """Log what should not be; what was refused is no news."""
        if not isinstance(error, RefusedError | AbandonedError | UserError | tornado.web.HTTPError):
            logger.error("%s %s", self.request.method, self.request.path, exc_info=(kind, error, trace))

    def send_content(self, content: bytes, kind: str) -> None:
        """Answer a GET with bytes, and a HEAD with their number."""
        self.set_header("Content-Type", kind)
        self.set_header("Content-Length", str(len(content)))
        if self.request.method != "HEAD":
            self.write(content)
