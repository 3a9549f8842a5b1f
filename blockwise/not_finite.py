"""NaN and infinity in given data: counted where blocks read them, told where people look.

One such voxel spoils all that is computed of it, as far as a filter reaches, and nobody sees it in the result. A
block counts those of its write box, so that all blocks together count each voxel once; its marker keeps the count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

NOT_FINITE = "not_finite"
"""Attribute of a copied volume: what its values had, as ``NotFinite``."""


class NotFinite(msgspec.Struct, frozen=True, gc=False):
    """Voxels that hold NaN or infinity.

    Attributes:
        nan: number of voxels with a NaN in any channel.
        infinite: number of others with an infinity.
        first: the first of all these in raster order.
    """

    nan: int
    infinite: int
    first: tuple[int, ...]


@dataclass(frozen=True)
class WithNotFinite:
    """What a block has given where something that it has read was not finite."""

    data: Any
    not_finite: NotFinite


@dataclass(frozen=True)
class NotFiniteTotals:
    """The same of a whole step.

    Attributes:
        nan: see ``NotFinite``.
        infinite: likewise.
        blocks: in how many blocks.
        block: the one with the first of them.
        first: its place.
    """

    nan: int
    infinite: int
    blocks: int
    block: int
    first: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """For records."""
        return {**asdict(self), "first": list(self.first)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any] | None) -> NotFiniteTotals | None:
        """From such a record; None where there is none."""
        return None if found is None else cls(**{**found, "first": tuple(found["first"])})

    def __str__(self) -> str:
        return counted(self.nan, self.infinite)


def count_not_finite(values: NDArray[Any], origin: tuple[int, ...]) -> NotFinite | None:
    """Look for NaN and infinity.

    Args:
        values: a box, of any type; axes beyond those of ``origin`` are channels of a voxel.
        origin: the box's first voxel.

    Returns:
        What was found; None where all is finite, as integers are.
    """
    if values.dtype.kind != "f":
        return None
    finite = np.isfinite(values)
    if finite.all():
        return None
    channels = tuple(range(len(origin), values.ndim))
    odd = ~finite.all(axis=channels)
    nan = int(np.isnan(values).any(axis=channels).sum())
    first = np.unravel_index(int(odd.argmax()), odd.shape)
    return NotFinite(nan, int(odd.sum()) - nan, tuple(int(i) + o for i, o in zip(first, origin, strict=True)))


def noting(data: Any, found: Iterable[NotFinite | None]) -> Any:
    """The result of a block, with what was not finite in what it has read; as it is where all was finite."""
    whole = together(part for part in found if part is not None)
    return data if whole is None else WithNotFinite(data, whole)


def without_note(result: Any) -> tuple[Any, NotFinite | None]:
    """What ``noting`` was given."""
    return (result.data, result.not_finite) if isinstance(result, WithNotFinite) else (result, None)


def total(parts: Mapping[int, NotFinite], *, one_volume: bool = True) -> NotFiniteTotals | None:
    """What all blocks have found.

    Args:
        parts: by block, of those that have found anything.
        one_volume: whether blocks are parts of one volume; else each is one, and the first block has the first voxel.
    """
    whole = together(parts.values())
    if whole is None:
        return None
    block = min(parts, key=lambda one: (parts[one].first if one_volume else (), one))
    return NotFiniteTotals(whole.nan, whole.infinite, len(parts), block, parts[block].first)


def counted(nan: int, infinite: int) -> str:
    """In words: how many voxels are not finite."""
    kinds = " and ".join(f"{n:,} {name}" for n, name in ((nan, "NaN"), (infinite, "infinite")) if n)
    return f"{nan + infinite:,} {'voxel is' if nan + infinite == 1 else 'voxels are'} not finite ({kinds})"


def place(first: tuple[int, ...], axes: str) -> str:
    """In words: where a voxel lies."""
    return ", ".join(f"{axis} {i:,}" for axis, i in zip(axes, first, strict=True))


def together(parts: Iterable[NotFinite]) -> NotFinite | None:
    """What several parts of a volume have found; None for none."""
    found = list(parts)
    if not found:
        return None
    nan, infinite = sum(part.nan for part in found), sum(part.infinite for part in found)
    return NotFinite(nan, infinite, min(part.first for part in found))


def noted_of(attributes: Mapping[str, Any], axes: str) -> str:
    """What a volume's attributes tell of values that are not finite, in words; empty where they tell nothing."""
    try:
        found = msgspec.convert(attributes.get(NOT_FINITE), NotFinite)
    except msgspec.ValidationError:  # nothing, or somebody else's attribute of this name
        return ""
    where = place(found.first, axes) if len(axes) == len(found.first) else str(found.first)
    return f"{counted(found.nan, found.infinite)}, the first at {where}"
