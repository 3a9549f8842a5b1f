"""What the viewer shows at first: neuroglancer's state, which then lives in the page's address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.viewing.colours import Colour, as_hex
from pipeline.viewing.images.layers import BEFORE_ALIGNMENT, UNITS_M, Layer

ORIGIN = "{origin}"
"""Stands for scheme, host and port, as the browser sees them: behind a tunnel they are not ours."""

WIDTH = 400
"""Pixels that a volume takes at first."""

OPACITY = 0.35
"""Of what lies over the raw volume."""

DOWNLOADS = 4
"""At a time. A browser has six connections to a server: two are left for the panel, and for other tabs. With more
downloads than connections none would be given up when one looks elsewhere."""

TITLES = {"raw": "raw", "probabilities": "classes", "classes": "segmentation", "mask": "mask", "labels": "objects"}
OWN_TITLES = {"cores": "cores", "tissue": "tissue", BEFORE_ALIGNMENT: "slices before alignment"}
"""By names of datasets that are not what others of their kind are."""
ALIGNED = "raw (aligned)"
"""Title of the raw volume that was made of slices."""
SHOWN = ("raw", "probabilities", "labels")
"""Kinds of layers that are visible at first, so far as they are there."""


FORMER_STAGE = "probabilities_stage_"
"""Begins the names of datasets of stages before the last one."""


def first_state(
    layers: Iterable[Layer],
    base: str,
    colours: Mapping[str, Colour],
    raw_range: tuple[float, float] | None,
    *,
    is_close: bool = False,
) -> dict[str, Any]:
    """The state of a page that is opened without one.

    Args:
        layers: in the order in which they lie upon each other; ``raw`` is among them.
        base: address of the layers' folder, such as ``{origin}/TOKEN/data``.
        colours: of the classes, by name.
        raw_range: values of the raw volume that are shown black and white; None where they are not known.
        is_close: show voxels as large as pixels at least, not all of the volume: what is not computed has no other
            scale than the finest.
    """
    shown = list(layers)
    raw = next(layer for layer in shown if layer.kind == "raw")
    along = dict(zip(raw.axes, zip(raw.shape, raw.steps, raw.units, strict=True), strict=True))
    order = [axis for axis in "xyzt" if axis in along]
    dimensions = {
        axis: [along[axis][1] * UNITS_M.get(along[axis][2], 1.0), "m" if along[axis][2] else ""] for axis in order
    }
    names = _names(shown)
    whole = max(along["x"][0], along["y"][0]) / WIDTH
    return {
        "title": raw.address,
        "dimensions": dimensions,
        "position": [along[axis][0] // 2 + 0.5 if axis != "t" else 0.5 for axis in order],
        "crossSectionScale": min(whole, 1.0) if is_close else whole,
        "projectionScale": 2 * max(along[axis][0] for axis in order if axis != "t"),
        "layout": "4panel" if "z" in along else "xy",
        "concurrentDownloads": DOWNLOADS,
        "showAxisLines": False,
        "showDefaultAnnotations": False,  # panel.js shows them once there is a picture
        "layers": [
            layer_state(layer, names[layer.name], base, colours, raw_range) | {"visible": is_visible(layer)}
            for layer in shown
        ],
    }


def is_visible(layer: Layer) -> bool:
    """Whether a layer is visible at first: of autocontext the last stage alone; slices once they are aligned."""
    return layer.kind in SHOWN and layer.name != BEFORE_ALIGNMENT and not layer.name.startswith(FORMER_STAGE)


def layer_state(
    layer: Layer,
    name: str,
    base: str,
    colours: Mapping[str, Colour],
    raw_range: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """The state of one layer; see ``first_state``."""
    source = _source(layer, f"{base}/{layer.name}/{layer.fingerprint}/")
    return {"name": name, "source": source, **_appearance(layer, colours, raw_range)}


def _names(layers: list[Layer]) -> dict[str, str]:
    """Titles by names of layers: of several of a kind each has what tells it from the others."""
    found: dict[str, str] = {}
    own = OWN_TITLES | {"raw": ALIGNED} if any(layer.name == BEFORE_ALIGNMENT for layer in layers) else OWN_TITLES
    for layer in layers:
        title = own.get(layer.name, TITLES[layer.kind])
        if layer.name.startswith(FORMER_STAGE):
            title = f"{title} of stage {layer.name.removeprefix(FORMER_STAGE)}"
        variant = layer.step.variant if layer.step is not None else ""
        title = f"{title} {variant}".strip()
        found[layer.name] = title if title not in found.values() else layer.name
    return found


def _source(layer: Layer, address: str) -> dict[str, Any]:
    """Where a layer's chunks are; channels are given to its shader all at once."""
    dimensions = {
        ("c^" if axis == "c" else axis): [step * UNITS_M.get(unit, 1.0), "m" if unit else ""]
        for axis, step, unit in zip(layer.axes, layer.steps, layer.units, strict=True)
    }
    # OME-Zarr has a voxel's middle at a whole number; viewers of voxels, like people, its lower corner.
    rank = len(layer.axes)
    matrix = [
        [float(i == j) for j in range(rank)] + [0.0 if axis == "c" else 0.5] for i, axis in enumerate(layer.axes)
    ]
    return {"url": f"zarr2://{address}", "transform": {"outputDimensions": dimensions, "matrix": matrix}}


def _appearance(layer: Layer, colours: Mapping[str, Colour], raw_range: tuple[float, float] | None) -> dict[str, Any]:
    if layer.kind == "labels":
        return {"type": "segmentation", "selectedAlpha": OPACITY, "notSelectedAlpha": OPACITY}
    found: dict[str, Any] = {"type": "image", "shader": _shader(layer, colours)}
    if layer.kind == "raw":
        limits = {"range": list(raw_range)} if raw_range else {}
        return found | {"opacity": 1.0, "shaderControls": {"normalized": limits}}
    return found | {"opacity": OPACITY, "blend": "default"}


def _shader(layer: Layer, colours: Mapping[str, Colour]) -> str:
    channels = dict(zip(layer.axes, layer.shape, strict=True)).get("c", 1)
    if layer.kind == "raw":
        return _raw_shader("c" in layer.axes, channels)
    chosen = [as_hex(colours.get(name, (255, 255, 255))) for name in layer.classes]
    if layer.kind == "probabilities":
        return _probability_shader(chosen, "c" in layer.axes, is_float=layer.dtype.kind == "f")
    return _class_shader(chosen) if layer.kind == "classes" else _MASK_SHADER


def _raw_shader(has_channels: bool, channels: int) -> str:
    if not has_channels or channels == 1:
        value = "normalized(0)" if has_channels else "normalized()"
        return f"#uicontrol invlerp normalized\nvoid main() {{\n  emitGrayscale({value});\n}}\n"
    number = min(channels, 3)
    values = ", ".join([f"normalized({i})" for i in range(number)] + ["0.0"] * (3 - number))
    return f"#uicontrol invlerp normalized(clamp=true)\nvoid main() {{\n  emitRGB(vec3({values}));\n}}\n"


def _probability_shader(colours: list[str], has_channels: bool, *, is_float: bool) -> str:
    """The colours of the classes, mixed as the probabilities say; where all are 0 nothing was computed."""
    controls = [f'#uicontrol vec3 class{i} color(default="{colour}")' for i, colour in enumerate(colours)]
    lines = []
    for i in range(len(colours)):
        value = f"getDataValue({i})" if has_channels else "getDataValue()"
        lines.append(f"  p = {value if is_float else f'toNormalized({value})'}; total += p; sum += p * class{i};")
    start = "void main() {\n  float p; float total = 0.0; vec3 sum = vec3(0.0);"
    return "\n".join([*controls, start, *lines, "  emitRGBA(vec4(sum, min(total, 1.0)));\n}\n"])


def _class_shader(colours: list[str]) -> str:
    controls = [f'#uicontrol vec3 class{i} color(default="{colour}")' for i, colour in enumerate(colours)]
    lines = [f"  if (v == {i + 1}u) emitRGB(class{i});" for i in range(len(colours))]
    start = "void main() {\n  uint v = uint(toRaw(getDataValue()));\n  if (v == 0u) emitTransparent();"
    return "\n".join([*controls, start, *lines, "}\n"])


_MASK_SHADER = """#uicontrol vec3 inside color(default="#ffd400")
#uicontrol vec3 core color(default="#ff5500")
void main() {
  uint v = uint(toRaw(getDataValue()));
  if (v == 0u) emitTransparent();
  else emitRGB(v == 1u ? inside : core);
}
"""
"""1 in the mask, 2 in the cores of hysteresis."""
