"""Files that were made to do harm: to fill the memory, to write elsewhere, to command the terminal."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from blockwise.errors import UserError, printable
from blockwise.volume import create_volume, delete_volume, open_volume
from pipeline.__main__ import main
from pipeline.batch.manifest import load_batch
from pipeline.configuration.settings import load_settings
from pipeline.configuration.strict_yaml import parse_yaml
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
