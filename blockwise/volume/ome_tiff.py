"""What OME's XML in a TIFF file says: voxel sizes, and the other files of a set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

import tifffile

from blockwise.errors import UserError
from blockwise.transient import refuse_transient
from blockwise.volume.axes import unit_name

_NAMES = {"x": "PhysicalSizeX", "y": "PhysicalSizeY", "z": "PhysicalSizeZ", "t": "TimeIncrement"}


def ome_steps(file: tifffile.TiffFile, number: int) -> tuple[dict[str, float], dict[str, str]]:
    """Voxel sizes of an image of a file, and their units; empty where the XML says nothing.

    Files of a set may hold no more than the name of the file with the XML (``BinaryOnly``).
    """
    images = tifffile.xml2dict(file.ome_metadata or "").get("OME", {}).get("Image", [])
    images = images if isinstance(images, list) else [images]
    if number >= len(images):
        return {}, {}
    pixels: Mapping[str, Any] = images[number].get("Pixels", {})
    steps = {axis: float(pixels[name]) for axis, name in _NAMES.items() if name in pixels}
    default = {"t": "s"}
    units = {axis: unit_name(str(pixels.get(f"{_NAMES[axis]}Unit", default.get(axis, "µm")))) for axis in steps}
    return steps, units


def refuse_missing_files(file: tifffile.TiffFile) -> None:
    """Look for the files of a set: tifffile gives zeros for the planes of those that it cannot open.

    Raises:
        UserError: one is not there, or cannot be read.
    """
    if not file.is_ome:
        return
    try:
        root = ElementTree.fromstring(file.ome_metadata or "")  # noqa: S314 (as tifffile does; entities do no harm)
    except ElementTree.ParseError:
        return
    for name in dict.fromkeys(_named_files(root, file.filename)):
        path = os.path.join(file.filehandle.dirname, name)
        try:
            with open(path, "rb") as other:
                other.read(4)
        except FileNotFoundError as error:
            raise UserError(
                f"{file.filehandle.path}: belongs to a set of OME-TIFF files, of which {path} is not there; put all "
                "of them into one folder, under their own names"
            ) from error
        except OSError as error:
            refuse_transient(error, path)
            raise UserError(f"{path}: cannot be read: {error}") from error


def _named_files(root: ElementTree.Element, own: str) -> Iterator[str]:
    """Names of other files in an XML; this one is told by its UUID, else by its name."""
    own_id = root.attrib.get("UUID")
    for element in root.iter():
        if not element.tag.endswith("}UUID") and element.tag != "UUID":
            continue
        name = element.attrib.get("FileName", "")
        if own_id is None and name.lower() == own.lower():
            own_id = element.text
        if name and element.text != own_id:
            yield name


def files_of_series(series: tifffile.TiffPageSeries) -> list[str]:
    """Paths of the files that the pages of a series lie in."""
    if not series.is_multifile:
        return []
    return list(dict.fromkeys(page.parent.filehandle.path for page in series.pages if page is not None))
