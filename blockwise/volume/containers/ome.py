"""OME-Zarr image metadata: scales, axes, units, voxel sizes; 0.1 to 0.5 are read, 0.4 and 0.5 (Zarr 3) written."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blockwise.volume.axes import Spacing, axes_from_attributes, spacing_from_attributes

_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_DEFAULT_AXES = {2: "yx", 3: "zyx"}
_OLD_AXES = "tczyx"
"""Versions 0.1 and 0.2 name no axes: these it had to be."""


@dataclass(frozen=True)
class Scale:
    """One resolution of an image.

    Attributes:
        path: of its array, relative to the image's group.
        axes: names of the axes in lower case, time and channel by their types.
        spacing: distance between voxels, or None.
    """

    path: str
    axes: list[str]
    spacing: Spacing | None


@dataclass(frozen=True)
class Level:
    """A coarser scale of an image that is to be written.

    Attributes:
        shape: in its own voxels.
        chunks: likewise.
        factors: voxels of the finest scale along one of it, per axis.
        method: how its voxels were made of the finer ones, in the middle of which they lie; ``mean``, say.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    factors: tuple[int, ...]
    method: str

    def attributes(self, finest: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes of its array, from those of the finest one."""
        steps = finest.get("resolution")
        scaled = {} if steps is None else {"resolution": [s * f for s, f in zip(steps, self.factors, strict=True)]}
        return {**finest, **scaled}


def scales(attributes: Mapping[str, Any]) -> list[Scale]:
    """The scales of the images in a group's attributes, each image's finest first; empty where there is none."""
    images = attributes.get("ome", attributes).get("multiscales") or []
    return [scale for image in images for scale in _scales_of(image)]


def count_images(attributes: Mapping[str, Any]) -> int:
    """Number of images in a group's attributes; the specification allows several, and names none."""
    return len(attributes.get("ome", attributes).get("multiscales") or [])


def _scales_of(image: Mapping[str, Any]) -> list[Scale]:
    axes = image.get("axes") or list(_OLD_AXES)
    names = [_axis_name(axis) for axis in axes]
    units = tuple(str(axis.get("unit", "")) if isinstance(axis, dict) else "" for axis in axes)
    common = _scale_factors(image)
    found = []
    for dataset in image.get("datasets", []):
        steps = _scale_factors(dataset)
        if steps and common and len(common) == len(steps):
            steps = [a * b for a, b in zip(steps, common, strict=True)]
        spacing = Spacing(tuple(steps), units) if steps and len(steps) == len(names) else None
        found.append(Scale(posixpath.normpath(str(dataset["path"])).lstrip("/"), names, spacing))
    return found


def _axis_name(axis: Any) -> str:
    if not isinstance(axis, dict):
        return str(axis).lower()
    by_type = {"time": "t", "channel": "c"}
    return by_type.get(str(axis.get("type")), str(axis["name"]).lower())


def _scale_factors(holder: Mapping[str, Any]) -> list[float]:
    for transformation in holder.get("coordinateTransformations", []):
        if transformation.get("type") == "scale" and "scale" in transformation:
            return [float(step) for step in transformation["scale"]]
    return []


def image(attributes: Mapping[str, Any], ndim: int, *, zarr3: bool, levels: tuple[Level, ...] = ()) -> dict[str, Any]:
    """Group attributes that make the array ``0`` below it an image; ``attributes`` are those of the array.

    Coarser scales are the arrays ``1``, ``2`` and so on.

    Raises:
        ValueError: no axes are given for an array that is neither yx nor zyx by its number of dimensions.
    """
    axes = axes_from_attributes(attributes, ndim) or _DEFAULT_AXES.get(ndim)
    if axes is None:
        raise ValueError(f"OME-Zarr needs the names of {ndim} axes in the attribute 'axes'")
    spacing = spacing_from_attributes(attributes, axes) or Spacing((1.0,) * ndim, ("",) * ndim)
    described = [
        {"name": axis, "type": _TYPES[axis]} | ({"unit": unit} if unit else {})
        for axis, unit in zip(axes, spacing.units, strict=True)
    ]
    finest = Level((), (), (1,) * ndim, "")
    datasets = [
        {"path": str(number), "coordinateTransformations": _transformations(level, spacing.steps)}
        for number, level in enumerate((finest, *levels))
    ]
    multiscale = {"axes": described, "datasets": datasets} | ({"type": levels[-1].method} if levels else {})
    if zarr3:
        return {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    return {"multiscales": [{"version": "0.4", **multiscale}]}


def _transformations(level: Level, steps: tuple[float, ...]) -> list[dict[str, Any]]:
    """A scale, and after it, as the specification wants it, a translation where there is one."""
    found: list[dict[str, Any]] = [
        {"type": "scale", "scale": [step * f for step, f in zip(steps, level.factors, strict=True)]}
    ]
    if max(level.factors, default=1) > 1:
        middle = [step * (f - 1) / 2 for step, f in zip(steps, level.factors, strict=True)]
        found.append({"type": "translation", "translation": middle})
    return found
