"""What single formats have of their own: scales, axes in foreign metadata, defects of stacks, odd arrays."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import imageio.v3
import numpy as np
import pytest
import tensorstore as ts
import tifffile
import z5py
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from blockwise.errors import DiskFullError, UserError
from blockwise.volume import Address, Volume, check_writable, create_volume, ingest, open_volume
from blockwise.volume.axes import Spacing, axistags
from blockwise.volume.formats import open_store
from pipeline.exporting.write import export
from tests.examples import examples


def everything(volume: Volume) -> np.ndarray:
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def pyramid(folder: Path, version: str) -> str:
    """An OME-Zarr image with scales ``s0`` and ``s1``, as other programs write it."""
    path = folder / "image.ome.zarr"
    is_new = version == "0.5"
    for name, n in (("s0", 8), ("s1", 4)):
        kvstore = f"file://{path}/{name}/"
        spec = {"driver": "zarr3" if is_new else "zarr", "kvstore": kvstore, "dtype": "uint8", "create": True}
        array = ts.open(spec, shape=[2, n, n, n]).result()
        array[...] = n
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space", "unit": "nanometer"} for a in "zyx")]
    datasets = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": [1, 2 * f, f, f]}]}
        for name, f in (("s0", 1), ("s1", 2))
    ]
    common = [{"type": "scale", "scale": [1, 10, 10, 10]}]
    images = [{"version": "0.4", "axes": axes, "datasets": datasets, "coordinateTransformations": common}]
    if is_new:
        del images[0]["version"]
        attributes = {"ome": {"version": "0.5", "multiscales": images}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (path / "zarr.json").write_text(json.dumps(group))
    else:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps({"multiscales": images}))
    return str(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_scales_of_an_ome_zarr_image(tmp_path: Path, version: str) -> None:
    path = pyramid(tmp_path, version)
    finest = open_volume(path)
    assert (finest.shape, finest.axes) == ((2, 8, 8, 8), "czyx")
    units = ("", "nanometer", "nanometer", "nanometer")
    assert finest.spacing == Spacing((1, 20, 10, 10), units)
    second = open_volume(f"{path}:s1")
    assert (second.shape, second.axes) == ((2, 4, 4, 4), "czyx")
    assert second.spacing == Spacing((1, 40, 20, 20), units)
    assert (everything(second) == 4).all()
    assert (everything(open_volume(f"{path}:s0")) == 8).all()
    with pytest.raises(UserError, match=r"no dataset 's2'.*it holds: s0, s1; did you mean"):
        open_volume(f"{path}:s2")


def test_ome_zarr_needs_known_axes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names of 4 axes"):
        create_volume(f"{tmp_path}/a.ome.zarr:x", (1, 1, 1, 1), (1, 1, 1, 1), "uint8", {})
    create_volume(f"{tmp_path}/a.ome.zarr:y", (1, 1, 1), (1, 1, 1), "uint8", {})
    assert open_volume(f"{tmp_path}/a.ome.zarr:y").axes == "zyx"


def test_axes_of_n5_stand_in_the_order_of_its_dimensions(tmp_path: Path) -> None:
    """As N5, Neuroglancer and ilastik have it; results of our first versions have the array's order."""
    file = z5py.File(tmp_path / "a.n5", mode="a")
    for name, axes, more, expected in (
        ("usual", "xyz", {}, "zyx"),
        ("vigra", "zyx", {}, "xyz"),
        ("colours", "cyx", {}, "xyc"),
        ("without-y", "xt", {}, "tx"),
        ("first-results", "zyx", {"fingerprint": "0"}, "zyx"),
        ("results", "xyz", {"fingerprint": "0"}, "zyx"),
    ):
        shape = (3, 4, 5)[: len(axes)]
        dataset = file.create_dataset(name, shape=shape, chunks=shape, dtype="uint8")
        sizes = {"x": 1, "y": 2, "z": 3, "c": 1, "t": 9}
        steps = [sizes[axis] for axis in axes]
        dataset.attrs.update({"axes": list(axes), "resolution": steps, "units": ["nm"] * len(axes), **more})
        volume = open_volume(f"{tmp_path}/a.n5:{name}")
        assert (volume.axes, volume.shape) == (expected, shape), name
        assert volume.spacing == Spacing(tuple(float(sizes[a]) for a in expected), ("nm",) * len(axes))


@st.composite
def described(draw: st.DrawFn) -> tuple[str, Spacing]:
    """Axes in any order, with steps and units that tell them apart."""
    axes = "".join(draw(st.permutations("tczyx"))[: draw(st.integers(2, 5))])
    steps = tuple(float(draw(st.integers(1, 9))) if axis != "c" else 1.0 for axis in axes)
    units = {"t": "second", "c": ""}
    return axes, Spacing(steps, tuple(units.get(axis, "micrometer") for axis in axes))


@settings(max_examples=examples(15), deadline=None)
@given(described(), st.sampled_from(["n5", "zarr", "h5"]), st.sampled_from(["n5", "zarr", "zarr3", "ome.zarr"]))
def test_axes_and_spacing_go_along_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, Spacing], source: str, target: str
) -> None:
    (axes, spacing), folder = case, tmp_path_factory.mktemp("axes")
    shape = tuple(range(2, 2 + len(axes)))
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    address = f"{folder}/a.{source}:raw"
    if source == "h5":
        with h5py.File(folder / "a.h5", "w") as file:
            dataset = file.create_dataset("raw", data=data)
            dataset.attrs["axistags"] = axistags(axes, spacing)
            dataset.attrs["axis_units"] = json.dumps(dict(zip(axes, spacing.units, strict=True)))
    else:
        create_volume(address, shape, shape, "uint16", {"axes": list(axes), **spacing.as_attributes()})
        open_volume(address, "a").write(tuple(slice(0, n) for n in shape), data)
    suffix = "zarr" if target == "zarr3" else target
    if target == "zarr3":
        create_volume(f"{folder}/b.zarr:other", (1,), (1,), "uint8", {}, zarr_format=3)
    copy = ingest(address, f"{folder}/b.{suffix}:copy")
    has_spacing = source != "h5" or set("zyx") & set(axes)
    if {"y", "x"} <= set(axes) and target != "zarr3":
        exported = open_volume(export(copy, f"{folder}/exported.{'h5' if target == 'zarr' else target}:again")[0])
        places = [axes.index(axis) for axis in exported.axes]
        np.testing.assert_array_equal(everything(exported), data.transpose(places))
        assert exported.spacing == (copy.spacing and copy.spacing.along(axes, exported.axes))
    for volume in (open_volume(address), copy):
        assert volume.axes == axes
        # The metadata of an image cannot leave the spacing out.
        unsaid = Spacing((1.0,) * len(axes), ("",) * len(axes)) if target == "ome.zarr" and volume is copy else None
        assert volume.spacing == (spacing if has_spacing else unsaid)
        np.testing.assert_array_equal(everything(volume), data)


@pytest.mark.parametrize(("dtype", "written"), [("float16", "float32"), ("bool", "uint8"), (">u2", "uint16")])
@pytest.mark.parametrize("suffix", ["n5", "zarr"])
def test_types_that_no_container_holds_are_written_as_wider_ones(
    tmp_path: Path, dtype: str, written: str, suffix: str
) -> None:
    data = np.random.default_rng(8).normal(size=(4, 5, 6)).astype(dtype)
    if dtype == "float16":
        data[0, 0, :4] = [np.nan, np.inf, -np.inf, np.finfo(np.float16).tiny]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = data
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    for number, source in enumerate((f"{tmp_path}/a.h5:x", f"{tmp_path}/a.tif")):
        copy = ingest(source, f"{tmp_path}/copy.{suffix}:{number}")
        exported = export(copy, f"{tmp_path}/{number}.{suffix}:x")
        for volume in (copy, open_volume(exported[0])):
            assert volume.dtype == np.dtype(written)
            np.testing.assert_array_equal(everything(volume), data)
    straight = export(open_volume(f"{tmp_path}/a.tif"), f"{tmp_path}/straight.{suffix}:x")
    np.testing.assert_array_equal(everything(open_volume(straight[0])), data)


def test_axes_and_spacing_of_ilastiks_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("exported_data", (2, 3, 4, 1), "uint8")
        dataset.attrs["axistags"] = axistags("zyxc", Spacing((4, 0.5, 0.5, 1), ("um",) * 3 + ("",)))
        dataset.attrs["axis_units"] = json.dumps({"z": "um", "y": "um", "x": "um"})
        plain = file.create_dataset("plain", (2, 3, 4), "uint8")
        plain.attrs["axistags"] = axistags("zyx")
    volume = open_volume(f"{tmp_path}/a.h5:exported_data")
    assert (volume.axes, volume.spacing) == ("zyxc", Spacing((4, 0.5, 0.5, 1), ("um", "um", "um", "")))
    assert open_volume(f"{tmp_path}/a.h5:plain").spacing is None


def test_hdf5_without_chunks_is_read_voxel_by_voxel(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("whole", (8, 64, 64), "uint8")
        file.create_dataset("slices", (8, 64, 64), "uint8", chunks=(1, 64, 64))
    whole, slices = (open_volume(f"{tmp_path}/a.h5:{key}") for key in ("whole", "slices"))
    assert (whole.chunks, whole.slicewise, whole.read_amplification((8, 8, 8))) == ((8, 64, 64), False, 1)
    assert (slices.chunks, slices.slicewise, slices.read_amplification((8, 8, 8))) == ((1, 64, 64), True, 64)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["|b1", ">u2", "<f4"])
def test_zarr_arrays_that_z5py_does_not_know(tmp_path: Path, order: str, dtype: str) -> None:
    data = np.random.default_rng(1).integers(0, 2, (5, 6, 7)).astype(dtype)
    metadata = {
        "dtype": dtype,
        "shape": [5, 6, 7],
        "chunks": [2, 4, 4],
        "order": order,
        "fill_value": dtype == "|b1" or 1,
    }
    metadata["compressor"] = {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 1}
    spec = {"driver": "zarr", "kvstore": f"file://{tmp_path}/a.zarr/x/", "metadata": metadata, "create": True}
    array = ts.open(spec).result()
    assert everything(open_volume(f"{tmp_path}/a.zarr:x")).all()  # nothing is stored, so all is 1
    array[...] = data
    volume = open_volume(f"{tmp_path}/a.zarr:x")
    np.testing.assert_array_equal(everything(volume), data)
    assert everything(volume).flags.c_contiguous


@pytest.mark.parametrize("compression", ["gzip", "blosc", "zstd", "raw", "bzip2", "lz4", "xz"])
def test_n5_of_z5py_in_a_store(tmp_path: Path, s3_server: str, compression: str) -> None:
    """What z5py wrote here is read there, by TensorStore, or refused by name."""
    data = np.random.default_rng(1).integers(0, 9, (9, 6, 7), np.uint16)
    file = z5py.File(tmp_path / "a.n5", mode="a")
    file.create_dataset("x", data=data, chunks=(4, 4, 4), compression=compression)
    np.testing.assert_array_equal(everything(open_volume(f"{tmp_path}/a.n5:x")), data)
    address = Address.parse(f"s3://bucket/{compression}/a.n5:x?endpoint={s3_server}")
    store = open_store(address)
    for path in (tmp_path / "a.n5").rglob("*"):
        if path.is_file():
            store.write(path.relative_to(tmp_path / "a.n5").as_posix(), path.read_bytes())
    if compression in ("lz4",):
        with pytest.raises(UserError, match="lz4"):
            open_volume(address)
    else:
        np.testing.assert_array_equal(everything(open_volume(address)), data)


def stack(folder: Path, numbers: list[int], odd: tuple[int, ...] = ()) -> None:
    for number in numbers:
        plane = np.full((5, 6) if number not in odd else (5, 7), number, np.uint8)
        imageio.v3.imwrite(folder / f"s{number:03d}.png", plane)


@pytest.mark.parametrize("pattern", ["*.png", "s%03d.png", "s*.png"])
def test_missing_slices_are_named(tmp_path: Path, pattern: str) -> None:
    stack(tmp_path, [1, 2, 4, 7])
    with pytest.raises(UserError, match=r"3 slices are missing .*s003\.png, .*s005\.png, .*s006\.png"):
        open_volume(f"{tmp_path}/{pattern}")


def test_odd_slices_are_named_before_any_work_and_when_they_are_read(tmp_path: Path) -> None:
    stack(tmp_path, [1, 2, 3, 4], odd=(3,))
    (tmp_path / "s004.png").write_bytes(b"nothing")
    volume = open_volume(f"{tmp_path}/*.png")
    with pytest.raises(UserError, match=r"2 of 4 slices .*s003\.png \(5, 7\) uint8, .*s004\.png \(cannot be read\)"):
        volume.verify()
    assert volume.read((slice(0, 2), slice(0, 5), slice(0, 6))).max() == 2
    with pytest.raises(UserError, match=r"1 of 4 slices .*s003\.png"):
        everything(volume)


def test_slices_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (9, 10, 11):
        imageio.v3.imwrite(tmp_path / f"z{number}.png", np.full((2, 3, 3), number, np.uint8))
    imageio.v3.imwrite(tmp_path / "other.png", np.zeros((4, 4), np.uint8))
    volume = open_volume(f"{tmp_path}/z%d.png")
    assert (volume.shape, volume.axes) == ((3, 2, 3, 3), "zyxc")
    assert everything(volume)[:, 0, 0, 0].tolist() == [9, 10, 11]
    single = open_volume(f"{tmp_path}/z9.png")
    assert (single.shape, single.axes) == ((2, 3, 3), "yxc")
    with pytest.raises(UserError, match="no file fits"):
        open_volume(f"{tmp_path}/y%d.png")


HYPER = np.random.default_rng(4).integers(0, 255, (2, 3, 4, 17, 18), np.uint8)


@pytest.mark.parametrize(
    ("names", "axes", "data", "expected"),
    [
        ("t{0}.tif", "ZYX", HYPER[:, 0], "tzyx"),
        ("position1_{0}.tif", "ZCYX", HYPER.transpose(0, 2, 1, 3, 4), "tzcyx"),
        ("z{0}.tif", "TYX", HYPER[0], "ztyx"),
        ("img_t{0:03d}_z{1:02d}.png", "", HYPER[:, :, 0], "tzyx"),
        ("z{1:02d}-T{0:02d}.tif", "YX", HYPER[:, :, 0], "tzyx"),
        ("z{1}_ch{0}.tif", "YX", HYPER[:, :, 0], "czyx"),
        ("Z{2}C{1}time{0}.tif", "YX", HYPER, "tczyx"),
        ("t{0}_c{1}.tif", "ZYX", HYPER, "tczyx"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_no_page_and_no_number_of_a_stack_is_lost(
    tmp_path: Path, names: str, axes: str, data: np.ndarray, expected: str, compressed: bool
) -> None:
    depth = data.ndim - (len(axes) or 2)
    for index in np.ndindex(data.shape[:depth]):
        name = tmp_path / names.format(*index)
        if name.suffix == ".png":
            imageio.v3.imwrite(name, data[index])
        elif compressed:
            tifffile.imwrite(name, data[index], compression="zlib", metadata={"axes": axes}, photometric="minisblack")
        else:
            imagej = [axis for axis in axes if axis in "TZC"] in (["T"], ["Z"], ["Z", "C"])
            tifffile.imwrite(name, data[index], imagej=imagej, metadata={"axes": axes}, photometric="minisblack")
    volume = open_volume(f"{tmp_path}/*{Path(names).suffix}")
    volume.verify()
    assert (volume.axes, volume.shape) == (expected, data.shape)
    np.testing.assert_array_equal(everything(volume), data)
    box = tuple(slice(n // 2, n) for n in data.shape)
    np.testing.assert_array_equal(volume.read(box), data[box])
    assert (volume.file_states()[..., 0] > 0).all()
    assert volume.file_states().shape[:depth] == data.shape[:depth]


def test_stacks_whose_numbers_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    for t, z in ((0, 0), (0, 1), (1, 0)):
        imageio.v3.imwrite(tmp_path / f"t{t}_z{z}.png", HYPER[0, 0, 0])
        imageio.v3.imwrite(tmp_path / f"tile{t}_slice{z}.png", HYPER[0, 0, 0])
        tifffile.imwrite(tmp_path / f"z{2 * t + z}.tif", HYPER[0, 0], photometric="minisblack")
    with pytest.raises(UserError, match="1 of 4 slices are missing: t=1 z=1"):
        open_volume(f"{tmp_path}/t%d_z%d.png")
    with pytest.raises(UserError, match=r"2 numbers in these names vary .*tile0, .*slice0"):
        open_volume(f"{tmp_path}/tile%d_slice%d.png")
    # Files of another number of pages are as odd as those of another size.
    tifffile.imwrite(tmp_path / "z2.tif", HYPER[0, 0, :2], photometric="minisblack")
    volume = open_volume(f"{tmp_path}/z*.tif")
    with pytest.raises(UserError, match=r"1 of 3 slices differs .*z2\.tif \(2, 17, 18\)"):
        volume.verify()
    with pytest.raises(UserError, match=r"z2\.tif \(2, 17, 18\)"):
        everything(volume)
    tifffile.imwrite(tmp_path / "full0.tif", HYPER, imagej=True, metadata={"axes": "TZCYX"})
    tifffile.imwrite(tmp_path / "full1.tif", HYPER, imagej=True, metadata={"axes": "TZCYX"})
    with pytest.raises(UserError, match=r"each of 2 files holds a volume .*t would be counted twice"):
        open_volume(f"{tmp_path}/full*.tif")


def test_an_animation_is_no_slice(tmp_path: Path) -> None:
    frames = [Image.fromarray(frame) for frame in HYPER[0, 0]]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    for name in ("a.png", "*.png"):
        with pytest.raises(UserError, match="holds 4 pictures"):
            open_volume(f"{tmp_path}/{name}")


def test_axes_of_hyperstacks_and_colours(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(0, 255, (2, 3, 4, 17, 18), np.uint8)
    tifffile.imwrite(tmp_path / "hyper.tif", data, imagej=True, metadata={"axes": "TZCYX"})
    tifffile.imwrite(tmp_path / "o.ome.tif", data, tile=(16, 16), compression="zlib", metadata={"axes": "TZCYX"})
    tifffile.imwrite(tmp_path / "rgb.tif", data[0, ..., :3], photometric="rgb", compression="zlib", tile=(16, 16))
    tifffile.imwrite(tmp_path / "planar.tif", data[0, :, :3], photometric="rgb", planarconfig="separate")
    for name, axes in (("hyper", "tzcyx"), ("o.ome", "tzcyx"), ("rgb", "zyxc"), ("planar", "zcyx")):
        volume = open_volume(f"{tmp_path}/{name}.tif")
        expected = tifffile.imread(tmp_path / f"{name}.tif")
        assert volume.axes == axes
        box = tuple(slice(n // 3, n // 3 + max(1, n // 2)) for n in volume.shape)
        np.testing.assert_array_equal(volume.read(box), expected[box])


@pytest.mark.parametrize("depth", [None, 4.0])
def test_a_depth_that_imagej_leaves_out_is_1(tmp_path: Path, depth: float | None) -> None:
    metadata = {"axes": "ZYX", "unit": "um"} | ({} if depth is None else {"spacing": depth})
    data = np.zeros((3, 4, 5), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, resolution=(2, 2), metadata=metadata)
    assert open_volume(f"{tmp_path}/a.tif").spacing == Spacing((depth or 1.0, 0.5, 0.5), ("micrometer",) * 3)
    tifffile.imwrite(tmp_path / "b.tif", data[0], imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    assert open_volume(f"{tmp_path}/b.tif").spacing == Spacing((0.5, 0.5), ("micrometer",) * 2)


@pytest.mark.parametrize("path", ["a.zarr/x/y", "a.n5/x/y", "a.h5/x/y"])
def test_a_dataset_behind_a_slash_is_understood(tmp_path: Path, path: str) -> None:
    container = f"{tmp_path}/{path.removesuffix('/x/y')}"
    if path.startswith("a.h5"):
        Path(container).write_bytes(b"")
    else:
        create_volume(f"{container}:x/y", (4,), (4,), "uint8", {})
    with pytest.raises(UserError, match=f"did you mean {container}:x/y"):
        open_volume(f"{tmp_path}/{path}")


def test_series_of_a_tiff(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
        file.write(np.ones((9, 9), np.uint16))
    assert open_volume(f"{tmp_path}/a.tif:1").shape == (9, 9)
    assert open_volume(f"{tmp_path}/a.tif:0").shape == (3, 8, 8)
    with pytest.raises(UserError, match=r"holds 2 series, 0 \(.* \(3, 8, 8\)\), 1 .*such as .*a\.tif:0"):
        open_volume(f"{tmp_path}/a.tif")
    with tifffile.TiffWriter(tmp_path / "preview.tif") as file:
        file.write(np.zeros((3, 80, 80), np.uint8), photometric="minisblack")
        file.write(np.ones((8, 8, 3), np.uint8), photometric="rgb")
    assert open_volume(f"{tmp_path}/preview.tif").shape == (3, 80, 80)
    with pytest.raises(UserError, match=r"'2' is no series .*0 \(.* \(3, 8, 8\)\), 1"):
        open_volume(f"{tmp_path}/a.tif:2")
    (tmp_path / "b.tif").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a TIFF file"):
        open_volume(f"{tmp_path}/b.tif")


def test_what_may_be_written(tmp_path: Path) -> None:
    for name in ("a.n5", "a.zarr", "a.ome.zarr", "s3://bucket/a.n5", "gs://bucket/a.zarr"):
        check_writable(Address(name, "probabilities"))
    for name in ("a.h5", "a.tif", "stack/*.png", "https://host/a.n5"):
        with pytest.raises(UserError, match="written"):
            check_writable(Address(name, "probabilities"))
    shape = (4, 4)
    for name, words, options in (
        ("a.n5", "no shards", {"shards": (4, 4)}),
        ("b.zarr", "has no shards", {"shards": (4, 4), "zarr_format": 2}),
        ("b.zarr", "not known", {"zarr_format": 4}),
        ("b.zarr", "whole chunks", {"shards": (3, 4)}),
    ):
        with pytest.raises(UserError, match=words):
            create_volume(f"{tmp_path}/{name}:x", shape, (2, 2), "uint8", {}, **options)
    with pytest.raises(UserError, match="cannot be written as float16"):
        create_volume(f"{tmp_path}/a.n5:x", shape, (2, 2), "float16", {})
    create_volume(f"{tmp_path}/a.zarr:x", shape, (2, 2), "uint8", {}, zarr_format=3)
    create_volume(f"{tmp_path}/a.zarr:deep/down/y", shape, (2, 2), "uint8", {})  # the container's version
    assert (tmp_path / "a.zarr/deep/down/zarr.json").exists()
    with pytest.raises(UserError, match="of Zarr version 3, not 2"):
        create_volume(f"{tmp_path}/a.zarr:z", shape, (2, 2), "uint8", {}, zarr_format=2)


@pytest.mark.parametrize(
    ("number", "error", "text"),
    [(errno.ENOSPC, DiskFullError, "MB free on this disk"), (errno.EACCES, UserError, "denied")],
)
def test_a_chunk_that_cannot_be_written_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], text: str
) -> None:
    def refuse(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:-1])
        raise OSError(number, os.strerror(number), str(path))

    create_volume(f"{tmp_path}/a.n5:x", (4, 4), (4, 4), "uint8", {})
    volume = open_volume(f"{tmp_path}/a.n5:x", "a")
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(error, match=rf"a\.n5/x/0/0: cannot be written: .*{text}"):
        volume.write((slice(0, 4),) * 2, np.ones((4, 4), np.uint8))
    assert os.listdir(tmp_path / "a.n5/x/0") == [], "what is left takes room where there is none"


def test_what_is_opened_for_reading_is_not_written(tmp_path: Path) -> None:
    create_volume(f"{tmp_path}/a.n5:x", (4, 4), (4, 4), "uint8", {})
    with pytest.raises(ValueError, match="opened for reading"):
        open_volume(f"{tmp_path}/a.n5:x").write((slice(0, 4),) * 2, np.ones((4, 4), np.uint8))


def test_metadata_that_is_damaged_is_named(tmp_path: Path) -> None:
    create_volume(f"{tmp_path}/a.n5:x", (4, 4), (4, 4), "uint8", {})
    (tmp_path / "a.n5/x/attributes.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.n5/x/attributes\.json is damaged"):
        open_volume(f"{tmp_path}/a.n5:x")


def test_libraries_are_loaded_by_those_who_need_them(tmp_path: Path) -> None:
    create_volume(f"{tmp_path}/a.n5:x", (4, 4), (4, 4), "uint8", {})
    script = (
        "import sys; from blockwise.volume import open_volume; open_volume(sys.argv[1]); "
        "sys.exit(', '.join({'tensorstore', 'tifffile', 'imageio', 'imagecodecs'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, f"{tmp_path}/a.n5:x"], capture_output=True, text=True)
    assert done.stderr.strip() == ""
