"""Files of transforms: our own, and those that other programs read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.errors import UserError
from blockwise.files import replacing
from blockwise.transient import refuse_transient
from tasks.alignment.transforms import Floats

VERSION = 1
CONVENTION = (
    "aligned = A[:, :2] @ (x, y) + A[:, 2]; rows of 2 x 3, (x, y) = (column, row), integers at the centres of "
    "pixels, from the raw slice to the common frame"
)
DIGITS = 9


def write_transforms(
    path: Path, transforms: Mapping[int, Floats], flagged: Iterable[int], facts: Mapping[str, Any]
) -> None:
    """Write our own file, atomically: a matrix for each slice by its number, and the numbers of those without."""
    matrices = {str(z): np.round(matrix, DIGITS).tolist() for z, matrix in sorted(transforms.items())}
    lines = ",\n  ".join(f"{json.dumps(z)}: {json.dumps(matrix)}" for z, matrix in matrices.items())
    head = {"version": VERSION, "convention": CONVENTION, **facts, "flagged": sorted(flagged)}
    text = json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}")
    with replacing(path) as temporary:
        temporary.write_text(f'{text},\n "transforms": {{\n  {lines}\n }}\n}}\n')


def read_transforms(path: str) -> tuple[dict[int, Floats], list[int]]:
    """Read our own file, or the original ingest system's ``{z: [m00, m10, m01, m11, m02, m12]}``.

    Returns:
        A matrix for each slice by its number, and the numbers of slices that are not to be used.

    Raises:
        UserError: it is not there, or holds something else.
    """
    try:
        value = json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise UserError(f"transforms {path}: there is no such file (looked from {Path.cwd()})") from error
    except OSError as error:
        refuse_transient(error, f"transforms {path}")
        raise UserError(f"transforms {path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"transforms {path}: is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"transforms {path}: expected a matrix for each slice, by its number; found {value!r:.60}")
    matrices, flagged = value.get("transforms", value), value.get("flagged", [])
    if not isinstance(matrices, dict) or not isinstance(flagged, list):
        raise UserError(
            f"transforms {path}: expected a matrix for each slice by its number, and a list of flagged slices; found "
            f"{matrices!r:.60} and {flagged!r:.60}"
        )
    found = {_number(z, path): _matrix(matrix, path, z) for z, matrix in matrices.items() if matrix is not None}
    return dict(sorted(found.items())), [_number(z, path) for z in flagged]


def _number(z: Any, path: str) -> int:
    try:
        if isinstance(z, bool) or int(z) != float(z):
            raise ValueError
        return int(z)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"transforms {path}: {z!r} is no number of a slice") from None


def _matrix(value: Any, path: str, z: str) -> Floats:
    try:
        matrix = np.array(value, float)
    except (TypeError, ValueError, OverflowError):
        matrix = np.zeros(0)
    if matrix.shape == (6,):  # columns one after the other
        matrix = matrix.reshape(3, 2).T
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all() or not _turns_no_area_to_none(matrix):
        raise UserError(
            f"transforms {path}: slice {z} has {value!r:.80}; expected [[a, b, x], [c, d, y]] ({CONVENTION})"
        )
    return matrix


def _turns_no_area_to_none(matrix: Floats) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        area = abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])
    return bool(1e-6 <= area < np.inf)


def columns(matrix: Floats) -> list[float]:
    """The six numbers of a transform as the original system, TrakEM2 and render have them: column after column."""
    return [float(value) for value in np.round(matrix, DIGITS).T.ravel()]


def csv_lines(transforms: Mapping[int, Floats]) -> list[str]:
    """The original ingest system's table: ``z,m00,m10,m01,m11,m02,m12``."""
    return [",".join(map(str, (z, *columns(matrix)))) for z, matrix in sorted(transforms.items())]


def tile_specs(
    transforms: Mapping[int, Floats],
    files: Mapping[int, str],
    sizes: Mapping[int, tuple[int, int]],
    greys: Mapping[int, tuple[float, float]],
) -> list[dict[str, Any]]:
    """Tile specifications of render-ws, one tile a slice; the affine's numbers are in column order."""
    return [
        {
            "tileId": f"slice_{z:06d}",
            "layout": {"sectionId": str(z)},
            "z": float(z),
            "width": float(sizes[z][0]),
            "height": float(sizes[z][1]),
            "minIntensity": greys[z][0],
            "maxIntensity": greys[z][1],
            "mipmapLevels": {"0": {"imageUrl": Path(files[z]).resolve().as_uri()}},
            "transforms": {
                "type": "list",
                "specList": [
                    {
                        "type": "leaf",
                        "className": "mpicbg.trakem2.transform.AffineModel2D",
                        "dataString": " ".join(map(repr, columns(matrix))),
                    }
                ],
            },
        }
        for z, matrix in sorted(transforms.items())
    ]
