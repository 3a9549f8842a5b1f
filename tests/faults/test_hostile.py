"""Files that were made to do harm: to fill the memory, to write elsewhere, to command the terminal."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import yaml

from blockwise.errors import UserError, printable
from blockwise.volume import create_volume, delete_volume, open_volume
from blockwise.volume.decoding import check_decodes
from pipeline.__main__ import main
from pipeline.batch.manifest import load_batch
from pipeline.configuration.settings import load_settings
from pipeline.configuration.strict_yaml import parse_yaml
from tasks.alignment.transforms_file import read_transforms
from tests.runs import Project

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
CLEAR = "\x1b[2J"
"""Clears a terminal."""


def test_aliases_that_repeat_one_another(tmp_path: Path) -> None:
    config, table = tmp_path / "c.yaml", tmp_path / "m.yaml"
    config.write_text(LAUGHS + "work_dir: work\nraw: *i\noutput: a.n5\nprediction: {project: p.ilp}\nthreshold: *i\n")
    with pytest.raises(UserError, match=r"c\.yaml: its aliases \(\*\) repeat one another until they hold 1\.36e\+09"):
        load_settings(str(config))
    table.write_text("- {raw: x, " + LAUGHS.replace("\n", ", ") + "}")
    config.write_text(yaml.safe_dump({"work_dir": "work", "output": "{name}.n5", "prediction": {"project": "p.ilp"}}))
    with pytest.raises(UserError, match="aliases"):
        load_batch(str(config), str(table))
    with pytest.raises(UserError, match="aliases"):
        parse_yaml("a: &a [*a]", "a list within itself")
    assert parse_yaml("a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}", "sound") == {
        "a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": {"x": [1, 2], "y": 3},
    }  # fmt: skip


def test_a_document_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open(".zarray", "w") as document:
        for _ in range(80):
            document.write(b" " * (1 << 20))
    with pytest.raises(UserError, match=r"unpacked it has 83,886,080 bytes, too many"):
        open_volume(str(path))


@pytest.mark.parametrize("dimensions", [[2**40, 2**40], [2**62, 2**62], [2**31] * 3])
def test_shapes_that_no_disk_can_hold(dimensions: list[int], tmp_path: Path) -> None:
    create_volume(f"{tmp_path}/a.n5:raw", (4, 4), (4, 4), "uint8", {})
    document = {
        "dimensions": dimensions, "blockSize": [64] * len(dimensions), "dataType": "uint8",
        "compression": {"type": "gzip", "level": -1},
    }  # fmt: skip
    (tmp_path / "a.n5/raw/attributes.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"would lie in [\d,]+ files; is what it says about itself right"):
        open_volume(f"{tmp_path}/a.n5:raw").file_states()


@pytest.mark.parametrize(
    ("name", "document", "key"),
    [("a.n5", "raw/attributes.json", "blockSize"), ("a.n5", "raw/attributes.json", "dimensions"),
     ("a.zarr", "raw/.zarray", "chunks"), ("a.zarr", "raw/.zarray", "shape")],
)  # fmt: skip
def test_lengths_that_are_none(name: str, document: str, key: str, tmp_path: Path) -> None:
    """z5py divides by the length of chunks, and the system ends the process."""
    create_volume(f"{tmp_path}/{name}:raw", (4, 4), (4, 4), "uint8", {})
    path = tmp_path / name / document
    for wrong in ([-4, 4], [4, 0.5], ["4", 4], *([[0, 4]] if key in ("blockSize", "chunks") else [])):
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: wrong}))
        with pytest.raises(UserError, match="each length is to be a whole number"):
            open_volume(f"{tmp_path}/{name}:raw")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_that_no_memory_can_hold(zarr_format: int, tmp_path: Path) -> None:
    """TensorStore asks for the memory, and the system ends the process."""
    create_volume(f"{tmp_path}/a.zarr:raw", (4, 4), (4, 4), "uint8", {}, zarr_format=zarr_format)
    open_volume(f"{tmp_path}/a.zarr:raw", "a").write((slice(0, 4),) * 2, np.ones((4, 4), np.uint8))
    path = tmp_path / "a.zarr/raw" / (".zarray" if zarr_format == 2 else "zarr.json")
    document = json.loads(path.read_text())
    if zarr_format == 2:
        document["chunks"] = [4, 99999999999]
    else:
        document["chunk_grid"]["configuration"]["chunk_shape"] = [4, 99999999999]
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"400\.0 GB of it must be decoded at once \(chunks of 4 x 99999999999"):
        open_volume(f"{tmp_path}/a.zarr:raw")


def test_nothing_is_written_or_deleted_outside_a_container(tmp_path: Path) -> None:
    create_volume(f"{tmp_path}/a.n5:raw", (4, 4), (4, 4), "uint8", {})
    create_volume(f"{tmp_path}/b.n5:raw", (4, 4), (4, 4), "uint8", {})
    with pytest.raises(UserError, match="leads out of the container"):
        create_volume(f"{tmp_path}/a.n5:../c/raw", (4, 4), (4, 4), "uint8", {})
    with pytest.raises(UserError, match="leads out of the container"):
        delete_volume(f"{tmp_path}/a.n5:x/../../b.n5/raw")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.n5", "b.n5"]


@pytest.mark.parametrize("name", ["../../evil", "a/../../b", "/etc/x", "..", CLEAR, "a\nb"])
def test_names_of_images_are_names(name: str, tmp_path: Path) -> None:
    config, table = tmp_path / "c.yaml", tmp_path / "m.yaml"
    config.write_text(yaml.safe_dump({"work_dir": "work", "output": "{name}.n5", "prediction": {"project": "p.ilp"}}))
    table.write_text(json.dumps([{"raw": "x.tif", "name": name}]))
    with pytest.raises(UserError, match="cannot be called so") as caught:
        load_batch(str(config), str(table))
    assert "\x1b" not in str(caught.value)


def test_signs_that_command_a_terminal_are_shown(unused: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(f"a{CLEAR}b\r\nc\td\u202e") == "a\\x1b[2Jb\\r\nc\td\\u202e"
    assert printable("µ αβγ 細胞") == "µ αβγ 細胞"
    with h5py.File("membranes.ilp", "a") as file:
        file["PixelClassification/LabelNames"][...] = np.array([f"in{CLEAR}".encode(), b"wall"], dtype=object)
    unused.change("threshold.class", "none")
    assert main(["plan", "--config", "config.yaml"]) == 40
    unused.change("threshold.class", 1)
    assert main(["plan", "--config", "config.yaml"]) == 0
    Path(f"{CLEAR}.mrc").write_bytes(b"nothing")
    unused.change("raw", f"{CLEAR}.mrc")
    assert main(["plan", "--config", "config.yaml"]) == 40
    found = capsys.readouterr()
    assert "\x1b" not in found.out + found.err
    assert "in\\x1b[2J, wall" in found.out


def last_link(content: bytes) -> int:
    """Where the last page of a little-endian TIFF tells of the next one."""
    place = 4
    while offset := int.from_bytes(content[place : place + 4], "little"):
        place = offset + 2 + 12 * int.from_bytes(content[offset : offset + 2], "little")
    return place


@pytest.mark.parametrize("pages", [2, 150])
def test_pages_that_lead_back_to_one_another(pages: int, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for i in range(pages):
            file.write(np.full((4, 4), i, np.uint8), contiguous=False, metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    assert open_volume(f"{tmp_path}/a.tif").shape == (pages, 4, 4)
    place = last_link(content)
    content[place : place + 4] = content[4:8]
    (tmp_path / "b.tif").write_bytes(content)
    with pytest.raises(UserError, match=f"lead to each other without an end .after {pages}, at byte 8"):
        open_volume(f"{tmp_path}/b.tif")


def test_a_compression_without_a_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40), np.uint8), tile=(16, 16), compression="zlib")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    tag = content.index((259).to_bytes(2, "little") + b"\x03\0\x01\0\0\0")
    content[tag + 8 : tag + 10] = (4711).to_bytes(2, "little")
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match=r"compressed by 4711\) cannot be decoded"):
        check_decodes(open_volume(f"{tmp_path}/a.tif"))
    content[tag + 4 : tag + 12] = b"\x02\0\0\0\x08\0\x08\0"  # two numbers
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tif: "):
        check_decodes(open_volume(f"{tmp_path}/a.tif"))


def test_a_file_that_begins_before_its_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as file:
        file.writestr(".zarray", "{}")
    content = (tmp_path / "a.zarr.zip").read_bytes()
    end = content.rindex(b"PK\x05\x06")
    place = int.from_bytes(content[end + 16 : end + 20], "little") + 5  # all offsets seem to be less by so many
    (tmp_path / "a.zarr.zip").write_bytes(content[: end + 16] + place.to_bytes(4, "little") + content[end + 20 :])
    with pytest.raises(UserError, match="it begins at byte -5"):
        open_volume(f"{tmp_path}/a.zarr.zip")


SLICE = {"path": "a.png", "plane": None, "x": 0, "y": 0, "width": 4, "height": 4}


@pytest.mark.parametrize(
    "change",
    [
        {"path": "b.slices.json"},
        {"path": 3},
        {"x": "0"},
        {"y": 2**70},
        {"width": 1.5},
        {"plane": []},
        {"height": True},
    ],
)
def test_slices_that_are_none(change: dict[str, object], tmp_path: Path) -> None:
    value = {"shape": [1, 4, 4], "dtype": "uint8", "fill": 0, "slices": [{**SLICE, **change}]}
    (tmp_path / "a.slices.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match="names no slices"):
        open_volume(f"{tmp_path}/a.slices.json")


@pytest.mark.parametrize(
    "text",
    ['{"transforms": [1]}', '{"transforms": {}, "flagged": 3}', '{"transforms": {}, "flagged": [[]]}',
     '{"0": [1e400, 0, 0, 1, 0, 0]}', '{"0": [1e200, 0, 0, 1e200, 0, 0]}', '{"flagged": [1.5], "transforms": {}}',
     "[" * 100_000],
)  # fmt: skip
def test_transforms_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=r"transforms .*t\.json: "):
        read_transforms(f"{tmp_path}/t.json")
