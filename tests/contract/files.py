"""Single files of many formats, each written by another library than the one that reads it."""

from __future__ import annotations

import itertools
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import SimpleITK as sitk  # noqa: N813, its usual name
import tensorstore as ts

from blockwise.volume import create_volume, open_volume

STEPS = (4.0, 0.5, 0.25)
"""Micrometres along z, y and x."""


def mrc_bytes(
    data: np.ndarray,
    mode: int,
    *,
    order: str = "<",
    axes: tuple[int, int, int] = (1, 2, 3),
    angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0),
    space_group: int = 1,
    extended: bytes = b"",
    imod_flags: int | None = None,
) -> bytes:
    """An MRC2014 file as its specification says: ``axes`` are mapc, mapr, maps; ``angstrom`` along x, y, z."""
    nz, ny, nx = data.shape[-3:] if data.ndim > 2 else (1, *data.shape)
    sections = data.shape[0] * nz if data.ndim == 4 else nz
    sampling = [0, 0, 0]
    for axis, n in zip(axes, (nx, ny, nz), strict=True):
        sampling[axis - 1] = n
    lengths = [n * step for n, step in zip(sampling, angstrom, strict=True)]
    header = bytearray(1024)
    struct.pack_into(f"{order}10i", header, 0, nx, ny, sections, mode, 0, 0, 0, *sampling)
    struct.pack_into(f"{order}6f", header, 40, *lengths, 90, 90, 90)
    struct.pack_into(f"{order}3i", header, 64, *axes)
    struct.pack_into(f"{order}2i", header, 88, space_group, len(extended))
    if imod_flags is not None:
        struct.pack_into(f"{order}2i", header, 152, 1146047817, imod_flags)
    header[208:212] = b"MAP "
    header[212:216] = bytes((0x44, 0x44, 0, 0)) if order == "<" else bytes((0x11, 0x11, 0, 0))
    return bytes(header) + extended + data.astype(data.dtype.newbyteorder(order)).tobytes()


def _mrc(folder: Path, data: np.ndarray) -> str:
    sizes = tuple(1e4 * step for step in reversed(STEPS))
    (folder / "a.mrc").write_bytes(mrc_bytes(data, 6, angstrom=sizes))
    return f"{folder}/a.mrc"


def itk_image(data: np.ndarray, steps: tuple[float, ...], path: str, *, compress: bool = False) -> str:
    """Write an array zyx through SimpleITK, with steps along z, y and x."""
    image = sitk.GetImageFromArray(data)
    image.SetSpacing(steps[::-1])
    sitk.WriteImage(image, path, useCompression=compress)
    return path


def _nifti(folder: Path, data: np.ndarray) -> str:
    return itk_image(data, tuple(step / 1e3 for step in STEPS), f"{folder}/a.nii")  # SimpleITK writes mm


def _nifti_gz(folder: Path, data: np.ndarray) -> str:
    return itk_image(data, tuple(step / 1e3 for step in STEPS), f"{folder}/a.nii.gz", compress=True)


def _nrrd(folder: Path, data: np.ndarray) -> str:
    return itk_image(data, STEPS, f"{folder}/a.nrrd")


def _nrrd_gzip(folder: Path, data: np.ndarray) -> str:
    return itk_image(data, STEPS, f"{folder}/a.nrrd", compress=True)


def _nhdr(folder: Path, data: np.ndarray) -> str:
    return itk_image(data, STEPS, f"{folder}/a.nhdr")


def _mha(folder: Path, data: np.ndarray) -> str:
    return itk_image(data, STEPS, f"{folder}/a.mha")


def _mha_zlib(folder: Path, data: np.ndarray) -> str:
    return itk_image(data, STEPS, f"{folder}/a.mha", compress=True)


def _mhd(folder: Path, data: np.ndarray) -> str:
    return itk_image(data, STEPS, f"{folder}/a.mhd")


def imaris(
    path: Path,
    data: np.ndarray,
    steps: tuple[float, ...] = STEPS,
    chunks: tuple[int, ...] = (8, 16, 16),
    levels: int = 2,
) -> str:
    """An Imaris file of an array tczyx, as Bitplane describes them; data is filled up to whole chunks, texts are
    arrays of characters."""

    def text(group: h5py.Group, **values: object) -> None:
        for name, value in values.items():
            group.attrs[name] = np.frombuffer(str(value).encode(), "S1")

    with h5py.File(path, "w") as file:
        text(file, ImarisVersion="5.5.0", DataSetDirectoryName="DataSet")
        image = file.create_group("DataSetInfo/Image")
        text(image, Unit="um", **dict(zip("ZYX", data.shape[2:], strict=True)))
        for number, axis in enumerate((4, 3, 2)):
            extent = {f"ExtMin{number}": -1.5, f"ExtMax{number}": data.shape[axis] * steps[axis - 2] - 1.5}
            text(image, **extent)
        for level in range(2):
            scaled = data[..., :: 2**level, :: 2**level]
            shape = [-(-n // c) * c for n, c in zip(scaled.shape[2:], chunks, strict=True)]
            for t, c in np.ndindex(scaled.shape[:2]):
                group = file.create_group(f"DataSet/ResolutionLevel {level}/TimePoint {t}/Channel {c}")
                text(group, **{f"ImageSize{axis}": n for axis, n in zip("ZYX", scaled.shape[2:], strict=True)})
                dataset = group.create_dataset("Data", shape, data.dtype, chunks=chunks, compression="gzip")
                dataset[tuple(slice(0, n) for n in scaled.shape[2:])] = scaled[t, c]
    return str(path)


def _imaris(folder: Path, data: np.ndarray) -> str:
    return imaris(folder / "a.ims", data[None, None])


def _npy(folder: Path, data: np.ndarray) -> str:
    np.save(folder / "a.npy", data)
    return f"{folder}/a.npy"


def precomputed(
    folder: Path | str,
    data: np.ndarray,
    steps: tuple[float, ...] = STEPS,
    *,
    bits: int | None = None,
    offset: tuple[int, ...] = (3, 5, 7),
) -> str:
    """A raw precomputed volume of an array zyx or czyx as its specification says, in chunks of 8, 16, 16 voxels.

    With ``bits`` it is sharded, by TensorStore.
    """
    array = data if data.ndim == 4 else data[None]
    scale = {
        "key": "8_8_40",
        "size": list(array.shape[:0:-1]),
        "resolution": [1000.0 * step for step in reversed(steps)],
        "voxel_offset": list(offset),
        "chunk_sizes": [[16, 16, 8]],
        "encoding": "raw",
    }
    if bits is not None:
        scale["sharding"] = {
            "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1, "minishard_bits": 1, "shard_bits": bits,
            "hash": "murmurhash3_x86_128", "data_encoding": "gzip", "minishard_index_encoding": "gzip",
        }  # fmt: skip
    info = {"@type": "neuroglancer_multiscale_volume", "type": "image", "data_type": data.dtype.name,
            "num_channels": len(array), "scales": [scale]}  # fmt: skip
    place = Path(folder)
    (place / "8_8_40").mkdir(parents=True)
    (place / "info").write_text(json.dumps(info))
    if bits is not None:
        spec = {"driver": "neuroglancer_precomputed", "kvstore": f"file://{place}/"}
        ts.open(spec).result()[...] = array.T
        return str(folder)
    for corner in itertools.product(*(range(0, n, c) for n, c in zip(array.shape[1:], (8, 16, 16), strict=True))):
        box = tuple(slice(a, min(a + c, n)) for a, c, n in zip(corner, (8, 16, 16), array.shape[1:], strict=True))
        name = "_".join(f"{o + s.start}-{o + s.stop}" for o, s in zip(offset, reversed(box), strict=True))
        (place / "8_8_40" / name).write_bytes(np.ascontiguousarray(array[:, *box]).tobytes())
    return str(folder)


def _precomputed(folder: Path, data: np.ndarray) -> str:
    return precomputed(folder / "a.precomputed", data) + ":8_8_40"


def _precomputed_sharded(folder: Path, data: np.ndarray) -> str:
    return f"precomputed://{precomputed(folder / 'a.em', data, bits=1)}"


def zip_folder(folder: Path, target: Path, *, inside: str = "") -> None:
    with zipfile.ZipFile(target, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, f"{inside}{path.relative_to(folder).as_posix()}")


def _zipped(folder: Path, data: np.ndarray, name: str, zarr_format: int) -> str:
    attributes = {"axes": list("zyx"), "resolution": list(STEPS), "units": ["micrometer"] * 3}
    target = folder / f"source{'.ome' * (name == 'a.ozx')}.zarr"
    create_volume(f"{target}:volumes/raw", data.shape, (8, 16, 16), "uint16", attributes, zarr_format=zarr_format)
    open_volume(f"{target}:volumes/raw", "a").write(tuple(slice(0, n) for n in data.shape), data)
    zip_folder(target, folder / name)
    return f"{folder}/{name}:volumes/raw"


def _zarr_zip(folder: Path, data: np.ndarray) -> str:
    return _zipped(folder, data, "a.zarr.zip", 2)


def _ozx(folder: Path, data: np.ndarray) -> str:
    return _zipped(folder, data, "a.ozx", 3)


WRITERS: dict[str, Callable[[Path, np.ndarray], str]] = {
    "mrc": _mrc,
    "nifti": _nifti,
    "nifti-gz": _nifti_gz,
    "nrrd": _nrrd,
    "nrrd-gzip": _nrrd_gzip,
    "nhdr": _nhdr,
    "mha": _mha,
    "mha-zlib": _mha_zlib,
    "mhd": _mhd,
    "imaris": _imaris,
    "npy": _npy,
    "zarr-zip": _zarr_zip,
    "ozx": _ozx,
    "precomputed": _precomputed,
    "precomputed-sharded": _precomputed_sharded,
}
"""Write a uint16 array zyx with ``STEPS`` and give its address."""
