"""Which other files an HDF5 dataset lies in: external links, virtual datasets, external storage.

HDF5 gives fill values, zeros mostly, for what it does not find there. So everything is looked for before a voxel is
read, in the places where HDF5 looks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from blockwise.errors import UserError
from blockwise.transient import refuse_transient
from blockwise.volume.hdf5_heaps import watched_heaps

_MOST_LINKS = 32
_UNLIMITED = 2**64 - 1
_PRINTF = re.compile(r"%(\d*)b")


def linked_files(path: str, key: str) -> list[str]:
    """Files that external links on the way to a dataset name, one after the other; empty where there are none.

    Raises:
        UserError: one is not there, or holds no such object.
    """
    found: list[str] = []
    for _ in range(_MOST_LINKS):
        link = _first_external(path, key)
        if link is None:
            return found
        target, rest = link
        file = _located(target.filename, path, "HDF5_EXT_PREFIX")
        if file is None:
            raise _missing(f"{path}:{key}", f"links to {target.filename}:{target.path.strip('/')}", target.filename)
        path, key = file, "/".join(filter(None, [target.path.strip("/"), rest]))
        found.append(file)
    raise UserError(f"{path}:{key}: more than {_MOST_LINKS} external links one after the other; do they go round?")


def _first_external(path: str, key: str, left: int = _MOST_LINKS) -> tuple[Any, str] | None:
    """The first external link along a path in a file, and what of the path is left after it."""
    with _opened_for_names(path) as file:
        parts = key.split("/")
        node: Any = file
        for number, part in enumerate(parts):
            if not isinstance(node, h5py.Group):
                return None
            link = node.get(part, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                return link, "/".join(parts[number + 1 :])
            if isinstance(link, h5py.SoftLink):
                inner = link.path.lstrip("/") if link.path.startswith("/") else f"{node.name}/{link.path}".lstrip("/")
                rest = "/".join([inner, *parts[number + 1 :]])
                return _first_external(path, rest, left - 1) if left else None
            node = node.get(part)
    return None


def source_files(dataset: h5py.Dataset) -> list[str]:
    """Files, beyond its own, that a dataset's voxels lie in, without repetition.

    Raises:
        UserError: a file, or a dataset in it, is not there, or smaller than what is taken from it.
    """
    return list(dict.fromkeys(_sources(dataset, frozenset())))


def _sources(dataset: h5py.Dataset, above: frozenset[tuple[str, str]]) -> Iterator[str]:
    where = f"{dataset.file.filename}:{dataset.name.strip('/')}"
    if dataset.external:
        yield from _external_storage(dataset, where)
    if not dataset.is_virtual:
        return
    here = (os.path.realpath(dataset.file.filename), dataset.name)
    if here in above:
        raise UserError(f"{where}: this virtual dataset is made of itself")
    for part in dataset.virtual_sources():
        for file_name, name in _numbered(part, dataset.file.filename):
            own = file_name == "."
            path = dataset.file.filename if own else _located(file_name, dataset.file.filename, "HDF5_VDS_PREFIX")
            if path is None:
                raise _missing(where, f"is a virtual dataset made of {file_name}:{name.strip('/')}", file_name)
            if not own:
                yield path
            yield from linked_files(path, name.strip("/"))
            with _opened(path) as file:
                source = file.get(name)
                if not isinstance(source, h5py.Dataset):
                    raise _missing(where, f"is a virtual dataset made of {path}:{name.strip('/')}", "this dataset")
                _refuse_small(where, source, part)
                yield from _sources(source, above | {here})


def _numbered(part: Any, path: str) -> Iterator[tuple[str, str]]:
    """Names of the file and dataset of a part; of numbered ones (``%b``), those that are there, but at least one."""
    if not any(_PRINTF.search(name) for name in (part.file_name, part.dset_name)):
        yield part.file_name.replace("%%", "%"), part.dset_name.replace("%%", "%")
        return
    for number in itertools.count():
        file_name, name = (_filled(text, number) for text in (part.file_name, part.dset_name))
        found = path if file_name == "." else _located(file_name, path, "HDF5_VDS_PREFIX")
        if number and (found is None or not _holds(found, name)):
            return
        yield file_name, name


def _filled(text: str, number: int) -> str:
    return _PRINTF.sub(lambda match: f"{number:{'0' + match[1] if match[1] else ''}d}", text).replace("%%", "%")


def _holds(path: str, name: str) -> bool:
    with _opened(path) as file:
        return name in file


def _refuse_small(where: str, source: h5py.Dataset, part: Any) -> None:
    """Where a source is smaller than what is taken from it, HDF5 gives fill values."""
    try:
        if part.src_space.get_select_type() == h5py.h5s.SEL_ALL:
            fits, taken = source.size >= part.vspace.get_select_npoints(), part.vspace.get_select_npoints()
        else:
            taken = tuple(int(n) + 1 for n in part.src_space.get_select_bounds()[1])
            fits = len(taken) == source.ndim and all(n <= m for n, m in zip(taken, source.shape, strict=True))
    except (ValueError, RuntimeError):  # as much as there is
        return
    if not fits:
        raise UserError(
            f"{where}: is a virtual dataset that takes {taken} voxels from {source.file.filename}:"
            f"{source.name.strip('/')}, which has only {source.shape}; is that file complete?"
        )


def _external_storage(dataset: h5py.Dataset, where: str) -> Iterator[str]:
    left = dataset.size * dataset.dtype.itemsize
    for name, offset, size in dataset.external:
        used = left if size >= _UNLIMITED else min(left, size)
        path = os.path.join(os.environ.get("HDF5_EXTFILE_PREFIX", ""), name)
        path = path.replace("${ORIGIN}", str(Path(dataset.file.filename).resolve().parent))
        found = _size(path)
        if found is None:
            raise _missing(where, f"keeps its voxels in {path}", path)
        if found < offset + used:
            raise UserError(
                f"{where}: keeps voxels in {path}, which has {found} bytes, {offset + used} are needed; copy it again"
            )
        left -= used
        yield path


def _located(name: str, beside: str, variable: str) -> str | None:
    """Path of a file that another one names, looked for in HDF5's order; None where it is in none of these places."""
    folder = os.path.dirname(beside)
    prefixes = [prefix for prefix in os.environ.get(variable, "").split(":") if prefix]
    prefixes = [prefix.replace("${ORIGIN}", folder or ".") for prefix in prefixes]
    if os.path.isabs(name):
        if _size(name) is not None:
            return name
        name = os.path.basename(name)
    for place in (*prefixes, folder, "", os.path.dirname(os.path.realpath(beside))):
        if _size(os.path.join(place, name)) is not None:
            return os.path.join(place, name)
    return None


def _size(path: str) -> int | None:
    """Size of a file; None where there is none."""
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        refuse_transient(error, path)
        raise UserError(f"{path}: cannot be looked at: {error}") from error


def _opened(path: str) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise _unopened(path, error) from error


@contextlib.contextmanager
def _opened_for_names(path: str) -> Iterator[h5py.File]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(watched_heaps(path))
        except OSError as error:
            raise _unopened(path, error) from error
        yield file


def _unopened(path: str, error: OSError) -> UserError:
    refuse_transient(error, path)
    return UserError(f"{path}: cannot be opened as an HDF5 file: {error}")


def _missing(where: str, what: str, name: str) -> UserError:
    return UserError(
        f"{where}: {what}, but there is no {name} (looked beside the file and from {Path.cwd()}); put it back, or "
        "copy the data into one file"
    )
