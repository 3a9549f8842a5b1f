"""Which scales a configuration has of which dataset, and where those may lie that it has no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blockwise.outputs import VolumeOutput
from blockwise.step import BlockStep
from blockwise.volume import Address
from blockwise.volume.address import PRECOMPUTED, PRECOMPUTED_SUFFIX
from blockwise.volume.info import VolumeInfo
from blockwise.volume_step import VolumeStep
from pipeline.assembly.pyramids.container import GROUP, RAW
from pipeline.assembly.pyramids.steps import Dataset, along
from pipeline.configuration.settings import Settings
from tasks.pyramid.group_step import LabelsStep, PyramidStep
from tasks.pyramid.scale_step import ScaleStep


@dataclass(frozen=True)
class FoundScale:
    """A scale of a dataset.

    Attributes:
        address: where it lies, or will lie.
        axes: one letter of ``tczyx`` each.
        shape: in its own voxels, per axis.
        factors: voxels of the finest scale along one of it, per axis.
        is_finished: whether it is whole, and of the present result; what is not may lack blocks, or not be there.
    """

    address: str
    axes: str
    shape: tuple[int, ...]
    factors: tuple[int, ...]
    is_finished: bool


def found_scales(
    raw: VolumeInfo, outputs: Sequence[VolumeStep], pyramids: Sequence[BlockStep]
) -> dict[str, tuple[FoundScale, ...]]:
    """Scales by the name of the dataset, the finest first; see ``Steps.scales``."""
    finest = FoundScale(raw.address, raw.axes, raw.shape, (1,) * len(raw.shape), is_finished=True)
    found = {RAW: [finest]}
    for step in outputs:
        found[Dataset.of(step).name] = [_found(step.output(), (1,) * len(step.grid.axes), step)]
    for group in pyramids:
        if isinstance(group, PyramidStep):
            found.setdefault(group.image.name, []).extend(_coarser_of(group))
    return {name: tuple(scales) for name, scales in found.items()}


def _coarser_of(group: PyramidStep) -> Iterator[FoundScale]:
    for step in group.scales:
        if isinstance(step, ScaleStep) and max(step.factors) > 1:
            named = dict(zip(group.image.axes, group.image.factors[step.number], strict=True))
            yield _found(step.output(), tuple(named[axis] for axis in step.grid.axes), step)


def _found(output: VolumeOutput, factors: tuple[int, ...], step: BlockStep) -> FoundScale:
    box = output.box(tuple(slice(0, n) for n in output.grid.shape))
    return FoundScale(
        output.address,
        output.axes,
        tuple(s.stop for s in box),
        along(output.grid.axes, factors, output.axes),
        is_finished=_is_finished(step),
    )


def _is_finished(step: BlockStep) -> bool:
    """Whether a step has a target, and a scale is of what the step before it has now; no data is looked at."""
    target = step.read_target()
    if target is None or not isinstance(step, ScaleStep):
        return target is not None
    if step.before is None:
        return True
    (name,), (source,) = step.inputs, step.inputs.values()
    return _is_finished(step.before) and target["inputs"].get(name) == source.digest()


def former_places(settings: Settings, step: str, variant: str) -> Iterator[str]:
    """Where a step of this name and variant, which the configuration has no more, may have written.

    Whether it has, what lies there tells.
    """
    number, _, scaled = variant.partition("_")
    name, scales = (scaled, (f"/s{number}", f"/{number}")) if step == ScaleStep.name else (variant, ("",))
    holders = ("", "raw/labels/", "probabilities/labels/", "labels/")
    places = [f"{holder}{name}{scale}" for holder in holders for scale in scales]
    if step == LabelsStep.name:
        places = [holder.rstrip("/") for holder in holders[1:]]
    for place in places:
        yield str(Address(settings.output, "").within(f"{GROUP}/{place}"))
        if settings.pyramid.output and Address(settings.pyramid.output, "").suffix == PRECOMPUTED_SUFFIX:
            volume, _, key = place.partition("/")
            location = Address(settings.pyramid.output, "").location
            yield str(Address(f"{PRECOMPUTED}{location}/{volume}", key))
        elif settings.pyramid.output:
            yield str(Address(settings.pyramid.output, "").within(place))
