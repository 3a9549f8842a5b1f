"""The interface for programs: layers, status, boxes of voxels."""

from __future__ import annotations

from typing import Any

from pipeline.viewing.handler import Handler
from pipeline.viewing.programs.boxes import box_of
from pipeline.viewing.programs.description import openapi, page
from pipeline.viewing.programs.formats import format_of
from pipeline.viewing.programs.status import layers_status, steps_status
from pipeline.viewing.refusals import RefusedError, nothing_there


class Images(Handler):
    """What there is to choose from, where there are several."""

    of_gallery = True

    async def get(self) -> None:
        """The images."""
        if self.gallery is None:
            raise nothing_there("there is one image only")
        self.write_json(await self.wanted(self.gallery.document(self.access.token)))


class Description(Handler):
    """What there is to ask for."""

    of_gallery = True

    def get(self, ending: str = "") -> None:
        """A page for browsers, OpenAPI for programs."""
        document = openapi(self.token)
        if not ending and "text/html" in self.request.headers.get("Accept", ""):
            self.send_content(page(document).encode(), "text/html; charset=utf-8")
        else:
            self.write_json(document)


class Layers(Handler):
    """What can be looked at."""

    async def get(self) -> None:
        """The layers."""
        self.write_json(await self.wanted(self.site.in_thread(layers_status, self.site, self.token)))


class Status(Handler):
    """How far the run is."""

    async def get(self) -> None:
        """The steps."""
        self.write_json(await self.wanted(self.site.in_thread(steps_status, self.site)))


class Roi(Handler):
    """Boxes of voxels."""

    async def get(self, name: str) -> None:
        """The voxels of a box, computed where they are not there."""
        layer = self.site.layer(name)
        form = format_of(self.get_query_argument("format", "npy"))
        corners = (self.get_query_argument(name, None) for name in ("start", "stop", "channel"))
        box = box_of(layer, *corners)
        form.check(layer, box)
        data = await self.wanted(self.site.box(layer, box))
        content = await self.wanted(self.site.in_thread(form.write, data, layer))
        self.set_header("Content-Disposition", f'attachment; filename="{name}{form.ending}"')
        self.send_content(content, form.media_type)

    head = get


class NoSuchCall(Handler):
    """All other addresses below the interface's."""

    def get(self) -> None:
        """There is nothing; says where the description is."""
        raise RefusedError(404, f"there is no such call; see /{self.token}/api")


def api_rules(shared: dict[str, Any]) -> list[Any]:
    """The interface's addresses, as tornado has rules."""
    base = r"/(?P<token>[^/]+)/api"
    return [
        (rf"{base}/?", Description, shared),
        (rf"{base}/(?P<ending>openapi\.json)", Description, shared),
        (rf"{base}/images", Images, shared),
        (rf"{base}/layers", Layers, shared),
        (rf"{base}/status", Status, shared),
        (rf"{base}/roi/(?P<name>[^/]+)", Roi, shared),
        (rf"{base}/.*", NoSuchCall, shared),
    ]
