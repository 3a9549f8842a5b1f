"""Slices as they lay before they were aligned, as one volume: to be looked at beside the aligned one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Index
from blockwise.volume import Address
from blockwise.volume.base import ABSENT, as_int63
from blockwise.volume.readers.moved_slices import MovedSlices
from tasks.stacks.aligned_step import AlignedStep
from tasks.stacks.view_step import AlignedViewStep

Size = tuple[int, int]
"""Width and height, in pixels."""


class UnmovedSlices(MovedSlices):
    """Slices on the canvas of the aligned volume, read from their files; axes zyx, of the slices' dtype.

    None is moved against the others: all have one and the same shift (see ``common_shift``). Those that are filled in
    the aligned volume but can be read (blank, excluded, like none of their neighbours) are shown as they are.

    Attributes:
        identity: of the slices that are shown, as JSON; changes when their pixels do, once they were looked at.
    """

    def __init__(self, placed: AlignedStep | AlignedViewStep, where: str) -> None:
        """Take the slices of a finished alignment.

        Args:
            placed: the step that puts them in place.
            where: they lie, in the words of the configuration.
        """
        slices = placed.alignment.slices
        facts = slices.all_facts()
        shown = {z: fact.size for z, fact in facts.items() if not fact.problem and fact.dtype == placed.dtype}
        x, y = common_shift(placed.canvas, list(shown.values()))
        self._numbers = tuple(facts)
        self._files = {z: slices.by_number[z] for z in shown}
        super().__init__(Address.parse(where), {
            "shape": (len(facts), placed.canvas[3], placed.canvas[2]),
            "dtype": placed.dtype,
            "fill": placed.fill,
            "slices": [self._entry(z, shown.get(z), x, y) for z in facts],
        })  # fmt: skip
        self.identity = [self._files[z].model_dump(mode="json") | {"digest": facts[z].digest} for z in shown]

    def _entry(self, z: int, size: Size | None, x: int, y: int) -> Mapping[str, Any] | None:
        if size is None:
            return None
        return {**self._files[z].model_dump(mode="json"), "x": x, "y": y, "width": size[0], "height": size[1]}

    @property
    def companions(self) -> tuple[str, ...]:
        """None: no file names these slices."""
        return ()

    def _fill_states(self, indices: Iterator[Index], states: NDArray[np.int64]) -> None:
        """Those of slices, which may be planes that lie in many files."""
        for index, state in zip(indices, states, strict=True):
            file = self._files.get(self._numbers[index[0]])
            state[:] = (ABSENT, 0) if file is None else (0, as_int63(file.state().encode()))


def common_shift(canvas: tuple[int, int, int, int], sizes: list[Size]) -> tuple[int, int]:
    """By how much all slices are moved so that they lie on a canvas: as in the common frame, as far as they fit.

    Slices whose transforms lead far away, as those that are given may, would not be seen otherwise.

    Args:
        canvas: left, top, width and height, in pixels of the common frame.
        sizes: of the slices.

    Returns:
        Place of each slice's first pixel on the canvas, along x and y.
    """
    left, top, width, height = canvas
    widest, highest = (max((size[i] for size in sizes), default=0) for i in range(2))
    return _fitted(-left, width - widest), _fitted(-top, height - highest)


def _fitted(start: int, room: int) -> int:
    """A start between 0 and what room there is, which is less than 0 where something is larger than the canvas."""
    return min(max(start, min(0, room)), max(0, room))
