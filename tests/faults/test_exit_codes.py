"""Each exit code means one thing, as the table in README.md has it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from blockwise.errors import UserError
from blockwise.volume import open_volume
from pipeline import __main__ as program
from pipeline.batch.manifest import load_batch
from pipeline.exporting.write import export
from pipeline.running.session import begin_session, end_sessions
from tests.runs import ROOT, Project, chunk_files, environment, run_luigi


def code_of(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pipeline", *arguments], env=environment()).returncode


def test_every_code_stands_in_the_table() -> None:
    codes = {value for name, value in vars(program).items() if name.startswith("EXIT_")}
    rows = re.findall(r"^\| ([0-9, ]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert codes <= {int(code) for row in rows for code in row.split(",")}


def test_validate(project: Project) -> None:
    dataset = "result.n5:connected_components"
    assert program.main(["validate", dataset, dataset]) == 0
    assert program.main(["validate", dataset, "result.n5:thresholded"]) == 1


def test_damage_and_failed_blocks(project: Project) -> None:
    chunk = chunk_files(Path("result.n5/thresholded"))[0]
    chunk.write_bytes(chunk.read_bytes()[:20])
    assert program.main(["verify", "--config", "config.yaml"]) == 50
    chunk_files(Path("raw.n5/raw"))[-1].write_bytes(b"damaged")  # not the one that is looked at before any work
    end_sessions()
    assert run_luigi(project)[0] == 30
    assert program.main(["status", "--config", "config.yaml"]) == 30


@pytest.mark.parametrize("arguments", [(), ("plann",), ("plan", "--confg", "x")])
def test_a_wrong_command_line(unused: Project, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
    with pytest.raises(SystemExit) as end:
        program.command()
    assert end.value.code == 40


def test_a_wrong_configuration(unused: Project) -> None:
    assert code_of("plan", "--config", "absent.yaml") == 40


def test_a_mistake_in_the_program(
    unused: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pipeline", "plan", "--config", "config.yaml"])
    monkeypatch.setattr(program, "load_settings", lambda path: 1 / 0)
    assert program.command() == 40
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_another_run(unused: Project) -> None:
    begin_session("work")
    assert code_of("clean", "--config", "config.yaml", "--yes") == 10


def test_no_folder_is_called_as_a_store(unused: Project) -> None:
    unused.change("batch", {"files": "s3://bucket/*.tif"})
    unused.change("raw", {})
    unused.change("output", "{name}.n5")
    with pytest.raises(UserError, match=r"batch.files: 's3://bucket/\*.tif': patterns are looked up on this machine"):
        load_batch("config.yaml", None)
    raw = open_volume("raw.n5:raw")
    for name in ("x.tif", "x_{z}.tif", "x.h5:data"):
        with pytest.raises(UserError, match="into a store only containers are written"):
            export(raw, f"s3://bucket/{name}")
    assert not Path("s3:").exists()
