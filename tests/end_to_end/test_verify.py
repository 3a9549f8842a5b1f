"""``verify`` finds any damaged chunk, even when size and time have not changed, and the next run mends it alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.running.session import end_sessions
from tests.runs import DATASETS, Project, assert_same, chunk_files, dataset_folder


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 0x10
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 7)


DAMAGE: dict[str, Callable[[Path], None]] = {"flipped": flip, "truncated": truncate, "missing": Path.unlink}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("dataset", DATASETS)
def test_damage_is_found_and_mended(
    project: Project, capsys: pytest.CaptureFixture[str], dataset: str, how: str
) -> None:
    before = project.results()
    chunk = chunk_files(dataset_folder(project, dataset))[3]
    status = chunk.stat()
    DAMAGE[how](chunk)
    if chunk.exists():
        os.utime(chunk, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert main(["verify", "--config", "config.yaml"]) == 50
    end_sessions()
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line.startswith("  block ")]
    assert text.count(" 1 damaged") == 1, text
    assert text.count(" 0 damaged") == 5, text
    run = project.run()
    assert run.ok
    step = {"probabilities": "prediction", "thresholded": "threshold"}.get(dataset, dataset)
    assert {name: len(blocks) for name, blocks in run.computed.items()} == {step: 1}
    assert_same(project.results(), before)


def test_nothing_is_damaged(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--config", "config.yaml"]) == 0
    assert capsys.readouterr().out.count(" 0 damaged") == 6
