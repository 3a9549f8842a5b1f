"""How scales are named and described, so that viewers take them for one image: N5, OME-Zarr, precomputed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from blockwise.volume.containers.metadata import Array, Kind
from blockwise.volume.containers.ome import Level, image
from blockwise.volume.containers.precomputed_scale import info_document
from tasks.pyramid.coarser import DESCRIPTIONS, Method

Layout = Literal["n5", "ome-zarr", "precomputed"]

_SHORT_UNITS = {
    "angstrom": ("nm", 0.1),
    "nanometer": ("nm", 1.0),
    "micrometer": ("um", 1.0),
    "millimeter": ("mm", 1.0),
    "centimeter": ("mm", 10.0),
    "meter": ("m", 1.0),
    "second": ("s", 1.0),
    "millisecond": ("ms", 1.0),
    "microsecond": ("us", 1.0),
}
"""Units as readers of N5 know them, and how many of them one is."""


class Image(BaseModel):
    """What there is to say of an image with several scales.

    Attributes:
        name: of the dataset.
        axes: one letter of ``tczyx`` each.
        steps: distance between voxels of the finest scale, per axis.
        units: of these distances; empty where not known.
        factors: voxels of the finest scale along one of each scale, per axis; the finest scale's own come first.
        method: how coarser scales were made.
        is_label: its values are numbers of objects or classes.
        of: path, from its group, of the group of the image that labels belong to; empty for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str
    axes: str
    steps: tuple[float, ...]
    units: tuple[str, ...]
    factors: tuple[tuple[int, ...], ...]
    method: Method
    is_label: bool
    of: str = ""


def scale_name(layout: Layout, number: int) -> str:
    """Name of a scale in its group; 0 is the finest."""
    return str(number) if layout == "ome-zarr" else f"s{number}"


def scale_attributes(layout: Layout, described: Image, number: int) -> dict[str, Any]:
    """Attributes of a scale's own array; its axes are added by whoever makes it.

    In N5 it has factors, and no voxel size: readers multiply that of the group by them.
    """
    factors = described.factors[number]
    if layout == "n5":
        return {"downsamplingFactors": list(factors[::-1])}
    steps = [step * f for step, f in zip(described.steps, factors, strict=True)]
    kind = {"type": "segmentation" if described.is_label else "image"} if layout == "precomputed" else {}
    return {"resolution": steps, "units": list(described.units), **kind}


def group_document(kind: Kind, described: Image, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Attributes of the group of all scales.

    Args:
        kind: of the container.
        described: what there is to say of them.
        arrays: the scales by their names, as they lie there.
    """
    if kind == "precomputed":
        return info_document({name: array.document for name, array in arrays.items()})
    return _n5(described) if kind == "n5" else _ome(described, zarr3=kind == "zarr3")


def labels_document(kind: Kind, names: tuple[str, ...]) -> dict[str, Any]:
    """Attributes of the group ``labels`` below an image, by which readers find its labels."""
    return {"ome": {"version": "0.5", "labels": list(names)}} if kind == "zarr3" else {"labels": list(names)}


def _n5(described: Image) -> dict[str, Any]:
    """As n5-viewer, Paintera and Neuroglancer read it: x first."""
    short = [_SHORT_UNITS.get(unit, ("", 1.0)) for unit in described.units]
    steps = [step * times for step, (_, times) in zip(described.steps, short, strict=True)][::-1]
    units = [unit for unit, _ in short][::-1]
    factors = [list(each[::-1]) for each in described.factors]
    document: dict[str, Any] = {
        "axes": list(described.axes[::-1]),
        "resolution": steps,
        "units": units,
        "downsamplingFactors": factors,
        "scales": factors,
        "multiScale": True,
        "downsamplingMethod": DESCRIPTIONS[described.method],
    }
    if len(described.axes) == 3 and units[0]:  # n5-viewer knows three axes in one unit, and no others
        document["pixelResolution"] = {"unit": units[0], "dimensions": steps}
    return document


def _ome(described: Image, *, zarr3: bool) -> dict[str, Any]:
    ndim = len(described.axes)
    attributes = {"axes": list(described.axes), "resolution": described.steps, "units": described.units}
    levels = tuple(Level((), (), factors, described.method) for factors in described.factors[1:])
    document = image(attributes, ndim, zarr3=zarr3, levels=levels)
    holder = document["ome"] if zarr3 else document
    holder["multiscales"][0] |= {
        "name": described.name,
        "metadata": {"description": DESCRIPTIONS[described.method]},
    }
    if described.is_label:
        source: Mapping[str, Any] = {"source": {"image": described.of}} if described.of else {}
        holder["image-label"] = ({} if zarr3 else {"version": "0.4"}) | dict(source)
    return document
