"""Which format a volume has: finding and opening it, whatever that is."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import psutil

from blockwise.errors import UserError
from blockwise.transient import refuse_transient
from blockwise.volume.address import (
    FILE_SUFFIXES,
    HDF5_SUFFIXES,
    HTTP,
    IMAGE_SUFFIXES,
    KNOWN_SUFFIXES,
    N5_SUFFIXES,
    PRECOMPUTED_SUFFIX,
    TIFF_KIND_SUFFIXES,
    TIFF_SUFFIXES,
    ZARR_SUFFIXES,
    ZIP_SUFFIXES,
    Address,
)
from blockwise.volume.base import DamagedDataError, Volume
from blockwise.volume.containers.metadata import UNFINISHED
from blockwise.volume.containers.store import LocalStore, Store, path_exists
from blockwise.volume.containers.z5 import Z5Volume, has_root, z5py_reads
from blockwise.volume.hdf5 import Hdf5Volume, hdf5_keys, is_hdf5_array
from blockwise.volume.readers import open_file
from blockwise.volume.stack import StackVolume

CONTAINER_SUFFIXES = N5_SUFFIXES + ZARR_SUFFIXES
_IN_ANY_MEMORY = 1 << 26
"""So many bytes every machine has; to ask for its memory takes as long as to open a small file."""
_TIFFS = TIFF_SUFFIXES + TIFF_KIND_SUFFIXES


def open_volume(address: Address | str, mode: str = "r") -> Volume:
    """Open a dataset for reading (``r``) or for writing chunks into it (``a``).

    Raises:
        UserError: the container or the dataset does not exist, the format is not known, or the store refuses; or
            what it says about itself cannot be understood, whatever library has stumbled over it.
    """
    address = parsed(address)
    kept = _kept.get()
    if kept is not None and (known := kept.get(address)) is not None and mode in ("r", known[0]):
        return known[1]
    volume = _opened(address, mode)
    if kept is not None:
        kept[address] = (mode, volume)
    return volume


@contextlib.contextmanager
def opening_once() -> Iterator[None]:
    """Have each dataset opened once, by this thread and until the end: for many small ones that is half of reading.

    What is made, or deleted, is opened anew.
    """
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def forget_opened(address: Address) -> None:
    """Open a dataset anew when it is opened next."""
    kept = _kept.get()
    if kept is not None:
        kept.pop(address, None)


_kept: ContextVar[dict[Address, tuple[str, Volume]] | None] = ContextVar("kept", default=None)
"""Datasets that are opened once, with the mode of each."""


def _opened(address: Address, mode: str) -> Volume:
    try:
        return _refuse_too_large(_refuse_empty(_open(address, mode)))
    except UserError as error:
        if error.__cause__ is not None:  # readers that ask whether a file is damaged cannot know why it was not read
            refuse_transient(error.__cause__, str(address))
        raise
    except DamagedDataError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        refuse_transient(error, str(address))
        raise UserError(
            f"{address}: cannot be opened, what it says about itself is not understood ({type(error).__name__}: "
            f"{error}); copy it again if it is damaged, else write it with another program"
        ) from error


def _open(address: Address, mode: str) -> Volume:
    if address.suffix == PRECOMPUTED_SUFFIX:
        return _open_precomputed(address)
    if address.is_remote:
        if address.suffix not in CONTAINER_SUFFIXES:
            raise UserError(
                f"{address}: over {address.scheme}:// only {', '.join(CONTAINER_SUFFIXES)} and precomputed:// are "
                f"read{_inside(address)}; copy the file here, or convert it"
            )
        return _open_in_container(address, mode)
    if not address.is_pattern and not path_exists(Path(address.path)):
        raise UserError(
            f"{address}: there is no file or folder {address.path!r} (looked from {Path.cwd()}){_inside(address)}; "
            "check the path, relative ones start where the command runs"
        )
    if address.is_pattern and address.suffix in TIFF_SUFFIXES + IMAGE_SUFFIXES:
        return StackVolume(address)
    if address.is_pattern and address.suffix in TIFF_KIND_SUFFIXES + ZIP_SUFFIXES + FILE_SUFFIXES:
        raise UserError(
            f"{address}: a pattern names the slices of a stack ({', '.join(TIFF_SUFFIXES + IMAGE_SUFFIXES)}); each "
            f"{address.suffix} file is a volume, so name one of them"
        )
    if address.suffix in CONTAINER_SUFFIXES + ZIP_SUFFIXES:
        return _open_in_container(address, mode)
    if address.suffix in HDF5_SUFFIXES:
        if not is_hdf5_array(address):
            raise no_dataset(address, hdf5_keys(address.path))
        return Hdf5Volume(address)
    if address.suffix in _TIFFS:
        from blockwise.volume.tiff import TiffVolume  # loads tifffile

        return TiffVolume(address)
    if address.suffix in IMAGE_SUFFIXES:
        return StackVolume(address)
    if address.suffix in FILE_SUFFIXES:
        return open_file(address)
    if hint := _CONVERTED.get(_kind_of(address)):
        raise UserError(f"{address}: {hint}")
    known = ", ".join(KNOWN_SUFFIXES)
    raise UserError(f"{address}: unknown format {address.suffix!r}{_inside(address)}; known endings are {known}")


def _kind_of(address: Address) -> str:
    """The ending; of a folder that is known by what lies in it, the ending of this."""
    folder = Path(address.path)
    return next((kind for kind in (".wkw", ".dcm") if any(folder.glob(f"*{kind}"))), address.suffix)


def _open_precomputed(address: Address) -> Volume:
    """A scale that was written here, or any other."""
    from blockwise.volume.containers.remote import StoreDeniedError
    from blockwise.volume.readers.precomputed import PrecomputedVolume  # loads TensorStore

    if address.key and address.scheme not in HTTP:
        from blockwise.volume.containers.precomputed import PrecomputedScale

        store, array = open_store(address), None
        with contextlib.suppress(StoreDeniedError):  # so public stores call what is not there
            array = store.find(address.key)
        if array is not None:
            return PrecomputedScale(address, store, array)
    return PrecomputedVolume(address)


_OLYMPUS = "Olympus's own files are not read; write it as OME-TIFF, with Fiji or by bfconvert of Bio-Formats"
_DICOM = "DICOM is not read; write the series as NIfTI, such as by dcm2niix -z y FOLDER, and name its .nii.gz"
_CONVERTED = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), _DICOM),
    **dict.fromkeys((".oif", ".oib", ".oir", ".vsi"), _OLYMPUS),
    ".wkw": "WKW is not read; have webknossos write the layer as Zarr or as TIFF, and name that",
}
"""What to do with formats that no library reads in pieces, by ending."""


def _inside(address: Address) -> str:
    """A hint where a path goes on behind a container's ending, as other programs write it."""
    parts = address.path.split("/")
    for depth in range(1, len(parts)):
        container = Address("/".join(parts[:depth]) or "/", "", address.options)
        if container.suffix in CONTAINER_SUFFIXES + HDF5_SUFFIXES and not parts[depth - 1].startswith("."):
            inner = "/".join(filter(None, [*parts[depth:], address.key]))
            return f"; a dataset in a container is written behind a colon: did you mean {container.within(inner)}?"
    return ""


def _refuse_too_large(volume: Volume) -> Volume:
    """Refuse what no memory can hold: libraries end the process where they cannot get it."""
    unit = volume.decode_shape
    if volume.address.suffix in N5_SUFFIXES:  # chunks may be cut where the volume ends
        unit = tuple(map(min, unit, volume.shape))
    size = math.prod(unit) * volume.dtype.itemsize
    if size > _IN_ANY_MEMORY and size > (memory := psutil.virtual_memory().total):
        raise UserError(
            f"{volume.address}: {size / 1e9:,.1f} GB of it must be decoded at once (chunks of "
            f"{' x '.join(map(str, volume.decode_shape))} voxels, {volume.dtype}), and this machine has "
            f"{memory / 1e9:.1f} GB of memory; if what it says about itself is right, write it with smaller chunks"
        )
    return volume


def _refuse_empty(volume: Volume) -> Volume:
    """Refuse a volume without voxels: nothing can be computed of it, and something has gone wrong before."""
    if 0 in volume.shape:
        place = volume.shape.index(0)
        axes = volume.axes or {2: "yx", 3: "zyx"}.get(len(volume.shape))
        along = f"along {axes[place]}" if axes else f"along axis {place}"
        raise UserError(
            f"{volume.address}: has 0 voxels {along}, its shape is {volume.shape}; was it cropped wrongly?"
        )
    if min((*volume.shape, *volume.chunks, *volume.decode_shape, *volume.file_shape), default=1) < 1:
        raise UserError(
            f"{volume.address}: says that its shape is {volume.shape}, in pieces of {volume.decode_shape}: damaged?"
        )
    return volume


def _open_in_container(address: Address, mode: str) -> Volume:
    store = open_store(address)
    array = store.find(address.key)
    if array is None:
        raise no_dataset(address, store.array_keys())
    if mode == "r" and UNFINISHED in array.attributes:
        raise UserError(
            f"{address}: is unfinished, it was broken off while being filled by {array.attributes[UNFINISHED]}; "
            "do that again"
        )
    if address.suffix in ZIP_SUFFIXES:
        from blockwise.volume.readers.zipped_zarr import ZippedVolume  # loads TensorStore

        return ZippedVolume(address, store, array)
    if not address.is_remote and z5py_reads(array) and has_root(store, array):
        return Z5Volume(address, store, array, mode)
    from blockwise.volume.containers.tensorstore_arrays import TensorVolume, UnknownCodecError  # loads TensorStore

    try:
        return TensorVolume(address, store, array)
    except UnknownCodecError:
        if array.kind == "n5":
            raise
    from blockwise.volume.containers.zarr_python import ZarrPythonVolume  # loads zarr-python

    return ZarrPythonVolume(address, store, array)


def volume_exists(address: Address | str) -> bool:
    """Whether anything lies where a dataset with this address would lie."""
    address = parsed(address)
    if address.suffix in (*CONTAINER_SUFFIXES, PRECOMPUTED_SUFFIX):
        return open_store(address).exists(address.key)
    return path_exists(Path(address.path))


def stored_attributes(address: Address | str) -> Mapping[str, Any] | None:
    """Attributes of a dataset in a container, finished or not; None where none is there.

    Raises:
        DamagedMetadataError: what describes it cannot be understood.
        UserError: it cannot be looked at.
    """
    address = parsed(address)
    array = open_store(address).find(address.key)
    return None if array is None else array.attributes


def description_files(address: Address | str) -> tuple[Path, ...]:
    """Files of this machine that describe a dataset in a container, there or not; empty where they are in a store."""
    address = parsed(address)
    return open_store(address).description_files(address.key)


def parsed(address: Address | str) -> Address:
    """An address, from one or from its text."""
    return Address.parse(address) if isinstance(address, str) else address


def no_dataset(address: Address, datasets: list[str]) -> UserError:
    """The error that there is no such dataset, with those that there are."""
    if not datasets:
        if address.scheme in HTTP:
            return UserError(
                f"{address}: there is no dataset {address.key!r} in {address.path}; a web server cannot list what it "
                "holds, so check the key"
            )
        return UserError(f"{address}: there is no dataset {address.key!r}, {address.path} holds no dataset at all")
    near = difflib.get_close_matches(address.key, datasets, n=1, cutoff=0.4)
    hint = f"; did you mean {address.within(near[0])}?" if near else ""
    shown = ", ".join(sorted(datasets)[:10]) + (", ..." if len(datasets) > 10 else "")
    found = f"no dataset {address.key!r}" if address.key else "the address names no dataset"
    return UserError(f"{address}: {found} in {address.path}; it holds: {shown}{hint}")


def open_store(address: Address) -> Store:
    """The container of an address, wherever it lies."""
    if address.suffix in ZIP_SUFFIXES:
        from blockwise.volume.readers.zipped_zarr import ZipStore  # loads TensorStore

        return ZipStore(address)
    if address.suffix == PRECOMPUTED_SUFFIX:
        from blockwise.volume.containers.precomputed import precomputed_store  # loads TensorStore

        return precomputed_store(address)
    if not address.is_remote:
        return LocalStore(address)
    from blockwise.volume.containers.remote import RemoteStore  # TensorStore is loaded only for those who need it

    return RemoteStore(address)
