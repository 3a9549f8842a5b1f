"""HDF5 through h5py: read only, by many processes at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Box, Index
from blockwise.volume.address import Address
from blockwise.volume.axes import axes_from_attributes
from blockwise.volume.base import Volume


class Hdf5Volume(Volume):
    """A dataset in an HDF5 file. Locks are not taken, so that any number of workers may read."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._dataset = h5py.File(address.path, "r", locking=False)[address.key]
        self.shape = tuple(self._dataset.shape)
        self.dtype = self._dataset.dtype
        self.chunks = self._dataset.chunks or self.shape
        self._attributes = dict(self._dataset.attrs)
        self.axes = axes_from_attributes(self._attributes, len(self.shape))

    def _read(self, box: Box) -> NDArray[Any]:
        return np.asarray(self._dataset[box])

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The dataset's attributes."""
        return self._attributes

    def file_of(self, index: Index) -> str:
        """The whole dataset lies in one file."""
        return self.address.path
