"""Addresses under which values are tried."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from blockwise.errors import UserError
from blockwise.grid import Box
from pipeline.viewing.colours import as_hex
from pipeline.viewing.handler import Handler
from pipeline.viewing.live.stores import Trial
from pipeline.viewing.live.trying import mask_layer, objects_in, stores_of, trial_of, write_configuration
from pipeline.viewing.live.values import values_of
from pipeline.viewing.refusals import RefusedError
from pipeline.viewing.state import ORIGIN, layer_state

MASK, OBJECTS, PROVISIONAL = "tried mask", "tried objects", "tried objects, provisional"
"""Names of layers in the viewer."""


class TrialHandler(Handler):
    """What is told of a trial."""

    def document(self) -> dict[str, Any]:
        """The request's JSON.

        Raises:
            RefusedError: 400: it is none, or no mapping.
        """
        try:
            found = json.loads(self.request.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise RefusedError(400, 'expected JSON such as {"name": "", "values": {"threshold": 0.5}}')
        return found

    async def trial(self, document: Mapping[str, Any]) -> Trial:
        """The trial that a request is about; errors as of ``trial_of``."""
        name, values = document.get("name", ""), document.get("values", {})
        if not isinstance(name, str) or not isinstance(values, dict):
            raise RefusedError(400, "expected name as text, and values as a mapping")
        return await self.site.in_thread(trial_of, self.site, name, values)  # it may look at the raw volume

    def layer_state(self, layer: Any, name: str) -> dict[str, Any]:
        """A layer of the viewer; see ``first_state``."""
        return layer_state(layer, name, f"{ORIGIN}/{self.token}/data", self.site.colours())


class Trials(TrialHandler):
    """The values that can be moved, and masks of what they are moved to."""

    def get(self) -> None:
        """The configuration's values, and those of a mask that is shown."""
        stores = stores_of(self.site)
        steps = stores.steps
        colours, trial = self.site.colours(), stores.known(self.get_query_argument("fingerprint", ""))
        names = steps.prediction.class_names
        self.write_json(
            {
                "thresholds": [
                    {"name": one.name or "", "values": values_of(one)} for one in stores.settings.threshold
                ],
                "classes": [
                    {"index": i, "name": names[i], "colour": as_hex(colours[names[i]])}
                    for i in steps.prediction.classes
                ],
                "shown": trial and {"name": trial.threshold.name or "", "values": values_of(trial.threshold)},
            }
        )

    async def post(self) -> None:
        """Try values: gives a layer of the viewer, whose chunks are computed when they are asked for."""
        trial = await self.trial(self.document())
        layer = await mask_layer(self.site, trial)
        self.write_json(
            {
                "fingerprint": layer.fingerprint,
                "values": values_of(trial.threshold),
                "of_the_run": trial.folder is None,
                "layer": self.layer_state(layer, MASK),
            }
        )


class TrialObjects(TrialHandler):
    """Objects of what is visible."""

    async def post(self) -> None:
        """Make them: gives a layer of the viewer."""
        document = self.document()
        trial = await self.trial(document)
        found = await self.wanted(objects_in(self.site, trial, self._box(trial, document)))
        provisional = found.box is not None
        self.write_json(
            {
                "provisional": provisional,
                "objects": found.number,
                "axes": trial.step.grid.axes,
                "start": [s.start for s in found.box or ()],
                "stop": [s.stop for s in found.box or ()],
                "layer": self.layer_state(found.layer, PROVISIONAL if provisional else OBJECTS),
            }
        )

    def _box(self, trial: Trial, document: Mapping[str, Any]) -> Box:
        axes = trial.step.grid.axes
        start, stop = (_corner(document.get(name), axes) for name in ("start", "stop"))
        return tuple(map(slice, start, stop))


def _corner(found: Any, axes: str) -> list[int]:
    if not isinstance(found, dict) or not all(type(found.get(axis)) is int for axis in axes):
        raise RefusedError(400, f"expected start and stop, each a whole number for each of {', '.join(axes)}")
    return [found[axis] for axis in axes]


class TrialConfiguration(TrialHandler):
    """What is kept of values."""

    async def post(self) -> None:
        """Write them into a configuration file beside the first one."""
        trial = await self.trial(self.document())
        try:
            path = await self.site.in_thread(write_configuration, stores_of(self.site), trial)
        except UserError as error:
            raise RefusedError(500, str(error)) from error
        self.write_json({"path": str(path)})


def trial_rules(shared: dict[str, Any]) -> list[Any]:
    """The addresses, as tornado has rules."""
    base = r"/(?P<token>[^/]+)/api/trials"
    return [
        (base, Trials, shared),
        (rf"{base}/objects", TrialObjects, shared),
        (rf"{base}/configuration", TrialConfiguration, shared),
    ]
