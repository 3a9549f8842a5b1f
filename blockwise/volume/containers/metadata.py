"""The JSON documents by which N5 and Zarr describe an array: read into one form, and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from blockwise.errors import UserError
from blockwise.grid import Index
from blockwise.volume.axes import Spacing, axes_from_attributes, known_axes
from blockwise.volume.containers import ome, precomputed_scale
from blockwise.volume.conventions import spacing_in_group, spacing_of

Kind = Literal["n5", "zarr", "zarr3", "precomputed"]
"""N5, Zarr version 2 and Zarr version 3, which TensorStore calls so; scales of precomputed volumes that we write."""

Document = dict[str, Any]
Reader = Callable[[str], Document | None]
"""Gives the JSON document at a name below the container, or None where there is none."""

GZIP_LEVEL = 1
"""gzip carries a checksum, so cut-off chunks are noticed, and every reader of N5 and Zarr 2 knows it."""

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
_WIDER = {"bool": "uint8", "float16": "float32"}
_N5_OWN = {"dimensions", "blockSize", "dataType", "compression", "n5"}
_WITHOUT_IMAGES = ("n5", "precomputed")
_PER_AXIS = ("axes", "resolution", "units")
UNFINISHED = "unfinished"
"""Attribute of an array that is still being filled as a whole; its value says by what."""


@dataclass(frozen=True)
class Array:
    """An array as its container describes it.

    Attributes:
        kind: which format.
        key: path of the array inside the container; longer than the one asked for where that names an OME image.
        shape: in voxels.
        chunks: the smallest unit that can be written by itself: a chunk, or a shard.
        document: the metadata as it stands in the file.
        attributes: what users stored with it.
        axes: names of the axes, or None.
        spacing: distance between voxels, or None.
    """

    kind: Kind
    key: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    document: Document
    attributes: Mapping[str, Any]
    axes: str | None = None
    spacing: Spacing | None = None

    def __post_init__(self) -> None:
        """Refuse chunks without voxels: libraries divide by their length, which ends the process.

        Raises:
            ValueError: a length is none.
        """
        for name, lengths, least in (("shape", self.shape, 0), ("chunks", self.chunks, 1)):
            if not all(isinstance(n, int) and n >= least for n in lengths):
                raise ValueError(f"{name} {list(lengths)}: each length is to be a whole number of at least {least}")

    @property
    def metadata_name(self) -> str:
        """Name of the document without which the array does not exist."""
        return _join(self.key, {"zarr": ".zarray", "zarr3": "zarr.json"}.get(self.kind, "attributes.json"))

    @property
    def codec(self) -> str:
        """Names of compressions and filters, as the metadata gives them."""
        if self.kind == "n5":
            found = [self.document.get("compression")]
        elif self.kind == "precomputed":
            found = [self.document["scale"]["encoding"], "gzip"]
        elif self.kind == "zarr":
            found = [*(self.document.get("filters") or []), self.document.get("compressor")]
        else:
            found = list(self.document.get("codecs", []))
            for outer in found:
                inner = outer.get("configuration", {}) if isinstance(outer, dict) else {}
                found.extend(inner.get("codecs", []))
        names = [one.get("name", one.get("id", one.get("type"))) if isinstance(one, dict) else one for one in found]
        return ", ".join(str(name) for name in names if name)

    def finished(self, more: Mapping[str, Any]) -> tuple[str, Document]:
        """Name and content of the document with the attributes: without ``UNFINISHED``, and with more of them."""
        name = {"n5": "attributes.json", "zarr": ".zattrs", "zarr3": "zarr.json"}[self.kind]
        if self.kind == "zarr3":
            document = {**self.document, "attributes": {**_but(self.attributes, UNFINISHED), **more}}
        else:
            document = {**_but(self.document if self.kind == "n5" else self.attributes, UNFINISHED), **more}
        return _join(self.key, name), document

    def chunk_name(self, index: Index) -> str:
        """Name of the file of a chunk (or shard). N5 nests folders from the last axis (x) to the first."""
        if self.kind == "n5":
            return _join(self.key, "/".join(map(str, reversed(index))))
        if self.kind == "precomputed":
            return _join(self.key, precomputed_scale.shard_name(self.document, index))
        if self.kind == "zarr":
            return _join(self.key, str(self.document.get("dimension_separator", ".")).join(map(str, index)))
        encoding = self.document.get("chunk_key_encoding", {"name": "default"})
        is_default = encoding["name"] == "default"
        separator = encoding.get("configuration", {}).get("separator", "/" if is_default else ".")
        return _join(self.key, separator.join([*(["c"] if is_default else []), *map(str, index)]))


def find_array(read: Reader, key: str, kinds: tuple[Kind, ...]) -> Array | None:
    """The array at a key, or the finest scale of the OME-Zarr image there; None where there is neither."""
    for kind in kinds:
        array = _array_at(read, key, kind)
        if array is not None:
            return _with_axes(read, array)
        attributes = {} if kind in _WITHOUT_IMAGES else _group_attributes(read, key, kind)
        scales = ome.scales(attributes)
        if ome.count_images(attributes) > 1:
            named = ", ".join(_join(key, scale.path) for scale in scales)
            raise UserError(
                f"{key or 'the container'} holds {ome.count_images(attributes)} images; name one of {named}"
            )
        if scales:
            array = _array_at(read, _join(key, scales[0].path), kind)
            return array and _with_axes(read, array)
    return None


def arrays_of(read: Reader, key: str, kinds: tuple[Kind, ...]) -> list[Array]:
    """The array at a key, or all scales of the OME-Zarr image there; empty where there is neither."""
    for kind in kinds:
        array = _array_at(read, key, kind)
        if array is not None:
            return [array]
        scales = [] if kind in _WITHOUT_IMAGES else ome.scales(_group_attributes(read, key, kind))
        found = [_array_at(read, _join(key, scale.path), kind) for scale in scales]
        if scales:
            return [array for array in found if array is not None]
    return []


def _array_at(read: Reader, key: str, kind: Kind) -> Array | None:
    if kind == "n5":
        found = read(_join(key, "attributes.json"))
        if found is None or not {"dimensions", "blockSize"} <= set(found):
            return None
        own = _n5_attributes({name: value for name, value in found.items() if name not in _N5_OWN})
        return Array(kind, key, tuple(found["dimensions"][::-1]), tuple(found["blockSize"][::-1]), found, own)
    if kind == "precomputed":
        found = read(_join(key, "attributes.json"))
        if found is None or "scale" not in found:
            return None
        return Array(kind, key, *precomputed_scale.shape_and_files(found), found, found["attributes"])
    if kind == "zarr":
        found = read(_join(key, ".zarray"))
        if found is None:
            return None
        attributes = read(_join(key, ".zattrs")) or {}
        return Array(kind, key, tuple(found["shape"]), tuple(found["chunks"]), found, attributes)
    found = read(_join(key, "zarr.json"))
    if found is None or found.get("node_type") != "array":
        return None
    chunks = tuple(found["chunk_grid"]["configuration"]["chunk_shape"])
    return Array(kind, key, tuple(found["shape"]), chunks, found, found.get("attributes", {}))


def _n5_attributes(attributes: Document) -> Document:
    """Attributes in the order of the array's axes: N5, Neuroglancer and ilastik count dimensions from x.

    An array that ilastik calls zyx has ``axes`` x, y, z in the file, and one that it calls xyz has z, y, x.
    """
    axes = attributes.get("axes")
    if not isinstance(axes, list):
        return attributes
    # Results of our first versions, which are never x first, have the array's order.
    is_of_old = "fingerprint" in attributes and {"y", "x"} <= set(axes) and axes.index("y") < axes.index("x")
    return attributes if is_of_old else attributes | _reversed(attributes)


def _reversed(attributes: Mapping[str, Any]) -> Document:
    return {
        name: list(attributes[name])[::-1] for name in _PER_AXIS if isinstance(attributes.get(name), list | tuple)
    }


def _with_axes(read: Reader, array: Array) -> Array:
    ndim = len(array.shape)
    axes = axes_from_attributes(array.attributes, ndim)
    spacing = spacing_of(array.attributes, axes, ndim, x_first=array.kind == "n5")
    if spacing is None and array.kind == "n5" and array.key and "fingerprint" not in array.attributes:
        group, _, name = array.key.rpartition("/")
        spacing = spacing_in_group(array.attributes, read(_join(group, "attributes.json")) or {}, name, ndim)
    if array.kind not in _WITHOUT_IMAGES and (axes is None or spacing is None):
        scale = _scale_of(read, array)
        if scale is not None and len(scale.axes) == ndim:
            return replace(array, axes=known_axes(scale.axes, ndim), spacing=scale.spacing)
    if axes is None and array.kind == "zarr3":
        axes = known_axes([str(label) for label in array.document.get("dimension_names") or []], ndim)
    return replace(array, axes=axes, spacing=spacing)


def _scale_of(read: Reader, array: Array) -> ome.Scale | None:
    """What the image says of an array that belongs to it: paths of scales count from the image's group."""
    parts = array.key.split("/")
    for depth in reversed(range(len(parts))):
        path = "/".join(parts[depth:])
        for scale in ome.scales(_group_attributes(read, "/".join(parts[:depth]), array.kind)):
            if path and scale.path == path:
                return scale
    return None


def _group_attributes(read: Reader, key: str, kind: Kind) -> Mapping[str, Any]:
    if kind == "zarr":
        return read(_join(key, ".zattrs")) or {}
    document = read(_join(key, "zarr.json")) or {}
    attributes: Mapping[str, Any] = document.get("attributes", {})
    return attributes


@dataclass(frozen=True)
class NewArray:
    """What an array to be created looks like.

    Attributes:
        kind: which format.
        shape: in voxels.
        chunks: unit of compression, in voxels.
        dtype: name of a numpy dtype.
        attributes: what is stored with it; ``axes``, ``resolution`` and ``units`` go into OME metadata too.
        shards: unit of storage, whole chunks, for Zarr 3; None for one chunk a file.
        is_ome: whether it becomes the finest scale of an OME-Zarr image.
        levels: the coarser scales of that image.
    """

    kind: Kind
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    attributes: Mapping[str, Any]
    shards: tuple[int, ...] | None = None
    is_ome: bool = False
    levels: tuple[ome.Level, ...] = ()

    def documents(self) -> dict[str, Document]:
        """Names relative to the array's key, and documents; the last is the one that makes the array exist."""
        documents = self._array_documents()
        if not self.is_ome:
            return documents
        image = ome.image(self.attributes, len(self.shape), zarr3=self.kind == "zarr3", levels=self.levels)
        group: dict[str, Document] = (
            {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": image}}
            if self.kind == "zarr3"
            else {".zgroup": {"zarr_format": 2}, ".zattrs": image}
        )
        for number, level in enumerate(self.levels, 1):
            attributes = level.attributes(self.attributes)
            part = replace(self, shape=level.shape, chunks=level.chunks, attributes=attributes)
            group |= {f"{number}/{name}": document for name, document in part._array_documents().items()}
        return group | {f"0/{name}": document for name, document in documents.items()}

    def _array_documents(self) -> dict[str, Document]:
        attributes = dict(self.attributes)
        if self.kind == "n5":
            compression = {"type": "gzip", "level": GZIP_LEVEL, "useZlib": False}
            own = {"dimensions": list(self.shape[::-1]), "blockSize": list(self.chunks[::-1]), "dataType": self.dtype}
            return {"attributes.json": {**attributes, **_reversed(attributes), **own, "compression": compression}}
        if self.kind == "precomputed":
            arguments = self.shape, self.chunks, self.shards or self.chunks, self.dtype, attributes
            return {"attributes.json": precomputed_scale.scale_document(*arguments)}
        if self.kind == "zarr":
            description: Document = {
                "zarr_format": 2,
                "shape": list(self.shape),
                "chunks": list(self.chunks),
                "dtype": np.dtype(self.dtype).newbyteorder("<").str,
                "compressor": {"id": "gzip", "level": GZIP_LEVEL},
                "fill_value": 0,
                "filters": None,
                "order": "C",
                "dimension_separator": "/",
            }
            return {".zattrs": attributes, ".zarray": description}
        return {"zarr.json": self._zarr3_document(attributes)}

    def _zarr3_document(self, attributes: Document) -> Document:
        # The checksum of zstd is what tells a flipped bit; raw bytes and plain zstd would be read without a word.
        codecs: list[Document] = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 1, "checksum": True}},
        ]
        if self.shards:
            index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
            inner = {
                "chunk_shape": list(self.chunks),
                "codecs": codecs,
                "index_codecs": index,
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": inner}]
        chunk_shape = list(self.shards or self.chunks)
        document: Document = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": codecs,
            "attributes": attributes,
        }
        axes = axes_from_attributes(attributes, len(self.shape))
        return document | ({"dimension_names": list(axes)} if axes else {})


def written_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which values are written that no container holds as they are: one that keeps all of them."""
    return np.dtype(_WIDER.get(dtype.name, dtype)).newbyteorder("=")


def group_documents(kind: Kind, *, is_root: bool) -> dict[str, Document]:
    """Documents that make a folder a group; N5 has one in the root only."""
    if kind == "precomputed":
        return {}
    if kind == "n5":
        return {"attributes.json": {"n5": "2.0.0"}} if is_root else {}
    if kind == "zarr":
        return {".zgroup": {"zarr_format": 2}}
    return {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": {}}}


def _but(values: Mapping[str, Any], without: str) -> Document:
    return {name: value for name, value in values.items() if name != without}


def encode(document: Document) -> bytes:
    """A document as the bytes of its file."""
    return json.dumps(document, indent=1).encode()


def _join(key: str, name: str) -> str:
    return f"{key}/{name}" if key else name
