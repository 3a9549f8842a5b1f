"""Where the slices of a stack lie, and one of them read."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from blockwise.errors import UserError
from blockwise.transient import refuse_transient
from blockwise.volume import Address, DamagedDataError, open_volume
from blockwise.volume.stack_names import SHOWN, numbered_files

TABLES = (".csv", ".tsv")
LARGEST_NUMBER = 1 << 20


class SliceFile(BaseModel):
    """Where a slice lies.

    Attributes:
        path: of the image, or address of the volume of which it is a plane.
        plane: along the volume's z; None for a file with one slice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    path: str
    plane: int | None = None

    def state(self) -> str:
        """Size and time of the file, or files, that hold it; changes whenever they are written."""
        if self.plane is None:
            try:
                status = os.stat(self.path)
            except OSError as error:
                refuse_transient(error, self.path)
                return "absent"
            return f"{status.st_size} bytes, {status.st_mtime_ns} ns"
        volume = open_volume(self.path)
        box = _plane_box(volume.shape, volume.axes or "zyx", self.plane)
        return ",".join(map(str, volume.file_states(box).ravel().tolist()))


class UnusableSliceError(Exception):
    """A slice's pixels cannot be had; the message is the reason, without the slice's name."""


def read_slice(file: SliceFile) -> NDArray[Any]:
    """Pixels of a slice, (height, width), of the type in which they are stored.

    Raises:
        UnusableSliceError: it cannot be decoded, or is no plane of grey values.
        ShortFailureError: the file system has trouble at the moment.
    """
    try:
        volume = open_volume(Address(file.path, "") if file.plane is None else file.path)
        axes = volume.axes or "zyx"[-len(volume.shape) :]
        box = _plane_box(volume.shape, axes, file.plane)
        odd = [f"{n} along {axis}" for axis, n in zip(axes, (s.stop - s.start for s in box), strict=True)
               if axis not in "yx" and n > 1]  # fmt: skip
        if odd:
            colours = "; make it grey" if "along c" in odd[0] else ""
            raise UnusableSliceError(f"is no plane of grey values: {', '.join(odd)}{colours}")
        if volume.dtype.kind not in "uif":
            raise UnusableSliceError(f"holds {volume.dtype}; expected integers or floats")
        data = volume.read(box)
    except (UserError, DamagedDataError) as error:
        refuse_transient(error)
        if getattr(error, "transient", False):
            raise
        raise UnusableSliceError(_reason(error, file.path)) from error
    order = [axes.index(axis) for axis in "yx"]
    plane = data.transpose([i for i in range(data.ndim) if i not in order] + order)
    return np.ascontiguousarray(plane.reshape(plane.shape[-2:]), data.dtype.newbyteorder("="))


def _reason(error: Exception, path: str) -> str:
    """What an error says, without the name of the file: of damaged data its cause, which says it once."""
    cause = error.__cause__ if isinstance(error, DamagedDataError) and error.__cause__ else error
    return str(cause).removeprefix(path).lstrip(": ")


def _plane_box(shape: tuple[int, ...], axes: str, plane: int | None) -> tuple[slice, ...]:
    return tuple(
        slice(plane, plane + 1) if axis == "z" and plane is not None else slice(0, n)
        for axis, n in zip(axes, shape, strict=True)
    )


def find_slices(where: str) -> dict[int, SliceFile]:
    """The slices of a stack by their numbers, ascending; numbers may be missing.

    Args:
        where: a pattern (``stack/*.png``, ``stack/%04d.tif``), a table (.csv, .tsv) with the columns ``file`` and
            ``z``, or a volume whose planes along z are the slices (a TIFF with several pages, or any other format).

    Raises:
        UserError: there are none, it is not clear which number they have, or two have the same.
    """
    address = Address.parse(where)
    if address.suffix in TABLES:
        found = _of_table(Path(where))
    elif address.is_pattern:
        found = {z: SliceFile(path=path) for z, path in numbered_files(address).items()}
    else:
        found = _of_volume(where)
    if max(found) > LARGEST_NUMBER:
        raise UserError(f"{where}: slice number {max(found)} is larger than {LARGEST_NUMBER}; write a table")
    return dict(sorted(found.items()))


def _of_volume(where: str) -> dict[int, SliceFile]:
    volume = open_volume(where)
    axes = volume.axes or ("zyx" if len(volume.shape) == 3 else "")
    if "z" not in axes or not {"y", "x"} <= set(axes):
        raise UserError(
            f"{where}: one image, of the axes {axes or 'unknown'} and the shape {volume.shape}; name the slices of a "
            "stack by a pattern such as stack/*.png, or a volume with an axis z"
        )
    return {z: SliceFile(path=where, plane=z) for z in range(volume.shape[axes.index("z")])}


def _of_table(path: Path) -> dict[int, SliceFile]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            rows = list(csv.DictReader(file, delimiter=delimiter, skipinitialspace=True))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such table (looked from {Path.cwd()})") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        refuse_transient(error, str(path))
        raise UserError(f"{path}: is no table that can be read: {error}") from error
    found: dict[int, SliceFile] = {}
    wrong = []
    for number, row in enumerate(rows, 2):
        try:
            z, slice_file = _row(row, path.parent)
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
            continue
        if z in found:
            wrong.append(f"line {number}: z {z} is that of {found[z].path} already")
        found[z] = slice_file
    if not rows:
        wrong.append("no row; expected the columns file and z")
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UserError(f"{path}: {'; '.join(wrong[:SHOWN])}{more}")
    return found


def _row(row: Mapping[str, str | None], folder: Path) -> tuple[int, SliceFile]:
    name, z, page = row.get("file"), row.get("z"), row.get("page") or ""
    if not name or z is None:
        raise ValueError(f"needs the columns file and z; found {', '.join(map(str, row))}")
    if not z.strip().isdecimal():
        raise ValueError(f"z {z!r} is no number from 0 on")
    if page and not page.strip().isdecimal():
        raise ValueError(f"page {page!r} is no number from 0 on")
    plane = int(page) if page else None
    return int(z), SliceFile(path=os.path.normpath(folder / name.strip()), plane=plane)
