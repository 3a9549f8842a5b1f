"""The objects as a table for people."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from blockwise.files import replacing
from tasks.components.measures import Measures, intensity_statistics


def object_table(
    objects: Measures, axes: str, shape: tuple[int, ...], channels: tuple[int, ...] = (), dtype: str = ""
) -> pa.Table:
    """Table of objects: label, (t,) voxels, bounding box (stop exclusive) and centroid, in voxels; intensities.

    What is not a number is null.

    Args:
        objects: measures and labels as ``number_objects`` gives them.
        axes: the grid's axes.
        shape: the grid's shape.
        channels: raw channels whose intensities were measured.
        dtype: of the raw volume.
    """
    columns: dict[str, NDArray[Any]] = {"label": objects["label"].astype(np.uint64)}
    spatial = axes.replace("t", "")
    if "t" in axes:
        columns["t"] = objects["first"] // math.prod(shape[1:])
    columns["voxels"] = objects["voxels"]
    for i, axis in enumerate(spatial):
        columns[f"start_{axis}"] = objects["start"][:, i]
        columns[f"stop_{axis}"] = objects["stop"][:, i]
    for i, axis in enumerate(spatial):
        columns[f"centroid_{axis}"] = objects["sums"][:, i] / np.maximum(objects["voxels"], 1)
    for i, channel in enumerate(channels):
        for name, values in intensity_statistics(objects, i, dtype).items():
            columns[f"intensity_{name}_{channel}"] = values
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def write_csv(table: pa.Table, path: Path) -> None:
    """Write a table, atomically; null is empty."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write((",".join(table.column_names) + "\n").encode())  # Arrow would put quotes around the names
        pa.csv.write_csv(table, file, pa.csv.WriteOptions(include_header=False, batch_size=1 << 16))


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table, atomically."""
    with replacing(path) as temporary:
        pa.parquet.write_table(table, temporary)


def read_column(path: Path, name: str) -> pa.ChunkedArray:
    """A column of a table that was written as Parquet."""
    return pa.parquet.read_table(path, columns=[name])[name]
