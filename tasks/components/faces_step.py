"""Step 3: label each block in memory; keep what joins components across blocks, not the labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.grid import Block
from blockwise.mask import open_mask
from blockwise.outputs import FolderOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before, BlockStep
from blockwise.upstream import BlocksSource
from blockwise.volume import open_volume
from blockwise.volume_step import VolumeStep, giving
from tasks.components.core_sizes import describe_cores, places_of_cores
from tasks.components.labelling import face_labels, label_components, load_labelling, pack_faces
from tasks.components.measures import (
    MeasureColumns,
    Measures,
    border_flags,
    component_columns,
    core_flags,
    measure_components,
    side_by_side,
)
from tasks.threshold import CORE, CORE_OUTSIDE

LABELLING_BYTES_PER_VOXEL = 24
"""Mask, labels, cc3d's tables, and the running maximum that finds first voxels."""


class ComponentFacesStep(BlockStep):
    """Components of each block by itself.

    Attributes:
        thresholded: the step that makes the mask.
        foreground: 1: objects are what the mask holds; 0: objects are its zeros.
        connectivity: neighbours of a voxel: 6, 18, 26 in 3D; 4, 8 in 2D.
        cores: the mask marks cores, and only objects with one are kept.
        core_sizes: label the cores by themselves too, so that their sizes become known.
        cores_outside: cores may reach out of the objects, and lie in several of them or in none.
    """

    name: ClassVar[str] = "component_faces"
    version: ClassVar[int] = 2

    thresholded: Annotated[Before[VolumeStep], giving("mask")]
    foreground: int
    connectivity: int
    cores: bool = False
    core_sizes: bool = False
    cores_outside: bool = False

    def settings(self) -> Mapping[str, Any]:
        """Settings that can change the result; that cores are marked is the thresholded volume's."""
        optional = {"core_sizes": True} if self.core_sizes else {}
        if self.cores_outside:
            optional["cores_outside"] = True
        return {"foreground": self.foreground, "connectivity": self.connectivity, **optional}

    def sources(self) -> tuple[Source, ...]:
        """The thresholded volume, and the mask of what is computed."""
        return (BlocksSource(self.thresholded), *self.mask_sources())

    def output(self) -> FolderOutput:
        """One file per block."""
        return FolderOutput(self.records, self.grid)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Places of the spatial axes in the grid; time steps are labelled each by itself."""
        return tuple(i for i, axis in enumerate(self.grid.axes) if axis != "t")

    def touch_border(self, objects: Measures) -> NDArray[np.bool_]:
        """Which objects touch the border, in space, of what is computed: of the volume, or of its region of interest.

        The edge of a mask is no border.
        """
        axes = "".join(self.grid.axes[i] for i in self.spatial)
        domain = [self.grid.domain[i] for i in self.spatial]
        return border_flags(objects["start"], objects["stop"], domain, axes)

    @property
    def columns(self) -> MeasureColumns:
        """Which measures there are of a component."""
        return component_columns(len(self.spatial), core=self.cores)

    def projected_memory(self) -> int:
        """What is labelled, and what labelling needs."""
        per_voxel = LABELLING_BYTES_PER_VOXEL + (5 if self.core_sizes else 0)
        return BASE_MEMORY + per_voxel * math.prod(self.grid.largest_read_shape(self.halo))

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """What is labelled; two faces per axis, two bytes a voxel."""
        voxels = self.grid.voxels
        faces = sum(4 * voxels // self.grid.block_shape[axis] for axis in self.spatial)
        return voxels, faces * (2 if self.core_sizes else 1)

    def prepare(self) -> Any:
        """Open the thresholded volume and the mask."""
        load_labelling()
        return open_volume(self.thresholded.address), open_mask(self.mask, self.grid)

    def labels(self, block: Block, prepared: Any) -> NDArray[Any]:
        """Labels of one block, spatial axes only; ``prepared`` as ``prepare`` gives it."""
        return self._labels_and_cores(block, prepared)[0]

    def _labels_and_cores(self, block: Block, prepared: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        thresholded, mask = prepared
        shape = self._shape(block)
        inside = None if mask is None else mask.read(block.write_box).reshape(shape)
        values = thresholded.read(block.write_box).reshape(shape)
        if not self.cores_outside:
            return label_components(values, self.foreground, self.connectivity, inside), values == CORE
        of_objects = (values > 0) & (values != CORE_OUTSIDE)
        return label_components(of_objects, self.foreground, self.connectivity, inside), values >= CORE

    def label_cores(self, is_core: NDArray[np.bool_]) -> NDArray[Any]:
        """Labels of the cores of one block, spatial axes only."""
        return label_components(is_core, 1, self.connectivity)

    def _shape(self, block: Block) -> tuple[int, ...]:
        return tuple(block.write_box[i].stop - block.write_box[i].start for i in self.spatial)

    def compute(self, block: Block, prepared: Any) -> dict[str, NDArray[Any]]:
        """Describe the components of one block: their measures side by side, int64, and all faces, flat.

        With ``core_sizes`` the same of the cores.
        """
        labels, is_core = self._labels_and_cores(block, prepared)
        origin = tuple(block.write_box[i].start for i in self.spatial)
        shape = tuple(self.grid.shape[i] for i in self.spatial)
        measures = measure_components(labels, origin, shape)
        if "t" in self.grid.axes:
            measures["first"] = measures["first"] + block.write_box[0].start * math.prod(shape)
        if self.cores:
            measures["core"] = core_flags(labels, is_core)
        found = {"components": side_by_side(measures, self.columns), "faces": pack_faces(face_labels(labels))}
        if self.core_sizes:
            cores = self.label_cores(is_core)
            found |= {"cores": describe_cores(cores, labels), "core_faces": pack_faces(face_labels(cores))}
            if self.cores_outside:
                found["core_places"] = places_of_cores(cores, labels)
        return found

    @cached_property
    def _written(self) -> FolderOutput:
        """The output, once for all that is read of it: to name its place takes as long as to read a small block."""
        return self.output()

    def read_table(self, block: Block, name: str) -> NDArray[np.int64]:
        """Read what ``compute`` has written of a block's ``components`` or ``cores``."""
        table: NDArray[np.int64] = self._written.read(block, name)
        return table

    def read_with_faces(self, block: Block, table: str, faces: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Read ``components`` with ``faces`` of a block, or ``cores`` with ``core_faces``, at once."""
        found = self._written.read_several(block, (table, faces))
        return found[table], found[faces]

    def read_faces(self, block: Block, name: str) -> NDArray[Any]:
        """Read what ``compute`` has written of a block's ``faces`` or ``core_faces``."""
        faces: NDArray[Any] = self._written.read(block, name)
        return faces
