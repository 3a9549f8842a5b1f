"""Arrays of ``.npz`` files, whole and damaged."""

from __future__ import annotations

import io
import zipfile
import zlib

import numpy as np
import pytest

from blockwise.outputs.npz import arrays_of

ARRAYS = {
    "components": np.arange(30, dtype=np.int64).reshape(10, 3),
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "none": np.empty((0, 11), np.int64),
    "flags": np.zeros(4000, bool),
    "number": np.array(7, np.uint8),
}
DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError)


def stored(write, **arrays):
    content = io.BytesIO()
    write(content, **arrays)
    return content.getvalue()


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_equal_to_what_numpy_reads(write):
    content = stored(write, **ARRAYS)
    found = arrays_of(content)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable
        assert found[name].flags.f_contiguous == array.flags.f_contiguous
        np.testing.assert_array_equal(found[name], array)
    chosen = arrays_of(content, ("number", "columns"))
    assert list(chosen) == ["number", "columns"]


def test_an_archive_of_another_kind_is_left_to_zipfile():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_LZMA) as archive:
        archive.comment = b"by another program"
        array = io.BytesIO()
        np.save(array, ARRAYS["components"])
        archive.writestr("components.npy", array.getvalue())
    np.testing.assert_array_equal(arrays_of(content.getvalue())["components"], ARRAYS["components"])


def test_a_damaged_file_gives_no_other_arrays():
    arrays = {"a": np.arange(20), "b": np.zeros(100, np.uint8)}
    content = stored(np.savez_compressed, **arrays)
    refused = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x41
        try:
            found = arrays_of(bytes(damaged), ("a", "b"))
        except DAMAGE:
            refused += 1
        else:
            assert all(np.array_equal(found[name], array) for name, array in arrays.items()), place
    assert refused > len(content) / 2
    for length in range(len(content)):
        with pytest.raises(DAMAGE):
            arrays_of(content[:length])
