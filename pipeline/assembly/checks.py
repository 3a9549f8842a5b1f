"""What is refused of steps before any work: too much memory, and outputs in the place of what is read."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

from blockwise.backends.registry import BACKENDS
from blockwise.errors import UserError
from blockwise.outputs import VolumeOutput
from blockwise.step import BlockStep
from blockwise.volume import Address
from pipeline.configuration.settings import BackendSettings
from tasks.given_prediction import GivenPredictionStep
from tasks.prediction import PredictionStep


def check_memory(steps: Iterable[BlockStep], backend: BackendSettings) -> None:
    """Refuse a configuration whose workers would need more memory than there is.

    Raises:
        UserError: naming the step, what it needs, what it may have, and what to change.
    """
    limit, allowed = _memory_limit(backend)
    for step in steps:
        needed = step.projected_memory()
        if needed > limit:
            raise UserError(
                f"{step.label}: a worker needs about {needed / 1e9:.2f} GB for blocks of "
                f"{'x'.join(map(str, step.grid.block_shape))}, but {allowed}; use smaller blocks, fewer workers, or "
                "more memory"
            )


def _memory_limit(backend: BackendSettings) -> tuple[float, str]:
    """Bytes that a worker may have, and who says so."""
    if backend.memory_gb:
        return backend.memory_gb * 1e9, f"backend.memory_gb allows {backend.memory_gb:.2f} GB"
    return BACKENDS[backend.name].memory_limit(backend.setups()[backend.name])


def check_not_in_place(steps: Iterable[BlockStep], prediction: PredictionStep) -> None:
    """Refuse to write over what is read; the raw volume and the mask may be results of other runs.

    Raises:
        UserError: naming what would be lost.
    """
    resolve = functools.cache(os.path.realpath)  # the outputs share a container, and a batch has thousands

    def place(text: str) -> Path:
        address = Address.parse(text)
        return Path(resolve(address.path), address.key)

    read = {place(prediction.raw.address): "the raw volume"}
    if prediction.mask is not None:
        read[place(prediction.mask.address)] = "the mask"
    if isinstance(prediction, GivenPredictionStep):
        read[place(prediction.given.address)] = "the given probabilities"
    for step in steps:
        output = step.output()
        if isinstance(output, VolumeOutput) and (what := read.get(place(output.address))):
            raise UserError(
                f"output {output.address}: this is {what} itself, which would be lost; set another `output`"
            )
