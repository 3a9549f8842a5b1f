"""Order of axes: what is computed has zyxc, what is stored may have any."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def to_zyxc(data: NDArray[Any], axes: str) -> NDArray[Any]:
    """Bring one time step to axes zyxc; missing axes get length 1.

    Args:
        data: any axes of ``tczyx`` in any order; t, if there, has length 1.
        axes: names of the axes of ``data``.
    """
    order = [axes.index(axis) for axis in "tzyxc" if axis in axes]
    shape = [data.shape[axes.index(axis)] if axis in axes else 1 for axis in "zyxc"]
    return data.transpose(order).reshape(shape)
