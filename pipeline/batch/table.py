"""The table of a batch's images as it stands in a file: CSV or YAML, a row an image."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from blockwise.errors import UserError
from pipeline.configuration.complaints import section_of
from pipeline.configuration.kinds import is_text
from pipeline.configuration.settings import Settings
from pipeline.configuration.strict_yaml import parse_yaml

DELIMITERS = ",;\t"
"""Of CSV files; spreadsheets write one or the other, after the country that they are set to."""
NAME = "name"
RAW = "raw"

Values = dict[str, Any]


def read_table(path: str) -> list[Any]:
    """Rows of a manifest, keys such as ``threshold.sigma`` as they stand.

    Raises:
        UserError: it cannot be read, is not CSV or YAML, or has a column or key twice.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise UserError(f"manifest {path}: is not UTF-8 ({error}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"manifest {path}: cannot be read (looked from {Path.cwd()}): {error}") from error
    if path.lower().endswith(".csv"):
        return _csv_rows(text, f"manifest {path}")
    rows = parse_yaml(text, f"manifest {path}")
    if not isinstance(rows, list):
        raise UserError(f"manifest {path}: expected a list of images, each an address or keys; found {rows!r:.60}")
    return [{RAW: row} if isinstance(row, str) else row for row in rows]


def _csv_rows(text: str, where: str) -> list[Values]:
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)  # of none the comma: one column
    try:
        header, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)) or [[]]
    except csv.Error as error:
        raise UserError(f"{where}: is not valid CSV: {error}") from error
    columns = [name.strip() for name in header]
    for name in columns:
        if name and columns.count(name) > 1:
            places = [str(i) for i, other in enumerate(columns, 1) if other == name]
            raise UserError(f"{where}: the column {name!r} stands twice, at {' and '.join(places)}; leave one out")
    return [
        _cells(columns, row, f"{where}, row {i}")
        for i, row in enumerate(filter(None, rows), 1)
        if any(map(str.strip, row))
    ]


def _cells(columns: list[str], row: list[str], where: str) -> Values:
    if len(row) != len(columns):
        raise UserError(
            f"{where}: has another number of cells than the header line: {len(row)}, expected {len(columns)}"
        )
    filled = {name: cell.strip() for name, cell in zip(columns, row, strict=True) if cell.strip()}
    return {name: _cell(name, cell, f"{where}, column {name}") for name, cell in filled.items()}


def _cell(column: str, cell: str, where: str) -> Any:
    """What a cell means: text where the key takes nothing else, whatever it looks like, else as in YAML."""
    annotation = _annotation(column)
    if column in (NAME, RAW) or annotation is str:
        return cell
    value = parse_yaml(cell, where)
    return cell if value is not None and is_text(annotation) else value


def _annotation(column: str) -> Any:
    """Kind of the value of a key such as ``threshold.sigma``; None where there is no such key."""
    section: Any = Settings
    annotation: Any = None
    for key in column.split("."):
        fields = () if section is None else section.model_fields.items()
        annotation = next((field.annotation for name, field in fields if key == (field.alias or name)), None)
        section = section_of(annotation)
    return annotation
