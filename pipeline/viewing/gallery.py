"""Several images to choose from, each looked at as a site of its own."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from blockwise.errors import UserError
from pipeline.viewing.refusals import RefusedError, nothing_there
from pipeline.viewing.site import Site

BETWEEN = "."
"""Stands between the token and an image's name; tokens have none in them."""


class Gallery:
    """Images by name.

    Attributes:
        title: of all of them together.
        names: of the images, in their order.
    """

    def __init__(
        self,
        title: str,
        names: Sequence[str],
        open_site: Callable[[str], Site],
        states: Callable[[], Mapping[str, str]],
        is_outdated: Callable[[str], bool],
        end: Callable[[], None],
    ) -> None:
        """Make a gallery.

        Args:
            title: see above.
            names: see above.
            open_site: opens an image; UserError where it cannot be.
            states: how far images are, by name, for people.
            is_outdated: whether what was opened of an image is to be opened anew.
            end: lets go of what all sites share.
        """
        self.title = title
        self.names = tuple(names)
        self._open_site = open_site
        self._states = states
        self._is_outdated = is_outdated
        self._end = end
        self._sites: dict[str, Site] = {}
        self._opening: dict[str, asyncio.Lock] = {}

    async def site(self, name: str) -> Site:
        """The site of an image, opened when it is asked for first.

        Raises:
            RefusedError: there is no such image, or it cannot be opened.
        """
        if name not in self.names:
            raise nothing_there(f"there is no image {name!r:.100}")
        async with self._opening.setdefault(name, asyncio.Lock()):
            if name in self._sites and await asyncio.to_thread(self._is_outdated, name):
                self._sites.pop(name).close()
            if name not in self._sites:
                try:
                    self._sites[name] = await asyncio.to_thread(self._open_site, name)
                except (UserError, OSError) as error:
                    raise RefusedError(500, f"image {name}: {error}", image=name) from error
            return self._sites[name]

    async def document(self, token: str) -> dict[str, Any]:
        """The images, and how far each is."""
        states = await asyncio.to_thread(self._states)
        images = [
            {
                "name": name,
                "state": states.get(name, ""),
                "page": f"/v/{token}{BETWEEN}{quote(name)}/",
                "api": f"/{token}{BETWEEN}{quote(name)}/api",
            }
            for name in self.names
        ]
        return {"images": images}

    def close(self) -> None:
        """Let go of everything."""
        for site in self._sites.values():
            site.close()
        self._end()


def page(title: str, images: Sequence[Mapping[str, str]]) -> str:
    """The images as a page to choose from."""
    rows = "".join(
        f"<tr><td><a href='{html.escape(image['page'])}'>{html.escape(image['name'])}</a>"
        f"<td>{html.escape(image['state'])}"
        for image in images
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p>{len(images):,} images</p><table>{rows}</table></html>"
    )


_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em;color:#222}"
    "td{padding:.1em 2em .1em 0}"
)
