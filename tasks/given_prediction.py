"""In place of step 1: probabilities that are there already, such as an export of ilastik -> probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Block, Box, box_shape
from blockwise.mask import open_mask
from blockwise.sources import RawSource, Source
from blockwise.step import BASE_MEMORY
from blockwise.volume import open_volume
from blockwise.volume.decoding import check_decodes
from blockwise.volume.info import VolumeInfo
from tasks.channels import RawChannels
from tasks.prediction import PredictionStep, quantize


class GivenSource(RawSource):
    """Probabilities that are given."""

    name = label = "probabilities"


def normalized(values: NDArray[Any], drange: tuple[float, float] | None) -> NDArray[np.float32]:
    """Values as probabilities, as ilastik's threshold applet takes them.

    Args:
        values: as they are stored.
        drange: what stands for 0 and 1; None for 0 and 255 where the type is uint8, and for 0 and 1 elsewhere.

    Returns:
        float32 of the same shape.
    """
    if drange is None:
        drange = (0.0, 255.0) if values.dtype == np.uint8 else (0.0, 1.0)
    low, high = map(np.float32, drange)
    found: NDArray[np.float32] = (values.astype(np.float32) - low) / (high - low)
    return found


def binary(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values of a binary image as probabilities: 1 where they are not 0; float32 of the same shape."""
    found: NDArray[np.float32] = (values != 0).astype(np.float32)
    return found


def several_values(values: NDArray[Any]) -> list[float]:
    """Up to three different values that are not 0, in order."""
    found: list[float] = []
    rest = values[values != 0]
    while rest.size and len(found) < 3:
        found.append(float(rest.flat[0]))
        rest = rest[rest != rest.flat[0]]
    return sorted(found)


class GivenPredictionStep(PredictionStep):
    """Probabilities that are given, in the place and the form of those that are computed.

    Attributes:
        given: the volume that holds them.
        drange: see ``normalized``.
        is_binary: what is not 0 is an object, 1; see ``binary``.
        is_labelled: it may have several values.
    """

    version: ClassVar[int] = 1

    given: VolumeInfo
    drange: tuple[float, float] | None
    is_binary: bool = False
    is_labelled: bool = False

    def settings(self) -> Mapping[str, Any]:
        """Which classes are taken, and how."""
        order = {"order of axes": self.output().axes} if "t" in self.grid.axes else {}
        drange = None if self.drange is None else list(self.drange)
        binary = {"binary": True} if self.is_binary else {}
        return {
            **order,
            "given": True,
            "classes": list(self.classes),
            "dtype": self.dtype,
            "drange": drange,
            **binary,
        }

    def provenance(self) -> Mapping[str, Any]:
        """Settings, and where the probabilities lie."""
        return {**super().provenance(), "probabilities": self.given.address}

    @property
    def given_channels(self) -> RawChannels:
        """What is read of the volume."""
        return RawChannels(info=self.given, channels=self.classes, axes=self.grid.axes)

    def sources(self) -> tuple[Source, ...]:
        """The given volume, and the mask."""
        given = GivenSource(self.given, self.grid.axes, self.change_detection == "files")
        return (given, *self.mask_sources())

    def reads(self, block: Block) -> Mapping[str, Box]:
        """The write box of both."""
        return dict.fromkeys(self.inputs, block.write_box)

    @property
    def looks_at_numbers(self) -> bool:
        """They were made of the raw volume elsewhere."""
        return False

    def projected_memory(self) -> int:
        """As stored, as float32 twice, and what is written."""
        per_voxel = self.given_channels.bytes_per_voxel + len(self.classes) * (8 + np.dtype(self.dtype).itemsize)
        return BASE_MEMORY + per_voxel * math.prod(self.grid.block_shape)

    def bytes_of_all_blocks(self) -> tuple[int, int]:
        """What is given; probabilities of all written classes."""
        written = len(self.classes) * np.dtype(self.dtype).itemsize
        return self.grid.voxels * self.given_channels.bytes_per_voxel, self.grid.voxels * written

    def make_ready(self) -> None:
        """Look whether the given volume can be decoded."""
        check_decodes(open_volume(self.given.address))

    def prepare(self) -> Any:
        """Open the given volume and the mask."""
        return open_volume(self.given.address), open_mask(self.mask, self.grid)

    def compute(self, block: Block, prepared: Any) -> NDArray[Any]:
        """The probabilities of one block; they are 0 outside the mask.

        Raises:
            UserError: values that are no probabilities are to be written as uint8.
        """
        volume, mask = prepared
        given = self.given_channels.read(volume, block.write_box)
        if self.is_binary and not self.is_labelled and len(several := several_values(given)) > 1:
            found = ", ".join(f"{value:g}" for value in several)
            raise UserError(
                f"prediction.probabilities {self.given.address}: holds {found} beside 0 in {self.title(block.id)}; "
                "ilastik makes objects of each value by itself, and here a binary image has 0 and one other value"
            )
        values = np.moveaxis(binary(given) if self.is_binary else normalized(given, self.drange), -1, 0)
        if self.dtype != "float32" and not (values.min() >= 0 and values.max() <= 1):
            raise UserError(
                f"prediction.probabilities {self.given.address}: values reach from {values.min():g} to "
                f"{values.max():g} in {self.title(block.id)}, expected 0 to 1; set prediction.dtype: float32, or "
                "give the dataset an attribute drange, the values that stand for 0 and 1"
            )
        box = self.output().box(block.write_box)
        stored = quantize(values, self.dtype).reshape(box_shape(box))
        if mask is None:
            return stored
        inside = np.expand_dims(mask.read(block.write_box), self.output().axes.index("c"))
        return np.where(inside, stored, stored.dtype.type(0))
