"""NRRD and MetaImage with several data files, against what ITK reads of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from blockwise.errors import UserError
from blockwise.volume import open_volume
from tests.contract.test_files import META, NRRD, everything

DATA = np.random.default_rng(5).integers(0, 60_000, (4, 5, 6)).astype("<u2")
NRRDS = NRRD.format("uint16", "raw", "endian: little\n{}")
METAS = META.format("{}", "MET_USHORT", "{}")


def slices(folder: Path, depth: int = 1, header: bytes = b"") -> list[Path]:
    """s1.raw and so on."""
    paths = [folder / f"s{i + 1}.raw" for i in range(4 // depth)]
    for i, path in enumerate(paths):
        path.write_bytes(header[: i + 1] + DATA[i * depth : (i + 1) * depth].tobytes())
    return paths


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("depth", "said"),
    [(1, "LIST\ns1.raw\ns2.raw\ns3.raw\ns4.raw"), (1, "LIST 2\ns1.raw\ns2.raw\ns3.raw\ns4.raw"),
     (2, "LIST 3\ns1.raw\ns2.raw"), (1, "s%d.raw 1 4 1"), (1, "s%d.raw 4 1 -1"), (2, "s%01d.raw 1 2 1 3"),
     (2, "s%01d.raw 2 1 -1 3")],
)  # fmt: skip
def test_data_files_of_nrrd(tmp_path: Path, depth: int, said: str) -> None:
    slices(tmp_path, depth)
    address = written(tmp_path / "a.nhdr", NRRDS.format(f"data file: {said}"))
    volume = open_volume(address)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(address))
    np.testing.assert_array_equal(everything(volume), expected, strict=True)
    np.testing.assert_array_equal(volume.read((slice(1, 3), slice(2, 5), slice(0, 2))), expected[1:3, 2:5, :2])
    assert volume.decode_shape == (1, 1, 1)


@pytest.mark.parametrize(
    "said",
    ["LIST\ns1.raw\ns2.raw\ns3.raw\ns4.raw", "LIST 2\ns1.raw\ns2.raw\ns3.raw\ns4.raw", "s%d.raw", "s%d.raw 1 4 1"],
)
def test_data_files_of_metaimage(tmp_path: Path, said: str) -> None:
    slices(tmp_path)
    address = written(tmp_path / "a.mhd", METAS.format("", said) + "\n")
    np.testing.assert_array_equal(everything(open_volume(address)), DATA, strict=True)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(address)), DATA)


def test_headers_of_data_files(tmp_path: Path) -> None:
    """Each file has its own, of any length."""
    slices(tmp_path, header=b"abcd")
    for address in (
        written(tmp_path / "a.nhdr", NRRDS.format("byte skip: -1\ndata file: s%d.raw 1 4 1")),
        written(tmp_path / "a.mhd", METAS.format("HeaderSize = -1\n", "s%d.raw 1 4 1")),
    ):
        np.testing.assert_array_equal(everything(open_volume(address)), DATA)


@pytest.mark.parametrize("name", ["a.nhdr", "a.mhd"])
def test_each_data_file_is_watched_and_missed(tmp_path: Path, name: str) -> None:
    paths = slices(tmp_path)
    text = NRRDS.format("data file: s%d.raw 1 4 1") if name == "a.nhdr" else METAS.format("", "s%d.raw")
    volume = open_volume(written(tmp_path / name, text))
    assert sorted(volume.companions) == sorted(map(str, paths))
    states = [volume.file_states().tobytes()]
    for path in (tmp_path / name, *paths):
        os.utime(path, ns=(1, 1))
        states.append(volume.file_states().tobytes())
    assert len(set(states)) == 6
    for path in paths:
        away = path.rename(tmp_path / "away")
        for look in (volume.file_states, lambda: everything(volume), lambda: open_volume(f"{tmp_path}/{name}")):
            with pytest.raises(UserError, match=f"{path.name}.* put"):
                look()
        away.rename(path)
    np.testing.assert_array_equal(everything(volume), DATA)
    os.truncate(paths[2], 59)
    for look in (lambda: everything(volume), lambda: open_volume(f"{tmp_path}/{name}")):
        with pytest.raises(UserError, match=r"s3\.raw is cut off"):
            look()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "a.nhdr",
            NRRDS.format("data file: LIST\ns1.raw\ns2.raw\ns3.raw"),
            "3 data files for 4 slices; expected one file",
        ),
        ("a.nhdr", NRRDS.format("data file: LIST 3\ns1.raw\ns2.raw\ns3.raw"), "expected files of equally many"),
        ("a.nhdr", NRRDS.format("data file: LIST 1\ns1.raw"), "files of 1 axes"),
        ("a.nhdr", NRRDS.format("data file: s%d.raw 1 999999999 1"), "gives 999,999,999 names, there are 4"),
        ("a.nhdr", NRRDS.format("data file: s%d.raw 1 4 0"), "cannot be read"),
        ("a.nhdr", NRRDS.format("data file: s%s.raw 1 4 1"), "no pattern with one number"),
        ("a.nhdr", NRRDS.replace("raw\n", "gzip\n", 1).format("data file: s%d.raw 1 4 1"), "are compressed"),
        ("a.mhd", METAS.format("CompressedData = True\n", "s%d.raw"), "are compressed"),
        ("a.mhd", METAS.format("", "LIST 3\ns1.raw"), "files of 3 axes; expected 2"),
        ("a.mhd", METAS.format("", "s%d%d.raw"), "no pattern with one number"),
    ],
)
def test_data_files_that_are_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    slices(tmp_path)
    with pytest.raises(UserError, match=words):
        open_volume(written(tmp_path / name, text))
