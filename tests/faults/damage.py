"""Damage as malice or a bad disk does it to files."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"-1", b"0", b"1e999", b"99999999999", b"4611686018427387904", b"null", b"true", b"[]", b"{}", b'"\\u001b[2J"',
    b'"../../etc/passwd"', b"NaN", b"nothing", b"[[[[[[[[", b"1.5", b'""', b"\x00", b"\xff\xfe",
)  # fmt: skip
"""What stands in texts in place of a number or a word."""
WORD = re.compile(rb"[A-Za-z_]{2,}|-?\d+(?:\.\d+)?")


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    """Some damage; mostly near the beginning, where formats describe themselves."""
    data = bytearray(content)
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        if not data:
            break
        size = len(data)
        at = int(rng.integers(min(size, 2048) if rng.random() < 0.7 else size))
        length = int(rng.integers(1, 64))
        kind = rng.integers(7)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at : at + length] = rng.bytes(min(length, size - at))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            other = int(rng.integers(size))
            part = data[at : at + length]
            data[other : other + len(part)] = part
        elif kind == 5:
            width = int(rng.choice([1, 2, 4, 8]))
            number = int(rng.choice(np.array(NUMBERS, object))) % 256**width
            data[at : at + width] = number.to_bytes(width, "little" if rng.random() < 0.5 else "big")
        else:
            data = _word_replaced(data, rng)
    return bytes(data)


def _word_replaced(data: bytearray, rng: np.random.Generator) -> bytearray:
    word = _word(data, rng)
    if word is None:
        return data
    other = WORDS[int(rng.integers(len(WORDS)))]
    if rng.random() < 0.3 and (another := _word(data, rng)):
        other = another.group()
    return data[: word.start()] + other + data[word.end() :]


def _word(data: bytearray, rng: np.random.Generator) -> re.Match[bytes] | None:
    """A word or a number near a random place of the first 64 kB."""
    start = int(rng.integers(min(len(data), 65536)))
    while start and WORD.match(data, start) and WORD.match(data, start - 1):
        start -= 1  # to the word's beginning
    return WORD.search(data, start, 65536) or WORD.search(data, 0, 65536)


@contextlib.contextmanager
def damaged(folder: Path, files: Sequence[Path], rng: np.random.Generator) -> Iterator[None]:
    """Change a file of a sample, and put it back after; of many, mostly one that describes the others.

    Files are made anew, not written over: libraries that know a file by its number must not take it for another.
    """
    describing = [
        path
        for path in files
        if path.suffix in (".json", ".nhdr", ".mhd") or path.name[0] == "." or path.name == "info"
    ]
    chosen = describing if describing and rng.random() < 0.85 else files
    path = folder / chosen[int(rng.integers(len(chosen)))]
    content = path.read_bytes()
    path.unlink()
    if len(files) > 1 and rng.random() < 0.03:
        if rng.random() < 0.5:
            path.symlink_to("../../../../../etc/passwd" if rng.random() < 0.5 else path.name)
    else:
        path.write_bytes(changed(content, rng))
    yield
    path.unlink(missing_ok=True)
    path.write_bytes(content)
