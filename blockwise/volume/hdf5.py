"""HDF5 through h5py: read only, by many processes at once."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Box, Index
from blockwise.transient import error_number, refuse_transient
from blockwise.volume.address import Address
from blockwise.volume.axes import axes_from_attributes
from blockwise.volume.base import Volume
from blockwise.volume.conventions import spacing_of
from blockwise.volume.hdf5_files import linked_files, source_files
from blockwise.volume.hdf5_heaps import attributes_of, watched_heaps


class Hdf5Volume(Volume):
    """A dataset in an HDF5 file. Locks are not taken, so that any number of workers may read."""

    def __init__(self, address: Address) -> None:
        self.address = address
        linked = linked_files(address.path, address.key)
        self._dataset = h5py.File(address.path, "r", locking=False)[address.key]
        _require_filters(address, self._dataset)
        self._companions = tuple(dict.fromkeys([*linked, *source_files(self._dataset)]))
        self.shape = tuple(self._dataset.shape)
        self.dtype = self._dataset.dtype
        self.chunks = self._dataset.chunks or self.shape
        self._attributes = attributes_of(self._dataset)
        self.axes = axes_from_attributes(self._attributes, len(self.shape))
        self.spacing = spacing_of(self._attributes, self.axes, len(self.shape))

    def _read(self, box: Box) -> NDArray[Any]:
        return np.asarray(self._dataset[box])

    @property
    def codec(self) -> str:
        """Names of the filters."""
        return filters_of(self._dataset)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The dataset's attributes."""
        return self._attributes

    @property
    def decode_shape(self) -> tuple[int, ...]:
        """A chunk; of datasets without chunks, any voxel can be fetched by itself."""
        return self._dataset.chunks or (1,) * len(self.shape)

    @property
    def companions(self) -> tuple[str, ...]:
        """Files of external links, virtual datasets and external storage."""
        return self._companions

    def file_of(self, index: Index) -> str:
        """The whole dataset lies in one file."""
        return self.address.path


def filters_of(dataset: h5py.Dataset) -> str:
    """Names, or numbers, of the filters that a dataset's chunks go through."""
    created = dataset.id.get_create_plist()
    filters = [created.get_filter(number) for number in range(created.get_nfilters())]
    return ", ".join(name.decode(errors="replace") or str(number) for number, _, _, name in filters)


def _require_filters(address: Address, dataset: h5py.Dataset) -> None:
    """Load the plug-ins that a dataset's chunks need.

    Raises:
        UserError: a filter is not known, with its name and what to install.
    """
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(number) for number in range(plist.get_nfilters())]
    missing = [found for found in filters if not h5py.h5z.filter_avail(found[0])]
    if not missing:
        return
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")  # registers its filters
    missing = [found for found in missing if not h5py.h5z.filter_avail(found[0])]
    if missing:
        names = ", ".join(
            f"{name.decode(errors='replace') or 'no name'} ({number})" for number, _, _, name in missing
        )
        raise UserError(
            f"{address}: is compressed by the HDF5 filter {names}, which is not installed: pip install "
            "'blockwise-ilastik[codecs]', or repack the file with gzip: h5repack -f GZIP=1 old.h5 new.h5"
        )


def is_hdf5_array(address: Address) -> bool:
    """Whether there is a dataset at the address.

    Raises:
        UserError: the file is no HDF5 file, or damaged.
    """
    try:
        if not h5py.is_hdf5(address.path):
            raise UserError(f"{address.path}: ends in {address.suffix} but is not an HDF5 file; is it damaged?")
        with h5py.File(address.path, "r", locking=False) as container:
            if not address.key:
                return False
            linked_files(address.path, address.key)  # names a file that is missing, or damaged
            return isinstance(container.get(address.key), h5py.Dataset)
    except OSError as error:
        refuse_transient(error, address.path)
        if error_number(error) is not None:
            raise UserError(f"{address.path}: cannot be opened: {error}") from error
        raise UserError(f"{address.path}: cannot be opened, it is damaged: {error}; copy it again") from error


def hdf5_keys(path: str) -> list[str]:
    """Keys of all datasets in a file."""
    names: list[str] = []
    with watched_heaps(path) as container:
        container.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    return names
