"""Groups of arrays in containers: their attributes, and arrays of elsewhere that are linked into them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blockwise.errors import UserError
from blockwise.volume.address import Address
from blockwise.volume.containers.metadata import Document, Kind, encode, group_documents
from blockwise.volume.containers.store import Store
from blockwise.volume.formats import open_store


def container_kind(address: Address) -> Kind:
    """The format of a container that is there.

    Raises:
        UserError: there is none.
    """
    return _kind(open_store(address), address)


def group_attributes(address: Address) -> Mapping[str, Any] | None:
    """Attributes of a group; None where there is none, or none with attributes.

    Raises:
        DamagedMetadataError: what describes it cannot be understood.
        UserError: it cannot be looked at.
    """
    store = open_store(address)
    for kind in store.kinds:
        document = store.document(_name(address.key, kind))
        if document is None:
            continue
        if kind == "precomputed":
            return None if address.key else document
        if kind == "n5":
            return None if "dimensions" in document else document
        if kind == "zarr":
            return None if store.read(f"{address.key}/" * bool(address.key) + ".zarray") is not None else document
        return None if document.get("node_type") != "group" else dict(document.get("attributes", {}))
    return None


def write_group(address: Address, attributes: Mapping[str, Any]) -> None:
    """Make a key a group with these attributes, or give one others; the groups above it are made where they miss.

    Readers find the old attributes or the new ones, never a part.

    Raises:
        UserError: there is no such container, or an array lies at the key.
    """
    store = open_store(address)
    kind = _kind(store, address)
    found = store.find(address.key) if address.key else None
    if found is not None and found.key == address.key:
        raise UserError(f"{address}: an array lies there, it cannot become a group; choose another place")
    documents = store.missing_groups(f"{address.key}/" * bool(address.key), kind)
    attributes_name = _name(address.key, kind)
    for name, content in documents.items():
        if name != attributes_name:
            store.write(name, content)
    document: Document = dict(attributes)
    if kind == "zarr3":
        document = {"zarr_format": 3, "node_type": "group", "attributes": document}
    store.write(attributes_name, encode(document))


def delete_group(address: Address) -> None:
    """Delete a group's documents and its links; the rest stays, and so do groups above it that hold anything."""
    store = open_store(address)
    folder = Path(address.location, address.key)
    for place in folder.iterdir() if not address.is_remote and folder.is_dir() else ():
        if place.is_symlink():
            place.unlink()
    for kind in store.kinds:
        store.delete_objects([_name(address.key, kind)])
        if kind == "zarr":
            store.delete_objects([f"{address.key}/.zgroup"])
    if not address.is_remote:
        _remove_bare_groups(Path(address.path), address.key)


def link_array(address: Address, target: Address) -> None:
    """Have an array of a folder appear at another address too, of this machine as well, by a symbolic link.

    Raises:
        UserError: the file system has no links, something else lies there, or the formats differ.
    """
    source = open_store(target).find(target.key)
    if source is None or source.kind != container_kind(address):
        raise UserError(f"{target}: cannot be linked into {address}, it is no array of the same format; copy it")
    place = Path(address.path, address.key)
    place.parent.mkdir(parents=True, exist_ok=True)
    wanted = os.path.relpath(Path(target.path, source.key), Path(os.path.realpath(place.parent)))
    if os.path.lexists(place) and not place.is_symlink():
        raise UserError(f"{address}: something lies there that is no link; move it to another place")
    temporary = place.with_name(f".new-{os.getpid()}-{place.name}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        temporary.symlink_to(wanted)
    except OSError as error:
        raise UserError(
            f"{address}: the finest scale cannot be linked: {error}; let it be copied, or choose another place"
        ) from error
    temporary.rename(place)


def linked_to(address: Address) -> str:
    """Where a link of ``link_array`` leads; empty where there is none."""
    place = Path(address.path, address.key)
    return os.readlink(place) if not address.is_remote and place.is_symlink() else ""


def _kind(store: Store, address: Address) -> Kind:
    if store.kinds == ("precomputed",):
        return "precomputed"
    for kind in store.kinds:
        for name in group_documents(kind, is_root=True):
            if store.read(name) is not None:
                return kind
    raise UserError(f"{address}: there is no container {address.path}")


def _name(key: str, kind: Kind) -> str:
    """Name of the document with a group's attributes; all scales of a precomputed volume are one group."""
    if kind == "precomputed":
        return "info"
    return f"{key}/" * bool(key) + {"n5": "attributes.json", "zarr": ".zattrs", "zarr3": "zarr.json"}[kind]


def _remove_bare_groups(container: Path, key: str) -> None:
    """Remove folders, from a key upwards, in which nothing is left but what says that they are groups."""
    while key:
        folder = container / key
        if folder.is_dir():
            found = {path.name: path for path in folder.iterdir()}
            bare = [documents for documents in _bare_documents() if found.keys() == documents.keys()]
            if not any(all(found[n].read_bytes() == encode(d) for n, d in each.items()) for each in bare):
                return
            for path in found.values():
                path.unlink()
            folder.rmdir()
        key = key.rpartition("/")[0]


def _bare_documents() -> list[dict[str, Document]]:
    kinds: tuple[Kind, ...] = ("n5", "zarr", "zarr3")
    return [group_documents(kind, is_root=False) for kind in kinds]
