"""NIfTI 1 and 2 through nibabel: ``.nii``, ``.nii.gz``."""

from __future__ import annotations

import zlib
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from blockwise.errors import UserError
from blockwise.volume.address import Address
from blockwise.volume.axes import Spacing, single, unit_name
from blockwise.volume.readers.plain import PlainArray, PlainVolume

_KINDS = (nibabel.Nifti1Image, nibabel.Nifti2Image)
_HEADER_BYTES = max(kind.header_class.template_dtype.itemsize for kind in _KINDS)
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
    """The header; ``nibabel.load`` would take a file that cannot be read at the moment for one of unknown kind."""
    try:
        with ImageOpener(address.path, "rb") as file:
            head = file.read(_HEADER_BYTES)
        kind = next((kind for kind in _KINDS if kind.header_class.may_contain_header(head)), None)
        if kind is not None:
            return kind.from_filename(address.path)
    except (ImageFileError, HeaderDataError, EOFError, OSError, ValueError, zlib.error) as error:
        raise UserError(
            f"{address.path}: ends in {address.suffix} but cannot be opened as NIfTI, is it damaged? {error}"
        ) from error
    raise UserError(f"{address.path}: ends in {address.suffix} but is not a NIfTI file")


def _spacing(header: Any, axes: str) -> Spacing:
    space, time = (unit_name(unit) for unit in header.get_xyzt_units())
    steps = [single(step) for step in header.get_zooms()][: len(axes)][::-1]
    units = {"t": time, "c": ""}
    return Spacing(
        tuple(1.0 if axis == "c" else step for axis, step in zip(axes, steps, strict=True)),
        tuple(units.get(axis, space) for axis in axes),
    )
