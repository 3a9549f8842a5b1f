"""Whether a volume can be decoded, found out with one chunk: a missing codec fails all blocks, so say it first."""

from __future__ import annotations

import os
from collections.abc import Iterator

from blockwise.errors import UserError
from blockwise.grid import Box
from blockwise.transient import refuse_transient
from blockwise.volume.base import Volume


def check_decodes(volume: Volume) -> None:
    """Decode a voxel in the middle; where that fails, one at the beginning and one at the end.

    Chunks that are not there say nothing and are passed over. A volume of which one of the three can be decoded is
    not refused: damage of single chunks is for the blocks that read them.

    Raises:
        UserError: none can be decoded; names the address and what its chunks are compressed by.
    """
    failure: Exception | None = None
    for box in _voxels(volume):
        if not _is_there(volume, box):
            continue
        try:
            volume.read(box)
        except UserError:
            raise
        except Exception as error:  # of whatever library decodes
            refuse_transient(error, str(volume.address))
            if isinstance(error, OSError) and error.errno is not None:
                raise
            failure = failure or error
        else:
            return
    if failure is not None:
        by = f" (compressed by {volume.codec})" if volume.codec else ""
        raise UserError(
            f"{volume.address}: its voxels{by} cannot be decoded: {failure}; copy it again if it is damaged, "
            "else write it with another compression, such as gzip"
        ) from failure


def _voxels(volume: Volume) -> Iterator[Box]:
    """One voxel each of the chunk in the middle, of the first and of the last one."""
    units = [min(unit, n) for unit, n in zip(volume.decode_shape, volume.shape, strict=True)]
    middle = tuple(n // 2 // unit * unit for n, unit in zip(volume.shape, units, strict=True))
    last = tuple((n - 1) // unit * unit for n, unit in zip(volume.shape, units, strict=True))
    for corner in dict.fromkeys((middle, (0,) * len(middle), last)):
        yield tuple(slice(start, start + 1) for start in corner)


def _is_there(volume: Volume, box: Box) -> bool:
    """Whether the file of a chunk exists, as far as this can be told; absent chunks are zeros and need no codec."""
    if volume.address.is_remote:
        return True
    return os.path.exists(volume.file_of(tuple(s.start // f for s, f in zip(box, volume.file_shape, strict=True))))
