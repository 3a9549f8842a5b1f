"""Addresses of the panel: a map of a step's blocks, and the log of a block that has failed."""

from __future__ import annotations

import re
from typing import Any

from blockwise.step import BlockStep
from pipeline.viewing.handler import Handler
from pipeline.viewing.panel.blocks import map_of_blocks
from pipeline.viewing.panel.logs import failure_log
from pipeline.viewing.refusals import RefusedError

_NUMBER = re.compile("[0-9]{1,12}")


class StepHandler(Handler):
    """What is told of one step."""

    def step(self, label: str) -> BlockStep:
        """A step by its label.

        Raises:
            RefusedError: 404: there is none; names those that there are.
        """
        steps = {step.label: step for step in self.site.steps.begun()}
        if label not in steps:
            raise RefusedError(
                404, f"there is no step {label!r:.80}; there are {', '.join(steps)}", steps=list(steps)
            )
        return steps[label]

    def number(self, name: str) -> int:
        """A number of the query, 0 where it is left out.

        Raises:
            RefusedError: 400: it is none.
        """
        text = self.get_query_argument(name, "0")
        if not _NUMBER.fullmatch(text):
            raise RefusedError(400, f"{name}={text:.40}: expected a whole number from 0")
        return int(text)


class Blocks(StepHandler):
    """A map of a step's blocks."""

    async def get(self, label: str) -> None:
        """One plane of it."""
        step, position = self.step(label), {axis: self.number(axis) for axis in "tz"}
        self.write_json(await self.wanted(self.site.in_thread(map_of_blocks, step, position)))


class Log(StepHandler):
    """Why a block has failed."""

    async def get(self, label: str, block: str) -> None:
        """Its traceback, and the end of the log."""
        text = await self.wanted(self.site.in_thread(failure_log, self.step(label), int(block)))
        self.send_content(text.encode(), "text/plain; charset=utf-8")


def panel_rules(shared: dict[str, Any]) -> list[Any]:
    """The addresses, as tornado has rules."""
    base = r"/(?P<token>[^/]+)/api"
    return [
        (rf"{base}/blocks/(?P<label>[^/]+)", Blocks, shared),
        (rf"{base}/log/(?P<label>[^/]+)/(?P<block>[0-9]{{1,12}})", Log, shared),
    ]
