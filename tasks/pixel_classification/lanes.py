"""The training images that a project names."""

from __future__ import annotations

from dataclasses import dataclass

import h5py

from tasks.pixel_classification.project_fields import LayoutError, axes_of_tags, read_text

INFOS = "Input Data/infos"
LOCAL_DATA = "Input Data/local_data"


@dataclass(frozen=True)
class Lane:
    """One training image.

    Attributes:
        axes: of the image, as ilastik was told; empty where the file does not say.
        shape: in the order of the axes; None in old files.
        file: path and internal path as the project has them, or the dataset inside the project; empty if unknown.
        is_internal: the pixels lie in the project itself.
        is_part: ilastik was told to take a part of the image only.
    """

    axes: str
    shape: tuple[int, ...] | None
    file: str
    is_internal: bool
    is_part: bool = False

    def length(self, axis: str) -> int | None:
        """Length along an axis; 1 where the image lacks it, None where the file does not say."""
        if axis not in self.axes:
            return 1
        return self.shape[self.axes.index(axis)] if self.shape else None


def read_lanes(file: h5py.File) -> tuple[Lane, ...]:
    """Read all lanes of an open project, by number.

    Raises:
        LayoutError: a shape that does not fit the axes.
    """
    infos = file.get(INFOS)
    if not isinstance(infos, h5py.Group):
        return ()
    names = sorted(infos, key=lambda name: int(name.removeprefix("lane")))
    return tuple(_lane(infos[name]["Raw Data"], name) for name in names if "Raw Data" in infos[name])


def _lane(info: h5py.Group, name: str) -> Lane:
    axes = axes_of_tags(info["axistags"][()]) if "axistags" in info else read_text(info, "axisorder")
    shape = tuple(int(n) for n in info["shape"][()]) if "shape" in info else None
    if axes and shape and len(shape) != len(axes):
        raise LayoutError(
            f"{INFOS}/{name}: the axes are {axes!r}, but the shape is {shape}; save it again in ilastik"
        )
    inner = read_text(info, "inner_path")
    is_internal = bool(inner) or read_text(info, "location") == "ProjectInternal"
    if is_internal and not inner and "datasetId" in info:
        inner = f"{LOCAL_DATA}/{read_text(info, 'datasetId')}"
    return Lane(
        axes=axes,
        shape=shape,
        file=inner.strip("/") if is_internal else read_text(info, "filePath"),
        is_internal=is_internal,
        is_part="subvolume_roi" in info,
    )
