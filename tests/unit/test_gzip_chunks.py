"""Files of chunks: what z5py, zlib and the specifications say of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import z5py
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from numcodecs import GZip
from numpy.typing import NDArray

from blockwise.volume.containers.gzip_chunks import n5_chunk, zarr_chunk
from blockwise.volume.containers.metadata import DTYPES

ARRAYS = of_numpy.arrays(
    st.sampled_from(sorted(DTYPES)), of_numpy.array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=6)
)


@given(ARRAYS)
def test_streams_are_of_gzip_and_hold_the_voxels(data: NDArray[np.generic]) -> None:
    """zlib looks at the length and the checksum."""
    chunk, of_zarr = n5_chunk(data), zarr_chunk(data, data.shape)
    if chunk is None or of_zarr is None:
        assert (chunk, of_zarr) == (None, None)
        assert not np.frombuffer(data.tobytes(), np.uint8).any()
        return
    head = 4 + 4 * data.ndim
    assert chunk[:4] == bytes((0, 0, 0, data.ndim))
    assert np.frombuffer(chunk[4:head], ">u4").tolist() == list(data.shape[::-1])
    assert gzip.decompress(chunk[head:]) == data.astype(data.dtype.newbyteorder(">")).tobytes()
    assert GZip().decode(of_zarr) == data.astype(data.dtype.newbyteorder("<")).tobytes()


@given(ARRAYS, st.data())
def test_chunks_of_zarr_that_are_cut_end_in_zeros(data: NDArray[np.generic], more: st.DataObject) -> None:
    chunks = tuple(n + more.draw(st.integers(0, 2)) for n in data.shape)
    expected = np.zeros(chunks, data.dtype)
    expected[tuple(map(slice, data.shape))] = data
    chunk = zarr_chunk(data, chunks)
    assert (bytes(expected.nbytes) if chunk is None else gzip.decompress(chunk)) == expected.tobytes()


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_z5py_writes_the_same_but_for_the_stream(tmp_path: Path, dtype: str) -> None:
    """Where the volume ends, too."""
    data = np.arange(1, 36).reshape(5, 7).astype(dtype)
    z5py.File(f"{tmp_path}/a.n5", "a").create_dataset("raw", data=data, chunks=(4, 4), compression="gzip")
    for y, x in np.ndindex(2, 2):
        written = (tmp_path / "a.n5" / "raw" / f"{x}" / f"{y}").read_bytes()
        mine = n5_chunk(data[4 * y : 4 * y + 4, 4 * x : 4 * x + 4])
        assert mine is not None
        assert mine[:12] == written[:12]
        assert gzip.decompress(mine[12:]) == gzip.decompress(written[12:])
