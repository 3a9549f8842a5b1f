"""Which files a pattern means, and what the numbers in their names count."""

from __future__ import annotations

import itertools
import math
import os
import re
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from blockwise.errors import UserError
from blockwise.volume.address import Address

SHOWN = 10
_PRINTF = re.compile(r"%(0?)(\d*)d")
_COUNTERS = {
    "t": ("t", "time", "timepoint", "timepoints", "tp", "frame"),
    "z": ("z", "slice", "section", "layer", "plane"),
    "c": ("c", "ch", "channel", "w", "wavelength"),
}
_WORD = re.compile(r"([A-Za-z]+)[ _=-]?$")
_ORDER = "tcz"


@dataclass(frozen=True)
class Names:
    """The files of a stack.

    Attributes:
        files: paths, in raster order of what their numbers count.
        axes: what they count, as the names say it (``t``, ``c``, ``z``); empty where one number counts something
            that they do not name.
        shape: how many of each; the number of files where ``axes`` is empty.
    """

    files: list[str]
    axes: str
    shape: tuple[int, ...]


def stack_names(address: Address) -> Names:
    """The files of a stack, in the order of their numbers.

    Where several numbers vary, and the letters or words before them name t, z or c, each of them counts an axis.

    Raises:
        UserError: no file fits the pattern, numbers are missing between the first and the last, or names have two
            numbers of which only one says what it counts.
    """
    files = _files(address)
    parts = [re.split(r"(\d+)", name) for name in files]
    varying = _varying(parts)
    counters = [_counter(parts[0][place - 1]) for place in varying]
    if len(varying) > 1 and any(counters):
        return _grid(address, files, parts, dict(zip(varying, counters, strict=True)))
    _refuse_gaps(address, files, parts, varying)
    return Names(files, "", (len(files),))


def numbered_files(address: Address) -> dict[int, str]:
    """The files that a pattern means, by the number in their names that counts them; numbers may be missing.

    Raises:
        UserError: no file fits the pattern, it does not show which number counts, or two files have the same one.
    """
    files = _files(address)
    parts = [re.split(r"(\d+)", name) for name in files]
    varying = _varying(parts)
    if len(files) == 1:
        varying = list(range(1, len(parts[0]), 2))[-1:]
    elif len(varying) > 1:
        varying = [place for place in varying if _counter(parts[0][place - 1]) == "z"] or varying
    if len(varying) != 1:
        raise UserError(
            f"{address}: {len(files)} files, from {files[0]} to {files[-1]}, in whose names it is not clear which "
            "number counts the slices; narrow the pattern, or write a table with the columns file and z"
        )
    numbers = [int(split[varying[0]]) for split in parts]
    twice = (
        sorted({number for number in numbers if numbers.count(number) > 1}) if len(set(numbers)) < len(files) else []
    )
    if twice:
        shown = ", ".join(name for name, number in zip(files, numbers, strict=True) if number in twice[:SHOWN])
        raise UserError(
            f"{address}: {len(twice)} numbers have more than one file: {shown}; narrow the pattern, or remove the "
            "files that do not belong to the stack"
        )
    return dict(zip(numbers, files, strict=True))


def _files(address: Address) -> list[str]:
    pattern = _PRINTF.sub("*", address.path)
    found = glob(pattern)
    names = [name for name in found if Path(name).is_file()]
    if pattern != address.path:
        fits = re.compile(_expression(address.path))
        names = [name for name in names if fits.fullmatch(name)]
    dangling = [name for name in found if os.path.islink(name) and not os.path.exists(name)]
    if dangling:
        raise UserError(
            f"{address}: {len(dangling)} of {len(found)} slices are links that lead nowhere: "
            f"{', '.join(sorted(dangling)[:SHOWN])}; is a disk not mounted, or data of git-annex not fetched?"
        )
    if not names:
        raise UserError(
            f"{address}: no file fits this pattern (looked from {Path.cwd()}); write it as stack/*.png or "
            f"stack/%04d.png{pattern_hint(address.path)}"
        )
    return sorted(names, key=_natural)


def pattern_hint(path: str) -> str:
    """What to say of a pattern that nothing fits, where brackets in it may be meant as they are."""
    if "[" not in path:
        return ""
    return "; [ ] in a pattern mean one of the characters between them, a bracket itself is written [[]"


def _expression(path: str) -> str:
    """A printf pattern as a regular expression."""
    found, start = "", 0
    for match in _PRINTF.finditer(path):
        digits = rf"\d{{{match[2]},}}" if match[1] and match[2] else r"\d+"
        found += re.escape(path[start : match.start()]) + digits
        start = match.end()
    return found + re.escape(path[start:])


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which slice_2 comes before slice_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _varying(parts: list[list[str]]) -> list[int]:
    """Places at which names differ; empty where that is not only in numbers."""
    if len({len(split) for split in parts}) > 1:
        return []
    places = [i for i in range(len(parts[0])) if any(split[i] != parts[0][i] for split in parts)]
    return places if all(place % 2 for place in places) else []


def _counter(text: str) -> str:
    """What a number behind this text counts; empty where it does not say."""
    word = _WORD.search(text)
    return next((axis for axis, words in _COUNTERS.items() if word and word[1].lower() in words), "")


def _grid(address: Address, files: list[str], parts: list[list[str]], counters: dict[int, str]) -> Names:
    if not all(counters.values()) or len(set(counters.values())) < len(counters):
        shown = ", ".join(f"{parts[0][place - 1]}{parts[0][place]}" for place in counters)
        raise UserError(
            f"{address}: {len(counters)} numbers in these names vary ({shown}), and not each of them says which axis "
            "it counts (t, z or c before it); narrow the pattern to one of them, or rename the files"
        )
    places = sorted(counters, key=lambda place: _ORDER.index(counters[place]))
    values = [sorted({int(split[place]) for split in parts}) for place in places]
    by_index = {tuple(int(split[place]) for place in places): name for split, name in zip(parts, files, strict=True)}
    full = [range(numbers[0], numbers[-1] + 1) for numbers in values]
    missing = [index for index in itertools.product(*full) if index not in by_index]
    if missing:
        axes = [counters[place] for place in places]
        shown = ", ".join(
            " ".join(f"{axis}={n}" for axis, n in zip(axes, index, strict=True)) for index in missing[:SHOWN]
        )
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise UserError(
            f"{address}: {len(missing)} of {math.prod(map(len, full))} slices are missing: {shown}{more}; add them, "
            "or choose the slices with a narrower pattern"
        )
    ordered = [by_index[index] for index in itertools.product(*full)]
    return Names(ordered, "".join(counters[place] for place in places), tuple(map(len, full)))


def _refuse_gaps(address: Address, names: list[str], parts: list[list[str]], varying: list[int]) -> None:
    if len(varying) != 1:
        return  # the names do not count slices
    place = varying[0]
    there = {int(split[place]) for split in parts}
    missing = sorted(set(range(min(there), max(there))) - there)
    if missing:
        width = len(parts[0][place]) if parts[0][place].startswith("0") else 0
        shown = ["".join([*parts[0][:place], f"{n:0{width}d}", *parts[0][place + 1 :]]) for n in missing[:SHOWN]]
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        are = "slice is" if len(missing) == 1 else "slices are"
        raise UserError(
            f"{address}: {len(missing)} {are} missing between {names[0]} and {names[-1]}: {', '.join(shown)}{more}; "
            "add them, or choose the slices with a narrower pattern"
        )
