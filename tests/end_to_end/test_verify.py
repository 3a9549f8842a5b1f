"""``verify`` finds any damaged chunk, even when size and time have not changed, and the next run mends it alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs import DATASETS, Project, assert_same, chunk_files, dataset_folder, run_luigi


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 0x10
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 7)


DAMAGE: dict[str, Callable[[Path], None]] = {"flipped": flip, "truncated": truncate, "missing": Path.unlink}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("dataset", DATASETS)
def test_damage_is_found_and_mended(project: Project, dataset: str, how: str) -> None:
    before = project.results()
    chunk = chunk_files(dataset_folder(project, dataset))[3]
    status = chunk.stat()
    DAMAGE[how](chunk)
    if chunk.exists():
        os.utime(chunk, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = project.pipeline("verify", "--config", "config.yaml")
    assert found.returncode == 1
    assert [line for line in found.stdout.splitlines() if line.startswith("  block ")]
    assert found.stdout.count(" 1 damaged") == 1, found.stdout
    assert found.stdout.count(" 0 damaged") == 4, found.stdout
    code, text = run_luigi(project)
    assert code == 0
    assert " 1 of 8 blocks to do" in text
    assert_same(project.results(), before)


def test_nothing_is_damaged(project: Project) -> None:
    found = project.pipeline("verify", "--config", "config.yaml")
    assert found.returncode == 0
    assert found.stdout.count(" 0 damaged") == 5
