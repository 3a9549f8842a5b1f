"""Formats that are only read: by the ending of a file, or of a folder."""

from __future__ import annotations

import importlib

from blockwise.errors import UserError
from blockwise.volume.address import READERS, Address
from blockwise.volume.base import Volume

_MODULE_OF = {suffix: module for module, suffixes in READERS.items() for suffix in suffixes}


def open_file(address: Address) -> Volume:
    """Open an existing file by its ending, one of ``FILE_SUFFIXES``; its library is loaded now.

    Raises:
        UserError: the file is not what its ending says, is cut off, or holds what is not read.
    """
    module = importlib.import_module(f"{__name__}.{_MODULE_OF[address.suffix]}")
    try:
        volume: Volume = module.open_file(address)
    except (PermissionError, IsADirectoryError, FileNotFoundError) as error:
        raise UserError(f"{address}: cannot be read: {error}; check the path, and who may read it") from error
    return volume
