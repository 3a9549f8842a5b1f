"""The object table as files: what other programs read of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from blockwise.outputs import Table
from blockwise.records.folder import FolderRecords
from tasks.objects.table import read_column, write_tables


def test_both_files_hold_the_same_numbers(tmp_path: Path) -> None:
    columns = {
        "label": np.array([1, 2, 2**63], np.uint64),
        "start_z": np.array([0, -3, 2**40]),
        "centroid_z": np.array([0.1 + 0.2, 12.0, 1e-300]),
        "intensity_mean_0": np.array([1.5, np.nan, np.inf]),
    }
    shards = [{name: values[part] for name, values in columns.items()} for part in (slice(0, 1), slice(1, 3))]
    for parts in ([columns], shards):
        write_tables(parts, tmp_path / "objects.csv", tmp_path / "objects.parquet")
        for found in (pd.read_csv(tmp_path / "objects.csv"), pd.read_parquet(tmp_path / "objects.parquet")):
            pd.testing.assert_frame_equal(found, pd.DataFrame(columns), check_exact=True)
    lines = (tmp_path / "objects.csv").read_text().splitlines()
    assert lines[0] == "label,start_z,centroid_z,intensity_mean_0"
    assert lines[2] == "2,-3,12,"
    assert read_column(tmp_path / "objects.parquet", "start_z").to_pylist() == [0, -3, 2**40]


def test_a_table_without_objects(tmp_path: Path) -> None:
    paths = tmp_path / "objects.csv", tmp_path / "objects.parquet"
    write_tables([{"label": np.array([], np.uint64)}], *paths)
    assert paths[0].read_text() == "label\n"
    assert len(read_column(paths[1], "label")) == 0


def test_a_table_that_breaks_off_leaves_the_former_ones(tmp_path: Path) -> None:
    paths = tmp_path / "objects.csv", tmp_path / "objects.parquet"
    write_tables([{"label": np.array([1], np.uint64)}], *paths)
    before = [path.read_bytes() for path in paths]

    def breaks_off() -> Iterator[dict[str, NDArray[np.uint64]]]:
        yield {"label": np.array([1, 2], np.uint64)}
        raise OSError("a block cannot be read")

    with (
        pytest.raises(OSError, match="cannot be read"),
        Table(FolderRecords(str(tmp_path)), "objects.csv").writing() as csv,
        Table(FolderRecords(str(tmp_path)), "objects.parquet").writing() as parquet,
    ):
        write_tables(breaks_off(), csv, parquet)
    assert [path.read_bytes() for path in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)
