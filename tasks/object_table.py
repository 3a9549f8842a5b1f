"""The objects as a table for people."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from tasks.component_measures import Measures, intensity_statistics


def object_table(
    objects: Measures, axes: str, shape: tuple[int, ...], channels: tuple[int, ...] = (), dtype: str = ""
) -> pd.DataFrame:
    """Table of objects: label, (t,) voxels, bounding box (stop exclusive) and centroid, in voxels; intensities.

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
    return pd.DataFrame(columns)


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table; pandas' own way looks at the type of each value first, and of small images there are many."""
    pa.parquet.write_table(pa.table({name: values.to_numpy() for name, values in table.items()}), path)
