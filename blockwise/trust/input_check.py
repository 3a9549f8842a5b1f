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
from blockwise.mask import MaskSource
from blockwise.outputs import VolumeOutput
from blockwise.sources import RawSource
from blockwise.stamps import Snapshot
from blockwise.step import BlockStep
from blockwise.upstream import BlocksSource
from blockwise.volume import Address, DamagedDataError, Volume, open_volume
from blockwise.volume.steady import FileState, Seen, file_state

CHANGED = "changed while it was read"
"""Stamp of what was not as planned when it was read; it is like nothing that there is, so the block is done again."""


class InputCheck:
    """Checks what the blocks of one step have read.

    Attributes:
        step: the step.
    """

    def __init__(self, step: BlockStep) -> None:
        self.step = step
        self._volumes: dict[str, Volume] = {}
        self._written: dict[str, dict[Index, FileState]] = {}
        """By source, files as another step's markers vouch for them; found once for all blocks that read them."""
        self._mask: tuple[dict[Index, FileState], Snapshot] | None = None

    def stamps_of(self, planned: Mapping[str, str], boxes: Mapping[str, Box], seen: Seen) -> dict[str, str]:
        """Stamps of what a block has read.

        Args:
            planned: what it was going to read.
            boxes: that it reads, by source.
            seen: what was seen of the files when they were read.

        Returns:
            The planned stamps, but ``CHANGED`` of a given volume that was not as planned.

        Raises:
            DamagedDataError: a file is not as another step has written it.
            OSError: ESTALE; a file was not there, or another one, for a moment.
        """
        stamps = dict(planned)
        for name, source in self.step.inputs.items():
            files = seen.files.get(str(Address.parse(source.address)), {}) if source.address else {}
            if not files:
                continue
            if isinstance(source, RawSource) and source.watch_files:
                if not self._is_as_planned(source, boxes[name], files, planned[name]):
                    stamps[name] = CHANGED
            elif isinstance(source, MaskSource) and source.watch_files:
                stamps[name] = self._stamp_of_mask(source, boxes[name], files)
            elif isinstance(source, BlocksSource) and source.step.change_detection != "metadata":
                output = source.step.output()
                if isinstance(output, VolumeOutput):
                    self._check_written(name, source, output, files)
        return stamps

    def _volume(self, address: str) -> Volume:
        """Opened once: to open a stack of a thousand slices takes longer than to read a block of it."""
        if address not in self._volumes:
            self._volumes[address] = open_volume(address)
        return self._volumes[address]

    def _is_as_planned(self, source: RawSource, box: Box, files: Mapping[Index, FileState], planned: str) -> bool:
        """Whether all files below a box are as planned, and those that were read are what was read."""
        volume = self._volume(source.info.address)
        spatial = dict(zip(source.spatial, box, strict=True))
        whole = tuple(spatial.get(axis, slice(0, n)) for axis, n in enumerate(volume.shape))
        # First the states: what changes after them has not been read.
        return array_checksum(volume.file_states(whole)) == planned and all(
            file_state(volume.file_of(index)) == state for index, state in files.items()
        )

    def _stamp_of_mask(self, source: MaskSource, box: Box, files: Mapping[Index, FileState]) -> str:
        if self._mask is None:
            volume = self._volume(source.address)
            states = {i: file_state(volume.file_of(i)) for i in volume.file_indices()}
            self._mask = states, source.snapshot()
        states, snapshot = self._mask
        for index, state in files.items():
            if states.get(index) != state:
                self._mask = None
                raise OSError(
                    errno.ESTALE, "was another one while it was read", self._volume(source.address).file_of(index)
                )
        return snapshot.stamp(box)

    def _check_written(
        self, name: str, source: BlocksSource, output: VolumeOutput, files: Mapping[Index, FileState]
    ) -> None:
        known = self._written.setdefault(name, {})
        volume = self._volume(output.address)
        for index, state in files.items():
            if known.get(index) != state:
                known.update(_written_with(source, output, volume, index, state))
            if known[index] != state:
                raise OSError(errno.ESTALE, "was away, or another one, while it was read", volume.file_of(index))


def _written_with(
    source: BlocksSource, output: VolumeOutput, volume: Volume, index: Index, seen: FileState
) -> dict[Index, FileState]:
    """Files of the block that has written a file, as its marker vouches for them.

    Raises:
        DamagedDataError: they are not as they were written.
    """
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
