"""numpy's own files: ``.npy``."""

from __future__ import annotations

import numpy as np

from blockwise.errors import UserError
from blockwise.volume.address import Address
from blockwise.volume.readers.plain import PlainArray, PlainVolume


def open_file(address: Address) -> PlainVolume:
    """Open a file; nothing in it names the axes."""
    return PlainVolume(address, _describe(address))


def _describe(address: Address) -> PlainArray:
    try:
        with open(address.path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, is_fortran, dtype = read(file)
            return PlainArray(address.path, file.tell(), shape, dtype, order="F" if is_fortran else "C")
    except ValueError as error:
        raise UserError(f"{address.path}: ends in {address.suffix} but cannot be read as such: {error}") from error
