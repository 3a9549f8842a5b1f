"""Steps that nobody has thought of: between two others, beside one of its own kind, on a grid of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.ndimage import binary_dilation
from skimage.measure import label

from blockwise.backends import Outcome
from blockwise.errors import UserError
from blockwise.grid import Block, Box, Grid, relative
from blockwise.outputs import VolumeOutput
from blockwise.run import run_step
from blockwise.sources import RawSource, Source
from blockwise.step import Before, BlockStep, load_step
from blockwise.upstream import BlocksSource
from blockwise.volume import Address, create_volume, open_volume
from blockwise.volume.info import VolumeInfo
from blockwise.volume_step import Holds, VolumeStep, giving
from tasks.components.faces_step import ComponentFacesStep
from tasks.components.labels_step import ConnectedComponentsStep
from tasks.components.merge_step import ComponentMergeStep
from tasks.objects.table_step import ObjectTableStep
from tests.runs import InlineBackend, Run

SHAPE = (12, 16, 10)
GRID = Grid("zyx", SHAPE, (4, 8, 5))
WHOLE = tuple(slice(0, n) for n in SHAPE)


class RawStep(VolumeStep):
    """What the raw volume holds above a level."""

    name: ClassVar[str] = "above"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "mask"

    raw: VolumeInfo
    level: int

    def settings(self) -> Mapping[str, Any]:
        return {"level": self.level}

    def sources(self) -> tuple[Source, ...]:
        return (RawSource(self.raw, "zyx", watch_files=True),)

    def output(self) -> VolumeOutput:
        return VolumeOutput(self.address, self.grid, self.chunks, "uint8", 0, {})

    def projected_memory(self) -> int:
        return 1

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint8]:
        return (open_volume(self.raw.address).read(block.write_box) > self.level).astype(np.uint8)


class DilatedStep(VolumeStep):
    """A mask that has grown by a voxel."""

    name: ClassVar[str] = "dilated"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "mask"

    before: Annotated[Before[VolumeStep], giving("mask")]
    rounds: int = 1

    @property
    def halo(self) -> tuple[int, ...]:
        return (self.rounds,) * 3

    def settings(self) -> Mapping[str, Any]:
        return {"rounds": self.rounds}

    def sources(self) -> tuple[Source, ...]:
        return (BlocksSource(self.before),)

    def output(self) -> VolumeOutput:
        return VolumeOutput(self.address, self.grid, self.chunks, "uint8", 0, {})

    def projected_memory(self) -> int:
        return 1

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint8]:
        box = self.read_box(block)
        grown = binary_dilation(open_volume(self.before.address).read(box), iterations=self.rounds)
        return grown[relative(block.write_box, box)].astype(np.uint8)


class HalvedStep(VolumeStep):
    """Every second voxel of a mask: a grid of its own, of half the shape."""

    name: ClassVar[str] = "halved"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "mask"

    before: Annotated[Before[VolumeStep], giving("mask")]

    def reads(self, block: Block) -> Mapping[str, Box]:
        finer = self.before.grid.shape
        box = tuple(slice(2 * s.start, min(2 * s.stop, n)) for s, n in zip(block.write_box, finer, strict=True))
        return dict.fromkeys(self.inputs, box)

    def settings(self) -> Mapping[str, Any]:
        return {}

    def sources(self) -> tuple[Source, ...]:
        return (BlocksSource(self.before),)

    def output(self) -> VolumeOutput:
        return VolumeOutput(self.address, self.grid, self.chunks, "uint8", 0, {})

    def projected_memory(self) -> int:
        return 1

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint8]:
        (box,) = self.reads(block).values()
        return open_volume(self.before.address).read(box)[::2, ::2, ::2]


class DifferenceStep(HalvedStep):
    """Where two masks differ."""

    name: ClassVar[str] = "difference"

    other: Annotated[Before[VolumeStep], giving("mask")]

    def reads(self, block: Block) -> Mapping[str, Box]:
        return BlockStep.reads(self, block)

    def sources(self) -> tuple[Source, ...]:
        return (BlocksSource(self.before), BlocksSource(self.other))

    def compute(self, block: Block, prepared: Any) -> NDArray[np.uint8]:
        one, other = (open_volume(step.address).read(block.write_box) for step in (self.before, self.other))
        return (one != other).astype(np.uint8)


class Chain:
    """Steps over a volume in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw = f"{folder}/raw.n5:raw"
        self.values = np.random.default_rng(4).integers(0, 100, SHAPE, np.uint8)
        create_volume(Address.parse(self.raw), SHAPE, (4, 4, 5), "uint8", {})
        open_volume(self.raw, "a").write(WHOLE, self.values)

    def make(self, kind: Callable[..., Any], dataset: str = "", grid: Grid = GRID, **fields: Any) -> Any:
        place = {"address": f"{self.folder}/out.n5:{dataset}", "chunks": (2, 4, 5)} if dataset else {}
        return kind(work_dir=f"{self.folder}/work", grid=grid, **place, **fields)

    def above(self, level: int = 80, variant: str = "") -> RawStep:
        info = VolumeInfo(address=self.raw, axes="zyx", shape=SHAPE, dtype="|u1", chunks=(4, 4, 5))
        return self.make(RawStep, f"above{variant}", raw=info, level=level, variant=variant)

    def objects(self, thresholded: VolumeStep) -> tuple[BlockStep, ...]:
        """From a mask to a table of objects, whoever gives the mask."""
        one_block = Grid("zyx", SHAPE, SHAPE)
        faces = self.make(ComponentFacesStep, thresholded=thresholded, foreground=1, connectivity=6)
        merge = self.make(ComponentMergeStep, grid=one_block, faces=faces, min_size=2)
        final = self.make(ConnectedComponentsStep, "labels", faces=faces, merge=merge)
        return faces, merge, final, self.make(ObjectTableStep, grid=one_block, faces=faces, merge=merge)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def run(*steps: BlockStep) -> dict[str, list[int]]:
    """Bring steps up to date; the blocks that were computed, by step. Each goes through JSON, as for a worker."""
    record = Run()
    for step in steps:
        outcome: Outcome = run_step(load_step(step.to_json()), InlineBackend(record), 1, lambda _: None)
        assert not outcome.failed
        assert not outcome.stopped
    return record.computed


def read(step: VolumeStep) -> NDArray[Any]:
    return open_volume(step.address).read(tuple(slice(0, n) for n in step.grid.shape))


def expected_labels(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    whole = label(mask, connectivity=1)
    large = np.bincount(whole.ravel()) >= 2
    return label(large[whole] & mask, connectivity=1)


def test_a_step_between_threshold_and_components_edits_nothing_after_it(chain: Chain) -> None:
    above = chain.above()
    run(above, *chain.objects(above))
    np.testing.assert_array_equal(read(chain.objects(above)[2]), expected_labels(chain.values > 80))
    dilated = chain.make(DilatedStep, "dilated", before=above)
    steps = (above, dilated, *chain.objects(dilated))
    computed = run(*steps)
    assert list(computed) == ["dilated", "component_faces", "component_merge", "connected_components", "object_table"]
    np.testing.assert_array_equal(read(steps[4]), expected_labels(binary_dilation(chain.values > 80)))
    assert steps[2].identity["inputs"] == {"dilated": dilated.fingerprint}
    assert run(*steps) == {}
    wider = chain.make(DilatedStep, "dilated", before=above, rounds=2)
    assert "above" not in run(above, wider, *chain.objects(wider))


def test_what_a_step_does_not_give_is_refused(chain: Chain) -> None:
    final = chain.objects(chain.above())[2]
    with pytest.raises(ValidationError, match="connected_components gives labels, expected mask"):
        chain.make(DilatedStep, "dilated", before=final)


def test_two_results_of_one_kind_in_one_chain(chain: Chain) -> None:
    low, high = chain.above(40), chain.above(80, variant="2")
    difference = chain.make(DifferenceStep, "difference", before=low, other=high)
    assert difference.identity["inputs"] == {"above": low.fingerprint, "above_2": high.fingerprint}
    run(low, high, difference)
    np.testing.assert_array_equal(read(difference), (chain.values > 40) != (chain.values > 80))
    other = chain.above(60, variant="2")
    assert list(run(low, other, chain.make(DifferenceStep, "difference", before=low, other=other))) == [
        "above_2",
        "difference",
    ]


def test_a_grid_of_its_own_redoes_only_what_lies_below_a_change(chain: Chain) -> None:
    above = chain.above()
    halved = chain.make(HalvedStep, "halved", Grid("zyx", (6, 8, 5), (2, 4, 5)), before=above)
    assert run(above, halved) == {"above": list(range(12)), "halved": list(range(6))}
    np.testing.assert_array_equal(read(halved), (chain.values > 80)[::2, ::2, ::2])
    changed = (slice(8, 12), slice(8, 12), slice(0, 5))
    open_volume(chain.raw, "a").write(changed, 255 - chain.values[changed])
    computed = run(above, halved)
    assert computed == {"above": above.grid.ids_touching(changed), "halved": [5]}


class Disturbed(InlineBackend):
    """Does something before a block is computed."""

    def __init__(self, record: Run, block: int, disturb: Callable[[], None]) -> None:
        super().__init__(record)
        self.block = block
        self.disturb = disturb

    def run(self, step: BlockStep, items: Any, referee: Any, report: Any) -> None:
        for item in items:
            if item.block == self.block:
                self.disturb()
            super().run(step, [item], referee, report)


def test_blocks_that_have_read_a_chunk_which_vanished_are_done_again(chain: Chain) -> None:
    above = chain.above()
    dilated = chain.make(DilatedStep, "dilated", before=above)
    run(above)
    chunk = chain.folder / "out.n5" / "above" / "0" / "0" / "0"
    content = chunk.read_bytes()
    outcome = run_step(dilated, Disturbed(Run(), 11, chunk.unlink), 1, lambda _: None)
    assert outcome.upstream == "above"
    assert outcome.done == 12
    assert dilated.read_target() is None
    computed = run(above, dilated)
    assert computed["above"] == [0]
    assert computed["dilated"] == dilated.grid.ids_touching(tuple(slice(0, n + 1) for n in GRID.block_shape))
    assert chunk.read_bytes() == content
    np.testing.assert_array_equal(read(dilated), binary_dilation(chain.values > 80))


def test_raw_files_that_vanish_while_a_step_reads_them_are_named(chain: Chain) -> None:
    chunk = chain.folder / "raw.n5" / "raw" / "0" / "0" / "0"
    with pytest.raises(UserError, match=r"above: raw .*: 1 files were there .* the first is .*raw.n5/raw/0/0/0\."):
        run_step(chain.above(), Disturbed(Run(), 11, chunk.unlink), 1, lambda _: None)
    assert chain.above().read_target() is None


def test_raw_files_that_change_while_a_step_reads_them_are_read_again(chain: Chain) -> None:
    changed = (slice(0, 4), slice(0, 4), slice(0, 5))

    def write() -> None:
        open_volume(chain.raw, "a").write(changed, 255 - chain.values[changed])

    record = Run()
    outcome = run_step(chain.above(), Disturbed(record, 11, write), 1, lambda _: None)
    assert record.computed["above"] == [*range(12), 0]
    assert outcome.done == 13
    chain.values[changed] = 255 - chain.values[changed]
    np.testing.assert_array_equal(read(chain.above()), chain.values > 80)


def test_a_run_into_an_output_that_another_run_has_replaced_is_refused(chain: Chain) -> None:
    """Two work folders, one output: the later one wins, the other says so and vouches for nothing."""
    one, other = chain.above(), chain.above(60)
    other = RawStep(**{**dict(other), "work_dir": f"{chain.folder}/other"})
    record = Run()
    outcome = run_step(one, Disturbed(record, 5, lambda: run(other) and None), 1, lambda _: None)
    assert [(result.error, result.final) for result in outcome.failed.values()] == [("OutputReplacedError", True)]
    assert "it was made by another run, while this run was writing it" in outcome.stopped
    assert record.computed["above"] == [0, 1, 2, 3, 4]
    assert one.read_target() is None
    np.testing.assert_array_equal(read(other), chain.values > 60)
