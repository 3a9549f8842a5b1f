"""The object table as files: what other programs read of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.objects.table import read_column, write_csv, write_parquet


def test_both_files_hold_the_same_numbers(tmp_path: Path) -> None:
    columns = {
        "label": np.array([1, 2, 2**63], np.uint64),
        "start_z": np.array([0, -3, 2**40]),
        "centroid_z": np.array([0.1 + 0.2, 12.0, 1e-300]),
        "intensity_mean_0": np.array([1.5, np.nan, np.inf]),
    }
    table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
    write_csv(table, tmp_path / "objects.csv")
    write_parquet(table, tmp_path / "objects.parquet")
    for found in (pd.read_csv(tmp_path / "objects.csv"), pd.read_parquet(tmp_path / "objects.parquet")):
        pd.testing.assert_frame_equal(found, pd.DataFrame(columns), check_exact=True)
    lines = (tmp_path / "objects.csv").read_text().splitlines()
    assert lines[0] == "label,start_z,centroid_z,intensity_mean_0"
    assert lines[2] == "2,-3,12,"
    assert read_column(tmp_path / "objects.parquet", "start_z").to_pylist() == [0, -3, 2**40]


def test_a_table_without_objects(tmp_path: Path) -> None:
    write_csv(pa.table({"label": pa.array([], pa.uint64())}), tmp_path / "objects.csv")
    assert (tmp_path / "objects.csv").read_text() == "label\n"
