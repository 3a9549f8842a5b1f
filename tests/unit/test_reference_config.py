"""``configs/reference.yaml`` names every key, with its default."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_origin

import yaml

from pipeline.configuration.settings import Section, Settings, load_settings

REFERENCE = Path(__file__).parents[2] / "configs" / "reference.yaml"
NEEDED = {"work_dir", "raw", "path", "key", "output", "project"}


def keys_and_defaults(section: type[Section], prefix: str = ""):
    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        several = get_origin(field.annotation) is tuple and get_args(field.annotation)[0]
        kind = several or field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from keys_and_defaults(kind, f"{key}.")
        else:
            yield key, field


def flatten(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_every_key_is_there_and_no_other():
    written = dict(flatten(yaml.safe_load(REFERENCE.read_text())))
    assert set(written) == {key for key, _ in keys_and_defaults(Settings)}


def test_values_are_the_defaults():
    written = dict(flatten(yaml.safe_load(REFERENCE.read_text())))
    for key, field in keys_and_defaults(Settings):
        if key.split(".")[-1] in NEEDED:
            continue
        value = written[key]
        assert (tuple(value) if isinstance(value, list) else value) == field.default, key


def test_it_is_valid():
    assert load_settings(str(REFERENCE)).raw.address == "data/raw.h5:data"
