"""What microscopes and slide scanners write into TIFF: LSM, STK, SVS, NDPI and QPTIFF."""

from __future__ import annotations

import math
import re

import numpy as np
import tifffile

from blockwise.errors import UserError
from blockwise.volume.address import Address
from blockwise.volume.axes import single, unit_name

Steps = tuple[dict[str, float], dict[str, str]]
"""Distances and units of axes, as far as they are known."""

_FOREIGN = {"M": "tiles of a mosaic", "P": "positions"}
_RESOLUTION_UNITS = {2: ("micrometer", 25400.0), 3: ("micrometer", 10000.0)}
"""Inch and centimetre, in micrometres."""


def axis_letters(address: Address, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> str:
    """The letters of tifffile; C for the planes of an STK file that differ in wavelength only.

    Raises:
        UserError: an LSM file has positions or tiles as an axis.
    """
    letters: str = series.axes
    if series.kind == "lsm" and (found := [what for letter, what in _FOREIGN.items() if letter in letters]):
        raise UserError(
            f"{address}: has the axes {letters}, shape {tuple(series.shape)}, among them {' and '.join(found)}, "
            "which do not belong into one volume; save each as a file of its own"
        )
    if series.kind == "stk" and letters.startswith("I"):
        wavelengths = np.atleast_1d((file.stk_metadata or {}).get("Wavelengths", ()))
        if len(set(wavelengths.tolist())) == series.shape[0]:
            return "C" + letters[1:]
    return letters


def steps_of(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Steps | None:
    """Voxel sizes of a series; None where the file is of no such kind."""
    if file.is_lsm:
        return _lsm(file, series)
    if file.is_stk:
        return _stk(file)
    if series.kind == "svs":
        return _svs(series)
    if series.kind in ("ndpi", "qpi"):
        return _resolution(series)
    return None


def _lsm(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Steps:
    """Metres, and seconds; thumbnails, which are the second series, have none."""
    if series.keyframe.is_reduced:
        return {}, {}
    metadata = file.lsm_metadata or {}
    steps = {axis: 1e6 * float(metadata.get(f"VoxelSize{axis.upper()}", 0)) for axis in "zyx"}
    return _positive({**steps, "t": float(metadata.get("TimeIntervall", 0))}, "micrometer")


def _stk(file: tifffile.TiffFile) -> Steps:
    metadata = file.stk_metadata or {}
    unit = unit_name(str(metadata.get("CalibrationUnits", "")))
    if not unit:
        return {}, {}
    z = np.abs(np.atleast_1d(metadata.get("ZDistance", 0.0)))
    steps = {"z": float(np.median(z)) if z.size else 0.0}
    steps |= {axis: float(metadata.get(f"{axis.upper()}Calibration", 0)) for axis in "yx"}
    return _positive(steps, unit)


def _svs(series: tifffile.TiffPageSeries) -> Steps:
    """Micrometres per pixel, in the description of the finest level; label and macro image say nothing."""
    found = re.match(r"Aperio .*\|\s*MPP\s*=\s*([0-9.]+)", series.keyframe.description, re.DOTALL)
    if found is None or series.name != "Baseline":
        return {}, {}
    return _positive(dict.fromkeys("yx", float(found[1])), "micrometer")


def _resolution(series: tifffile.TiffPageSeries) -> Steps:
    tags = series.keyframe.tags
    unit, length = _RESOLUTION_UNITS.get(int(tags.valueof("ResolutionUnit", 1)), ("", 0.0))
    steps = {}
    for axis in "yx":
        numerator, denominator = tags.valueof(f"{axis.upper()}Resolution", (0, 1))
        steps[axis] = length * denominator / numerator if numerator else 0.0
    return _positive(steps, unit)


def _positive(steps: dict[str, float], unit: str) -> Steps:
    found = {axis: single(step) for axis, step in steps.items() if 0 < step < math.inf}
    return found, {axis: "second" if axis == "t" else unit for axis in found}
