"""The contract of a volume, run over every format in every place."""

from __future__ import annotations

import itertools
import os
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from blockwise.errors import UserError
from blockwise.volume import (
    ABSENT,
    Address,
    DamagedDataError,
    Volume,
    check_writable,
    create_volume,
    delete_volume,
    open_volume,
    opening_once,
    volume_exists,
)
from blockwise.volume.containers.metadata import NewArray, encode
from blockwise.volume.decoding import check_decodes
from blockwise.volume.formats import open_store
from tests.contract.files import WRITERS

SHAPE = (11, 35, 20)
INNER = (slice(3, 9), slice(15, 33), slice(0, 20))


def voxels(dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(7).integers(1, 200, SHAPE).astype(dtype)


def whole() -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in SHAPE)


def last_chunk(volume: Volume) -> tuple[slice, ...]:
    return tuple(slice((n - 1) // c * c, n) for n, c in zip(volume.shape, volume.chunks, strict=True))


def damage_last_file(address: str) -> str:
    """Cut the file that holds the last voxel in half, wherever it lies; returns its name."""
    volume = open_volume(address)
    name = volume.file_of(tuple((n - 1) // f for n, f in zip(volume.shape, volume.file_shape, strict=True)))
    parsed = Address.parse(address)
    if not parsed.is_remote:
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: len(content) // 2])
        return name
    import tensorstore as ts

    kv = ts.KvStore.open(open_store(parsed).kvstore("")).result()
    key = name.removeprefix(f"{parsed.path}/")
    kv.write(key, kv[key][: len(kv[key]) // 2]).result()
    return name


def test_reads_what_was_written(filled: str) -> None:
    volume = open_volume(filled)
    assert (volume.shape, volume.dtype) == (SHAPE, np.dtype("uint16"))
    assert volume.axes == (None if filled.endswith(".npy") else "zyx")
    for box in (whole(), INNER, tuple(slice(n - 1, n) for n in SHAPE)):
        data = volume.read(box)
        assert data.dtype == volume.dtype
        assert data.dtype.isnative
        np.testing.assert_array_equal(data, voxels()[box])
    assert volume.read_amplification(SHAPE) == 1
    volume.verify()


def test_carries_the_spacing(filled: str) -> None:
    spacing = open_volume(filled).spacing
    if filled.endswith(("png", "d.tif")) or spacing is None:  # slices, plain TIFF and npy say nothing
        assert Address.parse(filled).suffix in (".png", ".tif", ".npy")
        return
    micrometers = {"": 1.0, "angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3}
    found = [step * micrometers[unit] for step, unit in zip(spacing.steps, spacing.units, strict=True)]
    assert found == pytest.approx((4.0, 0.5, 0.25))


def read_part(address: str, box: tuple[slice, ...]) -> np.ndarray:
    return open_volume(address).read(box)


def test_many_processes_read_at_once(filled: str, readers: ProcessPoolExecutor) -> None:
    boxes = [(slice(z, min(z + 5, SHAPE[0])), slice(0, 35), slice(0, 20)) for z in range(0, SHAPE[0], 5)]
    parts = list(readers.map(read_part, [filled] * len(boxes), boxes))
    np.testing.assert_array_equal(np.concatenate(parts), voxels())


def test_a_missing_container_or_key_is_named(filled: str) -> None:
    address = Address.parse(filled)
    if not address.is_remote:
        gone = Address(
            address.path.replace("a.", "b.").replace("slice_", "none_").replace("%04d", "x%04d"), address.key
        )
        with pytest.raises(UserError, match="looked from"):
            open_volume(gone)
    if not address.key:
        return
    with pytest.raises(UserError) as failure:
        open_volume(address.within(address.key + "x"))
    assert f"{address.key}x" in str(failure.value)
    if address.scheme != "http":
        assert f"did you mean {address.within(address.key)}" in str(failure.value).replace("/0?", "?")


def file_at(volume: Volume, index: tuple[int, ...]) -> str:
    """Path of the file at an index; of a folder of shards, one of them."""
    path = Path(volume.file_of(index))
    return str(min(path.iterdir()) if path.is_dir() else path)


def damage_file(address: str, folder: Path) -> str:
    """Overwrite what holds the last voxel in a file of an other format; returns the file's name."""
    volume = open_volume(address)
    name = file_at(volume, tuple((n - 1) // f for n, f in zip(SHAPE, volume.file_shape, strict=True)))
    content = bytearray(Path(name).read_bytes())
    if name.endswith((".h5", ".ims")):
        with h5py.File(name, locking=False) as file:
            key = Address.parse(address).key or "DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"
            dataset = file[key]
            start = dataset.id.get_chunk_info(dataset.id.get_num_chunks() - 1).byte_offset
        content[start : start + 50] = bytes(50)
    elif name.endswith((".zip", ".ozx")):
        with zipfile.ZipFile(name) as file:
            last = max((info for info in file.infolist() if info.filename[-1].isdigit()), key=lambda i: i.filename)
        start = last.header_offset + 30 + len(last.filename)
        content[start : start + last.file_size] = bytes(last.file_size)
    elif volume.decode_shape == SHAPE:  # compressed as a whole, with a checksum at the end
        content[-3] ^= 1
    elif len(volume.file_states()) > 1 or name.endswith(".shard"):  # a slice, or a chunk
        del content[len(content) // 2 :]
    else:
        with tifffile.TiffFile(name) as file:
            page = file.series[0].pages[-1]
            start = page.dataoffsets[-1]
        content[start : start + 50] = bytes(50)
    Path(name).write_bytes(content)
    return name


def test_a_damaged_file_is_told_with_its_box(filled: str, tmp_path: Path) -> None:
    if filled.startswith("http"):
        pytest.skip("the same reader as s3:// and gs://")
    if open_volume(filled).decode_shape == (1, 1, 1):
        pytest.skip("no checksum tells it; a cut file is not opened")
    is_container = Address.parse(filled).suffix in (".n5", ".zarr", ".ome.zarr")
    name = damage_last_file(filled) if is_container else damage_file(filled, tmp_path)
    volume = open_volume(filled)
    with pytest.raises(DamagedDataError) as failure:
        volume.read(whole())
    assert (str(Path(name).parent) if name.endswith(".shard") else name) in str(failure.value)
    assert failure.value.address == str(Address.parse(filled))
    if not name.endswith(".shard"):
        assert all(s.stop == n for s, n in zip(failure.value.box, SHAPE, strict=True))
    with pytest.raises(DamagedDataError):
        volume.read(failure.value.box)
    sound = tuple(slice(0, s.start or s.stop) for s in failure.value.box)
    if volume.chunks != SHAPE and sound != failure.value.box:
        np.testing.assert_array_equal(volume.read(sound), voxels()[sound])


def test_one_chunk_shows_whether_a_volume_can_be_decoded(filled: str, tmp_path: Path) -> None:
    volume = open_volume(filled)
    check_decodes(volume)
    if volume.decode_shape == (1, 1, 1) or Address.parse(filled).is_remote:
        return
    names = {volume.file_of(index) for index in volume.chunk_indices(whole())}
    if volume.file_shape == SHAPE and volume.decode_shape != SHAPE:
        return  # the file's own structure would be hit first
    for name in names:
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: len(content) // 4] if volume.file_shape != SHAPE else content[:400])
    with pytest.raises(UserError, match=r"cannot be decoded|cannot be opened|is no readable image") as failure:
        check_decodes(open_volume(filled))
    assert str(Address.parse(filled)) in str(failure.value) or "readable" in str(failure.value)
    if "cannot be decoded" in str(failure.value) and volume.codec:
        assert f"compressed by {volume.codec}" in str(failure.value)


@pytest.mark.parametrize(
    "filled", ["hdf5", "hdf5-chunks", "tiff-tiles", "ome-tiff", "imagej", "bigtiff", *WRITERS], indirect=True
)
def test_a_file_that_is_cut_in_half_is_not_taken_for_a_small_one(filled: str) -> None:
    path = Path(file_at(open_volume(filled), (0, 0, 0)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises((UserError, DamagedDataError), match=str(path.parent)):
        open_volume(filled).read(whole())


def test_a_mapped_tiff_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels(), truncate=True)
    path.write_bytes(path.read_bytes()[:-20])
    volume = open_volume(str(path))
    first = (slice(0, 5), *whole()[1:])
    np.testing.assert_array_equal(volume.read(first), voxels()[first])
    with pytest.raises(DamagedDataError, match="cut off"):
        volume.read(whole())


def test_file_states_change_when_a_file_is_rewritten(writable: tuple, tmp_path: Path) -> None:
    layout, address = writable
    layout.fill(address)
    volume = open_volume(address, "a")
    before = volume.file_states()
    assert before.shape == (*(-(-n // f) for n, f in zip(SHAPE, volume.file_shape, strict=True)), 2)
    if not volume.has_file_states:
        assert address.startswith("gs:")  # the emulator gives no generations
        assert not before.any()
        return
    np.testing.assert_array_equal(open_volume(address).file_states(), before)
    box = last_chunk(volume)
    volume.write(box, voxels()[box] + np.uint16(1))
    changed = (volume.file_states() != before).any(axis=-1)
    assert changed.sum() == 1
    assert changed[-1, -1, -1]
    np.testing.assert_array_equal(volume.file_states(box), volume.file_states()[-1:, -1:, -1:])


def test_file_states_of_local_files_that_are_read(tmp_path: Path, filled: str) -> None:
    volume = open_volume(filled)
    if Address.parse(filled).is_remote:
        return
    states = volume.file_states()
    assert (states[..., 0] > 0).all()
    file = file_at(volume, (0,) * 3)
    os.utime(file, ns=(1, 1))
    assert (volume.file_states() != states).any(axis=-1).sum() == 1


def test_round_trip_with_all_attributes(writable: tuple) -> None:
    layout, address = writable
    for dtype in ("uint8", "uint64", "float32"):
        typed = Address.parse(address).within(f"results/{dtype}")
        layout.fill(str(typed), dtype)
        np.testing.assert_array_equal(open_volume(typed).read(whole()), voxels(dtype))
        assert open_volume(typed).dtype == np.dtype(dtype)
    layout.create(address)
    volume = open_volume(address)
    assert volume.attributes["fingerprint"] == "0123456789ab"
    assert volume.attributes["provenance"] == {"settings": {"sigma": 1.6, "classes": ["a", "ä"]}}
    assert volume.attributes["axes"] == ["z", "y", "x"]
    assert volume.chunks == dict(layout.options).get("shards", (8, 16, 16))
    assert volume.decode_shape == (8, 16, 16)


def test_writes_of_part_of_a_chunk_are_refused(writable: tuple) -> None:
    layout, address = writable
    layout.create(address)
    volume = open_volume(address, "a")
    box = tuple(slice(0, min(c - 1, n)) for c, n in zip(volume.chunks, SHAPE, strict=True))
    with pytest.raises(ValueError, match="whole chunks"):
        volume.write(box, voxels()[box])
    with pytest.raises(ValueError, match="data of shape"):
        volume.write(last_chunk(volume), voxels())


def test_chunks_of_zeros_are_absent(writable: tuple) -> None:
    layout, address = writable
    layout.create(address)
    volume = open_volume(address, "a")
    box = last_chunk(volume)
    assert not volume.read(whole()).any()
    volume.write(box, voxels()[box])
    if volume.has_file_states:
        assert (volume.file_states()[..., 0] != ABSENT).sum() == 1
    volume.write(box, np.zeros_like(voxels()[box]))
    if volume.has_file_states:
        assert (volume.file_states()[..., 0] == ABSENT).all()
    assert not volume.read(whole()).any()


def test_a_damaged_chunk_can_be_written_again(writable: tuple) -> None:
    layout, address = writable
    layout.fill(address)
    damage_last_file(address)
    volume = open_volume(address, "a")
    with pytest.raises(DamagedDataError):
        volume.read(last_chunk(volume))
    volume.write(last_chunk(volume), voxels()[last_chunk(volume)])
    np.testing.assert_array_equal(volume.read(whole()), voxels())


def test_only_deletion_makes_room(writable: tuple) -> None:
    layout, address = writable
    assert not volume_exists(address)
    layout.fill(address)
    assert volume_exists(address)
    with pytest.raises(UserError, match="already"):
        layout.create(address)
    np.testing.assert_array_equal(open_volume(address).read(whole()), voxels())
    neighbour = str(Address.parse(address).within("volumes/other"))
    layout.fill(neighbour)
    delete_volume(address)
    assert not volume_exists(address)
    with pytest.raises(UserError, match=r"did you mean .*volumes/other"):
        open_volume(Address.parse(address).within("volumes/othr"))
    np.testing.assert_array_equal(open_volume(neighbour).read(whole()), voxels())
    layout.create(address)
    assert not open_volume(address).read(whole()).any()


def test_a_dataset_appears_in_one_moment(writable: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creation is broken off before each of its steps: then there is nothing, or all of it."""
    layout, address = writable
    outcomes = []
    for steps in itertools.count():
        left = [steps]

        def broken(document: dict, left: list[int] = left) -> bytes:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return encode(document)

        monkeypatch.setattr("blockwise.volume.containers.store.encode", broken)
        monkeypatch.setattr("blockwise.volume.containers.remote.encode", broken, raising=False)
        try:
            layout.create(address)
        except KeyboardInterrupt:
            assert not volume_exists(address)
            with pytest.raises(UserError):
                open_volume(address)
            outcomes.append(steps)
        else:
            break
    assert open_volume(address).attributes["fingerprint"] == "0123456789ab"
    assert not open_volume(address).read(whole()).any()
    assert outcomes


def test_chunks_left_by_a_broken_deletion_do_not_show_through(writable: tuple) -> None:
    layout, address = writable
    layout.fill(address)
    parsed = Address.parse(address)
    if not parsed.is_remote:
        pytest.skip("a folder is renamed before it is deleted")
    store = open_store(parsed)
    store.delete_objects([store.find(parsed.key).metadata_name])
    assert not volume_exists(address)
    layout.create(address)
    assert not open_volume(address).read(whole()).any()


def test_what_others_have_put_below_an_array_is_not_deleted(writable: tuple) -> None:
    layout, address = writable
    layout.fill(address)
    parsed = Address.parse(address)
    store = open_store(parsed)
    for name in ("notes.txt", "0/notes.txt", "5/0/0", "0/0/0.bak", "00/0/0", "other/attributes.json"):
        key = f"{parsed.key}/{name}"
        store.write(key, b"mine")
        for _ in range(2):
            with pytest.raises(UserError, match=rf"1 files below it are not its own: {key};"):
                delete_volume(address)
            assert store.read(key) == b"mine"
        store.delete_objects([key])
    np.testing.assert_array_equal(open_volume(address).read(whole()), voxels())
    delete_volume(address)
    assert not volume_exists(address)


def test_nothing_is_created_over_what_others_have_put_there(writable: tuple) -> None:
    layout, address = writable
    parsed = Address.parse(address)
    store = open_store(parsed)
    for name in ("notes.txt", "0/1", "0/0/0/0/0/0"):
        key = f"{parsed.key}/{name}"
        store.write(key, b"mine")
        with pytest.raises(UserError, match=f"not its own: {key};" if parsed.is_remote else "something already"):
            layout.create(address)
        assert store.read(key) == b"mine"
        store.delete_objects([key])
    if parsed.is_remote:
        layout.create(address)


def test_a_link_to_a_folder_is_not_an_arrays_own(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "0").write_bytes(b"mine")
    address = f"{tmp_path}/a.n5:raw"
    create_volume(address, SHAPE, (8, 16, 16), "uint8", {})
    (tmp_path / "a.n5/raw/1").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="not its own: raw/1;"):
        delete_volume(address)
    assert (tmp_path / "precious" / "0").read_bytes() == b"mine"


def test_nothing_is_created_around_other_datasets(writable: tuple) -> None:
    layout, address = writable
    layout.fill(address)
    group = str(Address.parse(address).within("volumes"))
    with pytest.raises(UserError):
        layout.create(group)
    np.testing.assert_array_equal(open_volume(address).read(whole()), voxels())


def test_formats_that_are_only_read_refuse_to_be_written(filled: str) -> None:
    address = Address.parse(filled)
    if address.suffix in (".n5", ".zarr", ".ome.zarr") and address.scheme != "http":
        check_writable(address)
        return
    with pytest.raises(UserError, match="written"):
        create_volume(address, (1,), (1,), "uint8", {})
    if not address.is_remote:
        with pytest.raises(UserError, match="read only"):
            open_volume(address).write(whole(), voxels())


def test_metadata_of_new_arrays_ends_with_the_document_that_counts() -> None:
    for kind, name in (("n5", "attributes.json"), ("zarr", ".zarray"), ("zarr3", "zarr.json")):
        array = NewArray(kind, (4, 4), (2, 2), "uint8", {"fingerprint": "x"})
        assert list(array.documents())[-1] == name
        assert list(NewArray(kind, (4, 4), (2, 2), "uint8", {}, is_ome=kind != "n5").documents())[-1].endswith(name)


def test_what_is_opened_once_is_opened_anew_when_it_was_made_anew(tmp_path):
    address = f"{tmp_path / 'a.n5'}:x"
    with opening_once():
        create_volume(address, (4,), (4,), "uint8", {"axes": ["x"]})
        written = open_volume(address, "a")
        written.write((slice(0, 4),), np.arange(4, dtype=np.uint8))
        assert open_volume(address) is written
        np.testing.assert_array_equal(open_volume(address).read((slice(0, 4),)), np.arange(4))
        delete_volume(address)
        with pytest.raises(UserError, match="no dataset"):
            open_volume(address)
        create_volume(address, (6,), (6,), "uint8", {"axes": ["x"]})
        found = open_volume(address)
        assert found.shape == (6,)
        assert open_volume(address, "a") is not found, "what was opened to be read cannot be written"
    assert open_volume(address) is not open_volume(address)
