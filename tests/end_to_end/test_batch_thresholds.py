"""Several thresholds of many files: for small and for large images, and with a manifest that changes one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from blockwise.errors import UserError
from blockwise.volume import open_volume
from pipeline.batch.manifest import load_batch
from tests.batches import CONFIG, results, run_here, write_config, write_images
from tests.runs import STEPS

pytestmark = pytest.mark.usefixtures("batch_folder")

LOW = {"name": "low", **CONFIG["threshold"], "connected_components": {"connectivity": 4}}
HIGH = {"name": "high", "class": 2, "sigma": 0.5, "threshold": 0.6}


def values(address: str) -> np.ndarray:
    volume = open_volume(address)
    return volume.read(tuple(slice(0, n) for n in volume.shape))


def datasets(image: str) -> dict[str, Any]:
    names = [f"{name}_{which}" for name in ("thresholded", "connected_components") for which in ("low", "high")]
    found: dict[str, Any] = {name: values(f"out/{image}.n5:{name}") for name in ("probabilities", *names)}
    tables = {which: Path(f"work/images/{image}/objects_{which}.csv").read_bytes() for which in ("low", "high")}
    return {**found, **tables}


def rows_of(image: str, *tables: str) -> int:
    return sum(len(pd.read_csv(f"work/images/{image}/objects_{table}.csv")) for table in tables)


@pytest.mark.soak
def test_several_thresholds_of_small_and_large_images() -> None:
    write_images(3)
    write_config(connected_components={"connectivity": 4})
    assert run_here()[0].ok
    alone = results("cell2")
    write_config(threshold=[LOW, HIGH])
    assert run_here()[0].computed == {"images": [0, 1, 2]}
    found = {f"cell{i}": datasets(f"cell{i}") for i in range(3)}
    np.testing.assert_array_equal(found["cell2"]["thresholded_low"], alone["thresholded"])
    np.testing.assert_array_equal(found["cell2"]["connected_components_low"], alone["connected_components"])
    assert found["cell2"]["low"] == alone["objects"]
    assert found["cell2"]["thresholded_high"].any()
    assert (found["cell2"]["thresholded_high"] != alone["thresholded"]).any()
    counted = pd.read_csv("work/batch.csv").set_index("name")["objects"]
    assert counted["cell2"] == rows_of("cell2", "low", "high"), "the table of former settings is not of this batch"
    # The same images, now large: their tables are in their folders already.
    write_config(
        threshold=[LOW, HIGH], batch={"files": "images/*.png", "small_voxels": 10}, blocks={"shape": [64, 64]}
    )
    run, workflow = run_here()
    assert run.ok
    assert set(run.computed) == {
        "prediction",
        *(f"{step}_{which}" for step in STEPS[1:] for which in ("low", "high")),
    }
    assert workflow.complete()
    for image, expected in found.items():
        for name, value in datasets(image).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=f"{image} {name}")
    assert pd.read_csv("work/batch.csv").set_index("name")["objects"].to_dict() == counted.to_dict()
    write_config(threshold=[HIGH])
    assert run_here()[0].ok
    counted = pd.read_csv("work/batch.csv").set_index("name")["objects"]
    assert counted["cell1"] == rows_of("cell1", "high")


def test_a_row_changes_the_threshold_that_it_names() -> None:
    write_images(2)
    write_config(threshold=[LOW, HIGH])
    Path("list.csv").write_text(
        "raw,threshold.high.threshold,threshold.low.connected_components.min_size\n"
        "images/cell0.png,,\n"
        "images/cell1.png,0.9,1000000\n"
    )
    same, changed = load_batch("config.yaml", "list.csv").images
    assert [(one.name, one.threshold, one.sigma) for one in same.threshold] == [("low", 0.4, 1.0), ("high", 0.6, 0.5)]
    assert [(one.name, one.threshold, one.sigma) for one in changed.threshold] == [
        ("low", 0.4, 1.0),
        ("high", 0.9, 0.5),
    ]
    run, _ = run_here("list.csv")
    assert run.ok
    assert rows_of("cell0", "low") > rows_of("cell1", "low") == 0
    assert open_volume("out/cell1.n5:thresholded_high").attributes["provenance"]["threshold"] == 0.9


def test_a_row_may_have_thresholds_of_its_own() -> None:
    write_config(threshold=[LOW, HIGH])
    Path("list.yaml").write_text(yaml.safe_dump([{"raw": "a.png", "threshold": [HIGH]}, "b.png"]))
    assert [[one.name for one in own.threshold] for own in load_batch("config.yaml", "list.yaml").images] == [
        ["high"],
        ["low", "high"],
    ]
    write_config(threshold=[LOW])
    Path("list.csv").write_text("raw,threshold.threshold\na.png,0.2\n")
    (own,) = load_batch("config.yaml", "list.csv").images
    assert [(one.name, one.threshold) for one in own.threshold] == [("low", 0.2)]
    Path("list.csv").write_text("raw,threshold.low.threshold\na.png,0.3\n")
    (own,) = load_batch("config.yaml", "list.csv").images
    assert [(one.name, one.threshold) for one in own.threshold] == [("low", 0.3)]


def test_an_image_is_not_called_as_a_folder_of_the_batch() -> None:
    Path("list.csv").write_text("raw,name\na.png,jobs\n")
    with pytest.raises(UserError, match="cannot be called 'jobs'"):
        load_batch("config.yaml", "list.csv")


@pytest.mark.parametrize(
    ("key", "cell", "words"),
    [
        ("threshold.threshold", "0.6", r"image a: threshold\.threshold: .* 2 thresholds \(low, high\); .*"
         r"such as threshold\.low\.threshold"),
        ("threshold.connected_components.min_size", "6", r"threshold\.connected_components: .* 2 thresholds"),
        ("threshold.hihg.sigma", "6", r"threshold\.hihg: .* \(low, high\)"),
        ("threshold.low", "0.6", r"threshold\.low: .* such as threshold\.low\.threshold"),
        ("threshold.low.sigmoid", "6", r"image a:\n  threshold\.0\.sigmoid: unknown key"),
    ],
)  # fmt: skip
def test_a_row_must_say_which_of_several_thresholds_is_meant(key: str, cell: str, words: str) -> None:
    write_config(threshold=[LOW, HIGH])
    Path("list.csv").write_text(f"raw,{key}\na.png,{cell}\n")
    with pytest.raises(UserError, match=words):
        load_batch("config.yaml", "list.csv")
