"""Voxel sizes of an array in the words of different programs.

======================  =========================================================================================
``resolution, units``   ours, neuroglancer's, Paintera's; in the order of the axes
``axistags``            ilastik's and vigra's
``element_size_um``     of HDF5 written by Fiji and others; zyx
``transform``           of COSEM (Janelia): ``{axes, scale, units}``, by name
``pixelResolution``     of N5 written by n5-viewer, Fiji and COSEM: ``{dimensions, unit}``, or numbers; x first.
                        With ``downsamplingFactors`` it is that of the finest scale.
======================  =========================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blockwise.volume.axes import AXES, Spacing, numbers, spacing_from_attributes, texts


def spacing_of(
    attributes: Mapping[str, Any], axes: str | None, ndim: int, *, x_first: bool = False
) -> Spacing | None:
    """Voxel spacing along the axes of an array.

    Args:
        attributes: of the array. Where they name ``axes``, they have its order; else that of the file.
        axes: of the array, or None where they are not known: a size for each of them may be told all the same.
        ndim: number of axes.
        x_first: files of this format count dimensions from x.

    Returns:
        None where nothing is said, or what is said fits nothing.
    """
    found = spacing_from_attributes(attributes, axes) or _transform(attributes, axes, ndim, x_first=x_first)
    if found is None and x_first:
        found = _pixel_resolution(attributes, axes, ndim)
    return found or (_unnamed(attributes, ndim, x_first=x_first) if axes is None else None)


def spacing_in_group(attributes: Mapping[str, Any], group: Mapping[str, Any], name: str, ndim: int) -> Spacing | None:
    """Voxel spacing of an array in an N5 group, such as ``s1``, from what the group says of it.

    Args:
        attributes: of the array.
        group: attributes of the group.
        name: of the array in it.
        ndim: number of its axes.
    """
    for image in _list(group.get("multiscales")):
        for scale in _list(image.get("datasets") if isinstance(image, Mapping) else None):
            if isinstance(scale, Mapping) and scale.get("path") == name:
                found = _transform(scale, None, ndim, x_first=True)
                if found is not None:
                    return found
    scales, number = _list(group.get("scales")), name.removeprefix("s")
    factors = attributes.get("downsamplingFactors")
    if factors is None and number.isdecimal() and int(number) < len(scales):
        factors = scales[int(number)]
    if factors is None and number != "0":
        return None  # a coarser scale of which nobody says how much
    told = {"pixelResolution": group.get("pixelResolution"), "downsamplingFactors": factors}
    return _pixel_resolution(told, None, ndim)


def _transform(attributes: Mapping[str, Any], axes: str | None, ndim: int, *, x_first: bool) -> Spacing | None:
    transform = attributes.get("transform")
    if not isinstance(transform, Mapping):
        return None
    names, steps = "".join(texts(transform.get("axes"))), numbers(transform.get("scale"))
    if not (set(names) <= set(AXES) and len(set(names)) == len(names) == len(steps)):
        return None
    if axes is None:
        if len(names) != ndim:
            return None
        # Names may be told in the order of the file, or of the array; the array's first axis is z at any rate.
        axes = "".join(axis for axis in AXES if axis in names) if x_first else names
    return Spacing(tuple(steps), _units(transform.get("units"), len(steps))).along(names, axes)


def _pixel_resolution(attributes: Mapping[str, Any], axes: str | None, ndim: int) -> Spacing | None:
    told = attributes.get("pixelResolution")
    dimensions = told.get("dimensions") if isinstance(told, Mapping) else told
    steps = numbers(dimensions)[::-1]
    factors = numbers(attributes.get("downsamplingFactors"))[::-1] or [1.0] * len(steps)
    spatial = "".join(axis for axis in "zyx" if axis in (axes or "zyx"[-len(steps) :]))
    if not steps or len(factors) != len(steps) or len(steps) != len(spatial) or (axes is None and len(steps) != ndim):
        return None
    units = _units(told.get("unit", told.get("units")) if isinstance(told, Mapping) else None, len(steps))[::-1]
    found = Spacing(tuple(step * factor for step, factor in zip(steps, factors, strict=True)), units)
    return found.along(spatial, axes or spatial)


def _unnamed(attributes: Mapping[str, Any], ndim: int, *, x_first: bool) -> Spacing | None:
    """Of an array whose axes nobody names."""
    steps = numbers(attributes.get("resolution"))
    if len(steps) == ndim:
        units = _units(attributes.get("units"), ndim)
        if not x_first:
            return Spacing(tuple(steps), units)
        # Some write z first all the same, and those write no units.
        return Spacing(tuple(steps[::-1]), units[::-1]) if all(units) else None
    steps = numbers(attributes.get("element_size_um"))
    return Spacing(tuple(steps), ("micrometer",) * ndim) if len(steps) == ndim in (2, 3) else None


def _units(value: Any, number: int) -> tuple[str, ...]:
    """A unit for each of so many steps: one for all may be told; empty where that is not what is told."""
    if isinstance(value, str | bytes):
        return (*texts([value]),) * number
    found = texts(value)
    return tuple(found) if len(found) == number else ("",) * number


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
