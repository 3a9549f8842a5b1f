"""A group of arrays as output: what makes arrays that lie below it the scales of one image, say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockwise.grid import Block, Box
from blockwise.identity import canonical_json, digest
from blockwise.outputs.base import NotOursError
from blockwise.outputs.volume import found_dataset
from blockwise.stamps import WrittenFiles
from blockwise.volume import Address, DamagedDataError, DamagedMetadataError, delete_volume
from blockwise.volume.groups import group_attributes, link_array, linked_to, write_group

OWN = ("fingerprint", "id", "provenance")
"""Attributes that every output carries, whatever it holds."""


@dataclass(frozen=True)
class GroupOutput:
    """A group, which one block makes: attributes, and arrays of elsewhere that are linked into it.

    Attributes:
        address: of the group, ``path.n5:key``.
        links: addresses of arrays by the names that they get in the group.
    """

    address: str
    links: Mapping[str, str]

    @property
    def _place(self) -> Address:
        return Address.parse(self.address)

    def places(self) -> tuple[str, ...]:
        """The container, unless it lies in a store."""
        return () if self._place.is_remote else (self._place.location,)

    def check_ours(self) -> None:
        """Refuse a group with attributes that does not carry one of our fingerprints."""
        attributes = self._attributes()
        if attributes and not set(OWN) <= attributes.keys():
            raise NotOursError(
                f"output {self.address}: there is a group that this pipeline has not written (no attribute "
                "'fingerprint'); it is left alone. Remove it yourself, or choose another place"
            )

    def found(self) -> Mapping[str, Any] | None:
        """Attributes of the group; None where there is none, or one without fingerprint."""
        return found_group(self.address)

    def description_files(self) -> tuple[Path, ...]:
        """None: what ``found`` reads is read each time, for the one block that there is."""
        return ()

    def create(self, attributes: Mapping[str, Any]) -> None:
        """Make a group that holds nothing yet, in place of an older one of ours."""
        self.check_ours()
        write_group(self._place, attributes)

    def write(self, block: Block, data: Mapping[str, Any]) -> str:
        """Make the links, then give the group its attributes.

        Args:
            block: the only one.
            data: attributes, as JSON.
        """
        for name, target in self.links.items():
            self._make_room(self._within(name))
            link_array(self._within(name), Address.parse(target))
        own = self._attributes() or {}
        write_group(self._place, {**data, **{name: own[name] for name in OWN if name in own}})
        return self._sum(dict(data))

    def checksum(self, block: Block) -> str:
        """Read the attributes and the links back.

        Raises:
            DamagedDataError: the attributes are absent, or cannot be understood.
        """
        try:
            attributes = group_attributes(self._place)
        except DamagedMetadataError as error:
            raise DamagedDataError(f"{self.address}: {error}", self.address, block.write_box) from error
        return self._sum({name: value for name, value in (attributes or {}).items() if name not in OWN})

    def grid_box(self, box: Box) -> Box:
        """The box itself: errors name the block's write box."""
        return box

    def files_stamp(self, block: Block) -> str:
        """Digest over attributes and links themselves: they are small."""
        return self._state()

    def files(self) -> WrittenFiles:
        """The same for the only block."""
        return _State(self._state())

    def _make_room(self, link: Address) -> None:
        """Delete a dataset of ours where a link is to be; what is not ours refuses it in a moment."""
        if not linked_to(link) and found_dataset(str(link)) is not None:
            delete_volume(link)

    def _attributes(self) -> Mapping[str, Any] | None:
        return _readable_attributes(self._place)

    def _sum(self, attributes: Mapping[str, Any]) -> str:
        links = {name: linked_to(self._within(name)) for name in self.links}
        return digest(canonical_json([attributes, links]))

    def _state(self) -> str:
        return self._sum(self._attributes() or {})

    def _within(self, name: str) -> Address:
        return self._place.within(f"{self._place.key}/{name}")


def found_group(address: str) -> Mapping[str, Any] | None:
    """Attributes of a group of ours; None where there is none, or one without fingerprint.

    Raises:
        UserError: what lies there cannot be looked at.
    """
    attributes = _readable_attributes(Address.parse(address))
    return attributes if attributes and {"fingerprint", "id"} <= attributes.keys() else None


def _readable_attributes(place: Address) -> Mapping[str, Any] | None:
    try:
        return group_attributes(place)
    except DamagedMetadataError:
        return None


@dataclass(frozen=True)
class _State:
    """What there is of a group, as one value."""

    digest: str

    def stamp(self, block: Block) -> str:
        return self.digest
