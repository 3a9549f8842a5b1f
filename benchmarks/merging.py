"""How the merge of components grows with their number.

    python -m benchmarks.merging --components 1000000 10000000

Real labels of a small patch of random blobs are repeated over a volume, and the files that ``component_faces`` would
have written are there; then come labelling (a sample of blocks, from the mask in memory to the file), the merge, with
its tables, and the stamps that blocks get from the lookup table, each in a process of its own. With ``--block 128``
blocks are larger, and there are eight times as many components in each. Where a folder with ``--keep`` has the files
already, they are not written again: ten million components take 700 MB, and a minute to write.
"""

from __future__ import annotations

import argparse
import io
import itertools
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.filters import gaussian

from benchmarks.scale import BLOCK, measured, show, threshold_step
from blockwise.grid import Block, Grid
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.labelling import face_labels, label_components, pack_faces
from tasks.components.measures import measure_components, side_by_side
from tasks.components.merge_step import ComponentMergeStep

PERIOD = 2
"""The patch is so many blocks long."""

SAMPLE = 7
"""Blocks along each axis of the volume whose blocks are labelled."""

DEFLATE_LEVEL = 1
"""Of the table that is another one in each block; the time it takes to write it is not measured."""


@dataclass(frozen=True)
class Kind:
    """A block of the patch, at the origin of the volume.

    Attributes:
        file: with its faces, as ``component_faces`` writes it.
        measures: of its components.
    """

    file: bytes
    measures: dict[str, NDArray[np.int64]]

    def moved(self, origin: tuple[int, ...], shape: tuple[int, ...]) -> dict[str, NDArray[np.int64]]:
        """The measures that it has elsewhere in the volume."""
        found = dict(self.measures)
        found["first"] = found["first"] + np.ravel_multi_index(origin, shape)
        found["start"], found["stop"] = found["start"] + origin, found["stop"] + origin
        found["sums"] = found["sums"] + found["voxels"][:, None] * np.array(origin)
        return found


def main() -> None:
    """Run all parts for each number of components and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--components", type=int, nargs="+", default=[1_000_000], help="of the merges")
    parser.add_argument("--block", type=int, default=BLOCK, help="side of a block, in voxels")
    parser.add_argument("--folder", help="where to work; on the kind of disk that is to be measured")
    parser.add_argument("--keep", action="store_true", help="keep the files in the folder, or use those there")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    mask = _patch(options.block)
    per_block = sum(int(label_components(m, 1, 26).max()) for m in _parts(mask)) / PERIOD**3
    rows = [measured(f"label {SAMPLE**3} blocks and write their files", SAMPLE**3 * per_block, _label, options.block)]
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        for components in options.components:
            side = max(PERIOD, round((components / per_block) ** (1 / 3)))
            place = Path(options.folder if options.keep else temporary) / f"merge{options.block}-{side}"
            rows += _merge(place, options.block, side, per_block)
            if not options.keep:
                shutil.rmtree(place)
    show(rows, options.json)


def _merge(place: Path, block: int, side: int, per_block: float) -> list[dict[str, Any]]:
    where = (str(place), block, side)
    blocks, count = side**3, round(side**3 * per_block)
    rows = (
        [] if (place / "done").exists() else [measured(f"write faces of {blocks:,} blocks", blocks, _write, *where)]
    )
    rows.append(measured(f"merge {count:,} components of {blocks:,} blocks", count, _run_merge, *where))
    rows.append(measured(f"stamps of {blocks:,} blocks from the lookup table", blocks, _stamps, *where))
    return rows


def _patch(block: int) -> NDArray[np.uint8]:
    patch = gaussian(np.random.default_rng(0).random((PERIOD * block,) * 3), 1.6, mode="wrap")
    return (patch > np.quantile(patch, 0.85)).astype(np.uint8)


def _parts(mask: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    block = len(mask) // PERIOD
    for index in itertools.product(range(PERIOD), repeat=3):
        yield mask[tuple(slice(i * block, (i + 1) * block) for i in index)]


def _merge_step(folder: str, block: int, side: int) -> ComponentMergeStep:
    threshold = threshold_step(Path(folder), (side * block,) * 3, block)
    faces = ComponentFacesStep(
        work_dir=folder, grid=threshold.grid, thresholded=threshold, foreground=1, connectivity=26
    )
    whole = Grid("zyx", threshold.grid.shape, threshold.grid.shape)
    return ComponentMergeStep(work_dir=folder, grid=whole, faces=faces, min_size=0)


def _label(block: int) -> None:
    """Label blocks, and write what is known of them."""
    with tempfile.TemporaryDirectory() as folder:
        step = _merge_step(folder, block, SAMPLE).faces
        output = step.output()
        output.create({})
        parts = itertools.cycle(_parts(_patch(block)))
        for one, mask in zip(step.grid, parts, strict=False):
            output.write(one, step.compute(one, (_Given(mask), None)))


class _Given:
    """A mask in the place of the thresholded volume."""

    def __init__(self, mask: NDArray[np.uint8]) -> None:
        self.mask = mask

    def read(self, box: Any) -> NDArray[np.uint8]:
        return self.mask


def _write(folder: str, block: int, side: int) -> None:
    step = _merge_step(folder, block, side).faces
    output = step.output()
    output.create({})
    kinds = [_kind(step, mask) for mask in _parts(_patch(block))]
    for one in step.grid:
        kind = kinds[int(np.ravel_multi_index([i % PERIOD for i in one.index], (PERIOD,) * 3))]
        output.records.put(output.key(one.id), _file(step, kind, one))
    Path(folder, "done").touch()


def _kind(step: ComponentFacesStep, mask: NDArray[np.uint8]) -> Kind:
    labels = label_components(mask, 1, 26)
    content = io.BytesIO()
    np.savez_compressed(content, faces=pack_faces(face_labels(labels)))
    return Kind(content.getvalue(), measure_components(labels, (0,) * 3, step.grid.shape))


def _file(step: ComponentFacesStep, kind: Kind, block: Block) -> bytes:
    measures = kind.moved(tuple(part.start for part in block.write_box), step.grid.shape)
    content, table = io.BytesIO(kind.file), io.BytesIO()
    np.save(table, side_by_side(measures, step.columns))
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED, compresslevel=DEFLATE_LEVEL) as archive:
        archive.writestr("components.npy", table.getbuffer())
    return content.getvalue()


def _run_merge(folder: str, block: int, side: int) -> None:
    step = _merge_step(folder, block, side)
    step.output().create({})
    whole = step.grid.block(0)
    step.output().write(whole, step.compute(whole, step.prepare()))


def _stamps(folder: str, block: int, side: int) -> None:
    step = _merge_step(folder, block, side)
    snapshot = step.rows("lookup").snapshot()
    for one in step.faces.grid:
        snapshot.stamp(one.write_box)


if __name__ == "__main__":
    main()
