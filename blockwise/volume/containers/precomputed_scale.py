"""How a scale of a precomputed volume is cut into shards and described, for those that are written here.

A shard is a file of chunks. Which chunks lie in it follows from the bits of their places, interleaved (a compressed
Morton code): the lowest bits count within a shard, the others number the shards. So a shard is a box of chunks with
sides that are powers of two. The format: https://github.com/google/neuroglancer/tree/master/src/datasource/precomputed
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NANOMETERS = {
    "angstrom": 0.1,
    "nanometer": 1.0,
    "micrometer": 1e3,
    "millimeter": 1e6,
    "centimeter": 1e7,
    "meter": 1e9,
}
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")
"""What a volume may hold."""
_COMPRESSED = ("uint32", "uint64")
"""Types for which there is ``compressed_segmentation``."""
_SMALL_BLOCK = (8, 8, 8)

Triple = tuple[int, ...]


def _bits(chunks_per_axis: Triple) -> Triple:
    """Bits that count the chunks along each axis."""
    return tuple((n - 1).bit_length() for n in chunks_per_axis)


def _places(bits: Triple) -> list[tuple[int, int]]:
    """Axis and bit of each bit of a code, the lowest first; axes are x, y, z."""
    return [(axis, bit) for bit in range(max(bits, default=0)) for axis in range(3) if bit < bits[axis]]


def shard_box(chunks_per_axis: Triple, inner_bits: int) -> Triple:
    """Chunks in a shard, per axis (x, y, z), whose code has so many bits for a place within a shard."""
    box = [1, 1, 1]
    for axis, _ in _places(_bits(chunks_per_axis))[:inner_bits]:
        box[axis] *= 2
    return tuple(box)


def shard_number(chunks_per_axis: Triple, inner_bits: int, chunk: Triple) -> int:
    """The number of the shard in which a chunk lies; places are x, y, z, in chunks."""
    places = _places(_bits(chunks_per_axis))
    code = sum(((chunk[axis] >> bit) & 1) << i for i, (axis, bit) in enumerate(places))
    return code >> inner_bits


def inner_bits_for(chunks_per_axis: Triple, largest: Triple) -> int:
    """The most bits with which a box of ``largest`` chunks (x, y, z) consists of whole shards."""
    found = 0
    for bits in range(1, sum(_bits(chunks_per_axis)) + 1):
        box = shard_box(chunks_per_axis, bits)
        if all(m % b == 0 or m >= n for b, n, m in zip(box, chunks_per_axis, largest, strict=True)):
            found = bits
    return found


def shard_shape(shape: Triple, chunks: Triple, largest: Triple) -> Triple:
    """Voxels of a shard, per axis z, y, x, so that a box of ``largest`` voxels consists of whole shards."""
    grid = _per_axis(shape, chunks)
    box = shard_box(grid, inner_bits_for(grid, _per_axis(largest, chunks)))
    return tuple(c * b for c, b in zip(chunks, box[::-1], strict=True))


def _per_axis(shape: Triple, chunks: Triple) -> Triple:
    """Chunks per axis x, y, z, from voxels per axis z, y, x."""
    return tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))[::-1]


def scale_document(
    shape: Triple, chunks: Triple, shards: Triple, dtype: str, attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """What there is to know of a scale, as JSON: ``scale`` as ``info`` has it, but for its key, and what all share.

    Args:
        shape: in voxels, zyx or czyx.
        chunks: likewise.
        shards: likewise, as ``shard_shape`` gives them.
        dtype: of one voxel.
        attributes: of the dataset: ``resolution`` and ``units`` per axis, ``type`` is image or segmentation.
    """
    space, size = slice(len(shape) - 3, None), shape[-3:]
    grid = _per_axis(size, chunks[space])
    inner = inner_bits_for(grid, _per_axis(shards[space], chunks[space]))
    units = zip(attributes["resolution"], attributes["units"], strict=True)
    steps = [step * NANOMETERS.get(unit, 1.0) for step, unit in units]
    scale: dict[str, Any] = {
        "size": list(size[::-1]),
        "voxel_offset": [0, 0, 0],
        "resolution": steps[-3:][::-1],
        "chunk_sizes": [list(chunks[space][::-1])],
        "encoding": "raw",
        "sharding": {
            "@type": "neuroglancer_uint64_sharded_v1",
            "hash": "identity",
            "preshift_bits": inner,
            "minishard_bits": 0,
            "shard_bits": sum(_bits(grid)) - inner,
            "minishard_index_encoding": "gzip",
            "data_encoding": "gzip",
        },
    }
    if attributes["type"] == "segmentation" and dtype in _COMPRESSED:
        scale |= {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": list(_SMALL_BLOCK)}
    channels = shape[0] if len(shape) > 3 else 1
    multiscale = {"type": attributes["type"], "data_type": dtype, "num_channels": channels}
    return {"multiscale": multiscale, "scale": scale, "attributes": dict(attributes)}


def shape_and_files(document: Mapping[str, Any]) -> tuple[Triple, Triple]:
    """Shape, and voxels in a file, zyx or czyx, of a scale with this document."""
    scale, multiscale = document["scale"], document["multiscale"]
    lead = (int(multiscale["num_channels"]),) if "c" in document["attributes"]["axes"] else ()
    shape = tuple(scale["size"][::-1])
    chunks = tuple(scale["chunk_sizes"][0][::-1])
    box = shard_box(_per_axis(shape, chunks), scale["sharding"]["preshift_bits"])
    return lead + shape, lead + tuple(c * b for c, b in zip(chunks, box[::-1], strict=True))


def shard_name(document: Mapping[str, Any], index: Triple) -> str:
    """Name of the file of a shard, by its place among the shards, zyx or czyx."""
    scale = document["scale"]
    shape, chunks = tuple(scale["size"][::-1]), tuple(scale["chunk_sizes"][0][::-1])
    grid, inner = _per_axis(shape, chunks), scale["sharding"]["preshift_bits"]
    box = shard_box(grid, inner)
    first = tuple(i * b for i, b in zip(index[-3:][::-1], box, strict=True))
    digits = -(-scale["sharding"]["shard_bits"] // 4)
    number = shard_number(grid, inner, first)
    return f"{number:0{digits}x}.shard" if digits else "0.shard"


def info_document(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``info`` of a volume with these scales by their keys, the finest first."""
    first = next(iter(documents.values()))
    scales = [{"key": key, **document["scale"]} for key, document in documents.items()]
    return {"@type": "neuroglancer_multiscale_volume", **first["multiscale"], "scales": scales}


def tensorstore_metadata(key: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The same of one scale, as TensorStore takes it without an ``info``."""
    scale = {name: value for name, value in document["scale"].items() if name != "chunk_sizes"}
    own = {"key": key, "chunk_size": document["scale"]["chunk_sizes"][0], **scale}
    return {"multiscale_metadata": document["multiscale"], "scale_metadata": own}
