"""The size of cores, with hysteresis: a core that is too small or too large keeps no object.

A core is a connected part of what exceeds the upper threshold. It may reach over blocks, as objects do, and is joined
by the same means: its labels on the blocks' faces. It lies in one object, because it is connected.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.components.joining import combined
from tasks.components.labelling import first_voxels


def describe_cores(core_labels: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """What the merge must know of the cores of a block.

    Args:
        core_labels: of the cores, as ``label_components`` gives them; n cores.
        labels: of the components that they lie in, of the same shape and connectivity.

    Returns:
        int64 (n, 2): number of voxels, label of the component.
    """
    voxels = np.bincount(core_labels.ravel(), minlength=1)[1:]
    return np.stack([voxels, labels.ravel()[first_voxels(core_labels)]], axis=1).astype(np.int64)


def places_of_cores(core_labels: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Which cores of a block lie in which components, where a core may lie in several or in none.

    Args:
        core_labels: see ``describe_cores``.
        labels: likewise.

    Returns:
        int64 (places, 2), each once: label of the core, label of the component.
    """
    both = (core_labels > 0) & (labels > 0)
    width = int(labels.max(initial=0)) + 1
    pairs = np.unique(core_labels[both].astype(np.int64) * width + labels[both])
    return np.stack(np.divmod(pairs, width), axis=-1)


def fitting_cores(
    voxels: NDArray[np.int64], groups: NDArray[np.int64], count: int, min_size: int, max_size: int | None
) -> NDArray[np.bool_]:
    """Which parts of cores belong to a core of the wanted size.

    Args:
        voxels: of the parts of all blocks, by dense number; (n,).
        groups: the core that each is a part of, int64 (n,), from 0.
        count: of cores.
        min_size: smallest core that counts, in voxels.
        max_size: largest one; None for no limit.

    Returns:
        bool (n,).
    """
    sizes = combined(voxels, groups, count, np.add)
    fits = sizes >= min_size
    if max_size is not None:
        fits &= sizes <= max_size
    found: NDArray[np.bool_] = fits[groups]
    return found


def core_flags_of(
    cores: NDArray[np.int64], fits: NDArray[np.bool_], core_offsets: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Which components hold a part of a core that fits.

    Args:
        cores: of all blocks, one block below the other, as ``describe_cores`` gives them; n parts.
        fits: bool (n,).
        core_offsets: place of each block's first part, by block id.
        offsets: the same of the components.

    Returns:
        int64 (components,), 1 or 0, by the components' dense numbers.
    """
    flags = np.zeros(offsets[-1], np.int64)
    first = np.repeat(offsets[:-1], np.diff(core_offsets))
    flags[(first + cores[:, 1] - 1)[fits]] = 1
    return flags


def flags_of_places(
    places: NDArray[np.int64],
    fits: NDArray[np.bool_],
    place_offsets: NDArray[np.int64],
    core_offsets: NDArray[np.int64],
    offsets: NDArray[np.int64],
) -> NDArray[np.int64]:
    """As ``core_flags_of``, where cores may lie in several components.

    Args:
        places: of all blocks, one block below the other, as ``places_of_cores`` gives them.
        fits: bool (parts of cores,).
        place_offsets: row of each block's first place, by block id.
        core_offsets: see ``core_flags_of``.
        offsets: likewise.
    """
    counts = np.diff(place_offsets)
    cores = np.repeat(core_offsets[:-1], counts) + places[:, 0] - 1
    components = np.repeat(offsets[:-1], counts) + places[:, 1] - 1
    flags = np.zeros(offsets[-1], np.int64)
    flags[components[fits[cores]]] = 1
    return flags
