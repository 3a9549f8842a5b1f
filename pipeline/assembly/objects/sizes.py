"""From the configuration to the sizes of objects in voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from blockwise.errors import UserError
from blockwise.volume.lengths import voxel_size
from pipeline.configuration.settings import ConnectedComponents
from pipeline.configuration.sizes import parse_size

_SIZES = {2: "an area", 3: "a volume"}
_KEY = "connected_components"


def sizes_in_voxels(
    components: ConnectedComponents, step_um: Sequence[float] | None, axes: int, address: str
) -> tuple[int, int | None]:
    """Smallest and largest object that is kept, in voxels; None for no largest one.

    Args:
        components: with the sizes as they were set.
        step_um: micrometres from voxel to voxel along each spatial axis; None where that is not known.
        axes: number of spatial axes.
        address: of the raw volume, for messages.

    Raises:
        UserError: a size has a unit, but voxels have no size that is known, or as many axes; or nothing is left.
    """
    smallest = _in_voxels("min_size", components.min_size, step_um, axes, address)
    if components.max_size is None:
        return math.ceil(smallest), None
    largest = math.floor(_in_voxels("max_size", components.max_size, step_um, axes, address))
    if largest < max(1, math.ceil(smallest)):
        raise UserError(
            f"{_KEY}.max_size: {components.max_size} is {largest:,} voxels, with min_size {components.min_size}, "
            f"which is {math.ceil(smallest):,}; no object has such a size"
        )
    return math.ceil(smallest), largest


def _in_voxels(key: str, size: int | str, step_um: Sequence[float] | None, axes: int, address: str) -> Fraction:
    if isinstance(size, int):
        return Fraction(size)
    wanted = parse_size(size)
    if wanted.axes != axes:
        raise UserError(
            f"{_KEY}.{key}: {size} is {_SIZES[wanted.axes]}, but raw {address} has {axes} spatial axes; write "
            f"{_SIZES[axes]}, such as 0.5 um{axes}, or a number of voxels"
        )
    if step_um is None:
        raise UserError(
            f"{_KEY}.{key}: {size}, but raw {address} does not say how large its voxels are, in a unit of length; "
            "set raw.voxel_size, or give the size in voxels, as a number"
        )
    return wanted.micrometers / voxel_size(step_um)
