"""The section ``alignment``, and what follows from it for the rest of the configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from blockwise.volume import Address
from pipeline.configuration.paths import LocalPath
from pipeline.configuration.section import Section

ALIGNED = "aligned"
"""Name of the dataset with the aligned volume."""
TISSUE = "tissue"
"""Name of the dataset that says where the aligned volume holds pixels of slices."""
ANCHOR = 7
"""Numbers of an anchor: of the slice, and of its transform row after row."""


class Alignment(Section):
    """Slices of a stack, and how they are aligned. See ``configs/reference.yaml`` for the meaning of every key."""

    slices: str | None = None
    model: Literal["translation", "rigid", "affine"] = "rigid"
    transforms: LocalPath | None = None
    exclude: tuple[int | str, ...] = ()
    anchors: tuple[tuple[float, ...], ...] = ()
    box: tuple[tuple[int, int], ...] | None = None
    estimate_px: Annotated[int, Field(ge=64)] = 1024
    neighbours: Annotated[int, Field(ge=1, le=10)] = 3
    ridge: Annotated[float, Field(ge=0)] | None = None
    drift: Literal["keep", "linear", "highpass"] = "keep"
    drift_slices: PositiveFloat = 50.0
    allow_parts: bool = False
    bad_slices: Literal["error", "fill"] = "error"
    interpolation: Literal["whole", "cubic"] | None = None
    canvas: Literal["union", "crop"] = "union"
    fill: float = 0.0
    slab: PositiveInt | None = None
    virtual: bool = False

    @field_validator("exclude")
    @classmethod
    def _numbers_or_ranges(cls, value: tuple[int | str, ...]) -> tuple[int | str, ...]:
        for item in value:
            numbers_of(item)
        return value

    @field_validator("anchors")
    @classmethod
    def _seven_numbers(cls, value: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        for anchor in value:
            if len(anchor) != ANCHOR or anchor[0] != int(anchor[0]):
                raise ValueError(f"{list(anchor)} is no anchor; write [z, a, b, x, c, d, y] for each slice")
        return value

    @field_validator("box")
    @classmethod
    def _two_ranges(cls, value: tuple[tuple[int, int], ...] | None) -> tuple[tuple[int, int], ...] | None:
        if value is not None and (len(value) != len("yx") or not all(0 <= start < stop for start, stop in value)):
            raise ValueError("write [[start, stop], [start, stop]] along y and x, in pixels of the slices")
        return value

    @model_validator(mode="after")
    def _fit_each_other(self) -> Alignment:
        if self.interpolation == "whole" and self.model != "translation" and self.transforms is None:
            raise ValueError("interpolation whole moves slices by whole pixels, so it needs model: translation")
        if self.virtual and (self.interpolation == "cubic" or (self.model != "translation" and not self.transforms)):
            raise ValueError(
                "virtual moves slices by whole pixels while they are read, so it needs model: translation"
            )
        if self.anchors and self.drift != "keep":
            raise ValueError("anchors say where slices lie, so nothing is left to take out; leave drift: keep")
        return self

    @property
    def excluded(self) -> frozenset[int]:
        """Numbers of slices that are left out."""
        return frozenset(z for item in self.exclude for z in numbers_of(item))


def numbers_of(item: int | str) -> range:
    """Numbers of slices: one, or from the first to the last of ``12-17``.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(item, int):
        return range(item, item + 1)
    first, dash, last = item.partition("-")
    if not (dash and first.strip().isdecimal() and last.strip().isdecimal() and int(first) <= int(last)):
        raise ValueError(f"{item!r} is no number of a slice, and no range of numbers such as 12-17")
    return range(int(first), int(last) + 1)


def aligned_volume(output: str) -> str:
    """Address of the aligned volume in the container of the results."""
    return str(Address(output, "").within(ALIGNED))


def aligned_view(work_dir: str) -> str:
    """Address of the aligned volume where slices are moved while they are read."""
    return f"{work_dir}/{ALIGNED}.slices.json"


def tissue_mask(output: str) -> str:
    """Address of the mask of what is tissue in it."""
    return str(Address(output, "").within(TISSUE))


def with_aligned_volume(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose raw volume, where it names none but slices, is what becomes of these.

    The project, which an alignment does without, may be left out then.
    """
    alignment = values.get("alignment")
    if not isinstance(alignment, dict) or not alignment.get("slices") or not isinstance(values.get("output"), str):
        return values
    made = aligned_view(values.get("work_dir", "")) if alignment.get("virtual") else aligned_volume(values["output"])
    given = values.get("raw", {})  # how large its voxels are, for one
    raw = {"raw": {"path": made, **given}} if isinstance(given, dict) and "path" not in given else {}
    project = {"prediction": {"project": ""}} if "prediction" not in values else {}
    return {**values, **raw, **project}
