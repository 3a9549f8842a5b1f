"""Every case made with ilastik, and the bundled example, from every format through the whole workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.plan import is_complete
from blockwise.volume import create_volume, open_volume, volume_exists
from pipeline.__main__ import main
from tests.containers import FORMATS, formats_of
from tests.contract import servers
from tests.runs import DATASETS, Project, settings
from tests.unit.pixel_cases import case_folder, read

CASES = {
    "2d_rgb_u8_3class": "yxc",
    "2d_u8_all37": "yx",
    "3d_f32_mixed2d": "zyx",
    "3d_u16_few_3class": "zyx",
    "3d_u8_all37": "zyx",
    "3d_u8_labels_only": "zyx",
    "3d_u8_vigra_trained": "zyx",
}
OTHERS = {
    "2d_rgb_u8_3class": "png",
    "2d_u8_all37": "tiff",
    "3d_f32_mixed2d": "n5",
    "3d_u16_few_3class": "zarr2",
    "3d_u8_all37": "zarr3-sharded",
    "3d_u8_labels_only": "ome-zarr",
    "3d_u8_vigra_trained": "n5",
}
"""The format beside HDF5 that every test run reads a case from; all of them are left to the long run."""
ILASTIK_FILES = {"3d_u8_vigra_trained": "expected_probabilities_fastfilters.h5"}
STATISTICAL = "3d_u8_labels_only"
"""ilastik's own training is not reproducible, so neither is this case."""


def results(output: str, roi: tuple[slice, ...]) -> dict[str, NDArray[Any]]:
    found = {}
    for name in DATASETS:
        volume = open_volume(f"{output}:{name}")
        found[name] = volume.read(tuple(slice(0, n) for n in volume.shape))[(..., *roi)]
    return found


@pytest.mark.parametrize(
    ("case", "formats"),
    [
        *(
            pytest.param(
                case,
                ("hdf5", other),
                id=f"{case}-{other}",
                marks=pytest.mark.soak if other not in ("png", "zarr3-sharded") else (),
            )
            for case, other in OTHERS.items()
        ),
        *(pytest.param(case, tuple(FORMATS), id=f"{case}-all", marks=pytest.mark.soak) for case in CASES),
    ],
)
def test_all_formats_give_the_same_bytes(
    case: str, formats: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region of two blocks, so that each case is quick; what it reads around them reaches further."""
    folder, axes = case_folder(case), CASES[case]
    data = read(folder / "input.h5", "data")
    is_3d = "z" in axes
    roi = [[8, 40], [16, 32], [16, 32]] if is_3d else [[32, 96], [32, 64]]
    inside = tuple(slice(*part) for part in roi)
    monkeypatch.chdir(tmp_path)
    project, found = Project(tmp_path), {}
    for name in set(formats) & set(formats_of(data)):
        project.write(
            {
                "work_dir": f"work-{name}",
                "raw": FORMATS[name](tmp_path, data, axes),
                "output": f"{name}.n5",
                "blocks": {"shape": [32, 16, 16] if is_3d else [32, 32], "roi": roi},
                "prediction": {"project": str(folder / "project.ilp")},
                "threshold": {"class": 0, "sigma": 1.0},
            }
        )
        run = project.run()
        assert run.ok, run.text
        found[name] = results(f"{name}.n5", inside)
    for name, values in found.items():
        for dataset in DATASETS:
            np.testing.assert_array_equal(values[dataset], found["hdf5"][dataset], f"{name} {dataset}", strict=True)
    expected = np.moveaxis(
        read(folder / ILASTIK_FILES.get(case, "expected_probabilities.h5"), "exported_data"), -1, 0
    )
    difference = np.abs(found["hdf5"]["probabilities"] - expected[(..., *inside)])
    if case == STATISTICAL:
        assert difference.mean() < 0.03
    else:
        assert difference.mean() < 2e-4  # a single vote weighs more here than in the whole volume, where it is 1e-4
        assert difference.max() < 0.1


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "tiff" else pytest.mark.soak) for name in FORMATS]
)
def test_the_example_has_the_same_labels_from_every_format(
    name: str, unused: Project, expected: dict[str, Any], tmp_path: Path
) -> None:
    project = unused
    raw = open_volume("raw.n5:raw")
    data = raw.read(tuple(slice(0, n) for n in raw.shape))
    project.change("raw", FORMATS[name](tmp_path, data, "zyx"))
    run = project.run()
    assert run.ok, run.text
    labels = project.results()["connected_components"]
    np.testing.assert_array_equal(labels, expected["connected_components"], strict=True)
    assert project.results()["objects"] == expected["objects"]


@pytest.mark.soak
def test_raw_and_output_in_a_store_of_ones_own(
    unused: Project, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are put before the options of an address, and those of login and patience redo nothing."""
    project = unused
    raw = open_volume("raw.n5:raw")
    data = raw.read(tuple(slice(0, n) for n in raw.shape))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with servers.s3() as url:
        address = f"s3://bucket/own.zarr:raw?endpoint={url}"
        create_volume(address, data.shape, (36, 36, 64), data.dtype.name, {"axes": list("zyx")})
        open_volume(address, "a").write(tuple(slice(0, n) for n in data.shape), data)
        project.change("raw", {"path": f"s3://bucket/own.zarr?endpoint={url}", "key": "raw"})
        project.change("output", f"s3://bucket/result.n5?endpoint={url}")
        run = project.run()
        assert run.ok, run.text
        labels = open_volume(f"s3://bucket/result.n5:connected_components?endpoint={url}")
        found = labels.read(tuple(slice(0, n) for n in labels.shape))
        np.testing.assert_array_equal(found, expected["connected_components"], strict=True)
        project.change("raw", f"{address}&timeout_s=99")
        project.change("output", f"s3://bucket/result.n5?timeout_s=99&endpoint={url}")
        assert all(is_complete(step) for step in project.steps().all())
        assert main(["clean", "--yes", "--config", "config.yaml"]) == 0
        assert not volume_exists(f"s3://bucket/result.n5:connected_components?endpoint={url}")
        assert volume_exists(address)


@pytest.mark.parametrize(
    "output",
    [
        "result.ome.zarr",
        "result.n5",
        *(pytest.param(name, marks=pytest.mark.soak) for name in ("result.zarr", "sharded.zarr")),
    ],
)
def test_outputs_in_every_format_that_is_written(
    output: str, unused: Project, expected: dict[str, Any], tmp_path: Path
) -> None:
    project = unused
    project.change("output", output)
    if output == "sharded.zarr":
        project.change("blocks.shards", [36, 18, 32])
    run = project.run()
    assert run.ok, run.text
    for name in DATASETS:
        volume = open_volume(f"{output}:{name}")
        assert volume.axes == ("czyx" if name == "probabilities" else "zyx")
        found = volume.read(tuple(slice(0, n) for n in volume.shape))
        np.testing.assert_array_equal(found, expected[name], err_msg=name, strict=True)
    if output == "sharded.zarr":
        volume = open_volume(f"{output}:thresholded")
        assert (volume.chunks, volume.decode_shape) == ((36, 18, 32), (18, 18, 16))
    again = project.run()
    assert (again.ok, again.computed, again.checked) == (True, {}, {})
    chunk = next(path for path in sorted((tmp_path / output / "thresholded").rglob("*")) if path.name.isdecimal()
                 and path.is_file())  # fmt: skip
    chunk.write_bytes(chunk.read_bytes()[:-9])
    again = project.run()
    assert again.ok, again.text
    assert again.computed == {"threshold": [again.computed["threshold"][0]]}


def test_shards_need_zarr_and_whole_chunks(unused: Project) -> None:
    assert settings()["blocks"]["shape"] == [36, 18, 32]
    for shards, output, words in (
        ([36, 18, 32], "result.n5", r"blocks\.shards: only Zarr has shards, but the output is result\.n5"),
        ([36, 18, 64], "result.zarr", r"blocks\.shape: \[36, 18, 32\] is not a multiple of blocks\.shards"),
        ([18, 18, 8], "result.zarr", r"blocks\.shards: \[18, 18, 8\] is not a multiple of blocks\.chunks"),
    ):
        unused.change("output", output)
        unused.change("blocks.shards", shards)
        with pytest.raises(UserError, match=words):
            unused.steps()
