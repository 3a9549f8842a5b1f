"""Names of an array's chunks, and nothing else, are its own."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from blockwise.volume.containers.metadata import Array, Kind
from blockwise.volume.containers.own_names import chunk_index, foreign_names

LAYOUTS: dict[str, tuple[Kind, dict[str, Any]]] = {
    "n5": ("n5", {}),
    "zarr2-dots": ("zarr", {}),
    "zarr2": ("zarr", {"dimension_separator": "/"}),
    "zarr3": ("zarr3", {}),
    "zarr3-dots": ("zarr3", {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}}}),
    "zarr3-v2": ("zarr3", {"chunk_key_encoding": {"name": "v2"}}),
}


def arrays() -> st.SearchStrategy[Array]:
    def make(layout: str, key: str, sizes: list[tuple[int, int]]) -> Array:
        kind, document = LAYOUTS[layout]
        return Array(kind, key, tuple(n for n, _ in sizes), tuple(c for _, c in sizes), document, {})

    sizes = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12)), min_size=1, max_size=4)
    return st.builds(make, st.sampled_from(sorted(LAYOUTS)), st.sampled_from(["", "a", "1/0", "a.b/c"]), sizes)


@given(arrays())
def test_each_chunk_and_nothing_else_has_an_index(array: Array) -> None:
    counts = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
    indices = list(itertools.islice(itertools.product(*map(range, counts)), 200))
    names = [array.chunk_name(index) for index in indices]
    assert [chunk_index(array, name) for name in names] == indices
    assert not foreign_names([*names, array.metadata_name, f"{names[0]}.__lock"], array.key, [array])
    for outside in (tuple(counts), (*(n - 1 for n in counts[:-1]), counts[-1])):
        assert chunk_index(array, array.chunk_name(outside)) is None
    for wrong in (f"{names[0]}0x", f"{names[0]}/0", f"0{names[0]}", f"b{names[0]}", names[0].replace("0", "00")):
        assert foreign_names([wrong], array.key, [array]) == [wrong]


def test_an_image_has_the_names_of_all_its_scales() -> None:
    scales = [Array("zarr", f"image/deep/{n}", (4, 4), (2, 2), {"dimension_separator": "/"}, {}) for n in range(2)]
    own = ["image/.zattrs", "image/.zgroup", "image/deep/.zgroup", "image/deep/1/.zarray", "image/deep/1/1/0"]
    own += ["image/deep/1/1/.new-12-0", "image/deep/1/1/.0.12.0123abcd", "image/..zattrs.12.0123abcd"]
    foreign = ["image/deep/2/.zarray", "image/labels/.zattrs", "image/deep/1/2/0", "image/README"]
    foreign += ["image/.notes.12.0123abcd", "image/deep/1/1/.2.12.0123abcd"]
    assert foreign_names([*own, *foreign, "image/.nfs000a1", "image/.new-12-.zattrs"], "image", scales) == foreign
