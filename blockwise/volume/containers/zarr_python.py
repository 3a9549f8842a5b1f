"""Zarr arrays with filters and codecs that neither z5py nor TensorStore knows, through zarr-python; read only."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box
from blockwise.transient import refuse_transient
from blockwise.volume.address import Address
from blockwise.volume.containers.array_volume import ArrayVolume
from blockwise.volume.containers.metadata import Array
from blockwise.volume.containers.store import Store

_INSTALL = "pip install 'blockwise-ilastik[codecs]'"


class ZarrPythonVolume(ArrayVolume):
    """A dataset in a Zarr folder, decoded by numcodecs."""

    def __init__(self, address: Address, store: Store, array: Array) -> None:
        super().__init__(address, store, array)
        self._dataset = _open(address, store, array)
        self.dtype = np.dtype(self._dataset.dtype).newbyteorder("=")

    def _read(self, box: Box) -> NDArray[Any]:
        try:
            data = np.ascontiguousarray(self._dataset[box], dtype=self.dtype)
        except OSError:
            raise
        except Exception as error:  # codecs raise whatever they like for broken bytes
            raise OSError(f"a chunk cannot be decoded: {type(error).__name__}: {error}") from error
        self.refuse_dangling_links(box)
        return data


def unusual_codecs(array: Array) -> list[str]:
    """Names of an array's filters and codecs, as its metadata has them; for messages."""
    document = array.document
    if array.kind == "zarr":
        found = [*(document.get("filters") or []), *filter(None, [document.get("compressor")])]
        return [str(codec.get("id")) for codec in found if isinstance(codec, dict)]
    return list(_names(document.get("codecs", [])))


def _names(codecs: Iterable[Any]) -> Iterable[str]:
    for codec in codecs:
        if isinstance(codec, dict):
            yield str(codec.get("name"))
            yield from _names(codec.get("configuration", {}).get("codecs", []))


def _open(address: Address, store: Store, array: Array) -> Any:
    codecs = ", ".join(unusual_codecs(array)) or "none"
    if address.is_remote:
        raise UserError(
            f"{address}: filters or codecs of this array ({codecs}) are read from folders only, with {_INSTALL}; "
            "copy it here, or make a copy compressed by gzip or zstd without filters"
        )
    zarr = _zarr(address, codecs)
    path = store.url(array.key).rstrip("/")
    try:
        dataset = zarr.open_array(path, mode="r", zarr_format=2 if array.kind == "zarr" else 3)
    except Exception as error:  # whatever a codec's own library says
        refuse_transient(error, str(address))
        raise UserError(
            f"{address}: is made with filters or codecs ({codecs}) of which one is not known here: {error}; make a "
            "copy compressed by gzip or zstd without filters"
        ) from error
    if np.dtype(dataset.dtype).kind not in "biuf":
        raise UserError(f"{address}: its type {dataset.dtype} is none of numbers; nothing can be computed of it")
    return dataset


def _zarr(address: Address, codecs: str) -> ModuleType:
    try:
        return importlib.import_module("zarr")
    except ImportError as error:
        raise UserError(
            f"{address}: is made with filters or codecs ({codecs}) that need another library: {_INSTALL}; or make a "
            "copy compressed by gzip or zstd without filters"
        ) from error
