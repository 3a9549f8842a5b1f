"""What makes scales one image for viewers: the metadata of their group, written when all of them are finished."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from blockwise.errors import UserError
from blockwise.grid import Block, Box
from blockwise.outputs import GroupOutput
from blockwise.sources import Source
from blockwise.step import BASE_MEMORY, Before, BlockStep
from blockwise.upstream import BlocksSource
from blockwise.volume import Address
from blockwise.volume.containers.metadata import Array
from blockwise.volume.formats import open_store
from blockwise.volume.groups import container_kind
from blockwise.volume_step import VolumeStep
from tasks.pyramid.layouts import Image, Layout, group_document, labels_document, scale_name


class _OfSteps(BlockStep):
    """One block that reads nothing but that other steps are finished."""

    address: str

    def reads(self, block: Block) -> Mapping[str, Box]:
        """All of each step's grid."""
        return {name: source.step.grid.domain for name, source in self._named().items()}

    def sources(self) -> tuple[Source, ...]:
        """The steps."""
        return tuple(map(BlocksSource, self._members()))

    def _named(self) -> dict[str, BlocksSource]:
        return {name: source for name, source in self.inputs.items() if isinstance(source, BlocksSource)}

    @abstractmethod
    def _members(self) -> tuple[BlockStep, ...]:
        """The steps."""

    def projected_memory(self) -> int:
        """Hardly anything."""
        return BASE_MEMORY


class PyramidStep(_OfSteps):
    """The group of all scales of a dataset.

    Attributes:
        scales: the steps that make them, the finest first.
        group_layout: how they are named and described.
        image: what there is to say of them.
        link: address of the finest scale, where it lies elsewhere and is linked into the group; empty where not.
    """

    name: ClassVar[str] = "pyramid"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "group"

    scales: tuple[Before[VolumeStep], ...]
    group_layout: Layout
    image: Image
    link: str = ""

    def settings(self) -> Mapping[str, Any]:
        """What is said of the image, and whether its finest scale is linked."""
        return {"layout": self.group_layout, "linked": bool(self.link), "image": self.image.model_dump(mode="json")}

    def _members(self) -> tuple[BlockStep, ...]:
        return self.scales

    def output(self) -> GroupOutput:
        """The group."""
        return GroupOutput(self.address, {scale_name(self.group_layout, 0): self.link} if self.link else {})

    def provenance(self) -> Mapping[str, Any]:
        """The step alone: the rest is the group's content."""
        return {"step": self.name, "step_version": self.version}

    def compute(self, block: Block, prepared: Any) -> dict[str, Any]:
        """The group's attributes."""
        kind = container_kind(Address.parse(self.address))
        return group_document(kind, self.image, {} if self.link else self._arrays())

    def _arrays(self) -> dict[str, Array]:
        """The scales by their names."""
        found = {}
        for number, step in enumerate(self.scales):
            address = Address.parse(step.address)
            array = open_store(address).find(address.key)
            if array is None:
                raise UserError(f"{address}: has vanished; run again")
            found[scale_name(self.group_layout, number)] = array
        return found


class LabelsStep(_OfSteps):
    """The list of the labels that belong to an OME-Zarr image.

    Attributes:
        pyramids: the steps that make their groups.
        names: of the groups, in the same order.
    """

    name: ClassVar[str] = "pyramid_labels"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "group"

    pyramids: tuple[Before[PyramidStep], ...]
    names: tuple[str, ...]

    def settings(self) -> Mapping[str, Any]:
        """The names."""
        return {"names": list(self.names)}

    def _members(self) -> tuple[BlockStep, ...]:
        return self.pyramids

    def output(self) -> GroupOutput:
        """The group ``labels``."""
        return GroupOutput(self.address, {})

    def compute(self, block: Block, prepared: Any) -> dict[str, Any]:
        """The group's attributes."""
        return labels_document(container_kind(Address.parse(self.address)), self.names)
