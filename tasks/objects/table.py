"""The objects as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray


def make_table(columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """A table of columns by their names; what is not a number is null."""
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def write_tables(shards: Iterable[Mapping[str, NDArray[Any]]], csv: Path, parquet: Path) -> None:
    """Write a table as it comes: what is not a number is null in Parquet, and empty in CSV.

    Args:
        shards: columns by their names, the same for all shards; at least one.
        csv: path of the table.
        parquet: likewise.
    """
    with ExitStack() as writing:
        file = writing.enter_context(csv.open("wb"))
        writer = None
        for columns in shards:
            table = make_table(columns)
            if writer is None:
                file.write((",".join(table.column_names) + "\n").encode())  # Arrow would put quotes around the names
                writer = writing.enter_context(pa.parquet.ParquetWriter(parquet, table.schema))
            pa.csv.write_csv(table, file, pa.csv.WriteOptions(include_header=False, batch_size=1 << 16))
            writer.write_table(table)


def read_column(path: Path, name: str) -> pa.ChunkedArray:
    """A column of a table that was written as Parquet."""
    return pa.parquet.read_table(path, columns=[name])[name]
