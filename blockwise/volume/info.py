"""What a volume says about itself before a voxel is read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class VolumeInfo(BaseModel):
    """What a volume says about itself before a voxel is read.

    Attributes:
        address: where it lies.
        axes: one letter of ``tczyx`` per axis.
        shape: in voxels, in the order of the axes.
        dtype: numpy's name with byte order.
        chunks: unit of storage, in voxels.
        known_as: address under which earlier results know it, where it has been moved; empty for its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    address: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    known_as: str = ""
