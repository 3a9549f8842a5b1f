"""What users get wrong is refused before any work: the message names what was found, where, and what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import z5py

from tests.runs import ROOT, Project, run_luigi


def edit(**values: Any) -> Callable[[Project], None]:
    """Change keys; a double underscore stands for a dot."""

    def change(project: Project) -> None:
        for key, value in values.items():
            project.change(key.replace("__", "."), value)

    return change


def ilp(change: Callable[[h5py.File], None]) -> Callable[[Project], None]:
    def edit_project(project: Project) -> None:
        with h5py.File("membranes.ilp", "a") as file:
            change(file)

    return edit_project


def replace(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def drop(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


def write(path: str, content: bytes) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        Path(path).write_bytes(content)

    return change


def both(*changes: Callable[[Project], None]) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        for one in changes:
            one(project)

    return change


def other_raw(**options: Any) -> Callable[[Project], None]:
    """Other raw data; the configuration names it."""

    def change(project: Project) -> None:
        container = z5py.File("other.n5", mode="a")
        container.create_dataset("raw", data=options["data"], chunks=options["data"].shape, compression="gzip")
        if "axes" in options:
            container["raw"].attrs["axes"] = options["axes"]
        project.change("raw", "other.n5:raw")
        project.change("blocks", {"shape": options.get("blocks", [18, 18, 16])})

    return change


def raw_is_a_result(project: Project) -> None:
    """The raw volume is the output of another run, and lies where this one would write."""
    container = z5py.File("raw.n5", mode="a")
    copy = container.create_dataset("thresholded", data=container["raw"][:], chunks=(18, 18, 16), compression="gzip")
    copy.attrs.update({"fingerprint": "0123456789ab", "id": "1"})
    project.change("raw", "raw.n5:thresholded")
    project.change("output", "./raw.n5")


def no_selection(file: h5py.File) -> None:
    file["FeatureSelections/SelectionMatrix"][...] = False


def unknown_feature(file: h5py.File) -> None:
    ids = file["FeatureSelections/FeatureIds"][()]
    rows = np.flatnonzero(file["FeatureSelections/SelectionMatrix"][()].any(axis=1))
    ids[rows[0]] = b"Sharpening"
    file["FeatureSelections/FeatureIds"][...] = ids


def pickled_type(file: h5py.File) -> None:
    group = file["PixelClassification/ClassifierForests"]
    if "pickled_type" in group:
        del group["pickled_type"]
    group["pickled_type"] = b"clazyflow.classifiers\nSklearnLazyflowClassifier\np0\n."


CONFIGURATION = {
    "unknown key": (edit(treshold={}), ["treshold: unknown key", "did you mean 'threshold'?"]),
    "misspelt key in a section": (
        edit(threshold__sigmaa=1),
        ["threshold.sigmaa: unknown key", "did you mean 'sigma'?"],
    ),
    "key without a neighbour": (edit(blocks__qqq=1), ["blocks.qqq", "known keys here: shape, chunks, shards, roi"]),
    "wrong type": (edit(backend__workers="many"), ["backend.workers: found 'many'", "integer"]),
    "zero workers": (edit(backend__workers=0), ["backend.workers: found 0", "greater than 0"]),
    "unknown backend": (edit(backend__name="slrum"), ["backend.name: found 'slrum'", "'local'"]),
    "threshold too large": (
        edit(threshold__threshold=25),
        ["threshold.threshold: found 25", "less than or equal to 1"],
    ),
    "threshold NaN": (edit(threshold__threshold=float("nan")), ["threshold.threshold", "nan"]),
    "endless time": (edit(backend__timeout_s=float("inf")), ["backend.timeout_s", "inf"]),
    "endless job": (edit(backend__slurm={"job_minutes": float("inf")}), ["backend.slurm.job_minutes", "inf"]),
    "sigma infinite": (edit(threshold__sigma=float("inf")), ["threshold.sigma", "inf"]),
    "sigma negative": (edit(threshold__sigma=-1), ["threshold.sigma: found -1"]),
    "sigma per axis": (edit(threshold__sigma=[1, 2]), ["threshold.sigma", "zyx", "one number, or one for each"]),
    "block of two numbers": (edit(blocks__shape=[16, 16]), ["blocks.shape", "2 numbers", "3 spatial axes (zyx)"]),
    "block not whole chunks": (
        edit(blocks__chunks=[10, 18, 16]),
        ["blocks.shape: [36, 18, 32] is not a multiple of blocks.chunks [10, 18, 16]", "Make each number"],
    ),
    "block smaller than a chunk": (edit(blocks__chunks=[72, 18, 16]), ["not a multiple", "[72, 18, 16]"]),
    "region outside": (edit(blocks__roi=[[0, 99], [0, 9], [0, 9]]), ["blocks.roi: [0, 99] along z", "0 to 36"]),
    "region of two axes": (edit(blocks__roi=[[0, 9], [0, 9]]), ["blocks.roi: 2 pairs for the axes zyx"]),
    "connectivity of 2D": (edit(connected_components__connectivity=8), ["connectivity: 8", "(6, 18, 26)"]),
    "unknown class": (
        edit(threshold__class="membrane"),
        ["threshold.class: 'membrane' is no class of membranes.ilp", "0 'Class 1', 1 'Class 2'"],
    ),
    "class too large": (edit(threshold__class=2), ["threshold.class: 2 is no class", "counts from 0"]),
    "class not predicted": (edit(prediction__classes=[0]), ["threshold.class: 1 is not among prediction.classes"]),
    "class twice": (edit(prediction__classes=[1, "Class 2"]), ["prediction.classes", "each class once"]),
    "unknown engine": (edit(prediction__engine="magic"), ["prediction.engine: 'magic' is not known", "reference"]),
    "no key": (write("config.yaml", b"work_dir: work\noutput: r.n5\n"), ["raw: this key is needed", "prediction:"]),
    "not YAML": (write("config.yaml", b"raw: [1,\n"), ["config.yaml is not valid YAML", "line 2"]),
    "a list": (write("config.yaml", b"- raw\n"), ["expected keys such as work_dir, raw, output"]),
    "empty": (write("config.yaml", b""), ["config.yaml", "expected keys"]),
    "binary": (write("config.yaml", b"\x89PNG\xff\xfe"), ["config.yaml", "cannot be read"]),
    "absent": (lambda project: project.config.unlink(), ["config.yaml: there is no such file (looked from"]),
    "too little memory": (
        edit(backend__memory_gb=0.2),
        ["needs about 0.", "backend.memory_gb allows 0.20 GB", "smaller blocks"],
    ),
    "output of another format": (edit(output="result.h5"), ["result.h5", "results are written as N5", ".n5"]),
    "output over the input": (raw_is_a_result, ["output ./raw.n5:thresholded: this is the raw volume itself"]),
}

RAW = {
    "no container": (edit(raw="nowhere.n5:raw"), ["there is no file or folder 'nowhere.n5'", "looked from"]),
    "no dataset": (
        edit(raw="raw.n5:rwa"),
        ["no dataset 'rwa' in raw.n5", "it holds: raw", "did you mean raw.n5:raw?"],
    ),
    "no key": (edit(raw="raw.n5"), ["raw.n5", "the address names no dataset"]),
    "not HDF5": (both(write("raw.h5", b"not at all"), edit(raw="raw.h5:data")), ["raw.h5", "is not an HDF5 file"]),
    "truncated HDF5": (
        lambda project: (
            Path("raw.h5").write_bytes((ROOT / "data" / "raw.h5").read_bytes()[:99_000]),
            project.change("raw", "raw.h5:data"),
        ),
        ["raw.h5: cannot be opened, it is damaged", "truncated file", "copy it again"],
    ),
    "empty container": (
        lambda project: (Path("empty.n5").mkdir(), project.change("raw", "empty.n5:raw")),
        ["there is no dataset 'raw'", "empty.n5 holds no dataset at all"],
    ),
    "unknown ending": (both(write("raw.xyz", b"II*"), edit(raw="raw.xyz")), ["unknown format '.xyz'", ".n5"]),
    "not TIFF": (both(write("raw.tif", b"II*"), edit(raw="raw.tif")), ["raw.tif", "is not a TIFF file"]),
    "no key in HDF5": (
        lambda project: (shutil.copy(ROOT / "data" / "raw.h5", "."), project.change("raw", "raw.h5:dada")),
        ["no dataset 'dada' in raw.h5", "did you mean raw.h5:data?"],
    ),
    "two axes": (
        other_raw(data=np.zeros((64, 64), np.uint8), blocks=[16, 16]),
        ["raw other.n5:raw", "2 spatial axes (yx, shape (64, 64))", "was made for 3 (zyx)"],
    ),
    "channels": (
        other_raw(data=np.zeros((2, 40, 40, 40), np.uint8), axes="czyx"),
        ["raw other.n5:raw: 2 channels", "made for 1", "raw.channel"],
    ),
    "channel too large": (
        edit(raw={"path": "raw.n5", "key": "raw", "channel": 1}),
        ["raw.channel: 1", "channels 0 to 0"],
    ),
    "four axes without names": (
        other_raw(data=np.zeros((2, 40, 40, 40), np.uint8)),
        ["4 axes, shape (2, 40, 40, 40)", "set raw: {path: ..., key: ..., axes:"],
    ),
    "wrong number of axes": (
        edit(raw={"path": "raw.n5", "key": "raw", "axes": "yx"}),
        ["'yx' names 2 axes", "has 3"],
    ),
    "unknown axes": (
        edit(raw={"path": "raw.n5", "key": "raw", "axes": "abc"}),
        ["raw.axes", "'abc' are not axes", "zyx"],
    ),
    "too small": (
        other_raw(data=np.zeros((20, 40, 40), np.uint8)),
        ["other.n5:raw", "20 voxels along z", "scale 10.0 needs at least 36"],
    ),
}

PROJECT = {
    "no file": (edit(prediction__project="none.ilp"), ["project none.ilp: there is no such file"]),
    "no file can have this name": (edit(prediction__project=300 * "x"), ["xx: cannot be read: File name too long"]),
    "a folder": (edit(prediction__project="raw.n5"), ["project raw.n5: is not an HDF5 file"]),
    "cut off": (write("membranes.ilp", b"\x89HDF\r\n"), ["project membranes.ilp: is not an HDF5 file", "cut off"]),
    "truncated": (
        lambda _: os.truncate("membranes.ilp", 100_000),
        ["project membranes.ilp: cannot be read", "truncated file", "save it again"],
    ),
    "other workflow": (
        ilp(replace("workflowName", b"Object Classification")),
        ["project membranes.ilp: the workflow is 'Object Classification', expected 'Pixel Classification'", "train"],
    ),
    "no workflow": (ilp(drop("workflowName")), ["project membranes.ilp: it names no workflow"]),
    "no features": (ilp(drop("FeatureSelections")), ["has no feature selection; select features in ilastik"]),
    "nothing selected": (ilp(no_selection), ["no feature is selected"]),
    "unknown feature": (ilp(unknown_feature), ["feature 'Sharpening' is not known; known are Gaussian"]),
    "unknown classifier": (
        ilp(pickled_type),
        ["its classifier is 'SklearnLazyflowClassifier', expected ParallelVigraRfLazyflowClassifier", "train it"],
    ),
    "no classifier": (
        ilp(
            lambda file: [
                drop("PixelClassification/ClassifierForests")(file),
                drop("PixelClassification/LabelSets")(file),
            ]
        ),
        ["has neither a trained classifier nor labels"],
    ),
    "forest of another kind": (
        ilp(drop("PixelClassification/ClassifierForests/Forest0000/Tree_01/parameters")),
        ["project membranes.ilp: its classifier cannot be read"],
    ),
    "features changed after training": (
        ilp(
            lambda file: file["FeatureSelections/SelectionMatrix"].__setitem__(
                (0, 0), ~file["FeatureSelections/SelectionMatrix"][0, 0]
            )
        ),
        ["feature channels, but the selected features give"],
    ),
}

OUTPUT = {
    "dataset of somebody else": (
        lambda _: z5py.File("result.n5", mode="a").create_dataset("thresholded", data=np.ones((4, 4))),
        ["output result.n5:thresholded: something lies there", "Remove it yourself"],
    ),
    "plain folder": (
        lambda project: Path("result.n5/connected_components").mkdir(parents=True),
        ["output result.n5:connected_components: something lies there", "set another `output`"],
    ),
    "plain file": (write("result.n5", b"hello"), ["result.n5", "is a file", "set another `output`"]),
    "work_dir is a file": (write("work", b"hello"), ["work_dir work: cannot be written"]),
    "work_dir that cannot be written": (edit(work_dir="/sys/kernel"), ["work_dir /sys/kernel: cannot be written"]),
    "work_dir on a web server": (
        edit(work_dir="https://host/x"),
        ["work_dir: found 'https://host/x'; a work folder lies on this machine, or in a store of s3:// or gs://"],
    ),
    "project in a store": (edit(prediction__project="gs:/b/x.ilp"), ["project: found 'gs:/b/x.ilp'; this must"]),
    "manifest in a store": (edit(batch__manifest="ftp://h/x.csv"), ["manifest: found 'ftp://h/x.csv'; this must"]),
    "work_dir below a file": (both(write("file", b""), edit(work_dir="file/work")), ["file/work: cannot be written"]),
    "objects of somebody else": (
        lambda project: (Path("work").mkdir(), Path("work/objects.csv").write_text("mine")),
        ["work/objects.csv exists but was not written by this pipeline", "set another `work_dir`"],
    ),
}  # fmt: skip

CASES = {
    f"{group}: {name}": case
    for group, cases in {"configuration": CONFIGURATION, "raw": RAW, "project": PROJECT, "output": OUTPUT}.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_a_message_and_nothing_written(unused: Project, name: str) -> None:
    change, fragments = CASES[name]
    change(unused)
    before = [*unused.state().items()], sorted(unused.folder.rglob("*"))
    code, text = run_luigi(unused)
    message = " ".join(text.split())
    assert [fragment for fragment in fragments if fragment not in message] == [], text
    assert code == 40, text
    assert "Traceback" not in text
    assert ([*unused.state().items()], sorted(unused.folder.rglob("*"))) == before
