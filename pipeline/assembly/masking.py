"""From the configuration to a mask: its axes, how much coarser it is, and the blocks that it leaves."""

from __future__ import annotations

from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.mask import Mask, keep_survey, masked
from blockwise.volume import Volume, open_volume
from pipeline.configuration.settings import Settings
from tasks.prediction import PredictionStep


def mask_and_grid(settings: Settings, grid: Grid) -> tuple[Mask | None, Grid]:
    """The mask of a configuration, and the grid without the blocks that hold no voxel of it.

    Raises:
        UserError: there is no such volume, its shape does not fit, or nothing of it lies in the grid.
    """
    address = settings.blocks.mask
    if address is None:
        if settings.blocks.mask_factor is not None:
            raise UserError("blocks.mask_factor: is set, but there is no blocks.mask; name a mask, or leave it out")
        return None, grid
    volume = open_volume(address)
    axes = _axes(volume, address, grid)
    if volume.dtype.kind not in "uib":
        raise UserError(f"blocks.mask {address}: holds {volume.dtype}; expected integers, not 0 where inside")
    mask = Mask(address=address, axes=axes, factors=_factors(settings, volume.shape, axes, address, grid))
    watch = settings.change_detection == "files"
    left = masked(mask, grid, settings.work_dir, watch_files=watch)
    if not len(left):
        where = "the region of interest" if grid.roi else "the volume"
        raise UserError(f"blocks.mask {address}: is 0 everywhere in {where}; nothing is left to compute")
    return mask, left


def keep_what_was_found(prediction: PredictionStep) -> None:
    """Keep in the work folder what was found in the mask of a run, if it has one, for the next one."""
    if prediction.mask is not None:
        watch = prediction.change_detection == "files"
        keep_survey(prediction.mask, prediction.grid, prediction.work_dir, watch_files=watch)


def _axes(volume: Volume, address: str, grid: Grid) -> str:
    spatial = grid.axes.replace("t", "")
    axes = volume.axes or {len(spatial): spatial, len(grid.axes): grid.axes}.get(len(volume.shape), "")
    if set(axes) not in (set(spatial), set(grid.axes)):
        time = ", and may have t" if "t" in grid.axes else ""
        raise UserError(
            f"blocks.mask {address}: has axes {axes or 'without names'}, shape {volume.shape}; the volume has "
            f"{grid.axes}, shape {grid.shape}. A mask needs the axes {spatial}{time}"
        )
    return axes


def _factors(settings: Settings, shape: tuple[int, ...], axes: str, address: str, grid: Grid) -> tuple[int, ...]:
    chosen = settings.blocks.mask_factor
    if chosen is not None and len(chosen) != len(axes):
        raise UserError(
            f"blocks.mask_factor: {list(chosen)} has {len(chosen)} numbers, but {address} has the axes {axes}; "
            "write one number for each"
        )
    wanted: tuple[int | None, ...] = chosen or (None,) * len(axes)
    lengths = [grid.shape[grid.axes.index(axis)] for axis in axes]
    return tuple(
        _factor(w, n, m, f"blocks.mask {address}: {m} along {axis}, where the volume has {n}")
        for axis, n, m, w in zip(axes, lengths, shape, wanted, strict=True)
    )


def _factor(wanted: int | None, length: int, mask_length: int, where: str) -> int:
    """How many voxels of the volume lie along one of the mask."""
    possible = possible_factors(length, mask_length)
    if not possible:
        raise UserError(f"{where}; a mask that is coarser by a whole number f has length / f voxels, rounded up")
    if wanted is None and len(possible) == 1:
        return possible.start
    if wanted is not None and wanted in possible:
        return wanted
    said = "" if wanted is None else f", not {wanted}"
    last = f" to {possible.stop - 1}" * (len(possible) > 1)
    raise UserError(f"{where}: it is coarser by {possible.start}{last}{said}; say so with blocks.mask_factor")


def possible_factors(length: int, mask_length: int) -> range:
    """Whole numbers f with ``ceil(length / f) == mask_length``; of those that make one voxel the smallest.

    >>> possible_factors(100, 50), possible_factors(5, 2), possible_factors(5, 4)
    (range(2, 3), range(3, 5), range(2, 2))
    """
    if mask_length == 1:
        return range(length, length + 1)
    return range(-(-length // mask_length), -(-length // (mask_length - 1)))
