"""One value names a dataset: ``path.n5:key``, ``stack/*.png``, ``s3://bucket/image.zarr:key?anonymous=true``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from blockwise.errors import UserError

N5_SUFFIXES = (".n5",)
ZARR_SUFFIXES = (".zarr", ".zr", ".ome.zarr")
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".ilp")
TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
TIFF_KIND_SUFFIXES = (".lsm", ".stk", ".svs", ".ndpi", ".qptiff")
"""TIFF inside, as microscopes and slide scanners write it; never written."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
PRECOMPUTED_SUFFIX = ".precomputed"
PRECOMPUTED = "precomputed://"
"""Stands before the address of a precomputed volume of any name, as in Neuroglancer."""
ZIP_SUFFIXES = (".zarr.zip", ".ozx")
"""Zarr and OME-Zarr in one file."""
READERS = {
    "mrc": (".mrc", ".map", ".rec", ".mrcs", ".st", ".ali", ".ccp4"),
    "nifti": (".nii", ".nii.gz"),
    "nrrd": (".nrrd", ".nhdr"),
    "metaimage": (".mha", ".mhd"),
    "imaris": (".ims",),
    "npy": (".npy",),
    "moved_slices": (".slices.json",),
    "microscope": (".czi", ".lif", ".nd2", ".dv", ".r3d"),
}
"""Endings of files that are only read, by the module of ``readers`` that does it."""
FILE_SUFFIXES = tuple(suffix for suffixes in READERS.values() for suffix in suffixes)
KNOWN_SUFFIXES = (
    *(*N5_SUFFIXES, *ZARR_SUFFIXES, *ZIP_SUFFIXES, PRECOMPUTED_SUFFIX, *HDF5_SUFFIXES),
    *(*TIFF_SUFFIXES, *TIFF_KIND_SUFFIXES, *IMAGE_SUFFIXES, *FILE_SUFFIXES),
)
REFERRING_SUFFIXES = (*HDF5_SUFFIXES, *TIFF_SUFFIXES, ".mhd", ".nhdr")
"""Endings of files that may name other files in which voxels lie."""
_COMPOUND_SUFFIXES = (".ome.zarr", ".zarr.zip", ".nii.gz", ".slices.json")

S3 = "s3"
GCS = "gs"
HTTP = ("http", "https")
OPTIONS = {
    S3: ("anonymous", "endpoint", "profile", "region", "timeout_s"),
    GCS: ("timeout_s",),
    "http": ("timeout_s",),
    "https": ("timeout_s",),
}
"""What may follow the ``?`` of a remote address, by scheme. Nothing here is a secret."""
_NO_IDENTITY = ("anonymous", "profile", "timeout_s")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL | re.IGNORECASE)
_PRINTF = re.compile(r"%0?\d*d")
_PRECOMPUTED = re.compile(r"precomputed://(?:file://)?(.+)|(.+?)/?\|neuroglancer-precomputed:", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """A container and the dataset in it.

    Attributes:
        path: the container, as the user wrote it, without options.
        key: path of the dataset inside the container, without a leading slash; empty where the file is the dataset.
        options: names and values from behind the ``?`` of a remote address, sorted: how its store is reached.
    """

    path: str
    key: str
    options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.is_remote:
            return
        path, _, query = self.path.partition("?")
        object.__setattr__(self, "path", path)
        object.__setattr__(
            self, "options", tuple(sorted({**dict(self.options), **_options(self.location, query)}.items()))
        )
        if "@" in self.location.split("://")[1].partition("/")[0]:
            raise UserError(
                f"{self.scheme}:// address with a user name or password before the host: leave it out, so that it "
                "does not end in logs; keys come from the environment or from a profile (see docs/volumes.md)"
            )

    @classmethod
    @lru_cache(maxsize=256)  # the steps of a small image ask for the same few a hundred times
    def parse(cls, text: str) -> Address:
        """Split ``path.n5:group/name`` at its last colon; colons of ``scheme://host:port`` do not count.

        Nor does a colon in the name of a file or folder that is there, or that is the only container in the text:
        ``2021-01-01T12:30:05.tif`` is a file.

        >>> Address.parse("data/a.n5:volumes/raw")
        Address(path='data/a.n5', key='volumes/raw', options=())
        >>> Address.parse("s3://bucket/a.n5:raw?endpoint=http://lab:9000").endpoint
        'http://lab:9000'
        >>> Address.parse("precomputed://gs://bucket/em:8_8_40")
        Address(path='precomputed://gs://bucket/em', key='8_8_40', options=())
        """
        if (precomputed := _PRECOMPUTED.fullmatch(text)) is not None:
            place = cls.parse((precomputed[1] or precomputed[2]).removesuffix("/"))
            return cls(PRECOMPUTED + place.path, place.key, place.options)
        url = _URL.fullmatch(text)
        if url is None:
            head, colon, key = text.rpartition(":")
            if colon and not head:
                raise UserError(f"{text!r} names no container; write it as path.n5:key")
            return cls(head, key.strip("/")) if colon and not _is_path(text, head) else cls(text, "")
        scheme, rest = url.groups()
        rest, _, query = rest.partition("?")
        host, slash, inner = rest.partition("/")
        inner, _, key = inner.partition(":")
        if not host or not inner:
            raise UserError(
                f"{scheme}://{host} names no container; write it as {scheme}://{host or 'bucket'}/path.n5:key"
            )
        path = f"{scheme.lower()}://{host}{slash}{inner.rstrip('/')}"
        return cls(f"{path}?{query}" if query else path, key.strip("/"))

    def __str__(self) -> str:
        """The text that ``parse`` turns into the same address."""
        query = "&".join(f"{name}={value}" for name, value in self.options)
        return self._without_options + (f"?{query}" if query else "")

    @property
    def identity(self) -> str:
        """What is addressed, without how to log in or how long to wait: the part that belongs into a fingerprint."""
        query = "&".join(f"{name}={value}" for name, value in self.options if name not in _NO_IDENTITY)
        return self._without_options + (f"?{query}" if query else "")

    @property
    def _without_options(self) -> str:
        return f"{self.path}:{self.key}" if self.key else self.path

    @cached_property
    def suffix(self) -> str:
        """The container's file ending, lower case, with the dot; ``.ome.zarr`` counts as one."""
        if self.path.startswith(PRECOMPUTED):
            return PRECOMPUTED_SUFFIX
        name = self.path.rsplit("/", 1)[-1].lower()
        return next((ending for ending in _COMPOUND_SUFFIXES if name.endswith(ending)), Path(name).suffix)

    @cached_property
    def scheme(self) -> str:
        """``s3``, ``gs``, ``http`` or ``https``; empty for a path on this machine."""
        url = _URL.fullmatch(self.location)
        return url[1].lower() if url else ""

    @property
    def location(self) -> str:
        """The path or URL, without what stands before it to tell the format."""
        return self.path.removeprefix(PRECOMPUTED)

    @property
    def is_remote(self) -> bool:
        """Whether it lies in an object store or on a web server."""
        return bool(self.scheme)

    @property
    def is_pattern(self) -> bool:
        """Whether it names many files: a glob (``stack/*.png``) or printf pattern (``stack/%04d.png``)."""
        if not any(sign in self.path for sign in "*?[%") or self.is_remote or Path(self.path).exists():
            return False
        return any(sign in self.path for sign in "*?[") or bool(_PRINTF.search(self.path))

    @property
    def endpoint(self) -> str | None:
        """Own server of an ``s3://`` address."""
        return dict(self.options).get("endpoint")

    def within(self, key: str) -> Address:
        """Another dataset of the same container."""
        return Address(self.path, key, self.options)


def _is_path(text: str, head: str) -> bool:
    """Whether a path with a colon, of which ``head`` comes before the last one, has no key behind it."""
    if os.path.lexists(text):
        return True
    return text.lower().endswith(KNOWN_SUFFIXES) and not head.lower().endswith(KNOWN_SUFFIXES)


def identity_of(text: str) -> str:
    """What of an address belongs into a fingerprint, as it is written: all of it, but for login and patience.

    >>> identity_of("s3://bucket/a.n5:raw?timeout_s=60")
    's3://bucket/a.n5:raw'
    """
    address = Address.parse(text) if "?" in text else None
    if address is None or not any(name in _NO_IDENTITY for name, _ in address.options):
        return text  # however it is written, so that older results stay valid
    return address.identity


def _options(path: str, query: str) -> dict[str, str]:
    scheme = path.partition("://")[0]
    if scheme not in OPTIONS:
        raise UserError(f"{path}: stores of {scheme}:// are not known; known are {', '.join(sorted(OPTIONS))}")
    found: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in OPTIONS[scheme]:  # the value may be a secret: it is not repeated
            known = ", ".join(OPTIONS[scheme])
            raise UserError(f"{path}: option {name!r} behind the ? is not known for {scheme}://; known are {known}")
        found[name] = value
    return found
