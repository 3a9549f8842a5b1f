"""The images of a batch: from a table or a pattern, each with settings of its own on top of shared ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from blockwise.backends.registry import BACKENDS
from blockwise.errors import UserError
from blockwise.records import within
from blockwise.volume import Address
from pipeline.batch.table import Values, read_table
from pipeline.configuration.nickname import nickname
from pipeline.configuration.paths import expand_path, expand_paths, is_url
from pipeline.configuration.settings import Settings, make_settings, read_values

SHARED = ("work_dir", "backend", "batch", "change_detection")
"""Keys that all images of a batch share."""
NAME = "{name}"
SIGNS = "*?["
"""Signs that make a pattern of a name."""
IMAGES = "images"
"""Folder below the work folder with a folder for each image."""
RESERVED = tuple(kind.ledger for kind in BACKENDS.values() if kind.ledger)
"""Images cannot be called so: beside their folders lies what the step over all of them has in the queue."""


@dataclass(frozen=True)
class Batch:
    """Images to be computed with mostly the same settings.

    Attributes:
        shared: the configuration's keys and values.
        names: of the images; names of folders too.
        rows: for each image the keys and values that differ from the shared ones, ``raw`` among them.
        images: settings of each image.
        settings: what all share; the rest of it is the first image's.
    """

    shared: Values
    names: tuple[str, ...]
    rows: tuple[Values, ...]
    images: tuple[Settings, ...]
    settings: Settings


def image_settings(shared: Values, name: str, row: Values) -> Settings:
    """Settings of one image.

    Raises:
        UserError: naming the image and the key.
    """
    if "threshold" in row:
        threshold = _with_named_thresholds(shared.get("threshold"), row["threshold"], f"image {name}")
        row = {**row, "threshold": threshold}
    values = _merged({**shared, "raw": _sections(shared.get("raw"), "path")}, row)
    if Address.parse(str(row["raw"].get("path"))).key and "key" not in row["raw"]:
        values["raw"].pop("key", None)  # the address names its dataset itself
    values["work_dir"] = within(str(shared.get("work_dir")), f"{IMAGES}/{name}")
    values["output"] = str(values.get("output", "")).replace(NAME, name)
    pyramid = values.get("pyramid")
    if isinstance(pyramid, dict) and isinstance(pyramid.get("output"), str):
        values["pyramid"] = {**pyramid, "output": pyramid["output"].replace(NAME, name)}
    return make_settings(values, f"image {name}")


def load_batch(config: str, manifest: str | None) -> Batch:
    """Read a configuration and the images that it, or a manifest, names.

    Args:
        config: path of the configuration; ``raw`` needs no path in it.
        manifest: path of the table; None for what the configuration's ``batch`` says.

    Raises:
        UserError: there are no images, two have one output, or a key or value is wrong, in whatever row.
    """
    shared = read_values(config)
    found = make_settings({**shared, "raw": {"path": "."}}, f"configuration {config}").batch
    manifest = expand_path(manifest) if manifest else found.manifest
    if manifest and found.files and manifest == found.manifest:
        raise UserError(f"configuration {config}: batch has both files and manifest; leave one of them out")
    if manifest:
        rows = [_row(cells, f"manifest {manifest}, row {i}") for i, cells in enumerate(read_table(manifest), 1)]
    elif found.files:
        rows = [{"raw": {"path": path}} for path in _matching(found.files)]
    else:
        raise UserError(
            f"configuration {config}: no images; set batch: {{files: 'images/*.tif'}} or batch: {{manifest: "
            "images.csv}, or give --manifest FILE"
        )
    if not rows:
        raise UserError(f"manifest {manifest}: holds no rows")
    names = _names(rows)
    images = tuple(image_settings(shared, name, row) for name, row in zip(names, rows, strict=True))
    if any(settings.alignment.slices is not None for settings in images):
        raise UserError(
            f"configuration {config}: alignment.slices is for one volume, not for a batch; align each stack with a "
            "configuration of its own, and name the aligned volumes here"
        )
    if any(settings.prediction.probabilities is not None for settings in images):
        raise UserError(
            f"configuration {config}: prediction.probabilities is for one volume, not for a batch; run its images "
            "one by one, or have them predicted"
        )
    _check_outputs(names, images)
    first = images[0].model_copy(update={"work_dir": str(shared["work_dir"])})
    return Batch(shared, names, tuple(rows), images, first)


def _matching(files: str | tuple[str, ...]) -> Iterator[str]:
    for pattern in [files] if isinstance(files, str) else files:
        if not any(sign in pattern for sign in SIGNS) or Path(Address.parse(pattern).path).exists():
            yield pattern
            continue
        if is_url(pattern):
            raise UserError(
                f"batch.files: {pattern!r}: patterns are looked up on this machine only; name each image, or give a "
                "manifest"
            )
        paths = sorted(glob(pattern, recursive=True), key=_natural)
        if not paths:
            raise UserError(
                f"batch.files: no file fits {pattern!r} (looked from {Path.cwd()}). The signs * ? and [ ] stand for "
                f"other ones; where a name has one of them, put it into brackets{_with_literal_brackets(pattern)}"
            )
        yield from paths


def _with_literal_brackets(pattern: str) -> str:
    """The pattern that fits where brackets belong to names, for the message."""
    literal = pattern.replace("[", "[[]")
    return f": {literal}" if "[" in pattern and glob(literal, recursive=True) else ", as in [[]1]"


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which image_2 comes before image_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _row(cells: Any, where: str) -> Values:
    """Keys such as ``threshold.sigma`` as sections, ``raw`` as a section with a path; ``~`` and variables put in."""
    if not isinstance(cells, dict) or not cells.get("raw", cells.get("raw.path")):
        raise UserError(f"{where}: found {cells!r:.60}; the key raw is needed, the image's path or address")
    if not isinstance(cells.get("name"), str | int | None) or isinstance(cells.get("name"), bool):
        raise UserError(f"{where}: name: found {cells['name']!r}; a name is text; quote it")
    nested: Values = {}
    for key, value in cells.items():
        *sections, last = str(key).split(".")
        inner: Values = {last: value if key != "raw" else _sections(value, "path")}
        for section in reversed(sections):
            inner = {section: inner}
        if twice := _in_both(nested, inner):
            raise UserError(f"{where}: {twice} is set twice, the second time by {key}; leave one out")
        nested = _merged(nested, inner)
    for key in SHARED:
        if key in nested:
            raise UserError(f"{where}: {key} is shared by all images; set it in the configuration")
    try:
        return expand_paths(nested)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _with_named_thresholds(shared: Any, changes: Any, where: str) -> Any:
    """What an image's row says about thresholds, with the others of a list where it names one: threshold.cells.sigma.

    Raises:
        UserError: it does not say which one of several is meant.
    """
    if not isinstance(shared, list) or not isinstance(changes, dict):
        return changes
    shared = [_sections(threshold, "as") for threshold in shared]
    if len(shared) == 1:
        named = changes.get(shared[0].get("name"))
        return [_merged(shared[0], named if isinstance(named, dict) and len(changes) == 1 else changes)]
    names = [threshold["name"] for threshold in shared]
    for key, value in changes.items():
        if key not in names or not isinstance(value, dict):
            last = "threshold" if key in names or isinstance(value, dict) else key
            raise UserError(
                f"{where}: threshold.{key}: the configuration has {len(names)} thresholds ({', '.join(names)}); put "
                f"the name of the one that is meant between, such as threshold.{names[0]}.{last}"
            )
    return [_merged(threshold, changes.get(threshold["name"], {})) for threshold in shared]


def _sections(value: Any, key: str) -> Values:
    return value if isinstance(value, dict) else {} if value is None else {key: value}


def _merged(first: Values, second: Values) -> Values:
    """Values of both, the second's where both have some; sections key by key."""
    merged = dict(first)
    for key, value in second.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _in_both(first: Values, second: Values) -> str:
    """A key that both set; empty where there is none."""
    for key in first.keys() & second.keys():
        values = first[key], second[key]
        inner = _in_both(*values) if all(isinstance(value, dict) for value in values) else ""
        if inner or not all(isinstance(value, dict) for value in values):
            return f"{key}.{inner}" if inner else key
    return ""


def _names(rows: list[Values]) -> tuple[str, ...]:
    """Names as given, else from the images' paths; the name is taken out of the rows."""
    given = [row.pop("name", None) for row in rows]
    paths = [str(row["raw"].get("path")) for row in rows]
    stems = [nickname(path) for path in paths]
    often = {stem for stem, count in Counter(stems).items() if count > 1}
    names = [
        str(name) if name is not None else _plain(path) if stem in often else _plain(stem)
        for name, path, stem in zip(given, paths, stems, strict=True)
    ]
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"batch: {count} images are called {name!r}; give each a name of its own (key name)")
        if name in RESERVED:
            raise UserError(f"batch: an image cannot be called {name!r}, which names a folder of the batch's own")
        if name != _plain(name):
            raise UserError(f"batch: image {name!r} cannot be called so; a name has letters, digits, and . _ - in it")
    return tuple(names)


def _plain(name: str) -> str:
    """A name that can be that of a folder."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.") or "image"


def _check_outputs(names: tuple[str, ...], settings: tuple[Settings, ...]) -> None:
    seen: dict[str, str] = {}
    for name, own in zip(names, settings, strict=True):
        for key, container in (("output", own.output), ("pyramid.output", own.pyramid.output)):
            other = name if container is None else seen.setdefault(container, name)
            if other != name:
                raise UserError(
                    f"{key} {container}: images {other} and {name} would write into the same container; put {NAME} "
                    f"into the {key}, such as results/{{name}}.n5"
                )
