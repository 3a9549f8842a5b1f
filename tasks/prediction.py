"""Step 1: raw volume + ilastik project -> probabilities; of autocontext, those of the first stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.compiled import compiling_once
from blockwise.errors import UserError
from blockwise.grid import Block, Box, box_shape, grow, relative
from blockwise.mask import open_mask
from blockwise.not_finite import NotFinite, count_not_finite, noting
from blockwise.outputs import VolumeOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before
from blockwise.volume import open_volume
from blockwise.volume.decoding import check_decodes
from blockwise.volume.info import VolumeInfo
from blockwise.volume_step import Holds, VolumeStep
from tasks.channels import RawChannels
from tasks.pixel_classification.engine import Engine
from tasks.pixel_classification.engines import make_engine
from tasks.pixel_classification.features import StructureTensor
from tasks.pixel_classification.project import Project
from tasks.pixel_classification.training import open_project, trained_once

COMPILER_MEMORY = 130_000_000
"""Bytes beyond ``BASE_MEMORY`` of a worker that has compiled an engine: 371 MB were measured, without an image.

Which worker will compile nobody knows before.
"""
CLASSIFIERS = "classifiers"
"""Folder, in the work folder, of classifiers that were trained from labels."""


def quantize(probabilities: NDArray[np.float32], dtype: str, *, truncate: bool = False) -> NDArray[Any]:
    """Probabilities as they are stored.

    Args:
        probabilities: float32, 0 to 1.
        dtype: ``float32`` for these as they are; ``uint8`` or ``uint16`` for M p, M the largest value of the type.
        truncate: cut M p off, as ilastik does between two stages; else it is rounded half to even.
    """
    if dtype == "float32":
        return probabilities
    scaled = probabilities * np.float32(np.iinfo(dtype).max)
    stored: NDArray[Any] = (scaled if truncate else np.rint(scaled)).astype(dtype)
    return stored


@lru_cache(maxsize=4)
def compile_engine(engine: Engine, reach: tuple[int, ...], n_channels: int, dtype: str) -> None:
    """Predict one voxel: where nothing is compiled yet it takes half a minute, which no block should pay.

    Once per process and engine: of a batch each small image comes here.
    """
    image = np.zeros([*(2 * h + 1 for h in reach), n_channels], dtype)
    interior = slice(reach[0], reach[0] + 1), slice(reach[1], reach[1] + 1), slice(reach[2], reach[2] + 1)
    with compiling_once(Path(__file__).parent / "pixel_classification", f"{type(engine).__name__}-{dtype}"):
        engine.predict(image, interior)


def _listed(versions: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions) or "no library of its own"


class PredictionStep(VolumeStep):
    """Pixel classification.

    Attributes:
        raw: the raw volume.
        channels: channels of the raw volume that the project sees, in order.
        project: path of the ilastik project.
        project_hash: of the project's content.
        classes: classes that are written, from 0.
        class_names: names of all classes of the project.
        known_classes: names under which earlier results know the classes; empty for the same.
        dtype: ``float32``, ``uint8`` or ``uint16``.
        engine: which implementation computes.
        structure_tensor: ``fastfilters`` or ``vigra``.
        seed: for training, where the project has labels only.
        feature_halo: voxels (z, y, x) around a block that the features depend on.
        engine_memory: bytes that the engine needs at its peak for the largest block.
        stage: of the project, from 1.
        truncate: see ``quantize``.
        made_by: the step that makes the raw volume; None where it is given.
        engine_versions: of the libraries of an engine that is not ours.
    """

    name: ClassVar[str] = "prediction"
    version: ClassVar[int] = 1
    gives: ClassVar[Holds] = "probabilities"

    raw: VolumeInfo
    channels: tuple[int, ...]
    project: str
    project_hash: str
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    dtype: str
    engine: str
    structure_tensor: StructureTensor
    seed: int
    feature_halo: tuple[int, int, int]
    engine_memory: int
    known_classes: tuple[str, ...] = ()
    stage: int = 1
    truncate: bool = False
    made_by: Before[VolumeStep] | None = None
    engine_versions: tuple[tuple[str, str], ...] = ()

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result; of the project its content, not its path."""
        # Added where there is time only, so that what was computed without it stays valid.
        order = {"order of axes": self.output().axes} if "t" in self.grid.axes else {}
        return {
            **order,
            "project content": self.project_hash,
            "channels": list(self.channels),
            "classes": list(self.classes),
            "dtype": self.dtype,
            "engine": self.engine,
            "structure_tensor": self.structure_tensor,
            "seed": self.seed,
            **({"stored": "truncated"} if self.truncate else {}),
            **({"engine versions": dict(self.engine_versions)} if self.engine_versions else {}),
        }

    def provenance(self) -> Mapping[str, Any]:
        """Settings, and the paths of the inputs."""
        return {**super().provenance(), "project_path": self.project, "raw": self.raw.address}

    @cached_property
    def raw_channels(self) -> RawChannels:
        """What is read of the raw volume."""
        return RawChannels(info=self.raw, channels=self.channels, axes=self.grid.axes, made_by=self.made_by)

    def sources(self) -> tuple[Source, ...]:
        """The raw volume, and the mask."""
        return (self.raw_channels.source(watch_files=self.change_detection == "files"), *self.mask_sources())

    def reads(self, block: Block) -> Mapping[str, Box]:
        """The raw volume with a halo; the mask without."""
        return {"raw": self.read_box(block), "mask": block.write_box}

    def output(self) -> VolumeOutput:
        """Probabilities, one class a channel."""
        names = [self.class_names[i] for i in self.classes]
        extra = {"classes": names, "class_indices": list(self.classes)}
        return VolumeOutput(self.address, self.grid, self.chunks, self.dtype, len(self.classes), extra, self.shards)

    @property
    def looks_at_numbers(self) -> bool:
        """Integers are all finite."""
        return np.dtype(self.raw.dtype).kind == "f"

    @property
    def halo(self) -> tuple[int, ...]:
        """What the features reach."""
        reach = dict(zip("zyx", self.feature_halo, strict=True))
        return tuple(reach.get(axis, 0) for axis in self.grid.axes)

    @property
    def read_domain(self) -> Box:
        """The whole volume: the halo of a region of interest exists."""
        return tuple(slice(0, n) for n in self.grid.shape)

    def projected_memory(self) -> int:
        """The raw block, what the engine needs, the probabilities, and what a first run holds of the compiler."""
        written = math.prod(self.grid.block_shape) * len(self.classes) * np.dtype(self.dtype).itemsize
        image = self.voxels_read * (self.stored_bytes_per_voxel + 4 * self.n_channels)
        return BASE_MEMORY + COMPILER_MEMORY + image + written + self.engine_memory

    @property
    def voxels_read(self) -> int:
        """Of one block, at the most."""
        return math.prod(n + 2 * h for n, h in zip(self.grid.block_shape, self.halo, strict=True))

    @property
    def n_channels(self) -> int:
        """Channels of the image that is predicted."""
        return len(self.channels)

    @property
    def stored_bytes_per_voxel(self) -> int:
        """Of the image that is predicted, as it is read."""
        return self.raw_channels.bytes_per_voxel

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """The raw volume with halo; probabilities of all written classes."""
        voxels = self.grid.voxels
        read = voxels * (1 + self.grid.halo_waste(self.halo)) * self.stored_bytes_per_voxel
        written = voxels * len(self.classes) * np.dtype(self.dtype).itemsize
        return int(read), written

    def check_raw(self) -> None:
        """Look for defects of the raw volume that are too dear to look for each time it is opened.

        Raises:
            UserError: nothing of it can be decoded; a slice of a stack differs; a compressed file is damaged.
        """
        volume = open_volume(self.raw.address)
        check_decodes(volume)
        volume.verify()

    def make_ready(self) -> None:
        """Check the raw volume; train where there is something to train, so that workers find it."""
        self.check_raw()
        self.classifier()

    def prepare(self) -> Any:
        """Load the classifier and open what is read, once per worker."""
        engine = make_engine(self.engine, self.classifier(), structure_tensor=self.structure_tensor)
        if engine.versions != self.engine_versions:
            raise UserError(
                f"prediction.engine: {self.engine} computes with {_listed(engine.versions)} here, but the run was "
                f"begun with {_listed(self.engine_versions)}, and bits may depend on it; use one environment for all "
                "workers"
            )
        reach = tuple(h if axis in self.grid.axes else 0 for axis, h in zip("zyx", self.feature_halo, strict=True))
        compile_engine(engine, reach, self.n_channels, self.raw.dtype)
        return engine, self.open_image(), open_mask(self.mask, self.grid)

    def open_image(self) -> Any:
        """Open what the image that is predicted is made of."""
        return open_volume(self.raw.address)

    def read_image(self, opened: Any, box: Box) -> NDArray[Any]:
        """A box of the image that is predicted; zyxc. ``opened`` as ``open_image`` gives it."""
        return self.raw_channels.read(opened, box)

    def classifier(self) -> Project:
        """The project with its classifier; where it holds labels only, it is trained once and kept.

        Raises:
            UserError: the project, or a training image, is no longer what it was when the run began.
        """
        stages = open_project(self.project).stages
        project = stages[min(self.stage, len(stages)) - 1]
        if self.known_classes and len(self.known_classes) == len(project.classes):
            project = project.with_classes(self.known_classes)
        if project.content_hash != self.project_hash:
            raise UserError(
                f"project {self.project} or its training images were changed while the run was going on; start the "
                "run again"
            )
        return trained_once(project, self.seed, self.structure_tensor, self.work.below(CLASSIFIERS))

    def compute(self, block: Block, prepared: Any) -> Any:
        """Compute the probabilities of one block; they are 0 outside the mask. What is not finite is noted."""
        _, opened, _ = prepared
        read_box = grow(block.write_box, self.halo, self.read_domain)
        image = self.read_image(opened, read_box)
        inner = dict(zip(self.grid.axes, relative(block.write_box, read_box), strict=True))
        interior = tuple(inner.get(axis, slice(0, 1)) for axis in "zyx")
        return noting(self._predict(image, interior, block, prepared), [self._not_finite(image[interior], block)])

    def _not_finite(self, image: NDArray[Any], block: Block) -> NotFinite | None:
        """What is not finite in the block's own voxels, zyxc: each voxel is in the halo of others as well."""
        if not self.looks_at_numbers:  # to give the image another shape may cost a copy
            return None
        shape = [s.stop - s.start for s in block.write_box]
        return count_not_finite(image.reshape(*shape, -1), tuple(s.start for s in block.write_box))

    def _predict(self, image: NDArray[Any], interior: tuple[slice, ...], block: Block, prepared: Any) -> NDArray[Any]:
        engine, _, mask = prepared
        probabilities = engine.predict(image, interior)[list(self.classes)]
        # With t there is one time step, so that the channels may stand before it or after it.
        box = self.output().box(block.write_box)
        found = quantize(probabilities, self.dtype, truncate=self.truncate).reshape(box_shape(box))
        if mask is None:
            return found
        inside = mask.read(block.write_box)
        return np.where(np.expand_dims(inside, self.output().axes.index("c")), found, found.dtype.type(0))
