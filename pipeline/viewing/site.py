"""What a server shows: the layers of a run, and how their voxels come about."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from blockwise.backends.executor import Executor
from blockwise.demand import BlockFailedError, BusyError, Demand
from blockwise.demand.beginning import PlaceTakenError
from blockwise.demand.presence import Presence, stands_alone
from blockwise.errors import UserError
from blockwise.grid import Box, box_shape
from blockwise.identity import array_checksum, digest
from blockwise.outputs import NotOursError
from blockwise.step import BlockStep
from blockwise.upstream import BlocksSource
from blockwise.volume import DamagedDataError
from pipeline.assembly.stacks.unaligned import StepsSoFar
from pipeline.viewing.chunk_cache import ChunkCache
from pipeline.viewing.colours import Colour, colours_of_run
from pipeline.viewing.images.contrast import contrast
from pipeline.viewing.images.layers import Layer, layers_of
from pipeline.viewing.images.voxels import Voxels
from pipeline.viewing.live.stores import Stores
from pipeline.viewing.panel.pace import Pace
from pipeline.viewing.refusals import NotFinishedError, RefusedError, busy, failed
from pipeline.viewing.state import ORIGIN, first_state

P = ParamSpec("P")
T = TypeVar("T")

READERS = 4
FEW = 64
"""Blocks that are looked at one by one; of more it is asked whether the step is finished."""
PATIENCE_S = 2.0
"""How long somebody waits until all files of a step were looked at; then its target is believed."""
logger = logging.getLogger(__name__)


class Whole(Protocol):
    """What writes all layers of a site at once, where blocks are not known one by one."""

    def tag(self) -> str:
        """Changes when the layers may have changed; empty where they are not there."""

    def why_missing(self) -> str:
        """Why they are not there, and what to do, for people."""


@dataclass
class Site:
    """The layers of one run.

    Attributes:
        steps: of the run.
        layers: by name, in the order in which they lie upon each other.
        demand: computes what is not there; None where only what is there is shown.
        presence: what is known of blocks that are there.
        whole: what has written all layers at once; None where each block of each step has a marker.
        paces: how fast steps go, by fingerprint.
        stores: of thresholds that are tried; None where nothing can be tried.
        shares_demand: others use it as well, and one of them ends it.
        beside: layers that are none of the run's, by name and fingerprint, the oldest first.
        voxels: of all layers.
        cache: chunks as they were sent.
    """

    steps: StepsSoFar
    layers: dict[str, Layer]
    demand: Demand | None = None
    presence: Presence = field(default_factory=Presence)
    whole: Whole | None = None
    paces: dict[str, Pace] = field(default_factory=lambda: defaultdict(Pace))
    stores: Stores | None = None
    shares_demand: bool = False
    beside: OrderedDict[tuple[str, str], Layer] = field(default_factory=OrderedDict)
    voxels: Voxels = field(default_factory=Voxels)
    cache: ChunkCache = field(default_factory=ChunkCache)

    def __post_init__(self) -> None:
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._looking = ThreadPoolExecutor(1, "looking")
        self._looks: dict[str, asyncio.Future[bool]] = {}

    @classmethod
    def of(
        cls, steps: StepsSoFar, executor: Executor | None = None, max_attempts: int = 1, stores: Stores | None = None
    ) -> Site:
        """The site of a run.

        Args:
            steps: of the run.
            executor: computes what is not there; None where only what is there is shown.
            max_attempts: how often a block is tried.
            stores: see ``Site``.
        """
        presence = Presence()
        demand = None if executor is None else Demand(presence, executor, max_attempts)
        return cls(steps, layers_of(steps), demand, presence, stores=stores)

    def close(self) -> None:
        """Let go of everything."""
        if self.demand is not None and not self.shares_demand:
            self.demand.close()
        if self.stores is not None:
            self.stores.close()
        for pool in (self._readers, self._looking):
            pool.shutdown(cancel_futures=True)

    def layer(self, name: str, fingerprint: str | None = None) -> Layer:
        """A layer by its name, and fingerprint if that must be the present one.

        Raises:
            RefusedError: there is none; names those that there are.
        """
        if fingerprint is not None and (name, fingerprint) in self.beside:
            return self.beside[name, fingerprint]
        layer = self.layers.get(name)
        if layer is None:
            known = list(self.layers)
            raise RefusedError(404, f"there is no layer {name!r}; there are {', '.join(known)}", layers=known)
        if fingerprint not in (None, layer.fingerprint):
            raise RefusedError(
                404,
                f"layer {name} has the fingerprint {layer.fingerprint}, not {fingerprint!r}: settings have changed",
                fingerprint=layer.fingerprint,
            )
        return layer

    async def box(self, layer: Layer, box: Box) -> NDArray[Any]:
        """Voxels of a box of a layer as they are stored, in the order of its axes; computed where need be.

        Raises:
            RefusedError: they are not there.
        """
        try:
            await self.make_ready(layer, box, is_finest=True)
            if is_left_out(layer, box):
                return np.zeros(box_shape(box), layer.stored_dtype)
            return await self.read(layer, box, functools.partial(self.voxels.read, layer, box), is_finest=True)
        except NotFinishedError as error:
            raise error.for_programs() from error

    async def read(self, layer: Layer, box: Box, read: Callable[[], T], *, is_finest: bool) -> T:
        """Read what is there; where it turns out to be damaged and can be computed again, do that first.

        Raises:
            RefusedError: it cannot be read.
        """
        try:
            try:
                return await self.in_thread(read)
            except DamagedDataError as damaged:
                self.presence.look_again()
                if self.demand is None or layer.step is None or not stands_alone(layer.step):
                    raise
                await self.in_thread(BlocksSource(layer.step).forget, damaged.box)
            await self.make_ready(layer, box, is_finest=is_finest)
            return await self.in_thread(read)
        except (DamagedDataError, UserError, OSError) as error:
            raise RefusedError(500, f"{layer.name} cannot be read: {error}", layer=layer.name) from error

    async def make_ready(self, layer: Layer, box: Box, *, is_finest: bool) -> None:
        """See that what lies in a box is there.

        Raises:
            RefusedError: it is not.
        """
        step = layer.step
        if step is None:
            return
        missing = await self.missing(step, blocks_below(step, layer.grid_box(box)))
        if missing is None:
            return
        if self.demand is None or not is_finest or not stands_alone(step) or self.whole_of(step) is not None:
            raise NotFinishedError(step.label, self.why_missing(step, missing))
        try:
            await self.demand.need(step, blocks_below(step, layer.grid_box(box)))
        except BusyError:
            raise busy() from None
        except BlockFailedError as error:
            raise failed(error) from error
        except (PlaceTakenError, NotOursError, PermissionError) as error:
            raise NotFinishedError(step.label, str(error)) from error
        except (UserError, OSError) as error:
            raise RefusedError(500, f"{step.label}: {error}", step=step.label) from error

    def why_missing(self, step: BlockStep, block: int) -> str:
        """Why a block is not there, and what to do, for people."""
        if (whole := self.whole_of(step)) is not None:
            return whole.why_missing()
        if not stands_alone(step):
            return "it needs the whole volume, and is not finished; run the workflow"
        return f"{step.title(block)} is not computed; run the workflow"

    async def missing(self, step: BlockStep, blocks: Sequence[int]) -> int | None:
        """The first of some blocks that is not done; None where all are."""
        if not blocks:
            return None
        finished = False
        whole = self.whole_of(step)
        if whole is not None or not stands_alone(step) or len(blocks) > FEW:
            finished = await self.is_finished(step)
            if whole is not None or not finished:
                return None if finished else blocks[0]

        def look() -> int | None:
            done = functools.partial(self.presence.is_done, step, is_finished=finished)
            return next((block for block in blocks if not done(block)), None)

        return await self.in_thread(look)

    def whole_of(self, step: BlockStep) -> Whole | None:
        """What writes all layers of the run at once, where a step is of the run: blocks that are tried are not."""
        return self.whole if self.whole is not None and step.fingerprint in self._of_the_run else None

    @functools.cached_property
    def _of_the_run(self) -> frozenset[str]:
        return frozenset(step.fingerprint for step in self.steps.everything())

    def seems_finished(self, step: BlockStep) -> bool:
        """Whether all of a step is there, as far as its target tells; no file is looked at."""
        whole = self.whole_of(step)
        return self.presence.seems_complete(step) if whole is None else bool(whole.tag())

    async def is_finished(self, step: BlockStep) -> bool:
        """Whether all of a step is there; where a look at it takes long, what its target says."""
        if (whole := self.whole_of(step)) is not None:
            return bool(await self.in_thread(whole.tag))
        known = await self.in_thread(self.presence.known_complete, step)
        if known is not None:
            return known
        look = self._looks.get(step.label)
        if look is None or look.done():
            look = asyncio.get_running_loop().run_in_executor(self._looking, self.presence.is_complete, step)
            self._looks[step.label] = look
        done, _ = await asyncio.wait([look], timeout=PATIENCE_S)
        return look.result() if done else await self.in_thread(self.presence.seems_complete, step)

    def tag(self, layer: Layer, step: BlockStep | None, box: Box) -> str:
        """What changes when the voxels in a box, written by a step, may have changed."""
        if step is None:
            return array_checksum(self.voxels.states(layer, box))
        if (whole := self.whole_of(step)) is not None:
            return whole.tag()
        markers = (step.markers.read(block) for block in blocks_below(step, layer.grid_box(box)))
        return digest(",".join("" if marker is None else marker.checksum for marker in markers))

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what waits for files, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, lambda: function(*args, **kwargs))

    def colours(self) -> dict[str, Colour]:
        """Colours of the classes by name."""
        return colours_of_run(self.steps)

    async def state(self, token: str) -> dict[str, Any]:
        """The viewer's state for a page whose address has none."""
        raw_range = await self.in_thread(self._raw_range)
        shown = [layer for layer in self.layers.values() if await self.in_thread(self.is_to_be_shown, layer)]
        steps = [layer.step for layer in shown if layer.step is not None]
        finished = await self.in_thread(
            lambda: [self.seems_finished(step) for step in steps]
        )  # a page is not to wait
        return first_state(shown, f"{ORIGIN}/{token}/data", self.colours(), raw_range, is_close=not all(finished))

    def is_to_be_shown(self, layer: Layer) -> bool:
        """Whether a page has a layer: not where nothing of it would be there, or wanted."""
        if layer.step is None:
            return True
        if self.whole is None and self.demand is not None and stands_alone(layer.step) and layer.kind != "classes":
            return True
        if self.whole is not None:
            return layer.kind != "classes" and bool(self.whole.tag())
        return any(layer.step.markers.sample(1))

    def _raw_range(self) -> tuple[float, float] | None:
        try:
            return contrast(self.layers["raw"], self.voxels)
        except (DamagedDataError, UserError, OSError) as error:  # the layer itself says it to whoever looks
            logger.warning("%s", error)
            return None


def is_left_out(layer: Layer, box: Box) -> bool:
    """Whether a mask or a region leaves out a whole box of a layer, where all is 0."""
    return layer.step is not None and not blocks_below(layer.step, layer.grid_box(box))


def blocks_below(step: BlockStep, box: Box) -> list[int]:
    """Ids of the blocks that write into a box of the step's grid: none where a mask or a region leaves it out."""
    cut = tuple(slice(max(s.start, d.start), min(s.stop, d.stop)) for s, d in zip(box, step.grid.domain, strict=True))
    return step.grid.ids_touching(cut) if all(s.start < s.stop for s in cut) else []
