"""Which names below a key are an array's own: what may be deleted with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from blockwise.errors import UserError
from blockwise.grid import Index
from blockwise.volume.address import Address
from blockwise.volume.containers.metadata import Array, Kind

METADATA_NAMES = ("attributes.json", ".zarray", ".zattrs", ".zgroup", "zarr.json")
_SHOWN = 5
_SHARD = r"[0-9a-f]+\.shard"
_DOCUMENTS = {*METADATA_NAMES, ".zmetadata"}
_LEFT = re.compile(
    r"(?P<of>.+)\.__lock|(?:.*/)?\.new-\d+-(?P<new>[^/]+)|(?:.*/)?\.(?P<beside>[^/]+)\.\d+\.[0-9a-f]{8}"
    r"|(?:.*/)?\.nfs[0-9a-f]+"
)
"""What killed writers leave: of TensorStore, of ours (today's, after earlier versions'), of NFS."""


def chunk_index(array: Array, name: str) -> Index | None:
    """The inverse of ``Array.chunk_name``: the index of a chunk (or shard) of the array; None for any other name."""
    # Numbers are all that differs between the names of two chunks.
    shape = re.split(r"\d+", array.chunk_name((0,) * len(array.shape)).removeprefix(array.key))
    found = re.fullmatch(r"(0|[1-9]\d*)".join(map(re.escape, shape)), name.removeprefix(array.key))
    if found is None or not name.startswith(array.key):
        return None
    numbers = [int(number) for number in found.groups()]
    index = tuple(reversed(numbers) if array.kind == "n5" else numbers)
    inside = all(i * c < n for i, c, n in zip(index, array.chunks, array.shape, strict=True))
    return index if inside else None


def _is_chunk(array: Array, name: str) -> bool:
    if array.kind == "precomputed":
        folder, _, last = name.rpartition("/")
        return folder == array.key and re.fullmatch(_SHARD, last) is not None
    return chunk_index(array, name) is not None


def foreign_names(names: Iterable[str], key: str, arrays: list[Array]) -> list[str]:
    """Names below a key that are neither metadata nor chunks of its arrays, in the order in which they come.

    Args:
        names: of files, relative to the container.
        key: of an array or an image.
        arrays: the array, or all scales of the image.
    """
    folders = {key, *(array.key for array in arrays), *_between(key, arrays)}
    return [name for name in names if not _is_own(name, folders, arrays)]


def _between(key: str, arrays: list[Array]) -> Iterator[str]:
    """Groups between an image and its scales."""
    for array in arrays:
        folder = array.key
        while len(folder) > len(key):
            yield folder
            folder = folder.rpartition("/")[0]


def _is_own(name: str, folders: set[str], arrays: list[Array]) -> bool:
    folder, _, last = name.rpartition("/")
    if last in _DOCUMENTS and folder in folders:
        return True
    if any(_is_chunk(array, name) for array in arrays):
        return True
    left = _LEFT.fullmatch(name)
    if left is None:
        return False
    beside = left["new"] or left["beside"]
    written = left["of"] or (beside and "/".join(filter(None, [folder, beside])))
    return not written or _is_own(written, folders, arrays)


def foreign_remains(names: Iterable[str], key: str, kind: Kind, depth: int) -> list[str]:
    """Names below a key that do not look like chunks or metadata which a broken deletion has left.

    The array that they belonged to is gone, so only their form can tell.

    Args:
        names: of files, relative to the container.
        key: where an array was.
        kind: format of the container.
        depth: number of the array's axes.
    """
    number = r"(0|[1-9]\d*)"
    chunk = (r"c/" if kind == "zarr3" else "") + "/".join([number] * depth)
    chunk = _SHARD if kind == "precomputed" else chunk
    scale = f"({number}/)?" if kind in ("zarr", "zarr3") else ""
    documents = "|".join(map(re.escape, sorted(_DOCUMENTS)))
    own = re.compile((re.escape(key) + "/" if key else "") + f"{scale}({chunk}|{documents})")
    return [name for name in names if not own.fullmatch(name)]


def refuse_foreign(address: Address, foreign: list[str]) -> None:
    """Refuse to delete what others have put below an array.

    Raises:
        UserError: there is any; the first names are shown.
    """
    if not foreign:
        return
    more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
    raise UserError(
        f"{address}: cannot be deleted or replaced, {len(foreign)} files below it are not its own: "
        f"{', '.join(foreign[:_SHOWN])}{more}; move them to another place, or choose another key"
    )
