"""Making datasets in containers, and removing them: N5, Zarr, OME-Zarr and precomputed, here or in a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from blockwise.errors import UserError
from blockwise.volume.address import (
    HTTP,
    N5_SUFFIXES,
    PRECOMPUTED_SUFFIX,
    Address,
)
from blockwise.volume.containers.metadata import DTYPES, UNFINISHED, Kind, NewArray, encode, group_documents
from blockwise.volume.containers.ome import Level
from blockwise.volume.containers.store import Store
from blockwise.volume.formats import CONTAINER_SUFFIXES, forget_opened, no_dataset, open_store, parsed


def create_volume(
    address: Address | str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    attributes: Mapping[str, Any],
    *,
    zarr_format: int | None = None,
    shards: tuple[int, ...] | None = None,
    levels: tuple[Level, ...] = (),
    is_scale: bool = False,
) -> None:
    """Create an empty dataset that appears, with its attributes, in one moment; nothing may lie there yet.

    Args:
        address: container and key. ``.n5``, ``.zarr`` and ``.ome.zarr`` tell the format; in ``.ome.zarr`` the key
            becomes an image with one scale, whose axes and spacing come from the attributes ``axes``, ``resolution``
            and ``units``.
        shape: in voxels.
        chunks: unit of compression, in voxels.
        dtype: name of a numpy dtype.
        attributes: anything that JSON holds.
        zarr_format: 2 or 3; by default that of the container, 3 with shards, else 2.
        shards: unit of storage for Zarr 3, whole chunks; the volume's ``chunks`` are then these.
        levels: coarser scales of an image, as arrays beside it, empty as well.
        is_scale: it is one of the scales of an image, so it becomes an array and no image also in ``.ome.zarr``.

    Raises:
        UserError: the format cannot be written, or something lies there already.
    """
    address = parsed(address)
    check_writable(address, is_scale=is_scale)
    store = open_store(address)
    if store.exists(address.key):
        raise UserError(f"{address}: there is something already; delete it, or choose another key")
    is_precomputed = address.suffix == PRECOMPUTED_SUFFIX
    kind: Kind = "precomputed" if is_precomputed else _kind(store, address, zarr_format, shards)
    _check_array(address, shape, chunks, dtype, shards)
    is_ome = address.suffix == ".ome.zarr" and not is_scale
    forget_opened(address)
    store.create(address.key, NewArray(kind, tuple(shape), tuple(chunks), dtype, attributes, shards, is_ome, levels))


def begin_volume(
    address: Address | str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    attributes: Mapping[str, Any],
    *,
    maker: str,
    zarr_format: int | None = None,
    shards: tuple[int, ...] | None = None,
    levels: tuple[Level, ...] = (),
) -> None:
    """Create a dataset that cannot be read until ``finish_volume``; an unfinished one is replaced.

    Args:
        address: as all that is not named here, as in ``create_volume``.
        shape: in voxels.
        chunks: in voxels.
        dtype: name of a numpy dtype.
        attributes: anything that JSON holds.
        maker: what fills it, for the message that an unfinished dataset gives.
        zarr_format: 2 or 3.
        shards: in voxels.
        levels: coarser scales, each to be finished by itself, the finest scale last.

    Raises:
        UserError: the format cannot be written, or something finished lies there already.
    """
    address = parsed(address)
    check_writable(address)
    found = open_store(address).find(address.key)
    if found is not None and UNFINISHED in found.attributes:
        delete_volume(address)
    attributes = {**attributes, UNFINISHED: maker}
    create_volume(address, shape, chunks, dtype, attributes, zarr_format=zarr_format, shards=shards, levels=levels)


def finish_volume(address: Address | str, more: Mapping[str, Any] | None = None) -> None:
    """Make a dataset of ``begin_volume`` readable, in one moment.

    Args:
        address: the dataset.
        more: attributes that are known only now; anything that JSON holds.
    """
    address = parsed(address)
    store = open_store(address)
    array = store.find(address.key)
    if array is None:
        raise no_dataset(address, store.array_keys())
    name, document = array.finished(more or {})
    store.write(name, encode(document))


def delete_volume(address: Address | str) -> None:
    """Delete a dataset; the caller has made sure that it is ours."""
    address = parsed(address)
    check_writable(address, is_scale=True)
    forget_opened(address)
    open_store(address).delete(address.key)


def remove_bare_container(address: Address) -> None:
    """Remove a container in which nothing is left but the file that says its format."""
    store = open_store(address)
    found = store.inner_names()
    for kind in get_args(Kind):
        documents = group_documents(kind, is_root=True)
        if found == documents.keys() and all(
            store.read(name) == encode(document) for name, document in documents.items()
        ):
            store.delete_objects(sorted(found))
            if not address.is_remote:
                Path(address.location).rmdir()
            return


def check_writable(address: Address, *, is_scale: bool = False) -> None:
    """Refuse an output in a format that is not written.

    Args:
        address: of the output.
        is_scale: it is one of the scales of an image; these may be precomputed as well.

    Raises:
        UserError: another ending than those of N5 and Zarr, a web server, or a key that leads out of the container.
    """
    if address.scheme in HTTP:
        raise UserError(
            f"{address}: results cannot be written over {address.scheme}://; use a folder, s3:// or gs://"
        )
    if address.suffix not in CONTAINER_SUFFIXES and not (is_scale and address.suffix == PRECOMPUTED_SUFFIX):
        raise UserError(
            f"{address}: results are written as N5 or Zarr; let the output's name end in "
            f"{', '.join(CONTAINER_SUFFIXES)} (other formats are made from these by export)"
        )
    if ".." in address.key.split("/"):
        raise UserError(f"{address}: leads out of the container; name a dataset in it, without ..")


def _kind(store: Store, address: Address, zarr_format: int | None, shards: tuple[int, ...] | None) -> Kind:
    if address.suffix in N5_SUFFIXES:
        if shards or zarr_format:
            raise UserError(f"{address}: N5 has no shards and no Zarr version; use an output of .zarr for them")
        return "n5"
    found = 3 if store.read("zarr.json") else 2 if store.read(".zgroup") else None
    wanted = zarr_format or (3 if shards else found or 2)
    if wanted not in (2, 3) or (shards and wanted == 2):
        raise UserError(
            f"{address}: Zarr version {wanted} {'has no shards' if shards else 'is not known'}; use 2 or 3"
        )
    if found and found != wanted:
        raise UserError(
            f"{address}: {address.path} is of Zarr version {found}, not {wanted}; choose another container"
        )
    return "zarr3" if wanted == 3 else "zarr"


def _check_array(
    address: Address, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, shards: tuple[int, ...] | None
) -> None:
    if dtype not in DTYPES:
        raise UserError(f"{address}: cannot be written as {dtype}; possible are {', '.join(DTYPES)}")
    if not len(shape) == len(chunks) == len(shards or chunks):
        raise ValueError(f"{address}: shape {shape}, chunks {chunks} and shards {shards} differ in length")
    if shards and any(s % c for s, c in zip(shards, chunks, strict=True)):
        raise UserError(f"{address}: shards of {shards} do not consist of whole chunks of {chunks}")
