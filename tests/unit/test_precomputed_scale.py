"""Shards of precomputed volumes, against TensorStore."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.grid import Grid
from blockwise.volume import create_volume, open_volume
from blockwise.volume.containers.precomputed_scale import scale_document, shard_shape, tensorstore_metadata
from tests.examples import examples

SIDES = st.integers(1, 40)
ATTRIBUTES = {"axes": list("zyx"), "resolution": [40, 4, 4], "units": ["nanometer"] * 3, "type": "image"}


@st.composite
def cuts(draw: st.DrawFn):
    """Shape, chunks, blocks of whole chunks."""
    chunks = tuple(draw(st.integers(1, 5)) for _ in range(3))
    shape = tuple(draw(SIDES) for _ in range(3))
    return shape, chunks, tuple(c * draw(st.integers(1, 8)) for c in chunks)


@settings(max_examples=examples(50), deadline=None)
@given(cuts())
def test_shards_are_those_of_tensorstore_and_blocks_consist_of_whole_ones(case) -> None:
    shape, chunks, block = case
    shards = shard_shape(shape, chunks, block)
    document = scale_document(shape, chunks, shards, "uint8", ATTRIBUTES)
    opened = {"driver": "neuroglancer_precomputed", "kvstore": "memory://", "open": True, "assume_metadata": True}
    theirs = ts.open(opened | tensorstore_metadata("s0", document)).result().chunk_layout.write_chunk.shape
    assert [min(a, n) for a, n in zip(theirs[2::-1], shape, strict=True)] == list(map(min, shards, shape))
    for b, s, n in zip(block, shards, shape, strict=True):
        assert b % s == 0 or b >= n


@settings(max_examples=examples(15), deadline=None)
@given(cuts())
def test_files_of_blocks_have_the_names_that_we_think(case) -> None:
    """So that states of files are those of a block's own."""
    shape, chunks, block = (tuple(min(n, 12) for n in case[0]), *case[1:])
    with tempfile.TemporaryDirectory() as folder:
        address = f"precomputed://{folder}/a:s0"
        create_volume(
            address, shape, chunks, "uint8", ATTRIBUTES, shards=shard_shape(shape, chunks, block), is_scale=True
        )
        volume = open_volume(address, "a")
        written: set[str] = set()
        for each in itertools.islice(Grid("zyx", shape, block), 8):
            size = [s.stop - s.start for s in each.write_box]
            volume.write(each.write_box, np.full(size, each.id % 255 + 1, np.uint8))
            files = {str(path) for path in Path(folder, "a", "s0").glob("*.shard")} - written
            index = [range(s.start // f, -(-s.stop // f)) for s, f in zip(each.write_box, volume.chunks, strict=True)]
            assert files == {volume.file_of(place) for place in itertools.product(*index)}
            written |= files
            np.testing.assert_array_equal(volume.read(each.write_box), each.id % 255 + 1)


def test_zeros_leave_no_file_and_damage_does_not_stop_a_writer(tmp_path: Path) -> None:
    address = f"precomputed://{tmp_path}/a:s0"
    create_volume(address, (8, 8, 8), (4, 4, 4), "uint64", ATTRIBUTES | {"type": "segmentation"}, shards=(8, 8, 8),
                  is_scale=True)  # fmt: skip
    volume, whole = open_volume(address, "a"), (slice(0, 8),) * 3
    data = np.arange(512, dtype=np.uint64).reshape(8, 8, 8)
    volume.write(whole, data)
    (shard,) = (tmp_path / "a" / "s0").glob("*.shard")
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(Exception, match="cannot read"):
        open_volume(address).read(whole)
    volume.write(whole, data)
    np.testing.assert_array_equal(open_volume(address).read(whole), data)
    volume.write(whole, data * 0)
    assert not shard.exists()
    assert not open_volume(address).read(whole).any()
