"""``blockwise-ilastik`` for many files: it counts, reads back and removes the results of all images, and no more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
import pytest
import yaml
import z5py

from blockwise.errors import UserError
from blockwise.records import open_records
from blockwise.volume import open_volume
from pipeline.__main__ import main
from pipeline.batch.cleaning import find_ours_in_batch
from pipeline.batch.image_step import scratch_folder
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import load_batch
from pipeline.batch.summary import LONGEST_TABLE
from pipeline.running.session import end_sessions
from tasks.pyramid.coarser import coarser
from tests.batches import results, run_here, times, write_config, write_images
from tests.runs import DATASETS, chunk_files

pytestmark = pytest.mark.usefixtures("batch_folder")

SMALL_AND_LARGE: dict[str, Any] = {
    "batch": {"files": "images/*.png", "small_voxels": 51 * 60},
    "blocks": {"shape": [32, 32]},
}
"""Of three images the third is large."""


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([arguments[0], "--config", "config.yaml", *arguments[1:]])
    output, error = capsys.readouterr()
    return code, " ".join(output.split()), error


def chunk(image: str, dataset: str) -> Path:
    return chunk_files(Path(f"out/{image}.n5/{dataset}"))[0]


def flip_a_byte(path: Path) -> None:
    """Change what is stored, but neither size nor time."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 0x10
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_plan_counts_images(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(3)
    write_config(batch={"files": "images/*.png", "small_voxels": 51 * 60}, blocks={"shape": [16, 32]})
    before = times(".")
    code, shown, _ = call(capsys, "plan")
    assert code == 0
    assert "3 images: 2 small ones (up to 3,060 voxels), computed whole, 2 left" in shown
    assert "1 larger one, computed block by block, 1 left: cell2" in shown
    assert times(".") == before
    assert run_here()[0].ok
    shown = call(capsys, "plan")[1]
    assert "computed whole, 0 left" in shown
    assert "block by block, 0 left" in shown
    assert "time:" not in shown
    shutil.copy("images/cell1.png", "images/later.png")
    shown = call(capsys, "plan")[1]
    assert "computed whole, 1 left" in shown
    assert "s on local (" in shown
    assert "as measured on 2 images" in shown


def test_status_of_small_and_large_images(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(3)
    Path("images/cell1.png").write_bytes(Path("images/cell1.png").read_bytes()[:200])
    write_config(**SMALL_AND_LARGE)
    before = times(".")
    code, text, _ = call(capsys, "status")
    assert code == 0
    assert "images 0 0 2 no" in text
    assert "cell2 0 0 18 0 of 6" in text
    assert times(".") == before
    assert not run_here()[0].ok
    code, text, _ = call(capsys, "status")
    assert code == 30
    assert "images 1 1 0 no" in text
    assert "cell2 18 0 0 6 of 6" in text
    assert "cell1: attempt 1: UserError: images/cell1.png: its voxels cannot be decoded" in text
    write_config(**SMALL_AND_LARGE, threshold={"class": 1, "threshold": 0.7})
    assert "images 0 1 1 no" in call(capsys, "status")[1], (
        "results of other settings are not those that are asked for"
    )


def test_status_of_large_images_that_fail(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(2)
    imageio.v3.imwrite("images/grey.png", np.zeros((70, 70), np.uint8))  # the project wants three channels
    write_config(batch={"files": "images/*.png", "small_voxels": 10}, blocks={"shape": [64, 64]})
    assert not run_here()[0].ok
    code, text, _ = call(capsys, "status")
    assert code == 30
    assert "grey 0 0 0 cannot be opened" in text
    assert "cell1 6 0 0 6 of 6" in text
    assert "2 of 3 large images finished" in text
    assert "grey: raw images/grey.png: 1 channels" in text


def test_messages_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """To the library that prints tables a word in brackets is a tag, and one with a slash its end."""
    Path("list.csv").write_text("raw,name\nodd [/a].png,odd\n")
    assert not run_here("list.csv")[0].ok
    assert "odd [/a].png" in " ".join(capsys.readouterr().out.split())
    assert "odd [/a].png" in call(capsys, "status", "--manifest", "list.csv")[1]


def test_clean_leaves_what_jobs_may_still_write(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(2)
    write_config(batch={"files": "images/*.png", "small_voxels": 10}, blocks={"shape": [64, 64]})
    assert run_here()[0].ok
    open_records("work").put("images/cell0/prediction/jobs/some-array/array.json", b"{}")
    Path("images/cell0.png").unlink()
    code, _, error = call(capsys, "clean", "--yes")
    assert code == 40
    assert "prediction: SLURM jobs of an image" in error
    assert Path("out/cell0.n5/probabilities").exists()


def test_status_shows_some_of_many_failures(capsys: pytest.CaptureFixture[str]) -> None:
    Path("images").mkdir()
    for i in range(LONGEST_TABLE + 3):
        Path(f"images/a{i}.png").write_bytes(b"nothing")
    run_here()
    workflow = run_here()[1]
    # A run in which everything fails is stopped early; the others have their failures here.
    first = workflow.batch.images.small.markers.read_failure(0)
    for i in range(len(workflow.batch.images.names)):
        workflow.batch.images.small.markers.write_failure(type(first)(**{**_values(first), "block": i}))
    code, text, _ = call(capsys, "status")
    assert code == 30
    assert text.count(": attempt 1: ") == LONGEST_TABLE
    assert text.endswith("... and 3 more in work/batch.csv")


def _values(failure: Any) -> dict[str, Any]:
    return {name: getattr(failure, name) for name in failure.__struct_fields__}


@pytest.mark.soak
def test_a_flipped_byte_is_found_and_only_its_image_is_computed_again(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(3)
    assert run_here()[0].ok
    assert call(capsys, "verify")[:2] == (0, "images: 3 images read, 0 damaged")
    before = results("cell1")
    for dataset in DATASETS:
        flip_a_byte(chunk("cell1", dataset))
        assert run_here()[0].computed == {}, "size and time do not tell"
        code, text, _ = call(capsys, "verify")
        assert code == 50
        assert text.startswith("images: 3 images read, 1 damaged image cell1: ")
        assert text.endswith("the next run computes the damaged images and blocks again")
        assert "images 2 0 1 no" in call(capsys, "status")[1]
        assert run_here()[0].computed == {"images": [1]}
        for name, values in results("cell1").items():
            np.testing.assert_array_equal(values, before[name], err_msg=name)


@pytest.mark.soak
def test_verify_reads_a_large_image_block_by_block(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(3)
    write_config(**SMALL_AND_LARGE)
    assert run_here()[0].ok
    flip_a_byte(chunk("cell2", "thresholded"))
    code, text, _ = call(capsys, "verify")
    assert code == 50
    assert "images: 2 images read, 0 damaged" in text
    assert "cell2 prediction: 4 blocks read, 0 damaged" in text
    assert "cell2 threshold: 4 blocks read, 1 damaged block 0 at (0, 0): " in text
    assert run_here()[0].computed == {"threshold": [0]}
    assert call(capsys, "verify")[0] == 0


def test_verify_leaves_images_alone_that_have_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """Their results are good, only old; what the settings are now says nothing about them."""
    write_images(3)
    assert run_here()[0].ok
    Path("images/cell0.png").unlink()
    Path("list.yaml").write_text(yaml.safe_dump([f"images/cell{i}.png" for i in range(3)]))
    code, text, _ = call(capsys, "verify", "--manifest", "list.yaml")
    assert code == 0
    assert text.startswith("images: 2 images read, 0 damaged; 1 not read: file or settings have changed")


@pytest.mark.parametrize("ending", ["n5", pytest.param("zarr", marks=pytest.mark.soak)])
def test_clean_removes_all_images_and_nothing_else(ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(3)
    before = times(".")
    write_config(**SMALL_AND_LARGE, output=f"out/{{name}}.{ending}")
    changed = Path("config.yaml").read_bytes()
    assert run_here()[0].ok
    code, _, error = call(capsys, "clean")
    assert code == 40
    assert "without a terminal, give --yes" in error
    scratch_folder("work").mkdir()  # as a driver that was killed leaves it
    code, text, _ = call(capsys, "clean", "--yes")
    assert code == 0
    for name in ("cell0", "cell1", "cell2"):
        for dataset in DATASETS:
            assert f"out/{name}.{ending}:{dataset} " in text
        assert f"work/images/{name}/objects.csv " in text
    assert "work/batch.csv" in text
    assert times(".").keys() == before.keys()
    assert Path("config.yaml").read_bytes() == changed
    assert not Path("work").exists()
    assert not any(Path("out").iterdir())
    assert not scratch_folder("work").exists()
    assert call(capsys, "clean", "--yes")[:2] == (0, "nothing to remove")
    assert run_here()[0].computed["images"] == [0, 1]


def test_clean_leaves_what_is_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(3)
    write_config(**SMALL_AND_LARGE)
    assert run_here()[0].ok
    for folder in ("cell0", "cell2"):
        theirs = z5py.File(f"out/{folder}.n5", mode="a")
        theirs.create_dataset("mine", data=np.ones((4, 4), np.uint8), chunks=(4, 4))
        Path(f"work/images/{folder}/objects_mine.csv").write_text("mine")
    shutil.rmtree("out/cell1.n5/thresholded")
    theirs = z5py.File("out/cell1.n5", mode="a").create_dataset("thresholded", data=np.ones((4, 4)), chunks=(4, 4))
    Path("work/notes.json").write_text('{"mine": 1}')
    # Results of another run, which the batch has not written, at a place that it has used.
    z5py.File("out/cell0.n5", mode="a")["probabilities"].attrs["fingerprint"] = "of another"
    assert call(capsys, "clean", "--yes")[0] == 0
    kept = {str(path) for path in Path().rglob("*") if path.is_file() and path.parts[0] in ("work", "out")}
    assert {path for path in kept if path.startswith("work")} == {
        "work/notes.json",
        "work/images/cell0/objects_mine.csv",
        "work/images/cell2/objects_mine.csv",
    }
    assert {str(Path(path).parent) for path in kept if path.endswith(".n5/attributes.json")} == {
        f"out/cell{i}.n5" for i in range(3)
    }
    assert {"mine", "probabilities"} == {path.name for path in Path("out/cell0.n5").iterdir() if path.is_dir()}
    assert {"thresholded"} == {path.name for path in Path("out/cell1.n5").iterdir() if path.is_dir()}


@pytest.mark.soak
def test_clean_knows_images_that_are_no_longer_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(4)
    write_config(**SMALL_AND_LARGE)
    assert run_here()[0].ok
    # Another output and other datasets: the former ones are still known.
    several = [{"name": "low", "class": 1, "threshold": 0.3}, {"name": "high", "class": 1, "threshold": 0.6}]
    write_config(**SMALL_AND_LARGE, threshold=several, output="new/{name}.n5")
    assert run_here()[0].ok
    for gone in (0, 3):  # a small and a large one
        Path(f"images/cell{gone}.png").unlink()
    assert run_here()[0].ok
    _, text, _ = call(capsys, "clean", "--yes")
    for name in ("cell0", "cell1", "cell2", "cell3"):
        for address in (f"out/{name}.n5:thresholded", f"new/{name}.n5:thresholded_low"):
            assert f"{address} " in text
        assert f"work/images/{name}/objects_high.csv " in text
    assert not Path("work").exists()
    assert not [path for folder in ("out", "new") for path in Path(folder).rglob("*")]


def test_clean_of_results_without_record(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(3)
    write_config(**SMALL_AND_LARGE)
    assert run_here()[0].ok
    with_record = find_ours_in_batch(BatchImages(load_batch("config.yaml", None)))
    for path in Path("work/images").glob("*/results.json"):
        path.unlink()
    found = find_ours_in_batch(BatchImages(load_batch("config.yaml", None)))
    assert set(with_record) - set(found) == {f"work/images/cell{i}/results.json" for i in range(3)}
    assert call(capsys, "clean", "--yes")[0] == 0
    assert not Path("work").exists()


def test_clean_that_is_broken_off_goes_on_later(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an image that is no longer named only its record knows the datasets: it must outlive them."""
    write_images(3)
    assert run_here()[0].ok
    Path("images/cell0.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.inspecting.cleaning.delete_volume", lambda address: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call(capsys, "clean", "--yes")
    end_sessions()
    assert not Path("work/images.json").exists()
    assert not Path("work/batch.csv").exists()
    assert call(capsys, "clean", "--yes")[0] == 0
    assert not any(Path("out").iterdir())


@pytest.mark.soak
def test_large_images_get_scales_which_clean_takes_away(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(2)
    write_config(
        batch={"files": "images/*.png", "small_voxels": 50 * 60},
        blocks={"shape": [32, 32]},
        pyramid={"scales": 2, "output": "scales/{name}.ome.zarr"},
    )
    run, _ = run_here()
    assert run.ok
    assert not Path("scales/cell0.ome.zarr").exists(), "it is small"
    labels = open_volume("out/cell1.n5:connected_components")
    coarse = open_volume("scales/cell1.ome.zarr:probabilities/labels/connected_components/1")
    assert coarse.shape == (26, 30)
    whole = [tuple(slice(0, n) for n in volume.shape) for volume in (labels, coarse)]
    np.testing.assert_array_equal(coarse.read(whole[1]), coarser(labels.read(whole[0]), (2, 2), "mode"))
    assert run_here()[0].computed == {}
    assert main(["clean", "--config", "config.yaml", "--yes"]) == 0
    assert not Path("work").exists()
    assert [str(path) for path in Path("scales").rglob("*")] == []
    write_config(batch={"files": "images/*.png"}, pyramid={"output": "scales.zarr"})
    with pytest.raises(UserError, match=r"pyramid\.output scales\.zarr: images cell0 and cell1 would write"):
        run_here()
