"""Was what a block has read that which it is stamped with?

Files are looked at when a step is planned, and again when it ends. In between one may vanish, change and be back: so
what was seen of each file at the moment of reading is compared with what it should have been.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

import numpy as np

from blockwise.grid import Box, Index
from blockwise.identity import array_checksum
from blockwise.outputs import VolumeOutput
from blockwise.sources import RawSource
from blockwise.step import BlockStep
from blockwise.upstream import BlocksSource
from blockwise.volume import ABSENT, DamagedDataError, Volume, open_volume
from blockwise.volume.steady import FileState, Seen

GONE: FileState = (ABSENT, 0)


class InputCheck:
    """Checks what the blocks of one step have read.

    Attributes:
        step: the step.
    """

    def __init__(self, step: BlockStep) -> None:
        self.step = step
        self._written: dict[str, dict[Index, FileState]] = {}
        """By source, files as another step's markers vouch for them; found once for all blocks that read them."""

    def stamps_of(self, planned: Mapping[str, str], boxes: Mapping[str, Box], seen: Seen) -> dict[str, str]:
        """Stamps of what a block has read.

        Args:
            planned: what it was going to read.
            boxes: that it reads, by source.
            seen: what was seen of the files when they were read.

        Returns:
            The planned stamps, but for files of given volumes the stamp of what was seen.

        Raises:
            DamagedDataError: a file is not as another step has written it.
            OSError: ESTALE; a file was not there, or another one, for a moment.
        """
        stamps = dict(planned)
        for name, source in self.step.inputs.items():
            files = seen.files.get(source.address, {})
            if not files:
                continue
            if isinstance(source, RawSource) and source.watch_files:
                stamps[name] = _stamp_of_seen(source, boxes[name], files)
            elif isinstance(source, BlocksSource):
                output = source.step.output()
                if isinstance(output, VolumeOutput):
                    self._check_written(name, source, output, files)
        return stamps

    def _check_written(
        self, name: str, source: BlocksSource, output: VolumeOutput, files: Mapping[Index, FileState]
    ) -> None:
        known = self._written.setdefault(name, {})
        for index, state in files.items():
            if known.get(index) != state:
                known.update(_written_with(source, output, index, state))
            if known[index] != state:
                raise OSError(errno.ESTALE, "was away, or another one, while it was read", _path(source, index))


def _stamp_of_seen(source: RawSource, box: Box, files: Mapping[Index, FileState]) -> str:
    """As ``FileStates.stamp``; files below the box that were not read (other channels) as they are now."""
    volume = open_volume(source.info.address)
    spatial = dict(zip(source.spatial, box, strict=True))
    whole = tuple(spatial.get(axis, slice(0, n)) for axis, n in enumerate(volume.shape))
    states = volume.file_states(whole)
    first = np.array([s.start // f for s, f in zip(whole, volume.file_shape, strict=True)])
    for index, state in files.items():
        states[tuple(np.array(index) - first)] = state
    return array_checksum(states)


def _written_with(
    source: BlocksSource, output: VolumeOutput, index: Index, seen: FileState
) -> dict[Index, FileState]:
    """Files of the block that has written a file, as its marker vouches for them.

    Raises:
        DamagedDataError: they are not as they were written.
    """
    volume = open_volume(output.address)
    box = _box_of(volume, index)
    found = {index: seen}  # where no block writes, there is nothing to be vouched for
    for block_id in source.step.grid.ids_touching(output.grid_box(box)):
        written = output.box(source.step.grid.block(block_id).write_box)
        states = volume.file_states(written)
        marker = source.step.markers.read(block_id)
        if marker is None or marker.files != array_checksum(states):
            message = f"{output.address}: {volume.file_of(index)} is not as {source.label} has written it"
            raise DamagedDataError(message, output.address, box)
        first = [s.start // f for s, f in zip(written, volume.file_shape, strict=True)]
        for place in np.ndindex(states.shape[:-1]):
            size, time_ns = states[place].tolist()
            found[tuple(i + o for i, o in zip(place, first, strict=True))] = size, time_ns
    return found


def _box_of(volume: Volume, index: Index) -> Box:
    """Voxels in a file."""
    return tuple(
        slice(i * f, min((i + 1) * f, n)) for i, f, n in zip(index, volume.file_shape, volume.shape, strict=True)
    )


def _path(source: BlocksSource, index: Index) -> str:
    return open_volume(source.address).file_of(index)
