"""The objects as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray


def make_table(columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """A table of columns by their names; what is not a number is null."""
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def write_csv(table: pa.Table, path: Path) -> None:
    """Write a table; null is empty."""
    with path.open("wb") as file:
        file.write((",".join(table.column_names) + "\n").encode())  # Arrow would put quotes around the names
        pa.csv.write_csv(table, file, pa.csv.WriteOptions(include_header=False, batch_size=1 << 16))


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table."""
    pa.parquet.write_table(table, path)


def read_column(path: Path, name: str) -> pa.ChunkedArray:
    """A column of a table that was written as Parquet."""
    return pa.parquet.read_table(path, columns=[name])[name]
