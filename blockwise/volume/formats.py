"""Which format a container has, and what may be done with it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import z5py

from blockwise.errors import UserError
from blockwise.volume.address import Address
from blockwise.volume.base import Volume
from blockwise.volume.hdf5 import Hdf5Volume
from blockwise.volume.z5 import Z5Volume, create_z5, delete_z5

N5_SUFFIXES = (".n5",)
ZARR_SUFFIXES = (".zarr", ".zr")
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".ilp")


def open_volume(address: Address | str, mode: str = "r") -> Volume:
    """Open a dataset for reading (``r``) or for writing chunks into it (``a``).

    Raises:
        UserError: the container or the dataset does not exist, or the format is not known.
    """
    if isinstance(address, str):
        address = Address.parse(address)
    if not Path(address.path).exists():
        raise UserError(
            f"{address}: there is no file or folder {address.path!r} (looked from {Path.cwd()}); "
            "check the path, relative ones start where the command runs"
        )
    if address.suffix in N5_SUFFIXES + ZARR_SUFFIXES:
        if not _is_z5_dataset(address):
            raise _no_dataset(address, _z5_datasets(address.path))
        return Z5Volume(address, mode)
    if address.suffix in HDF5_SUFFIXES:
        if not h5py.is_hdf5(address.path):
            raise UserError(f"{address.path}: ends in {address.suffix} but is not an HDF5 file; is it damaged?")
        if not _is_hdf5_dataset(address):
            raise _no_dataset(address, _hdf5_datasets(address.path))
        return Hdf5Volume(address)
    known = ", ".join(N5_SUFFIXES + ZARR_SUFFIXES + HDF5_SUFFIXES)
    raise UserError(f"{address}: unknown format {address.suffix!r}; known endings are {known}")


def volume_exists(address: Address | str) -> bool:
    """Whether anything lies where a dataset with this address would lie."""
    if isinstance(address, str):
        address = Address.parse(address)
    return (Path(address.path) / address.key).exists()


def create_volume(
    address: Address | str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    attributes: Mapping[str, Any],
) -> None:
    """Create an empty dataset that appears, with its attributes, in one moment; nothing may lie there yet.

    Raises:
        UserError: the format cannot be written.
    """
    if isinstance(address, str):
        address = Address.parse(address)
    check_writable(address)
    create_z5(address, shape, chunks, dtype, attributes)


def delete_volume(address: Address | str) -> None:
    """Delete a dataset; the caller has made sure that it is ours."""
    delete_z5(Address.parse(address) if isinstance(address, str) else address)


def check_writable(address: Address) -> None:
    """Refuse an output in a format that is not written.

    Raises:
        UserError: another ending than those of N5.
    """
    if address.suffix not in N5_SUFFIXES:
        raise UserError(f"{address}: results are written as N5; let the output's name end in .n5")


def _is_z5_dataset(address: Address) -> bool:
    folder = Path(address.path) / address.key
    if (folder / ".zarray").exists():
        return True
    try:
        return "dimensions" in json.loads((folder / "attributes.json").read_text())
    except (OSError, ValueError):
        return False


def _is_hdf5_dataset(address: Address) -> bool:
    with h5py.File(address.path, "r", locking=False) as container:
        return bool(address.key) and isinstance(container.get(address.key), h5py.Dataset)


def _no_dataset(address: Address, datasets: list[str]) -> UserError:
    if not datasets:
        return UserError(f"{address}: the container {address.path} holds no dataset")
    near = difflib.get_close_matches(address.key, datasets, n=1, cutoff=0.4)
    hint = f"; did you mean {address.path}:{near[0]}?" if near else ""
    shown = ", ".join(sorted(datasets)[:10]) + (", ..." if len(datasets) > 10 else "")
    found = f"no dataset {address.key!r}" if address.key else "the address names no dataset"
    return UserError(f"{address}: {found} in {address.path}; it holds: {shown}{hint}")


def _z5_datasets(path: str) -> list[str]:
    names: list[str] = []
    with z5py.File(path, mode="r") as container:
        container.visititems(lambda name, node: names.append(name) if hasattr(node, "chunks") else None)
    return names


def _hdf5_datasets(path: str) -> list[str]:
    names: list[str] = []
    with h5py.File(path, "r", locking=False) as container:
        container.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    return names
