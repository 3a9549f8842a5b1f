"""The raw volume's axes, the grid over it, and how outputs are cut into files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.volume import Address, Spacing, Volume, open_volume
from blockwise.volume.address import ZARR_SUFFIXES
from blockwise.volume.info import VolumeInfo
from pipeline.configuration.settings import Blocks, Raw, Settings
from tasks.pixel_classification.project import Project

LARGEST_CHUNK = {3: 64, 2: 512}
"""Longest side of a chunk, and of a block where none is set, in voxels, by number of spatial axes."""


@dataclass(frozen=True)
class RawDescription:
    """What a raw volume says about itself.

    Attributes:
        info: what steps must know of it.
        axes_from: who names its axes, for people.
        spacing: how far its voxels lie apart; None where it does not say so.
    """

    info: VolumeInfo
    axes_from: str
    spacing: Spacing | None = None


def describe_raw(raw: Raw, project: Project | None) -> RawDescription:
    """Open the raw volume and find its axes, who names them, and how far its voxels lie apart."""
    volume = open_volume(raw.address)
    axes, source = _find_axes(raw, volume, project)
    if len(axes) != len(volume.shape):
        raise UserError(
            f"raw.axes: {axes!r} names {len(axes)} axes, but {raw.address} has {len(volume.shape)}: {volume.shape}"
        )
    if not {"y", "x"} <= set(axes):
        raise UserError(
            f"raw {raw.address}: the axes are {axes} according to {source}, y and x are needed; set raw.axes"
        )
    if volume.dtype.kind not in "uif":
        raise UserError(f"raw {raw.address}: holds {volume.dtype}; expected integers or floats")
    info = VolumeInfo(
        address=raw.address,
        axes=axes,
        shape=volume.shape,
        dtype=volume.dtype.str,
        chunks=volume.chunks,
        known_as=raw.moved_from or "",
    )
    return RawDescription(info, source, _spacing(raw, axes, volume))


def _spacing(raw: Raw, axes: str, volume: Volume) -> Spacing | None:
    """How far voxels lie apart by the setting, else by the volume's metadata."""
    if raw.voxel_size is None:
        return volume.spacing
    spatial = [axis for axis in "zyx" if axis in axes]
    if len(raw.voxel_size) != len(spatial):
        raise UserError(
            f"raw.voxel_size: {list(raw.voxel_size)} has {len(raw.voxel_size)} numbers, but {raw.address} has "
            f"{len(spatial)} spatial axes ({''.join(spatial)}); write one number for each"
        )
    sizes = {axis: (size, raw.voxel_unit) for axis, size in zip(spatial, raw.voxel_size, strict=True)}
    told = volume.spacing or Spacing((1.0,) * len(axes), ("",) * len(axes))
    chosen = [sizes.get(axis, (step, unit)) for axis, step, unit in zip(axes, told.steps, told.units, strict=True)]
    return Spacing(tuple(step for step, _ in chosen), tuple(unit for _, unit in chosen))


def _find_axes(raw: Raw, volume: Volume, project: Project | None) -> tuple[str, str]:
    """Axes from the setting, else the volume's metadata, else the project's last image, else zyx or yx."""
    ndim = len(volume.shape)
    if raw.axes:
        return raw.axes, "raw.axes"
    if volume.axes:
        return volume.axes, "its metadata"
    if project is not None and len(project.axes) == ndim:
        return project.axes, "the project's last image"
    if ndim in (2, 3):
        return "zyx"[-ndim:], "the number of axes"
    image = "" if project is None else (f", and the project's last image has {len(project.axes)} ({project.axes})")
    raise UserError(
        f"raw {raw.address}: {ndim} axes, shape {volume.shape}, no metadata names them{image}; set raw: {{path: ..., "
        "key: ..., axes: czyx} or whatever they are"
    )


def make_grid(settings: Settings, info: VolumeInfo) -> Grid:
    """Blocks over the raw volume's t, z, y and x."""
    axes = "".join(axis for axis in "tzyx" if axis in info.axes)
    shape = tuple(info.shape[info.axes.index(axis)] for axis in axes)
    spatial = axes.replace("t", "")
    blocks = settings.blocks.shape or (LARGEST_CHUNK[len(spatial)],) * len(spatial)
    if len(blocks) != len(spatial):
        raise UserError(
            f"blocks.shape: {list(blocks)} has {len(blocks)} numbers, but {info.address} has {len(spatial)} spatial "
            f"axes ({spatial}); write one number for each"
        )
    lead = (1,) * ("t" in axes)
    return Grid(axes, shape, lead + blocks, _roi(settings, axes, shape))


def _roi(settings: Settings, axes: str, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
    roi = settings.blocks.roi
    if roi is None:
        return None
    if len(roi) not in (len(axes), len(axes.replace("t", ""))):
        raise UserError(f"blocks.roi: {len(roi)} pairs for the axes {axes}; write [start, stop] for each")
    ranges = ((None, None),) * (len(axes) - len(roi)) + roi
    found = []
    for axis, n, (start, stop) in zip(axes, shape, ranges, strict=True):
        low, high = start or 0, n if stop is None else stop
        if not 0 <= low < high <= n:
            raise UserError(f"blocks.roi: {[start, stop]} along {axis} is not a part of 0 to {n}")
        found.append((low, high))
    return tuple(found)


def one_block(blocks: Blocks, info: VolumeInfo) -> Blocks:
    """Blocks as large as the volume, rounded up to whole files, which may be longer than the volume."""
    shape = [info.shape[info.axes.index(axis)] for axis in "zyx" if axis in info.axes]
    chunks = blocks.chunks or tuple(min(n, LARGEST_CHUNK[len(shape)]) for n in shape)
    files = blocks.shards or chunks
    if len(files) != len(shape):  # refused in a moment
        return blocks
    block = tuple(-(-n // f) * f for n, f in zip(shape, files, strict=True))
    return blocks.model_copy(update={"shape": block, "chunks": chunks})


def output_dataset(settings: Settings, key: str) -> str:
    """Address of a dataset in the output's container; the options of a store stay at its end."""
    return str(Address(settings.output, "").within(key))


class Storage(TypedDict):
    """How outputs are cut into files, per axis of the grid: fields of the steps that write volumes."""

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None


def output_storage(settings: Settings, grid: Grid) -> Storage:
    """Chunks and shards of the outputs as set; chunks else the block cut into the fewest equal, not too long parts.

    Raises:
        UserError: two blocks would write into one file, or the format has no shards.
    """
    lead = (1,) * ("t" in grid.axes)
    blocks = grid.block_shape[len(lead) :]
    chunks, shards = settings.blocks.chunks, settings.blocks.shards
    if shards is not None:
        _check_multiple("blocks.shape", blocks, "blocks.shards", shards)
        if Address(settings.output, "").suffix not in ZARR_SUFFIXES:
            raise UserError(
                f"blocks.shards: only Zarr has shards, but the output is {settings.output}; let it end in .zarr, or "
                "leave shards out"
            )
    if chunks is None:
        chunks = tuple(_equal_part(n, LARGEST_CHUNK[len(blocks)]) for n in shards or blocks)
    elif shards is not None:
        _check_multiple("blocks.shards", shards, "blocks.chunks", chunks)
    _check_multiple("blocks.shape", blocks, "blocks.chunks", chunks)
    return {"chunks": lead + chunks, "shards": None if shards is None else lead + shards}


def _check_multiple(name: str, whole: tuple[int, ...], part_name: str, part: tuple[int, ...]) -> None:
    if len(whole) != len(part) or any(w % p for w, p in zip(whole, part, strict=False)):
        raise UserError(
            f"{name}: {list(whole)} is not a multiple of {part_name} {list(part)}; two blocks would write into one "
            f"file. Make each number of {name} a multiple of the other's"
        )


def _equal_part(length: int, largest: int) -> int:
    """Cut a length into the fewest equal parts of at most ``largest``; where that makes crumbs, do not cut it."""
    part = next(length // n for n in range(1, length + 1) if length % n == 0 and length // n <= largest)
    return part if part > largest // 4 or length <= largest else length
