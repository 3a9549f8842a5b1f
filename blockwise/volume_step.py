"""A step that writes one dataset, and steps that read one: they depend on what it holds, not on who has made it."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

from pydantic import AfterValidator

from blockwise.outputs import VolumeOutput
from blockwise.step import BlockStep

Holds = Literal["image", "probabilities", "classes", "mask", "labels", "scale"]
"""What a dataset holds: grey values; probabilities along c; classes from 1; 0, 1, and 2 in cores, 3 where these reach
out of what is above the threshold; objects from 1. 0 is outside. A scale is another dataset with larger voxels."""


class VolumeStep(BlockStep):
    """A step that writes one dataset.

    Attributes:
        address: output dataset.
        chunks: of the output, per axis of the grid, in voxels.
        shards: of the output, per axis of the grid, in voxels; None for one chunk a file.
    """

    gives: ClassVar[Holds]

    address: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None

    @abstractmethod
    def output(self) -> VolumeOutput:
        """The dataset."""


def giving(what: Holds) -> AfterValidator:
    """Have a field of a step take only steps whose dataset holds this."""

    def check(step: VolumeStep) -> VolumeStep:
        if step.gives != what:
            raise ValueError(f"{step.label} gives {step.gives}, expected {what}")
        return step

    return AfterValidator(check)
