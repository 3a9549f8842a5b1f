"""Step 1 of autocontext, once more: raw volume + probabilities of the first stage + project -> probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blockwise.errors import UserError
from blockwise.grid import Block, Box
from blockwise.sources import Source
from blockwise.step import Before
from blockwise.upstream import BlocksSource
from blockwise.volume import open_volume
from blockwise.volume_step import VolumeStep, giving
from tasks.pixel_classification.axes import to_zyxc
from tasks.prediction import PredictionStep, quantize

CONVERTED = ("uint8", "uint16", "float32", "float64")
"""Types of raw volumes in which ilastik's conversion of probabilities is sound."""


def check_converts(dtype: str, address: str) -> None:
    """Refuse a raw volume in whose type ilastik's probabilities of the first stage do not arrive whole.

    Args:
        dtype: of the raw volume.
        address: of it, for the message.

    Raises:
        UserError: saying what becomes of the probabilities, and what to do.
    """
    name = np.dtype(dtype).name
    if name in CONVERTED:
        return
    reason = {
        "int32": "each of them becomes -2147483648 there, so that the second stage learns nothing from the first",
        "uint32": "a probability of 1 overflows there, and becomes whatever the processor makes of it",
        "uint64": "a probability of 1 overflows there, and becomes 0",
        "int64": "they overflow there",
        "int8": "their sign is wrong there, and they come right by overflowing on some processors only",
        "int16": "their sign is wrong there, and they come right by overflowing on some processors only",
    }.get(name, "ilastik has no images of this type")
    raise UserError(
        f"raw {address}: holds {name}, but autocontext writes the probabilities of the first stage in the type of "
        f"the raw volume, and {reason}. Convert it to one of {', '.join(CONVERTED)}, and train the project on "
        "images of that type"
    )


def stack(image: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[Any]:
    """What the second stage predicts from, as ilastik stacks it.

    Args:
        image: raw values, (z, y, x, channels), of a type in ``CONVERTED``.
        probabilities: of the first stage, (z, y, x, classes): converted to the type of the image already, or float32,
            which for an image of integers are converted here.

    Returns:
        (z, y, x, channels + classes) of the image's type, raw values first.
    """
    dtype = image.dtype.newbyteorder("=")
    if dtype.kind == "u" and probabilities.dtype.kind == "f":
        probabilities = quantize(probabilities, dtype.name, truncate=True)
    return np.concatenate((image, probabilities), axis=-1, dtype=dtype)


class ContextPredictionStep(PredictionStep):
    """Pixel classification from the raw volume and what an earlier stage says of it.

    Attributes:
        before: the step that makes the probabilities of the earlier stage, of all its classes; its grid reaches, as
            far as the volume does, beyond this step's by the halo.
    """

    name: ClassVar[str] = "prediction_2"
    version: ClassVar[int] = 1

    before: Annotated[Before[VolumeStep], giving("probabilities")]

    def sources(self) -> tuple[Source, ...]:
        """The raw volume, the probabilities of the earlier stage, and the mask."""
        raw, *mask = super().sources()
        return (raw, BlocksSource(self.before), *mask)

    def reads(self, block: Block) -> Mapping[str, Box]:
        """The raw volume and the probabilities with a halo; the mask without."""
        return {**super().reads(block), self.before.name: self.read_box(block)}

    @property
    def looks_at_numbers(self) -> bool:
        """The first stage has read the same voxels."""
        return False

    @property
    def n_channels(self) -> int:
        """Channels of the raw volume, and classes of the earlier stage."""
        return super().n_channels + self.before.output().channels

    @property
    def stored_bytes_per_voxel(self) -> int:
        """Of both."""
        stored = self.before.output()
        return super().stored_bytes_per_voxel + stored.channels * np.dtype(stored.dtype).itemsize

    def projected_memory(self) -> int:
        """As any prediction, and the image once more, stacked."""
        stacked = self.n_channels * np.dtype(self.raw.dtype).itemsize
        return super().projected_memory() + self.voxels_read * stacked

    def open_image(self) -> Any:
        """Open the raw volume and the probabilities."""
        return super().open_image(), open_volume(self.before.address)

    def read_image(self, opened: Any, box: Box) -> NDArray[Any]:
        """A box of both; zyxc."""
        raw, probabilities = opened
        output = self.before.output()
        of_stage = to_zyxc(probabilities.read(output.box(box)), output.axes)
        return stack(super().read_image(raw, box), of_stage)
