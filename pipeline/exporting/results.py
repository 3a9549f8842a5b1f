"""Which results are exported under which names, and when a volume should be ingested first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, box_shape
from blockwise.mask import open_mask
from blockwise.plan import is_complete
from blockwise.volume import Volume, open_volume
from blockwise.volume.ingest import ingest
from pipeline.assembly.stages import STAGE_1
from pipeline.assembly.steps import Steps
from pipeline.configuration.nickname import nickname
from pipeline.exporting.content import Content, SimpleSegmentation
from pipeline.exporting.conversion import target_dtype
from pipeline.exporting.scales import Scales
from pipeline.exporting.write import export
from tasks.nodes.terminal import progress_bar
from tasks.prediction import PredictionStep

EXPORTED = {
    "probabilities": "prediction",
    STAGE_1: "prediction",
    "segmentation": "prediction",
    "mask": "threshold",
    "labels": "connected_components",
    "split": "split_objects",
    "cores": "cores",
    "classes": "object_classes",
}
"""What can be exported, and the step that makes it."""

NEEDS = {
    "cores": ("threshold.keep_cores", "keep_cores: true, with method: hysteresis"),
    "split": ("connected_components.split", "split: {method: distance}, or seeds"),
    "classes": ("connected_components.classifier", "classifier: objects.ilp, a project of object classification"),
}
"""Of what can be exported, what is made only if it is asked for: by which key, and how."""

PROBABILITIES = ("probabilities", STAGE_1)
"""Of what can be exported, what is 0 to 1."""

PAYS_FROM = 2.0
"""From this number of voxels decoded for each voxel read, a copy pays."""


def export_result(
    steps: Steps,
    what: str,
    target: str,
    *,
    threshold: str | None = None,
    dtype: str | None = None,
    scale: tuple[float, float] | None = None,
    compress: bool = False,
    scales: int | None = 1,
    axes: str | None = None,
) -> list[str]:
    """Export a finished result of a run.

    Args:
        steps: of the run.
        what: a key of ``EXPORTED``.
        target: name with placeholders; see ``pipeline.exporting.write.export``. ``{nickname}`` is the raw volume's
            name, ``{dataset}`` is ``what``, with the threshold's name.
        threshold: name of the threshold whose mask, labels or cores are meant, where the run has several.
        dtype: name of a numpy dtype.
        scale: values that become the smallest and largest of an integer ``dtype``; for probabilities 0 to 1.
        compress: deflate the pages of TIFF files.
        scales: number of scales of an OME-Zarr image, None for as many as viewers need; coarser voxels are means of
            probabilities, else the most frequent of the values that they stand for.
        axes: see ``pipeline.exporting.write.export``.

    Returns:
        The paths or addresses written.

    Raises:
        UserError: the result is not finished, the target exists, or values do not fit.
    """
    content, name = _content(steps, what, threshold)
    if what in PROBABILITIES and scale is None and (dtype or "").startswith(("int", "uint")):
        scale = (0, 1) if content.dtype.kind == "f" else None
    names = {"nickname": nickname(steps.prediction.raw.address), "dataset": name}
    wanted = Scales(scales, "mean" if what in PROBABILITIES else "mode")
    described = {"drange": _drange(content.dtype, dtype, scale)} if what in PROBABILITIES else {}
    return export(
        content,
        target,
        dtype=dtype,
        scale=scale,
        names=names,
        compress=compress,
        scales=wanted,
        axes=axes,
        attributes=described,
    )


def _drange(stored: np.dtype[Any], dtype: str | None, scale: tuple[float, float] | None) -> list[float]:
    """What probabilities of 0 and 1 are called in an export: ilastik divides by it, where it thresholds them."""
    wanted = target_dtype(dtype, stored)
    if scale is None or wanted.kind not in "iu":
        return [0.0, 1.0] if stored.kind == "f" else [0.0, float(np.iinfo(stored).max)]
    limits = np.iinfo(wanted)
    per_unit = (limits.max - limits.min) / (scale[1] - scale[0])
    top = 1.0 if stored.kind == "f" else float(np.iinfo(stored).max)
    return [limits.min - scale[0] * per_unit, limits.min + (top - scale[0]) * per_unit]


def _content(steps: Steps, what: str, threshold: str | None) -> tuple[Content, str]:
    """What is exported, and its name."""
    prediction = steps.prediction
    variant = _variant(steps, what, threshold)
    chain = [step for step in steps.up_to(EXPORTED[what]) if step.variant in ("", variant)]
    if what == STAGE_1:
        chain = [_stage_1(steps)]
    if EXPORTED[what] not in [step.name for step in chain]:
        key, remedy = NEEDS[what]
        raise UserError(
            f"export of {what}: {key} is not set{f' for {variant}' * bool(variant)}, so they are not written; set "
            f"{remedy}, and run the workflow"
        )
    for step in chain:
        if not is_complete(step):
            raise UserError(f"export of {what}: {step.label} is not finished, or no longer current; run the workflow")
    last = chain[-1]
    if what == "segmentation":
        if steps.simple_segmentation is None:
            raise UserError(
                f"export of segmentation: prediction.classes holds {len(prediction.classes)} of "
                f"{len(prediction.class_names)} classes, so the most probable one is not known; set it to all"
            )
        last = steps.simple_segmentation if is_complete(steps.simple_segmentation) else last
    volume = open_volume(last.output().address)
    name = f"{what}_{variant}" if variant else what
    if volume.spacing is None:
        volume.spacing = steps.spacing and steps.spacing.along(prediction.raw.axes, volume.axes or "")
    if what == "segmentation" and last is prediction:
        return SimpleSegmentation(volume, _inside(prediction)), name
    return volume, name


def _stage_1(steps: Steps) -> PredictionStep:
    """The first stage of autocontext, where it is kept as probabilities."""
    if not steps.before:
        raise UserError(f"export of {STAGE_1}: the project has one stage only; export probabilities")
    if steps.before[0].truncate:
        raise UserError(
            f"export of {STAGE_1}: the first stage is kept as {steps.before[0].dtype}, cut off as the second stage "
            "reads it; set prediction.export_stage_1: true, and run the workflow"
        )
    return steps.before[0]


def _inside(prediction: PredictionStep) -> Callable[[Box], NDArray[np.bool_]]:
    """Which voxels of a box of the grid were computed: those of the region of interest, and of the mask."""
    grid, mask = prediction.grid, open_mask(prediction.mask, prediction.grid)

    def inside(box: Box) -> NDArray[np.bool_]:
        found = np.ones(box_shape(box), bool) if mask is None else mask.read(box).copy()
        for axis, (s, domain) in enumerate(zip(box, grid.domain, strict=True)):
            places = np.arange(s.start, s.stop)
            outside = np.flatnonzero((places < domain.start) | (places >= domain.stop))
            found[(slice(None),) * axis + (outside,)] = False
        return found

    return inside


def _variant(steps: Steps, what: str, threshold: str | None) -> str:
    """Name of the threshold that is meant; empty for what comes before thresholds."""
    names = [objects.threshold.variant for objects in steps.objects]
    if EXPORTED[what] == PredictionStep.name:
        return ""
    if threshold is None and len(names) == 1:
        return names[0]
    if threshold in names:
        return str(threshold)
    listed = ", ".join(filter(None, names)) or "one without a name"
    raise UserError(f"export of {what}: threshold {threshold or 'not given'}; the run has {listed}")


def ingest_with_progress(source: str, target: str, axes: str | None, chunks: Sequence[int] | None) -> Volume:
    """Copy a volume into chunks; on a terminal with a bar."""
    with progress_bar("ingest") as report:
        return ingest(source, target, axes=axes, chunks=tuple(chunks) if chunks else None, progress=report)


def ingest_advice(steps: Steps) -> str:
    """What to say where reading the raw volume block by block decodes it several times; else nothing."""
    raw, grid = steps.prediction.raw, steps.prediction.grid
    volume = open_volume(raw.address)
    blocks: Mapping[str, int] = dict(zip(grid.axes, grid.block_shape, strict=True))
    shape = tuple(blocks.get(axis, n) for axis, n in zip(raw.axes, raw.shape, strict=True))
    times = volume.read_amplification(shape)
    if times < PAYS_FROM:
        return ""
    unit = "x".join(map(str, volume.decode_shape))
    size = math.prod(raw.shape) * np.dtype(raw.dtype).itemsize
    copy = f"{nickname(raw.address)}.n5:raw"
    return (
        f"raw: {unit} voxels are decoded at once, so blocks of {'x'.join(map(str, shape))} read the volume "
        f"{times:.0f} times; a copy in chunks ({size / 1e9:.1f} GB before compression) is read once:\n"
        f"  blockwise-ilastik ingest '{raw.address}' {copy}\n"
        f"and then set raw: {copy}, or use larger blocks"
    )
