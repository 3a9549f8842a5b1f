"""NIfTI 1 and 2 through nibabel: ``.nii``, ``.nii.gz``."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from blockwise.errors import UserError
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing, single, unit_name
from blockwise.volume.readers.plain import PlainArray, PlainVolume

_AXES = "ctzyx"
"""The file has x first; its fifth dimension holds the components of a vector."""


def open_file(address: Address) -> PlainVolume:
    """Open a file; voxels stay in the order in which they are stored, orientations (qform, sform) are not applied."""
    return PlainVolume(address, _describe(address))


def _describe(address: Address) -> PlainArray:
    image = _image(address)
    stored = image.dataobj
    shape = tuple(int(n) for n in image.shape or ())
    while len(shape) > len(_AXES) and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > len(_AXES):
        raise UserError(
            f"{address}: has {len(shape)} dimensions {shape}; at most {len(_AXES)} are read, which are x, y, z, t, c"
        )
    axes = _AXES[-len(shape) :]
    dtype, shape = stored.dtype, shape[::-1]
    spacing = _spacing(image.header, axes)
    if colours := dtype.names:  # one byte each
        dtype, shape, axes = np.dtype(np.uint8), (*shape, len(colours)), f"{axes}c"
        if axes.count("c") > 1:
            raise UserError(f"{address}: holds vectors of colours, shape {shape}; expected one kind of channels")
        spacing = spacing.along(axes[:-1], axes)
    return PlainArray(
        path=address.path,
        offset=0 if address.suffix.endswith(".gz") else stored.offset,
        skip=stored.offset if address.suffix.endswith(".gz") else 0,
        shape=shape,
        dtype=dtype,
        axes=axes,
        spacing=spacing,
        compression="gzip" if address.suffix.endswith(".gz") else None,
        slope=float(stored.slope),
        intercept=float(stored.inter),
    )


def _image(address: Address) -> Any:
    try:
        image = nibabel.load(address.path)
    except (ImageFileError, HeaderDataError, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"{address.path}: ends in {address.suffix} but cannot be opened as NIfTI, is it damaged? {error}"
        ) from error
    if not isinstance(image, nibabel.Nifti1Image):  # of which NIfTI 2 is a kind
        raise UserError(f"{address.path}: ends in {address.suffix} but is not a NIfTI file")
    return image


def _spacing(header: Any, axes: str) -> Spacing:
    space, time = (unit_name(unit) for unit in header.get_xyzt_units())
    steps = [single(step) for step in header.get_zooms()][: len(axes)][::-1]
    units = {"t": time, "c": ""}
    return Spacing(
        tuple(1.0 if axis == "c" else step for axis, step in zip(axes, steps, strict=True)),
        tuple(units.get(axis, space) for axis in axes),
    )
