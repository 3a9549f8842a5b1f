"""From the configuration to the Gaussian's standard deviation along each axis."""

from __future__ import annotations

from blockwise.errors import UserError
from blockwise.volume import Spacing
from blockwise.volume.info import VolumeInfo
from pipeline.configuration.settings import Threshold


def sigma_in_voxels(
    threshold: Threshold, raw: VolumeInfo, spacing: Spacing | None, spatial: str
) -> tuple[float, ...]:
    """Standard deviation per spatial axis, in voxels.

    Args:
        threshold: with ``sigma`` as one number or one per axis, in the unit that ``sigma_unit`` says.
        raw: the raw volume.
        spacing: how far its voxels lie apart, in the order of its axes; None where nobody says so.
        spatial: the spatial axes, in order.

    Raises:
        UserError: another number of axes, or a physical unit and no distances, or distances in different units.
    """
    sigma = threshold.sigma
    per_axis = (float(sigma),) * len(spatial) if isinstance(sigma, float | int) else tuple(map(float, sigma))
    if len(per_axis) != len(spatial):
        raise UserError(
            f"threshold.sigma: {list(per_axis)} for the axes {spatial}; write one number, or one for each"
        )
    if threshold.sigma_unit == "voxel":
        return per_axis
    return tuple(s / step for s, step in zip(per_axis, _voxel_size(raw, spacing, spatial), strict=True))


def _voxel_size(raw: VolumeInfo, spacing: Spacing | None, spatial: str) -> tuple[float, ...]:
    """Distance between voxels along the spatial axes, in whatever unit there is."""
    where = f"threshold.sigma_unit: physical, but raw {raw.address}"
    if spacing is None:
        raise UserError(
            f"{where} does not say how far its voxels lie apart (no attribute 'resolution', no OME scale); set "
            "raw.voxel_size, or give sigma in voxels, one number per axis where they are not cubes"
        )
    found = spacing.along(raw.axes, spatial)
    if len(set(found.units)) > 1:
        raise UserError(
            f"{where} has different units along {spatial}: {', '.join(found.units)}; give sigma in voxels"
        )
    if not all(0 < step < float("inf") for step in found.steps):
        raise UserError(f"{where} has voxels of size {found.steps} along {spatial}; give sigma in voxels")
    return found.steps
