"""The name of a volume where files are called after it."""

from __future__ import annotations

from pathlib import Path

from blockwise.volume import Address


def nickname(address: str) -> str:
    """Name of a volume for names of files: that of its container, and its key.

    >>> nickname("data/embryo.n5:volumes/raw")
    'embryo_volumes_raw'
    """
    parsed = Address.parse(address)
    stem = Path(parsed.path).name.removesuffix(parsed.suffix) or Path(parsed.path).parent.name
    if any(sign in stem for sign in "*?[%"):
        stem = Path(parsed.path).parent.name or "stack"
    return "_".join(filter(None, (stem, parsed.key.replace("/", "_"))))
