"""Exports: every format read back, by this program and by the libraries that others use."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile

from blockwise.errors import UserError
from blockwise.volume import Address, Spacing, Volume, create_volume, ingest, open_volume
from pipeline.exporting.content import SimpleSegmentation
from pipeline.exporting.results import _drange
from pipeline.exporting.scales import Scales, coarser_levels
from pipeline.exporting.write import export
from tasks.pyramid.coarser import coarser

SPACING = {"resolution": [1.0, 4.0, 0.5, 0.25], "units": ["", "micrometer", "micrometer", "micrometer"]}


@pytest.fixture
def probabilities(tmp_path: Path) -> Volume:
    """czyx, float32, three classes."""
    data = np.random.default_rng(3).dirichlet([1, 1, 1], (11, 20, 17)).transpose(3, 0, 1, 2).astype(np.float32)
    address = f"{tmp_path}/result.n5:probabilities"
    create_volume(address, data.shape, (1, 4, 16, 16), "float32", {"axes": list("czyx"), **SPACING})
    open_volume(address, "a").write(tuple(slice(0, n) for n in data.shape), data)
    return open_volume(address)


@pytest.fixture
def labels(tmp_path: Path) -> Volume:
    """tzyx, uint64, up to 65,536."""
    data = np.random.default_rng(3).integers(0, 2**16, (2, 11, 20, 17)).astype(np.uint64)
    data[1, 10, 19, 16] = 2**16
    address = f"{tmp_path}/result.n5:labels"
    create_volume(address, data.shape, (1, 4, 16, 16), "uint64", {"axes": list("tzyx")})
    open_volume(address, "a").write(tuple(slice(0, n) for n in data.shape), data)
    return open_volume(address)


def everything(volume: object) -> np.ndarray:
    return volume.read(tuple(slice(0, n) for n in volume.shape))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["a.tif", "a.h5", "a.h5:my/data", "a.n5:p", "a.zarr:p", "a.ome.zarr:p", "a.ome.zarr"]
)
def test_round_trip(probabilities: Volume, tmp_path: Path, name: str) -> None:
    data = everything(probabilities)
    [target] = export(probabilities, f"{tmp_path}/out/{name}", memory_bytes=5000)
    copy = open_volume(target if name != "a.h5" else f"{target}:exported_data")
    order = [probabilities.axes.index(axis) for axis in copy.axes]
    np.testing.assert_array_equal(everything(copy), data.transpose(order))
    assert copy.spacing == probabilities.spacing.along("czyx", copy.axes)
    assert not list(tmp_path.glob("out/.new*"))
    with pytest.raises(UserError, match=r"exists|already"):
        export(probabilities, target)


def test_tiff_is_read_by_others(probabilities: Volume, labels: Volume, tmp_path: Path) -> None:
    for compress in (False, True):
        [path] = export(probabilities, f"{tmp_path}/{compress}.ome.tif", compress=compress)
        with tifffile.TiffFile(path) as file:
            assert file.is_ome
            assert file.series[0].axes == "ZCYX"
            assert not file.is_bigtiff
        np.testing.assert_array_equal(tifffile.imread(path), everything(probabilities).transpose(1, 0, 2, 3))
    [path] = export(labels, f"{tmp_path}/labels.tif")  # OME knows no 64 bit
    np.testing.assert_array_equal(tifffile.imread(path), everything(labels))
    assert open_volume(path).axes == "tzyx"


def test_big_tiff_from_4_gb(labels: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = int(np.prod(labels.shape)) * 8
    for limit, is_big in ((size, True), (size + 1, False)):
        monkeypatch.setattr("pipeline.exporting.write.BIG_TIFF_BYTES", limit)
        [path] = export(labels, f"{tmp_path}/{is_big}.tif")
        with tifffile.TiffFile(path) as file:
            assert file.is_bigtiff == is_big


def test_hdf5_is_read_by_ilastik(probabilities: Volume, tmp_path: Path) -> None:
    [path] = export(probabilities, f"{tmp_path}/a.h5", dtype="uint8", scale=(0, 1))
    with h5py.File(path) as file:
        dataset = file["exported_data"]
        tags = json.loads(dataset.attrs["axistags"])["axes"]
        assert [tag["key"] for tag in tags] == list("czyx")
        assert [tag["typeFlags"] for tag in tags] == [1, 2, 2, 2]
        assert [tag["resolution"] for tag in tags] == [0, 4.0, 0.5, 0.25]
        assert json.loads(dataset.attrs["axis_units"])["x"] == "micrometer"
        np.testing.assert_array_equal(dataset[()], np.rint(everything(probabilities).astype(float) * 255))


@pytest.mark.parametrize("target", ["a.h5", "a.n5:p", "a.zarr:p"])
def test_axes_may_have_the_order_of_ilastik(probabilities: Volume, tmp_path: Path, target: str) -> None:
    [path] = export(probabilities, f"{tmp_path}/{target}", axes="zyxc", attributes={"drange": [0.0, 1.0]})
    if target == "a.h5":
        with h5py.File(path) as file:
            assert list(file["exported_data"].attrs["drange"]) == [0, 1]
    volume = open_volume(path if ":" in path else f"{path}:exported_data")
    assert volume.axes == "zyxc"
    np.testing.assert_array_equal(everything(volume), np.moveaxis(everything(probabilities), 0, -1))


@pytest.mark.parametrize(("target", "axes"), [("a.tif", "zyxc"), ("a.ome.zarr", "zyxc"), ("a.h5", "zyx")])
def test_an_order_that_cannot_be_is_refused(probabilities: Volume, tmp_path: Path, target: str, axes: str) -> None:
    with pytest.raises(UserError, match="order of axes of its own" if axes == "zyxc" else "name each of them once"):
        export(probabilities, f"{tmp_path}/{target}", axes=axes)


@pytest.mark.parametrize(
    ("stored", "dtype", "scale", "expected"),
    [
        ("float32", None, None, [0, 1]),
        ("float32", "uint8", (0, 1), [0, 255]),
        ("float32", "int8", (0, 1), [-128, 127]),
        ("float32", "uint8", (0, 2), [0, 127.5]),
        ("uint8", None, None, [0, 255]),
        ("uint8", "float32", None, [0, 255]),
        ("uint8", "uint16", (0, 255), [0, 65535]),
    ],
)
def test_what_stands_for_probabilities_of_0_and_1(stored: str, dtype: Any, scale: Any, expected: list[float]) -> None:
    assert _drange(np.dtype(stored), dtype, scale) == expected


def test_containers_are_read_by_others(probabilities: Volume, tmp_path: Path) -> None:
    export(probabilities, f"{tmp_path}/a.ome.zarr")
    export(probabilities, f"{tmp_path}/a.n5:p")
    image = json.loads((tmp_path / "a.ome.zarr/.zattrs").read_text())["multiscales"][0]
    assert [axis["name"] for axis in image["axes"]] == list("czyx")
    assert image["axes"][1] == {"name": "z", "type": "space", "unit": "micrometer"}
    array = ts.open({"driver": "zarr", "kvstore": f"file://{tmp_path}/a.ome.zarr/0/"}).result()
    np.testing.assert_array_equal(array.read().result(), everything(probabilities))
    array = ts.open({"driver": "n5", "kvstore": f"file://{tmp_path}/a.n5/p/"}).result()
    assert array.domain.labels == ("x", "y", "z", "c")
    np.testing.assert_array_equal(array.T.read().result(), everything(probabilities))
    attributes = json.loads((tmp_path / "a.n5/p/attributes.json").read_text())
    assert attributes["axes"] == ["x", "y", "z", "c"]  # N5's order, from which ilastik and Neuroglancer read
    assert [tag["key"] for tag in attributes["axistags"]["axes"]] == list("czyx")


def test_simple_segmentation(probabilities: Volume, tmp_path: Path) -> None:
    segmentation = SimpleSegmentation(probabilities)
    expected = everything(probabilities).argmax(axis=0) + 1
    [path] = export(segmentation, f"{tmp_path}/s.tif", memory_bytes=2000)
    np.testing.assert_array_equal(tifffile.imread(path), expected)
    assert open_volume(path).axes == "zyx"
    assert segmentation.dtype == np.dtype("uint8")
    assert set(np.unique(expected)) == {1, 2, 3}
    with pytest.raises(UserError, match="channels"):
        SimpleSegmentation(open_volume(path))


def test_sequence_and_names(labels: Volume, tmp_path: Path) -> None:
    names = {"nickname": "cell", "dataset": "labels"}
    written = export(labels, f"{tmp_path}/out/{{nickname}}_{{dataset}}_{{t}}_{{z}}.tif", dtype="uint32", names=names)
    expected = [f"{tmp_path}/out/cell_labels_{t}_{z:02d}.tif" for t, z in itertools.product(range(2), range(11))]
    assert written == expected
    assert sorted(map(str, (tmp_path / "out").iterdir())) == expected
    stack = open_volume(f"{tmp_path}/out/cell_labels_1_*.tif")
    np.testing.assert_array_equal(everything(stack), everything(labels)[1])
    [first, second] = export(labels, f"{tmp_path}/t{{t:03d}}.h5:seg")
    assert (Path(first.split(":")[0]).name, second.rpartition("/")[2]) == ("t000.h5", "t001.h5:seg")
    np.testing.assert_array_equal(everything(open_volume(second)), everything(labels)[1])


def test_what_does_not_fit_is_refused_and_leaves_nothing(labels: Volume, tmp_path: Path) -> None:
    for name in ("a.tif", "a_{z}.tif", "a.h5", "a_{t}.tif"):
        with pytest.raises(UserError, match="to 65536, uint16 holds 0 to 65535"):
            export(labels, f"{tmp_path}/out/{name}", dtype="uint16", memory_bytes=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_0.tif"]  # the first time step is complete
    with pytest.raises(UserError, match="65536"):
        export(labels, f"{tmp_path}/out/a.n5:l", dtype="uint16")
    with pytest.raises(UserError, match="unfinished"):
        open_volume(f"{tmp_path}/out/a.n5:l")
    export(labels, f"{tmp_path}/out/a.n5:l")  # what was broken off makes room
    assert open_volume(f"{tmp_path}/out/a.n5:l").dtype == np.dtype("uint64")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("a.png", "unknown format"),
        ("a_{z}.h5", "one file a slice"),
        ("a_{c}.tif", "{c} is not known"),
        ("a_{t.tif", "cannot be read"),
        ("a_{t}.tif", "no {t}"),
    ],
)
def test_names_that_mean_nothing(probabilities: Volume, tmp_path: Path, target: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        export(probabilities, f"{tmp_path}/{target}")


@pytest.mark.soak
def test_memory_stays_below_two_blocks_of_slices(tmp_path: Path) -> None:
    """Export and ingest of 3 and of 9 blocks of 16 slices, each in a process of its own, for the peak."""
    script = textwrap.dedent("""
        import sys
        import numpy as np
        from blockwise.volume import create_volume, ingest, open_volume
        from pipeline.exporting.write import export
        from pipeline.exporting.scales import Scales

        folder, blocks = sys.argv[1], int(sys.argv[2])
        shape, depth = (blocks * 16, 512, 1024), 16
        create_volume(f"{folder}/a.n5:raw", shape, (depth, 256, 256), "uint8", {"axes": list("zyx")})
        volume = open_volume(f"{folder}/a.n5:raw", "a")
        block = np.arange(depth * 512 * 1024, dtype=np.uint32).astype(np.uint8).reshape(depth, 512, 1024)
        for z in range(0, shape[0], depth):
            volume.write((slice(z, z + depth), slice(0, 512), slice(0, 1024)), block)
        del block
        small = f"{folder}/warm.n5:raw"  # libraries are loaded before measuring
        create_volume(small, (2, 8, 8), (2, 8, 8), "uint8", {"axes": list("zyx")})
        export(open_volume(small), f"{folder}/warm.tif")
        export(open_volume(small), f"{folder}/warm.ome.zarr", scales=Scales(2, "mean"))  # and loops compiled
        def peak(): return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        export(open_volume(f"{folder}/a.n5:raw"), f"{folder}/a.tif", memory_bytes=1 << 30, compress=True)
        exported = peak() - before
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        ingest(f"{folder}/a.tif", f"{folder}/b.n5:raw", chunks=(16, 256, 256), memory_bytes=depth * 512 * 1024)
        ingested = peak() - before
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        if blocks == 3:  # 25 MB
            scales = Scales(3, "mean")
            export(open_volume(f"{folder}/b.n5:raw"), f"{folder}/c.ome.zarr", scales=scales, memory_bytes=1 << 24)
        print(exported, ingested, peak() - before)
    """)
    block = 16 * 512 * 1024
    for blocks in (3, 9):
        folder = tmp_path / str(blocks)
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", script, str(folder), str(blocks)], check=True, capture_output=True
        )
        exported, ingested, scaled = map(int, done.stdout.split())
        assert exported < 2 * block
        assert ingested < 2.5 * block  # what z5py copies for one chunk included
        assert scaled < 1.5 * (1 << 24)


def test_ingest(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 255, (70, 90, 80), np.uint8)
    source = f"{tmp_path}/a.tif"
    sizes = {"PhysicalSizeZ": 2.0, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    with tifffile.TiffWriter(source, ome=True) as file:
        file.write(data, compression="zlib", rowsperstrip=90, metadata={"axes": "ZYX", **sizes})
    raw = open_volume(source)
    assert raw.slicewise
    assert raw.read_amplification((64, 32, 32)) == pytest.approx(90 / 32 * 80 / 32)
    for memory in (1, 100_000, 1 << 28):
        seen: list[float] = []
        copy = ingest(source, f"{tmp_path}/{memory}.n5:raw", memory_bytes=memory, progress=seen.append)
        np.testing.assert_array_equal(everything(copy), data)
        assert (copy.axes, copy.chunks, copy.spacing) == ("zyx", (64, 64, 64), raw.spacing)
        assert not copy.slicewise
        assert copy.read_amplification((64, 64, 64)) == 1
        assert seen == sorted(seen)
        assert seen[-1] == 1
    assert len(seen) == 1
    with pytest.raises(UserError, match="already"):
        ingest(source, f"{tmp_path}/1.n5:raw")
    with pytest.raises(UserError, match="do not fit"):
        ingest(source, f"{tmp_path}/2.n5:raw", axes="yx")


def test_an_ingest_that_is_broken_off_is_not_taken_for_whole(tmp_path: Path) -> None:
    data = np.ones((70, 70, 70), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data)
    target = f"{tmp_path}/a.zarr:raw"

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(f"{tmp_path}/a.tif", target, memory_bytes=1, progress=stop)
    with pytest.raises(UserError, match=r"unfinished.*ingest of .*a\.tif"):
        open_volume(target)
    np.testing.assert_array_equal(everything(ingest(f"{tmp_path}/a.tif", target)), data)


def halved(data: np.ndarray, factors: tuple[int, ...], *, is_mean: bool) -> np.ndarray:
    """The whole array at once: means over what there is, or our modes, which have tests of their own."""
    if not is_mean:
        return coarser(data, factors, "mode")
    padded = np.pad(data.astype(float), [(0, -n % f) for n, f in zip(data.shape, factors, strict=True)],
                    constant_values=np.nan)  # fmt: skip
    windows = padded.reshape([part for n, f in zip(padded.shape, factors, strict=True) for part in (n // f, f)])
    return np.nanmean(windows, axis=tuple(range(1, windows.ndim, 2)))


@pytest.mark.parametrize(
    ("version", "dtype"),
    [
        pytest.param("0.4", "float32", marks=pytest.mark.soak),
        ("0.5", "uint8"),
        pytest.param("0.4", "uint8", marks=pytest.mark.soak),
        pytest.param("0.5", "float32", marks=pytest.mark.soak),
    ],
)
def test_scales_of_probabilities(probabilities: Volume, tmp_path: Path, version: str, dtype: str) -> None:
    """Voxels of 4 x 0.5 x 0.25 micrometres: y is halved when x has caught up, z only when both have."""
    image = f"{tmp_path}/a.ome.zarr:p"
    if version == "0.5":
        create_volume(f"{tmp_path}/a.ome.zarr:other", (4, 4), (4, 4), "uint8", {}, zarr_format=3)
    options = {"dtype": dtype, "scale": None if dtype == "float32" else (0, 1)}
    export(probabilities, image, scales=Scales(4, "mean"), memory_bytes=20_000, **options)
    name = "zarr.json" if version == "0.5" else ".zattrs"
    group = json.loads((tmp_path / "a.ome.zarr/p" / name).read_text())
    multiscales = group["attributes"]["ome"]["multiscales"] if version == "0.5" else group["multiscales"]
    check_multiscale(multiscales[0], 4)
    data = everything(open_volume(image))
    assert data.shape == (3, 11, 20, 17)
    for number, factors in enumerate([(1, 1, 1, 2), (1, 1, 2, 2), (1, 1, 2, 2)], 1):
        level = open_volume(f"{image}/{number}")
        found = everything(level)
        expected = halved(data, factors, is_mean=True)
        tolerance = 1e-6 if dtype == "float32" else 0.5
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        assert level.spacing.steps == (1, 4, 0.25 * 2**number, 0.25 * 2**number)
        read = ts.open({"driver": "zarr3" if version == "0.5" else "zarr",
                        "kvstore": f"file://{tmp_path}/a.ome.zarr/p/{number}/"}).result()  # fmt: skip
        np.testing.assert_array_equal(read.read().result(), found)
        data = found
    assert data.shape == (3, 11, 5, 3)


def check_multiscale(image: dict[str, Any], number: int) -> None:
    """What OME-NGFF 0.4 and 0.5 say of a multiscale image."""
    axes = [axis["name"] for axis in image["axes"]]
    types = [axis["type"] for axis in image["axes"]]
    assert types == sorted(types, key=("time", "channel", "space").index)
    assert 2 <= types.count("space") <= 3
    assert [dataset["path"] for dataset in image["datasets"]] == list(map(str, range(number)))
    before = [0.0] * len(axes)
    for dataset in image["datasets"]:
        first, *others = dataset["coordinateTransformations"]
        assert first["type"] == "scale"
        assert len(first["scale"]) == len(axes)
        assert all(a >= b for a, b in zip(first["scale"], before, strict=True)), "from the finest to the coarsest"
        before = first["scale"]
        assert [other["type"] for other in others] in ([], ["translation"])
        assert all(len(other["translation"]) == len(axes) for other in others)


def test_scales_of_labels(labels: Volume, tmp_path: Path) -> None:
    """Labels are never mixed, and t is never halved; a voxel size that is not known is that of cubes."""
    export(labels, f"{tmp_path}/a.ome.zarr", scales=Scales(3), memory_bytes=1)
    data = everything(labels)
    for number in (1, 2):
        data = halved(data, (1, 2, 2, 2), is_mean=False)
        np.testing.assert_array_equal(everything(open_volume(f"{tmp_path}/a.ome.zarr:{number}")), data)
    image = json.loads((tmp_path / "a.ome.zarr/.zattrs").read_text())["multiscales"][0]
    check_multiscale(image, 3)
    middle = {"type": "translation", "translation": [0, 1.5, 1.5, 1.5]}
    assert image["datasets"][2]["coordinateTransformations"] == [{"type": "scale", "scale": [1, 4, 4, 4]}, middle]
    assert image["type"] == "mode"
    with pytest.raises(UserError, match=r"only written as \.ome\.zarr"):
        export(labels, f"{tmp_path}/a.zarr:x", scales=Scales(2))


@pytest.mark.parametrize("place", ["folder", pytest.param("s3", marks=pytest.mark.soak)])
def test_scales_that_were_broken_off_cannot_be_read_and_make_room(
    labels: Volume, tmp_path: Path, s3_server: str, place: str
) -> None:
    name = f"{tmp_path.name}/a.ome.zarr:labels"
    image = f"s3://bucket/{name}?endpoint={s3_server}" if place == "s3" else f"{tmp_path}/{name}"
    levels = [Address.parse(image).within(f"labels/{number}") for number in range(3)]
    with pytest.raises(UserError, match="65536"):
        export(labels, image, dtype="uint16", scales=Scales(3))
    for address in (image, *levels):
        with pytest.raises(UserError, match="unfinished"):
            open_volume(address)
    export(labels, image, scales=Scales(2))
    np.testing.assert_array_equal(everything(open_volume(image)), everything(labels))
    np.testing.assert_array_equal(
        everything(open_volume(levels[1])), coarser(everything(labels), (1, 2, 2, 2), "mode")
    )
    with pytest.raises(UserError, match="no dataset"):
        open_volume(levels[2])


@pytest.mark.parametrize(
    ("shape", "axes", "steps", "number", "expected"),
    [
        ((1000, 600), "yx", None, None, [(500, 300), (250, 150)]),
        ((256, 256), "yx", None, None, []),
        ((40, 600, 600), "zyx", (4, 1, 1), None, [(40, 300, 300), (40, 150, 150)]),
        ((40, 600, 600), "zyx", (3, 2, 2), None, [(20, 300, 300), (10, 150, 150)]),
        ((40, 600, 600), "zyx", (4, 1, 1), 4, [(40, 300, 300), (40, 150, 150), (20, 75, 75)]),
        ((3, 1, 3, 2), "tzyx", None, 9, [(3, 1, 2, 1), (3, 1, 1, 1)]),
    ],
)
def test_which_scales_there_are(shape, axes, steps, number, expected) -> None:
    spacing = steps and Spacing(steps, ("nanometer",) * len(axes))
    assert [level.shape for level in coarser_levels(shape, axes, spacing, Scales(number))] == expected
