"""Step 2 of an alignment: the key points of each slice, once for all of its pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Block
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before
from blockwise.upstream import BlocksSource
from blockwise.volume.stack_names import SHOWN
from tasks.alignment.features import Features, find_features, load_opencv
from tasks.alignment.slices import finite, is_refused
from tasks.stacks.slices_step import SlicesStep, SliceStep

FEATURES_MEMORY = 900
"""Bytes per pixel of the picture in which key points are looked for; measured with OpenCV's SIFT."""


def refuse_bad_slices(slices: SlicesStep) -> None:
    """Refuse a stack with slices that are not what they are meant to be.

    Raises:
        UserError: naming them, and why.
    """
    odd = {z: verdict.unusable for z, verdict in slices.verdicts().items() if is_refused(verdict)}
    if odd:
        shown = [f"slice {z} ({slices.by_number[z].path}) {why}" for z, why in list(odd.items())[:SHOWN]]
        more = [f"and {len(odd) - SHOWN} more"] if len(odd) > SHOWN else []
        raise UserError(
            f"{len(odd)} of {len(slices.numbers)} slices cannot be used:\n  "
            + "\n  ".join([*shown, *more])
            + "\nreplace them, exclude them, or have them filled (bad_slices: fill)"
        )


class SliceFeaturesStep(SliceStep):
    """Key points of each slice.

    Attributes:
        slices: the step that has looked at the slices.
        largest: longest side, in pixels, of the picture in which key points are looked for.
        box: part of the slices that counts, (start, stop) along y and x; None for all of it.
        refuse_bad: whether slices that are not what they are meant to be are refused before any work.
    """

    name: ClassVar[str] = "slice_features"
    version: ClassVar[int] = 1

    slices: Before[SlicesStep]
    largest: int = 1024
    box: tuple[tuple[int, int], tuple[int, int]] | None = None
    refuse_bad: bool = True

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result."""
        box = {} if self.box is None else {"box": [list(part) for part in self.box]}
        return {"largest": self.largest, **box}

    def sources(self) -> tuple[Source, ...]:
        """What is known of the slices, the checksums of their pixels among it."""
        return (BlocksSource(self.slices),)

    def projected_memory(self) -> int:
        """A slice as stored and stretched, and what key points need."""
        return BASE_MEMORY + 16 * self.slices.voxels + FEATURES_MEMORY * min(self.slices.voxels, self.largest**2)

    def make_ready(self) -> None:
        """Refuse slices that cannot be used, and a machine on which there is no OpenCV."""
        if self.refuse_bad:
            refuse_bad_slices(self.slices)
        load_opencv()

    def compute(self, block: Block, prepared: Any) -> dict[str, NDArray[Any]]:
        """Find the key points of one slice; none where there are no pixels, or where it is left out."""
        facts = self.slices.facts(block.id)
        if facts.problem or facts.excluded:
            found = find_nothing()
        else:
            found = find_features(finite(self.slices.read(block.id, facts)), self.largest, self.box)
        return {
            "points": found.points,
            "descriptors": found.descriptors,
            "look": found.look,
            "numbers": np.array([found.factor, found.look_factor, *found.size], np.int64),
        }

    def features(self, z: int) -> Features:
        """Key points of a slice."""
        arrays = self.output().read_all(self.grid.block(z))
        factor, look_factor, width, height = arrays["numbers"].tolist()
        origin = (0, 0) if self.box is None else (self.box[1][0], self.box[0][0])
        found = arrays["points"], arrays["descriptors"], arrays["look"]
        return Features(*found, factor, look_factor, (width, height), origin)


def find_nothing() -> Features:
    """The features of a slice without any."""
    return Features(np.zeros((0, 2)), np.zeros((0, 128), np.uint8), np.zeros((0, 0), np.int8), 1, 1, (0, 0))
