"""Fingerprints, checksums and the reasons why they differ."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockwise.grid import Block
from blockwise.identity import PIECE, array_checksum, canonical_json, differences, digest, file_digest, fingerprint
from blockwise.outputs import FilesOutput, Table
from blockwise.records import open_records
from pipeline.batch.summary import count_objects
from pipeline.configuration.settings import Settings

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.text(), values, max_size=4)


@given(mappings)
def test_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(turned)
    assert fingerprint(value) == fingerprint(turned)
    assert len(fingerprint(value)) == 12
    assert differences(value, turned) == []


@given(mappings, st.text(), st.integers())
def test_a_changed_value_changes_the_fingerprint(value: dict[str, object], key: str, number: int) -> None:
    changed = {**value, key: number}
    same = key in value and canonical_json(value[key]) == canonical_json(number)
    assert (fingerprint(value) == fingerprint(changed)) == same


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": number})


def test_differences_name_leaves() -> None:
    old = {
        "version": 1,
        "settings": {"threshold": 0.25, "sigma": [1, 1]},
        "inputs": {"raw": {"shape": [3, 4]}, "cells": "3f"},
    }
    new = {
        "version": 1,
        "settings": {"threshold": 0.3, "sigma": [1, 1]},
        "inputs": {"raw": {"shape": [3, 5]}, "cells": "4a"},
        "x": 1,
    }
    assert differences(old, new) == [
        "threshold: 0.25 -> 0.3",
        "inputs.raw.shape: [3, 4] -> [3, 5]",
        "cells has changed",
        "x: not set -> 1",
    ]


def test_checksums_tell_values_shape_and_dtype_not_layout() -> None:
    array = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    assert array_checksum(array) == array_checksum(np.asfortranarray(array))
    assert array_checksum(array) == array_checksum(np.repeat(array, 2, axis=2)[..., ::2])
    others = [array.reshape(3, 2, 4), array.astype(np.uint32), array.astype(">u2"), array + np.uint16(1)]
    assert len({array_checksum(array), *map(array_checksum, others)}) == 5
    assert array_checksum(np.empty((0, 3))) != array_checksum(np.empty((0, 4)))


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE - 1])
def test_a_file_read_in_pieces_has_the_digest_of_its_content(size: int, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(np.random.default_rng(size).bytes(size))
    assert file_digest(path) == digest(path.read_bytes())


def test_large_tables_are_not_held_in_memory(tmp_path: Path) -> None:
    size = 64 * PIECE
    table = tmp_path / "objects.csv"
    table.write_bytes(b"label,voxels\n" + b"1,2\n" * (size // 4))
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "a.npy", np.zeros(4))
    settings = Settings.model_validate(
        {"work_dir": str(tmp_path), "raw": "a", "output": "o.n5", "prediction": {"project": "p"}}
    )
    block = Block(0, (0,), (slice(0, 1),))
    tracemalloc.start()
    try:
        checksum = FilesOutput(
            open_records(tmp_path), ("a",), (Table(open_records(tmp_path), "objects.csv"),)
        ).checksum(block)
        assert count_objects(settings) == size // 4
        assert tracemalloc.get_traced_memory()[1] < size / 8
    finally:
        tracemalloc.stop()
    sums = [array_checksum(np.zeros(4)), digest(table.read_bytes())]
    assert checksum == digest(",".join(sums)), "as before, or markers of older results are worth nothing"
