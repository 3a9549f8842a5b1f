"""Names of several data files, as headers list or number them, each with an equal slab along the slowest axis."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from blockwise.errors import UserError
from blockwise.volume.address import Address

_NUMBER = re.compile(r"%(0?\d{0,2})[diu]")


def numbered(pattern: str, first: int, last: int, step: int, most: int) -> list[str]:
    """Names of a pattern, such as ``z%03d.raw``, with numbers from the first to the last one.

    Raises:
        ValueError: the pattern has not one number, or gives more names than ``most``.
    """
    found = _NUMBER.search(pattern)
    if pattern.count("%") != 1 or found is None:
        raise ValueError(f"{pattern!r} is no pattern with one number such as %03d")
    numbers = range(first, last + (1 if step > 0 else -1), step)
    if len(numbers) > most:
        raise ValueError(
            f"{pattern!r} from {first} to {last} gives {len(numbers):,} names, there are {most:,} slices"
        )
    return [f"{pattern[: found.start()]}{n:{found[1]}d}{pattern[found.end() :]}" for n in numbers]


def paths_of_slabs(address: Address, names: Sequence[str], slices: int, *, of_one_slice: bool) -> tuple[str, ...]:
    """Paths of data files beside a header.

    Args:
        address: of the header.
        names: as it has them, absolute or relative to it.
        slices: along the slowest axis.
        of_one_slice: whether each file must hold one slice.

    Raises:
        UserError: they cannot share the slices equally, or one is not there.
    """
    if not names or slices % len(names) or (of_one_slice and len(names) != slices):
        raise UserError(
            f"{address}: its header names {len(names)} data files for {slices} slices; expected "
            f"{'one file for each slice' if of_one_slice else 'files of equally many slices'}"
        )
    paths = tuple(os.path.join(os.path.dirname(address.path), name) for name in names)
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise UserError(
            f"{address}: {len(missing)} of the {len(paths)} data files that its header names are not there, such as "
            f"{missing[0]}; put them back"
        )
    return paths
