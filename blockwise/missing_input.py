"""Files that were missing when a block was read: zeros where nobody has written them, else no input at all."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box, Index
from blockwise.identity import array_checksum
from blockwise.outputs import VolumeOutput
from blockwise.sources import RawSource
from blockwise.step import BlockStep
from blockwise.upstream import BlocksSource
from blockwise.volume import ABSENT, DamagedDataError, Volume, open_volume
from blockwise.volume.steady import Missing


def check_missing_files(
    step: BlockStep, stamps: Mapping[str, str], boxes: Mapping[str, Box], missing: Missing
) -> None:
    """Compare what was missing when a block was read with what is known of the files.

    Args:
        step: whose block was computed.
        stamps: of what the block reads, as they were planned.
        boxes: that the block reads, by source.
        missing: files that were taken for zeros.

    Raises:
        DamagedDataError: a file that another step has written is not there.
        OSError: ESTALE; a file was away for a moment, or is away and was there when the step was planned.
    """
    for name, source in step.inputs.items():
        files = missing.files.get(source.address, set())
        if not files:
            continue
        if isinstance(source, BlocksSource):
            _check_written(source, files)
        elif isinstance(source, RawSource) and source.watch_files:
            _check_given(source, files, boxes[name], stamps[name])


def _check_written(source: BlocksSource, files: set[Index]) -> None:
    output = source.step.output()
    if not isinstance(output, VolumeOutput):
        return
    volume = open_volume(output.address)
    for index in sorted(files):
        box = tuple(
            slice(i * f, min((i + 1) * f, n)) for i, f, n in zip(index, volume.file_shape, volume.shape, strict=True)
        )
        for block_id in source.step.grid.ids_touching(output.grid_box(box)):
            written = output.box(source.step.grid.block(block_id).write_box)
            states = volume.file_states(written)
            marker = source.step.markers.read(block_id)
            if marker is None or marker.files != array_checksum(states):
                message = f"{output.address}: {volume.file_of(index)} is not as {source.label} has written it"
                raise DamagedDataError(message, output.address, box)
            if not _is_absent(volume, states, written, index):
                raise _away(volume.file_of(index))


def _check_given(source: RawSource, files: set[Index], box: Box, planned: str) -> None:
    volume = open_volume(source.info.address)
    spatial = dict(zip(source.spatial, box, strict=True))
    whole = tuple(spatial.get(axis, slice(0, n)) for axis, n in enumerate(volume.shape))
    states = volume.file_states(whole)
    is_as_planned = array_checksum(states) == planned
    for index in sorted(files):
        if not is_as_planned or not _is_absent(volume, states, whole, index):
            raise _away(volume.file_of(index))


def _is_absent(volume: Volume, states: NDArray[np.int64], box: Box, index: Index) -> bool:
    """Whether, in the states of the files below a box, there is none at an index."""
    first = (s.start // f for s, f in zip(box, volume.file_shape, strict=True))
    place = tuple(i - o for i, o in zip(index, first, strict=True))
    return bool(states[(*place, 0)] == ABSENT)


def _away(path: str) -> OSError:
    return OSError(errno.ESTALE, "was away while it was read, or is away now", path)
