"""From a threshold that is meant as ilastik's to the values that our steps take for it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from blockwise.errors import UserError
from blockwise.grid import Grid, box_shape
from pipeline.configuration.complaints import explanations
from pipeline.configuration.settings import ConnectedComponents, Settings, Split, Threshold
from tasks.ilastik_smoothing import effective_sigma, reach
from tasks.stored_threshold import METHODS, SIMPLE, StoredThreshold, load_threshold

FACES = {2: 4, 3: 6}
"""ilastik's connectivity, by number of spatial axes."""


def as_ilastik(
    settings: Settings, threshold: Threshold, components: ConnectedComponents, grid: Grid, where: str
) -> tuple[Threshold, ConnectedComponents]:
    """Threshold and objects with the values that ilastik's applet gives to what is not set; others as they are.

    Args:
        settings: the configuration.
        threshold: of it.
        components: what is said of its objects.
        grid: of the volume.
        where: what messages call the threshold.

    Raises:
        UserError: a value that ilastik does not have, or the project holds no threshold that can be computed here.
    """
    if threshold.as_ == "skimage":
        return threshold, components
    spatial = grid.axes.replace("t", "")
    if not components.foreground or components.connectivity not in (None, FACES[len(spatial)]):
        raise UserError(
            f"{where}.as: {threshold.as_} makes objects of what lies above the threshold, joined over faces; leave "
            f"out connected_components.foreground and connectivity, or set them to 1 and {FACES[len(spatial)]}"
        )
    given: dict[str, Any] = {"connectivity": FACES[len(spatial)]}
    if "numbering" not in components.model_fields_set:
        given["numbering"] = "restart"  # ilastik looks at each time step by itself
    if threshold.as_ == "project":
        path = threshold.project or settings.prediction.project
        stored = load_threshold(path)
        threshold, sizes = _stored(threshold, stored, path, spatial)
        given |= sizes
        if stored.labels_given and components.split is None:
            given["split"] = Split(method="labels")
    return threshold, components.model_copy(update=given)


def smoothed_sigma(sigma: tuple[float, ...], grid: Grid, where: str) -> tuple[float, ...]:
    """Standard deviations of ilastik's Gaussian per spatial axis of the grid, 0 where it does not smooth.

    Raises:
        UserError: the Gaussian reaches over the whole volume, which ilastik refuses too.
    """
    spatial = grid.axes.replace("t", "")
    lengths = box_shape(grid.domain)[-len(spatial) :]
    found = effective_sigma(sigma, lengths)
    for axis, s, n in zip(spatial, found, lengths, strict=True):
        if reach(s) >= n:
            raise UserError(
                f"{where}.sigma: {s:g} along {axis} looks {reach(s)} voxels far, but there are {n} along it; ilastik "
                "needs more. Use a smaller sigma along this axis"
            )
    return found


def _stored(
    threshold: Threshold, stored: StoredThreshold, path: str, spatial: str
) -> tuple[Threshold, dict[str, int | None]]:
    """The threshold with the values of a project, and the sizes of objects."""
    method = METHODS.get(stored.method, f"number {stored.method}")
    if method not in ("simple", "hysteresis"):
        raise UserError(
            f"project {path}: its threshold is of the method {method!r}, which is not computed here; choose simple "
            "or hysteresis in ilastik's threshold applet and save it, or give the values here (as: ilastik)"
        )
    values: dict[str, Any] = {
        "class": stored.channel,
        "sigma": [stored.sigma[axis] for axis in spatial],
        "method": method,
        **({"threshold": stored.low} if stored.method == SIMPLE else {}),
        **({} if stored.method == SIMPLE else {"final": stored.low, "core": stored.high}),
    }
    if stored.method != SIMPLE and stored.core_channel != stored.channel:
        values["core_class"] = stored.core_channel
    kept = threshold.model_dump(include={"name", "keep_cores"})
    try:
        made = Threshold.model_validate({**values, **kept, "as": "ilastik"})
    except ValidationError as error:
        lines = explanations(error, values, Threshold)
        raise UserError("\n".join([f"project {path}: its threshold holds values that cannot be:", *lines])) from None
    return made, {"min_size": stored.min_size, "max_size": stored.max_size}
