"""Autocontext: both stages agree with ilastik's, and blocks do not show, wherever they are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.step import load_step
from pipeline.assembly.stages import STAGE_1
from pipeline.assembly.steps import Steps, build_steps
from pipeline.configuration.settings import make_settings
from tasks.context_prediction import check_converts, stack
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.project import load_project
from tasks.prediction import quantize
from tests.examples import examples
from tests.unit.blocked import Array
from tests.unit.pixel_cases import case_folder, copied, edited, image_zyxc, predict, read, remove, replace
from tests.unit.test_pixel_reference import check_agreement

CASE = "autocontext_2d_u8_3class"
SHAPE = (48, 56)


def both_stages(image: NDArray[Any], path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities of a whole image (z, y, x, c) with the reference engine, as the format says."""
    first, second = load_project(str(path)).stages
    of_first = predict(first, image)
    return of_first, predict(second, stack(image, of_first))


@pytest.mark.parametrize("name", [CASE, "autocontext_3d_u8"])
def test_both_stages_agree_with_ilastiks_exports(name: str) -> None:
    folder = case_folder(name)
    image = image_zyxc(folder / "input.h5", load_project(str(folder / "project.ilp")).axes)
    for found, file in zip(
        both_stages(image, folder / "project.ilp"), ("expected_stage1.h5", "expected_probabilities.h5"), strict=True
    ):
        expected = read(folder / file, "exported_data")
        check_agreement(found.reshape(expected.shape), expected)


@pytest.mark.parametrize(("dtype", "largest"), [("uint8", 255), ("uint16", 65535)])
def test_the_first_stage_is_cut_off_in_the_type_of_the_image_as_ilastik_does(dtype: str, largest: int) -> None:
    votes = np.round(read(case_folder(CASE) / "expected_stage1.h5", "exported_data") * 100).astype(np.int64)
    image = np.zeros((*votes.shape[:2], 1), dtype)
    stacked = stack(image, read(case_folder(CASE) / "expected_stage1.h5", "exported_data"))
    assert stacked.dtype == dtype
    np.testing.assert_array_equal(stacked[..., 1:], largest * votes // 100)
    assert (stacked[..., 1:] != np.round(largest * votes / 100)).any(), "rounding would do as well"


def test_floats_are_stacked_as_they_are() -> None:
    image = np.full((2, 3, 4, 1), -3.5, ">f4")
    probabilities = np.random.default_rng(1).random((2, 3, 4, 2), np.float32)
    stacked = stack(image, probabilities)
    assert stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked[..., 1:], probabilities)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of the case, in the types in which the stages hand probabilities on in different ways."""
    folder = tmp_path_factory.mktemp("autocontext")
    image = read(case_folder(CASE) / "input.h5", "data")[: SHAPE[0], : SHAPE[1]]
    inside = np.zeros(SHAPE, np.uint8)
    inside[5:30, 11:52] = 1
    with h5py.File(folder / "raw.h5", "w") as file:
        file["uint8"], file["uint16"], file["float32"] = image, image.astype("u2") * 200, image.astype("f4") / 7
        file["int32"], file["mask"] = image.astype("i4"), inside
    return folder


def make_steps(folder: Path, dtype: str = "uint8", blocks: Any = None, **prediction: Any) -> Steps:
    values = {
        "work_dir": f"{folder}/work",
        "raw": f"{folder}/raw.h5:{dtype}",
        "output": f"{folder}/out.n5",
        "blocks": blocks or {},
        "prediction": {"project": f"{case_folder(CASE)}/project.ilp", **prediction},
        "threshold": {"class": 1},
    }
    return build_steps(make_settings(values, "test"))


def computed(steps: Steps, raw: NDArray[Any], inside: NDArray[np.bool_] | None = None) -> list[NDArray[Any]]:
    """Both stages over all of their blocks, in memory; what no block writes is 0."""
    found: list[NDArray[Any]] = []
    for step in steps.stages:
        opened: Any = (Array(raw), Array(found[0])) if found else Array(raw)
        engine = make_engine(step.engine, step.classifier(), structure_tensor=step.structure_tensor)
        prepared = engine, opened, None if inside is None else Array(inside)
        stored = np.zeros((len(step.classes), *step.grid.shape), step.dtype)
        for block in step.grid:
            stored[step.output().box(block.write_box)] = step.compute(block, prepared)
        found.append(stored)
    return found


@st.composite
def regions(draw: st.DrawFn) -> tuple[tuple[int, int], ...] | None:
    starts = [draw(st.integers(0, n - 6)) for n in SHAPE]
    return tuple((a, draw(st.integers(a + 1, n))) for a, n in zip(starts, SHAPE, strict=True))


@settings(max_examples=examples(4), deadline=None)
@given(
    shape=st.tuples(st.integers(5, 60), st.integers(5, 70)),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    export=st.booleans(),
    roi=st.none() | regions(),
)
@example(shape=(16, 16), dtype="uint8", export=False, roi=((20, 26), (24, 33)))
def test_blocks_and_regions_equal_the_whole_image(
    folder: Path, shape: tuple[int, int], dtype: str, export: bool, roi: Any
) -> None:
    """A region of interest is a part of the whole result: the first stage is computed as far as the second looks."""
    raw = read(folder / "raw.h5", dtype)
    blocks = {"shape": list(shape), "chunks": list(shape), "roi": roi}
    steps = make_steps(folder, dtype, blocks, export_stage_1=export)
    found = computed(steps, raw)
    expected = both_stages(raw[None, ..., None], case_folder(CASE) / "project.ilp")
    region = (slice(None), *steps.prediction.grid.domain)
    np.testing.assert_array_equal(found[1][region], np.moveaxis(expected[1][0], -1, 0)[region])
    wide = (slice(None), *steps.before[0].grid.domain)
    of_first = np.moveaxis(expected[0][0], -1, 0)[wide]
    if steps.before[0].truncate:
        of_first = quantize(of_first, dtype, truncate=True)
    np.testing.assert_array_equal(found[0][wide], of_first)
    assert found[0].dtype == ("float32" if export else dtype)


def test_outside_a_mask_the_first_stage_is_zero_as_in_ilastik(folder: Path) -> None:
    """In ilastik a mask sets the probabilities of both stages to 0; blocks without a voxel of it are not computed."""
    raw, inside = read(folder / "raw.h5", "uint8"), read(folder / "raw.h5", "mask").astype(bool)
    first, second = load_project(str(case_folder(CASE) / "project.ilp")).stages
    image = raw[None, ..., None]
    of_first = np.where(inside[None, ..., None], predict(first, image), np.float32(0))
    expected = np.where(inside[None, ..., None], predict(second, stack(image, of_first)), np.float32(0))
    for roi in (None, [[2, 28], [8, 40]]):
        blocks = {"shape": [12, 10], "chunks": [12, 10], "mask": f"{folder}/raw.h5:mask", "roi": roi}
        steps = make_steps(folder, blocks=blocks)
        assert len(steps.prediction.grid) < 20
        region = (slice(None), *steps.prediction.grid.domain)
        found = computed(steps, raw, inside)[1]
        np.testing.assert_array_equal(found[region], np.moveaxis(expected[0], -1, 0)[region])


def test_each_stage_depends_on_what_it_is_made_of(folder: Path, tmp_path: Path) -> None:
    steps = make_steps(folder)
    assert [step.label for step in steps.all()][:3] == ["prediction", "prediction_2", "threshold"]
    assert steps.up_to("prediction") == steps.stages
    assert steps.before[0].output().address.endswith(f"out.n5:{STAGE_1}")
    again = load_step(steps.prediction.to_json())
    assert (again.fingerprint, again.halo) == (steps.prediction.fingerprint, steps.prediction.halo)
    path = edited(tmp_path, replace("PixelClassification01/LabelNames", [b"a", b"b", b"c"]), case=CASE)
    other = make_steps(folder, project=path)
    assert other.before[0].fingerprint == steps.before[0].fingerprint
    assert other.prediction.fingerprint != steps.prediction.fingerprint


def test_memory_is_projected_for_all_channels(folder: Path) -> None:
    steps = make_steps(folder, "uint16")
    voxels, stage = steps.prediction.voxels_read, steps.prediction
    assert stage.n_channels == 4
    assert stage.bytes_of_all_blocks()[0] == SHAPE[0] * SHAPE[1] * 4 * 2
    least = stage.engine_memory + voxels * 4 * (2 + 4 + 2)  # as read, as float32, stacked
    assert stage.projected_memory() >= least


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "int32"}, "holds int32, but autocontext .* each of them becomes -2147483648 there"),
        ({"engine": "ilastik"}, "ilastik's Python API computes both at once"),
        ({"project": "data/membranes.ilp", "export_stage_1": True}, "export_stage_1: is set, but .* one stage only"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_steps(folder, **changes)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64", "uint32", "uint64", "float16"])
def test_types_in_which_probabilities_do_not_arrive_are_refused(dtype: str) -> None:
    with pytest.raises(UserError, match=f"raw a.n5:raw: holds {dtype}, .* uint8, uint16, float32, float64"):
        check_converts(np.dtype(dtype).newbyteorder(">").str, "a.n5:raw")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (remove("PixelClassification/ClassifierForests"), "stage 1: has no trained classifier"),
        (remove("PixelClassification01/ClassifierForests"), "stage 2: has no trained classifier.* both stages"),
        (remove("FeatureSelections01"), "stage 2: has no feature selection"),
        (replace("PixelClassification/LabelNames", list("abcd")), "stage 2: its classifier was trained on"),
    ],
)  # fmt: skip
def test_a_stage_that_cannot_be_used_is_named(tmp_path: Path, edit: Any, said: str) -> None:
    path = edited(tmp_path, edit, case=CASE)
    with pytest.raises(UserError, match=said):
        load_project(path)


def test_stages_may_have_other_classes(tmp_path: Path) -> None:
    path = copied(CASE, tmp_path)
    first, second = load_project(str(path)).stages
    assert (first.stage, second.stage) == (1, 2)
    assert (first.n_channels, second.n_channels) == (1, 4)
    assert first.content_hash != second.content_hash
