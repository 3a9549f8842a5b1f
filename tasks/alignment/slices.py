"""What one slice of a stack is like, and what all of them together say about each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from blockwise.identity import array_checksum
from tasks.alignment.features import band_pass, coarser, stretch

LARGEST = 1024
"""Longest side, in pixels, of the picture of which grey values are told."""
BLANK = 0.25
"""A slice whose texture is this part of the stack's is blank."""
MISSING = "missing"
EXCLUDED = "excluded"


class SliceFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one slice by itself.

    Attributes:
        problem: why there are no pixels of it; empty where there are.
        excluded: left out by the configuration.
        width: in pixels.
        height: in pixels.
        dtype: numpy's name of its type.
        low: grey value below which half a percent of the pixels lie.
        high: grey value above which half a percent of them lie.
        mean: of the grey values.
        std: standard deviation of the grey values.
        texture: standard deviation between the scales of ``band_pass``, in grey values.
        sharpness: mean size of the Laplacian, of grey values stretched to 8 bit.
        digest: checksum of all pixels.
    """

    problem: str = ""
    excluded: bool = False
    width: int = 0
    height: int = 0
    dtype: str = ""
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 0.0
    texture: float = 0.0
    sharpness: float = 0.0
    digest: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        return self.width, self.height


class Verdict(msgspec.Struct, frozen=True):
    """What the whole stack says about a slice.

    Attributes:
        unusable: why it cannot be aligned; empty where it can.
        remark: what else is odd about it.
    """

    unusable: str = ""
    remark: str = ""


def describe_slice(image: NDArray[Any], *, excluded: bool = False) -> SliceFacts:
    """Look at a slice; (height, width), integers or floats. What is no number counts as the least grey value."""
    height, width = image.shape
    grey = coarser(finite(image), max(1, math.ceil(max(image.shape) / LARGEST)))
    low, high = (float(value) for value in np.percentile(grey, (0.5, 99.5)))
    values = grey.astype(np.float64)
    return SliceFacts(
        excluded=excluded,
        width=width,
        height=height,
        dtype=image.dtype.name,
        low=_rounded(low),
        high=_rounded(high),
        mean=_rounded(float(values.mean())),
        std=_rounded(float(values.std())),
        texture=_rounded(float(band_pass(grey).std())),
        sharpness=_rounded(_sharpness(stretch(grey))),
        digest=array_checksum(image),
    )


def finite(image: NDArray[Any]) -> NDArray[Any]:
    """An image with numbers only: where there is none stands the least of the others."""
    if image.dtype.kind != "f":
        return image
    good = np.isfinite(image)
    if good.all():
        return image
    return np.where(good, image, image[good].min() if good.any() else image.dtype.type(0))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _sharpness(grey: NDArray[np.uint8]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    g = grey.astype(np.int32)
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    return float(np.abs(laplacian).mean())


def judge(facts: Mapping[int, SliceFacts]) -> dict[int, Verdict]:
    """What is odd about each slice.

    Args:
        facts: of each number of the stack, ascending.
    """
    seen = {z: fact for z, fact in facts.items() if not fact.problem and not fact.excluded}
    texture = float(np.median([fact.texture for fact in seen.values()])) if seen else 0.0
    dtype = usual_dtype(facts)
    verdicts = {}
    before: SliceFacts | None = None
    for z, fact in facts.items():
        verdicts[z] = Verdict(_unusable(fact, texture, dtype), _remark(fact, before))
        if not fact.problem:
            before = fact
    return verdicts


def usual_dtype(facts: Mapping[int, SliceFacts]) -> str:
    """The type that most slices have; of several the one that comes first."""
    names = [fact.dtype for fact in facts.values() if not fact.problem]
    return max(dict.fromkeys(names), key=names.count, default="")


def _unusable(fact: SliceFacts, texture: float, dtype: str) -> str:
    if fact.excluded:
        return EXCLUDED
    if fact.problem:
        return fact.problem
    if fact.dtype != dtype:
        return f"holds {fact.dtype}, the others hold {dtype}"
    if fact.texture <= BLANK * texture:
        return "blank"
    return ""


def _remark(fact: SliceFacts, before: SliceFacts | None) -> str:
    return "same pixels as the slice before" if before and fact.digest and fact.digest == before.digest else ""


def is_refused(verdict: Verdict) -> bool:
    """Whether a slice is one that somebody should look at before anything is computed: not what it is meant to be."""
    return verdict.unusable not in ("", "blank", MISSING, EXCLUDED)


def neighbours(verdicts: Mapping[int, Verdict], reach: int) -> dict[int, tuple[int, ...]]:
    """For each slice that can be aligned, the next ones, as many as ``reach``, with which it makes a pair."""
    usable = [z for z, verdict in verdicts.items() if not verdict.unusable]
    return {z: tuple(usable[i + 1 : i + 1 + reach]) for i, z in enumerate(usable)}
