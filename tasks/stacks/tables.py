"""Tables of slices and pairs, for people."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.alignment.placement import Placement
from tasks.alignment.slices import SliceFacts, Verdict
from tasks.alignment.transforms import rotation_angle
from tasks.alignment.warp import offsets
from tasks.stacks.pairs_step import PairRecord
from tasks.stacks.slice_files import SliceFile

DAMAGED = 0.6
"""A slice whose likeness to its neighbours is this part of what is usual around it is damaged."""
AROUND = 10
GOOD = "ok"
LOST = "looks like none of its neighbours"


def write_slices(
    path: Path,
    facts: Mapping[int, SliceFacts],
    verdicts: Mapping[int, Verdict],
    placement: Placement,
    pairs: Iterable[PairRecord],
    files: Mapping[int, SliceFile],
) -> None:
    """Write a row for each number of the stack: what became of the slice, and what is known of it."""
    damaged = damaged_slices(pairs)
    rows = []
    for z, fact in facts.items():
        matrix = placement.matrices.get(z)
        shift = None if matrix is None else offsets({z: matrix}, {z: fact.size})[0]
        remarks = [verdicts[z].remark, "damaged: looks less like its neighbours than they do" * (z in damaged)]
        rows.append({
            "z": z,
            "file": files[z].path if z in files else "",
            "state": GOOD if matrix is not None else verdicts[z].unusable or LOST,
            "remarks": "; ".join(filter(None, remarks)),
            "shift_x": "" if shift is None else f"{shift[0]:.3f}",
            "shift_y": "" if shift is None else f"{shift[1]:.3f}",
            "rotation_deg": "" if matrix is None else f"{np.rad2deg(rotation_angle(matrix[:, :2])):.4f}",
            **{name: getattr(fact, name) for name in
               ("width", "height", "dtype", "low", "high", "mean", "std", "texture", "sharpness")},
        })  # fmt: skip
    _write(path, rows)


def damaged_slices(pairs: Iterable[PairRecord]) -> set[int]:
    """Slices that look much less like their neighbours than slices around them do."""
    seen: dict[int, list[float]] = {}
    for pair in pairs:
        if pair.likeness is not None and not pair.refused:
            seen.setdefault(pair.first, []).append(pair.likeness)
            seen.setdefault(pair.second, []).append(pair.likeness)
    likeness = {z: float(np.median(values)) for z, values in sorted(seen.items())}
    values = np.array(list(likeness.values()))
    return {
        z
        for i, z in enumerate(likeness)
        if values[i] < DAMAGED * float(np.median(values[max(0, i - AROUND) : i + AROUND + 1]))
    }


def write_pairs(path: Path, pairs: Iterable[PairRecord], residuals: Mapping[tuple[int, int], float]) -> None:
    """Write a row for each pair: the evidence, whether it counts, and how far it is from what all of them say."""
    rows = []
    for pair in pairs:
        residual = residuals.get((pair.first, pair.second))
        rows.append({
            "first": pair.first,
            "second": pair.second,
            "accepted": int(not pair.refused),
            "refused": pair.refused,
            "matches": pair.matches,
            "inliers": pair.inliers,
            "cells": pair.cells,
            "likeness": "" if pair.likeness is None else f"{pair.likeness:.4f}",
            "residual_of_matches": "" if pair.residual is None else f"{pair.residual:.4f}",
            "residual_of_pair": "" if residual is None else f"{residual:.4f}",
        })  # fmt: skip
    _write(path, rows)


def read_residuals(path: Path) -> dict[tuple[int, int], float]:
    """How far each pair that counts is from what all of them say, in pixels, as ``write_pairs`` has written it."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["residual_of_pair"]]
    return {(int(row["first"]), int(row["second"])): float(row["residual_of_pair"]) for row in rows}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        if rows:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
