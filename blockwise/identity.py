"""What makes a step's result what it is: fingerprints, checksums, and the reason why two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

FINGERPRINT_LENGTH = 12
SMALL = 4096
PIECE = 1 << 20
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text.

    Raises:
        ValueError: the value holds NaN or infinity, which JSON does not have.
    """
    return _ENCODER.encode(value)


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal characters of the sha256 over an identity's canonical JSON."""
    return fingerprint_of(canonical_json(identity))


def fingerprint_of(identity: str) -> str:
    """The fingerprint of an identity that is canonical JSON already."""
    return hashlib.sha256(identity.encode()).hexdigest()[:FINGERPRINT_LENGTH]


def digest(data: bytes | memoryview | str) -> str:
    """A short checksum (xxh3, 16 bytes, hexadecimal) of bytes or text; against damage and change, not malice."""
    return xxhash.xxh3_128_hexdigest(data.encode() if isinstance(data, str) else data)


def file_digest(path: Path) -> str:
    """``digest`` of a file's content, which is read in pieces."""
    hasher = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            hasher.update(piece)
    return hasher.hexdigest()


def array_checksum(array: NDArray[Any]) -> str:
    """Checksum of an array's values, dtype and shape; the same for every memory layout."""
    head = f"{array.dtype.str}{array.shape}".encode()
    if array.nbytes < SMALL:  # a copy costs less than a hasher
        return digest(head + array.tobytes())
    hasher = xxhash.xxh3_128(head)
    hasher.update(np.ascontiguousarray(array).data.cast("B"))
    return hasher.hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed from one identity to another, one line per leaf: ``threshold: 0.25 -> 0.3``.

    Of an input that is a step's result no more is known than its fingerprint: ``prediction has changed``.
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    lines = []
    for key in dict.fromkeys((*before, *after)):
        was, now = before.get(key, "not set"), after.get(key, "not set")
        if was != now:
            group, _, name = key.partition(".")
            result = group == "inputs" and "." not in name
            lines.append(f"{name} has changed" if result else f"{key}: {was} -> {now}")
    return lines


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        # The section names only group; "threshold: 0.25 -> 0.3" says it all.
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            yield from _leaves(item, "" if key == "settings" else f"{name}.")
        else:
            yield name, item
