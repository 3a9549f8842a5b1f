"""YAML is not taken as it comes: keys stand once, and what is true, a date or a time is no number and no name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blockwise.errors import UserError
from pipeline.batch.manifest import load_batch
from pipeline.batch.table import read_table
from pipeline.configuration.settings import Settings, load_settings, make_settings
from pipeline.configuration.strict_yaml import parse_yaml

CONFIG = """\
work_dir: work
raw: raw.n5:raw
output: result.n5
prediction: {project: membranes.ilp}
"""


def loaded(text: str) -> Settings:
    Path("own.yaml").write_text(text)
    return load_settings("own.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("On", "On"),
        ("true", True),
        ("12:30:05", "12:30:05"),
        ("2021-01-01", "2021-01-01"),
        ("007", "007"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("-5", -5),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("~", None),
        ("'1'", "1"),
        ("{a: {b: 1}, c: {b: 2}}", {"a": {"b": 1}, "c": {"b": 2}}),
        ("x: &x {a: 1, b: 1}\ny: {<<: *x, b: 2}", {"x": {"a": 1, "b": 1}, "y": {"a": 1, "b": 2}}),
    ],
)
def test_plain_words(text: str, value: Any) -> None:
    found = parse_yaml(text, "file")
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\n'a': 3\n", "the key 'a' stands twice, in line 1 and in line 3"),
        ("x:\n  - {a: 1}\n  - a: 1\n    a: 1\n", "the key 'a' stands twice, in line 3 and in line 4"),
        ("a: 1\ntrue: 2\n", "line 2: the key true is read as a boolean; quote it"),
        ("1: 2\n", "line 1: the key 1 is read as a number; quote it"),
        ("? [a]\n: 2\n", "line 1: the key a list or a mapping is read as"),
        ("a: [1\n", "is not valid YAML"),
        (200 * "[", "is not valid YAML"),
        (2_000 * "[", "nested too deep"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=r"^file") as failure:
        parse_yaml(text, "file")
    assert words in str(failure.value)


def test_a_key_of_the_configuration_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"configuration own.yaml: the key 'raw' stands twice, in line 2 and in line 5"
    ):
        loaded(CONFIG + "raw: other.n5:raw\n")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (
            "threshold: {class: false}",
            "threshold.class: found False; false is a boolean, which is no number and no name",
        ),
        ("threshold: {class: 1.0}", "threshold.class: found 1.0; expected an integer, or a name"),
        ("threshold: {method: hysteresis, core: 1, final: 0, core_class: true}", "threshold.core_class: found True"),
        ("threshold: {sigma: true}", "threshold.sigma: found True; true is a boolean; expected a number"),
        ("threshold: {sigma: [1, 1, true]}", "threshold.sigma: found [1, 1, True]; true is a boolean"),
        ("threshold: {threshold: true}", "threshold.threshold: found True"),
        ("threshold: {name: 12}", "threshold.name: found 12; expected text; quote it"),
        ("connected_components: {foreground: true}", "connected_components.foreground: found True"),
        ("connected_components: {min_size: true}", "connected_components.min_size: found True"),
        ("connected_components: {min_size: 2.0}", "connected_components.min_size: found 2.0; expected an integer"),
        (
            "connected_components: {intensities: 1}",
            "connected_components.intensities: found 1; expected true or false",
        ),
        ("blocks: {shape: [64, 64, true]}", "blocks.shape: found [64, 64, True]"),
        ("blocks: {roi: [[0, true], [0, 9], [0, 9]]}", "blocks.roi: found [[0, True]"),
        ("blocks: {mask: 5}", "blocks.mask: found 5; expected text"),
        ("backend: {workers: true}", "backend.workers: found True; true is a boolean; expected an integer"),
        ("backend: {workers: '4'}", "backend.workers: found '4'; this is text; expected an integer"),
        ("backend: {timeout_s: true}", "backend.timeout_s: found True"),
        ("backend: {slurm: {cpus: true}}", "backend.slurm.cpus: found True"),
        ("backend: {faults: {kill: true}}", "backend.faults.kill: found True"),
        ("batch: {small_voxels: true}", "batch.small_voxels: found True"),
    ],
)
def test_kinds_of_values(section: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as failure:
        loaded(f"{CONFIG}{section}\n")
    assert words in str(failure.value)


def test_words_for_true_and_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = loaded(f"{CONFIG}connected_components: {{intensities: yes}}\nbackend: {{detach: off}}\n")
    assert (found.connected_components.intensities, found.backend.detach) == (True, False)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_as_spreadsheets_write_it(delimiter: str, mark: str, tmp_path: Path) -> None:
    rows = [
        ["raw", "name", "threshold.class", "threshold.sigma", "raw.key", "blocks.mask"],
        ['"a,b;c\td.tif"', "007", "no", "1e-1", "1", "null"],
        ["", "", "", "", "", ""],
        ["x.tif", "2021-01-01", "1", "", "001", "12"],
    ]
    path = tmp_path / "images.csv"
    path.write_bytes((mark + "\r\n".join(map(delimiter.join, rows)) + "\r\n").encode())
    assert read_table(str(path)) == [
        {
            "raw": "a,b;c\td.tif",
            "name": "007",
            "threshold.class": "no",
            "threshold.sigma": 0.1,
            "raw.key": "1",
            "blocks.mask": None,
        },
        {"raw": "x.tif", "name": "2021-01-01", "threshold.class": 1, "raw.key": "001", "blocks.mask": "12"},
    ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "raw,threshold.sigma,threshold.sigma\nx.tif,1,2\n", "'threshold.sigma' stands twice, at 2 and 3"),
        ("a.csv", "raw,threshold\nx.tif,\"{class: 1, class: 0}\"\n", "the key 'class' stands twice"),
        ("a.csv", "raw,raw.path\nx.tif,y.tif\n", "row 1: raw.path is set twice, the second time by raw.path"),
        ("a.csv", "raw,threshold.class\nx.tif,true\n", "image x:\n  threshold.class: found True; true is a boolean"),
        ("a.csv", b"raw\n\xff\xfe\n", "is not UTF-8"),
        ("a.yaml", "- raw: x.tif\n  raw: y.tif\n", "the key 'raw' stands twice, in line 1 and in line 2"),
        ("a.yaml", "- {raw: x.tif, threshold.sigma: 1, threshold: {sigma: 2}}\n", "threshold.sigma is set twice"),
        ("a.yaml", "- {raw: x.tif, name: true}\n", "row 1: name: found True; a name is text; quote it"),
        ("a.yaml", "- {raw: x.tif, name: 1.10}\n", "row 1: name: found 1.1; a name is text; quote it"),
    ],
)  # fmt: skip
def test_a_table_that_is_ambiguous(
    name: str, text: str | bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(CONFIG.replace("raw: raw.n5:raw\n", "").replace("result", "out/{name}"))
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as failure:
        load_batch("own.yaml", name)
    assert words in str(failure.value)


def test_the_settings_of_an_image_go_through_json_unharmed() -> None:
    values = {"work_dir": "w", "raw": "a.tif", "output": "o.n5", "prediction": {"project": "p.ilp"}}
    assert make_settings({**values, "blocks": {"shape": (8, 8)}}, "here").blocks.shape == (8, 8)
