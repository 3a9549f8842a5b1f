"""A stack of slices aligned for real: what comes out, what is redone, what is refused."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import imageio.v3
import numpy as np
import pytest
import tifffile

from blockwise.errors import UserError
from blockwise.run import run_step
from blockwise.volume import DamagedDataError, open_volume
from pipeline.__main__ import main
from pipeline.configuration.settings import load_settings
from tasks.stacks.slice_files import find_slices
from tests.runs import ROOT, InlineBackend, Project, Run, run_luigi
from tests.stacks import EXAMPLE, Stack

TRUTH = {s["z"]: np.array(s["matrix"]) for s in json.loads((EXAMPLE / "truth.json").read_text())["slices"]}
MISSING, BLANK = 9, 15


def test_slices_come_to_lie_as_they_were_and_keep_their_grey_values(stack: Stack) -> None:
    found = stack.transforms()
    assert found["flagged"] == [MISSING, BLANK]
    matrices = {int(z): np.array(matrix) for z, matrix in found["transforms"].items()}
    assert matrices.keys() == TRUTH.keys() - {BLANK}
    off = np.array([matrix[:, 2] - TRUTH[z][:, 2] for z, matrix in matrices.items()])
    assert np.abs(off - off[0]).max() < 0.6
    aligned, tissue = stack.volume(), stack.volume("tissue")
    assert aligned.dtype == np.uint8
    left, top = stack.placed().aligned.canvas[:2]
    expected, inside = np.zeros_like(aligned), np.zeros_like(tissue)
    for z, matrix in matrices.items():
        x, y = np.rint(matrix[:, 2]).astype(int) - (left, top)
        expected[z, y : y + 144, x : x + 144] = stack.pixels(z)
        inside[z, y : y + 144, x : x + 144] = 1
    np.testing.assert_array_equal(aligned, expected)
    np.testing.assert_array_equal(tissue, inside)
    assert inside.any((0, 2)).all(), "the canvas is no larger than what slices cover"
    assert inside.any((0, 1)).all()


def test_nothing_is_done_twice(stack: Stack) -> None:
    assert stack.run(report=True) == {}
    os.utime(stack.slice(3))
    assert stack.run(report=True) == {"slices": [3]}, "the pixels are the same"


def test_the_page_holds_all_that_it_shows(stack: Stack) -> None:
    page = (stack.folder / "work" / "alignment.html").read_text()
    assert page.count('<img alt="') == page.count('src="data:image/png;base64,') == 4 + 10
    assert "://" not in page.replace("data:image", "")
    assert "<td>9</td><td>missing</td><td>filled</td>" in page
    assert "<td>15</td><td>blank</td><td>filled</td>" in page
    rows = csv.DictReader((stack.folder / "work" / "pairs.csv").read_text().splitlines())
    residuals = [float(row["residual_of_pair"]) for row in rows if row["accepted"] == "1"]
    told = re.search(r"off from what all of them say by ([\d.]+) pixels \(median\), ([\d.]+) at most \(slices", page)
    assert told is not None
    assert [float(n) for n in told.groups()] == [round(np.median(residuals), 2), round(max(residuals), 2)]
    (near,) = re.findall(r"<td>z \+ 1</td><td>([\d.]+)</td><td>([\d.]+)</td>", page)
    assert float(near[0]) < 0.6 < 0.9 < float(near[1])


def test_a_slice_that_was_replaced_redoes_its_pairs_and_its_slab(stack: Stack) -> None:
    image = stack.pixels(20)
    image[:5, :5] = 0
    imageio.v3.imwrite(stack.slice(20), image)
    done = stack.run()
    assert done["slices"] == done["slice_features"] == [20]
    assert done["slice_pairs"] == [17, 18, 19, 20]
    assert done["aligned"] == [5]
    assert done.get("tissue", [5]) == [5], "its shift may be another one"


def test_a_slice_that_is_excluded_is_filled_and_its_neighbours_meet(stack: Stack) -> None:
    before = stack.volume()
    stack.write(exclude=[13])
    done = stack.run()
    assert done["slices"] == [13]
    assert done["slice_pairs"] == [10, 11, 12, 13]
    assert 3 in done["aligned"]
    after = stack.volume()
    assert not after[13].any()
    same = [z for z in range(24) if z != 13]
    if after.shape == before.shape:
        np.testing.assert_array_equal(after[same], before[same])
    stack.write(exclude=["12-14"])
    stack.run()
    assert stack.transforms()["flagged"] == [MISSING, 12, 13, 14, BLANK]


def test_a_missing_slice_that_comes_later_is_put_in_its_place(stack: Stack) -> None:
    shutil.copy(stack.slice(8), stack.slice(MISSING))
    done = stack.run()
    assert done["slices"] == [MISSING]
    assert done["slice_pairs"] == [6, 7, 8, 9]
    assert stack.transforms()["flagged"] == [BLANK]
    assert "same pixels as the slice before" in (stack.folder / "work" / "slices.csv").read_text()


@pytest.mark.soak
def test_a_slice_that_goes_leaves_a_gap_and_shifts_nothing(stack: Stack) -> None:
    before = stack.volume()
    stack.slice(23).unlink()
    stack.slice(4).unlink()
    stack.run()
    after = stack.volume()
    assert after.shape[0] == 23
    assert stack.transforms()["flagged"] == [4, MISSING, BLANK]
    assert not after[4].any()
    np.testing.assert_array_equal(np.unique(after[22]), np.unique(before[22]))


def test_a_slice_that_changes_after_it_was_looked_at_is_looked_at_again(stack: Stack) -> None:
    slices, aligned = stack.stack().slices, stack.placed().aligned
    imageio.v3.imwrite(stack.slice(2), stack.pixels(2)[::-1])
    for step in (slices, aligned):
        assert step.read_target() is not None
    aligned.markers.remove(0)
    record = Run()
    outcome = run_step(aligned, InlineBackend(record), 1, lambda _: None)
    assert outcome.upstream == "slices"
    assert slices.markers.read(2) is None
    assert slices.read_target() is None
    assert stack.run()["slices"] == [2]


def test_slices_that_cannot_be_used_are_named_all_at_once(unused_stack: Stack) -> None:
    stack = unused_stack
    whole = stack.slice(2).read_bytes()
    stack.slice(2).write_bytes(whole[: len(whole) // 2])
    imageio.v3.imwrite(stack.slice(5), np.stack([stack.pixels(5)] * 3, -1))
    imageio.v3.imwrite(stack.slice(7), stack.pixels(7).astype(np.uint16) * 100)
    stack.slice(8).write_bytes(b"")
    with pytest.raises(UserError, match="4 of 23 slices cannot be used") as error:
        stack.run()
    expected = [
        "slice 2 (slices/slice_0002.png) cannot be decoded: ",
        "slice 5 (slices/slice_0005.png) is no plane of grey values: 3 along c; make it grey",
        "slice 7 (slices/slice_0007.png) holds uint16, the others hold uint8",
        "slice 8 (slices/slice_0008.png) ",
    ]
    for text in expected:
        assert text in str(error.value)
    assert not Path("result.n5").exists()
    stack.write(bad_slices="fill")
    stack.run()
    assert stack.transforms()["flagged"] == [2, 5, 7, 8, MISSING, BLANK]
    table = (stack.folder / "work" / "slices.csv").read_text()
    assert "holds uint16" in table
    assert not stack.volume()[[2, 5, 7, 8]].any()


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["run2_z010.tif", "run2_z002.tif"], [2, 10]),
        (["t1_z07.png", "t2_z08.png"], [7, 8]),
        (["iso.03490.png"], [3490]),
        (["x10.png", "x9.png", "x11.png"], [9, 10, 11]),
    ],
)
def test_which_number_of_a_name_counts(
    names: list[str], numbers: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).touch()
    assert list(find_slices("*.[pt]*")) == numbers


def test_one_file_may_stand_in_for_another_slice(tmp_path: Path) -> None:
    table = tmp_path / "slices.csv"
    table.write_text("file,z\na.png,8\na.png,9\nb.png,10\n")
    assert [Path(file.path).name for file in find_slices(str(table)).values()] == ["a.png", "a.png", "b.png"]


def test_names_that_do_not_tell_which_slice_is_which_are_refused(unused_stack: Stack) -> None:
    stack = unused_stack
    stack.write(slices="slices/none_*.png")
    with pytest.raises(UserError, match="no file fits this pattern"):
        stack.stack()
    shutil.copy(stack.slice(4), stack.folder / "slices" / "slice_004.png")
    stack.write(slices="slices/slice_*.png")
    with pytest.raises(UserError, match=r"1 numbers have more than one file: .*slice_004.png, .*slice_0004.png"):
        stack.stack()


def test_a_table_says_which_file_is_which_slice(stack: Stack) -> None:
    before = stack.volume()
    numbers = list(TRUTH)
    lines = [f"slices/other_{100 - z}.png,{z},comment" for z in numbers]
    for z in numbers:
        stack.slice(z).rename(stack.folder / "slices" / f"other_{100 - z}.png")
    table = stack.folder / "slices.csv"
    table.write_text("\n".join(["file,z,remark", *reversed(lines)]))
    stack.write(slices="slices.csv")
    done = stack.run()
    assert done["slices"] == list(TRUTH)
    assert {"aligned", "slice_pairs"} & done.keys() == set(), "the pixels are the same"
    np.testing.assert_array_equal(stack.volume(), before)
    table.write_text("\n".join(["file,z", *lines[:3], "slices/other_99.png,2", "x.png,-1"]))
    with pytest.raises(
        UserError, match=r"line 5: z 2 is that of .*other_98.png already; line 6: z '-1' is no number"
    ):
        stack.stack()


def test_planes_of_a_tiff_are_slices_too_and_16_bit_ones(
    unused_stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = unused_stack
    images = [stack.pixels(z).astype(np.uint16) * 150 + 1000 for z in range(5)]
    tifffile.imwrite("stack.tif", np.stack(images), photometric="minisblack")
    stack.write(slices="stack.tif", fill=7)
    stack.run()
    aligned = stack.volume()
    assert aligned.dtype == np.uint16
    assert len(aligned) == 5
    assert sorted(np.unique(aligned)) == sorted({7, *np.unique(images)})
    assert main(["transforms", "t.csv", "--config", "config.yaml"]) == 0
    assert main(["transforms", "t.json", "--config", "config.yaml"]) == 40
    assert "but slices are planes of stack.tif" in capsys.readouterr().err
    assert not Path("t.json").exists()


def test_transforms_that_are_given_are_applied(stack: Stack) -> None:
    before = stack.volume()
    shutil.copy("work/transforms.json", "mine.json")
    stack.write(transforms="mine.json")
    done = stack.run()
    assert {"slice_features", "slice_pairs", "aligned"} & done.keys() == set()
    np.testing.assert_array_equal(stack.volume(), before)
    given = json.loads(Path("mine.json").read_text())
    six = {z: [m[0][0], m[1][0], m[0][1], m[1][1], m[0][2], m[1][2]] for z, m in given["transforms"].items()}
    Path("theirs.json").write_text(json.dumps({z: numbers for z, numbers in six.items() if z != "20"}))
    stack.write(transforms="theirs.json")
    assert stack.run()["aligned"] == [5]
    assert stack.transforms()["flagged"] == [MISSING, BLANK, 20]
    kept = [z for z in range(24) if z not in (20, BLANK)]
    np.testing.assert_array_equal(stack.volume()[kept], before[kept])


@pytest.mark.soak
def test_a_stack_that_falls_apart_is_an_error_that_names_its_parts(unused_stack: Stack) -> None:
    stack = unused_stack
    for z in range(12, 24):
        if z != BLANK:
            imageio.v3.imwrite(stack.slice(z), stack.pixels(z)[::-1].T)
    with pytest.raises(UserError, match=r"falls into 2 parts .*: 0 to 11 \(11 slices\); 12 to 23 \(11 slices\)"):
        stack.run()
    assert "matches fit" in (stack.folder / "work" / "pairs.csv").read_text()
    stack.write(allow_parts=True)
    stack.run()
    assert stack.transforms()["parts"] == [[0, 11, 11], [12, 23, 11]]


@pytest.mark.soak
def test_slices_that_are_moved_while_they_are_read_are_the_same_volume(stack: Stack) -> None:
    expected = stack.volume()
    stack.write(virtual=True)
    stack.run(report=True)
    volume = open_volume("work/aligned.slices.json")
    np.testing.assert_array_equal(volume.read((slice(0, 24), slice(0, 158), slice(0, 158))), expected)
    box = (slice(10, 17), slice(30, 50), slice(0, 21))
    np.testing.assert_array_equal(volume.read(box), expected[box])
    states = volume.file_states()
    os.utime(stack.slice(3))
    assert np.flatnonzero((volume.file_states() != states).any((1, 2, 3))).tolist() == [3]
    written = Path("work/aligned.slices.json").stat().st_mtime_ns
    stack.write(anchors=[[0, 1, 0, 0, 0, 1, 0]])
    stack.run(report=True)
    assert Path("work/aligned.slices.json").stat().st_mtime_ns == written, "it says the same, and is left alone"
    settings = load_settings("config.yaml")
    assert settings.takes_aligned
    assert settings.raw.address == "work/aligned.slices.json"
    imageio.v3.imwrite(stack.slice(3), stack.pixels(3)[:90])
    with pytest.raises(DamagedDataError, match="no longer the slice that it was"):
        volume.read((slice(3, 4), *box[1:]))
    Path("other.slices.json").write_text('{"shape": [1, 2, 3], "dtype": "uint8", "fill": 0, "slices": []}')
    with pytest.raises(UserError, match="names 0 slices of uint8 for the shape"):
        open_volume("other.slices.json")
    Path("other.slices.json").write_text("[]")
    with pytest.raises(UserError, match="names no slices"):
        open_volume("other.slices.json")


@pytest.mark.soak
def test_two_runs_give_the_same_bytes_whatever_the_slab(stack: Stack, tmp_path: Path) -> None:
    before, transforms = stack.volume(), (stack.folder / "work" / "transforms.json").read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    os.chdir(other)
    again = Stack(other, slab=24)
    again.run()
    np.testing.assert_array_equal(again.volume(), before)
    assert (other / "work" / "transforms.json").read_bytes() == transforms


def test_from_files_to_labelled_objects_in_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=shutil.ignore_patterns("*.h5"))
    shutil.copy(ROOT / "configs" / "alignment.yaml", tmp_path / "config.yaml")
    project = Project(tmp_path)
    project.change("pyramid", {"scales": 2, "datasets": ["connected_components"]})
    code, text = run_luigi(project)
    assert code == 0, text
    assert "AlignmentWorkflow is finished" in text
    assert "ConnectedComponentsWorkflow is finished" in text
    objects = open_volume("runs/slices/result.n5:connected_components")
    labels = objects.read(tuple(slice(0, n) for n in objects.shape))
    assert labels.max() > 50
    assert not labels[[MISSING, BLANK]].any(), "what is no tissue is not computed"
    coarser = open_volume("runs/slices/result.n5:pyramid/connected_components/s1")
    assert {-(-n // 2) for n in objects.shape[1:]} == set(coarser.shape[1:])
    code, text = run_luigi(project)
    assert code == 0, text
    assert "Nothing to do: ConnectedComponentsWorkflow" in text


@pytest.mark.soak
def test_commands_look_at_a_stack(
    stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ["--config", "config.yaml"]
    assert main(["plan", *config]) == main(["status", *config]) == main(["verify", *config]) == 0
    assert main(["transforms", "t.csv", *config]) == main(["transforms", "t.json", *config]) == 0
    lines = Path("t.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == list(stack.transforms()["transforms"])
    assert len(json.loads(Path("t.json").read_text())) == len(lines)
    assert main(["transforms", "t.txt", *config]) == 40
    text = capsys.readouterr().out
    assert "nothing after the alignment" in text
    assert "aligned: 6 blocks read, 0 damaged" in text
    os.utime(stack.slice(3))
    assert main(["clean", "--yes", *config]) == 0
    assert not Path("work").exists()
    assert not Path("result.n5").exists(), "its datasets are found although the slices are to be looked at again"
    assert main(["status", *config]) == 0
    assert main(["export", "labels", "x.tif", *config]) == 40
    assert "prediction.project: this key is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"exclude": ["7-3"]}, "'7-3' is no number of a slice"),
        ({"exclude": [99]}, "alignment.exclude: slice 99 is none of the stack, which goes from 0 to 23"),
        ({"anchors": [[3, 1, 0]]}, r"\[3.0, 1.0, 0.0\] is no anchor"),
        ({"anchors": [[3, 1, 0, 0, 0, 1, 0]], "drift": "linear"}, "leave drift: keep"),
        ({"model": "rigid", "interpolation": "whole"}, "it needs model: translation"),
        ({"model": "affine", "virtual": True}, "it needs model: translation"),
        ({"box": [[0, 50]]}, r"write \[\[start, stop\], \[start, stop\]\]"),
        ({"modle": "rigid"}, "alignment.modle: unknown key; did you mean 'model'"),
        ({"transforms": "none.json"}, "transforms none.json: there is no such file"),
        ({"slices": None}, "raw: this key is needed"),
        ({"slices": "slices/slice_0001.png"}, "one image, of the axes yx"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_any_work(
    unused_stack: Stack, keys: dict[str, object], message: str
) -> None:
    unused_stack.write(**keys)
    with pytest.raises(UserError, match=message):
        unused_stack.stack()
    assert not Path("work").exists()


def test_settings_reach_the_steps(unused_stack: Stack) -> None:
    unused_stack.write(box=[[10, 90], [0, 144]], anchors=[[3, 1, 0, 5, 0, 1, -2]], exclude=[7, "11-12"], neighbours=2)
    steps = unused_stack.stack()
    assert steps.features is not None
    assert steps.pairs is not None
    assert steps.features.box == ((10, 90), (0, 144))
    assert steps.pairs.reach == 2
    assert steps.slices.excluded == (7, 11, 12)
    assert steps.alignment.anchors == ((3, (1.0, 0.0, 5.0, 0.0, 1.0, -2.0)),)
