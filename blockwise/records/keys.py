"""Keys of records: which of them are none, because they would lead out of their place."""

from __future__ import annotations

from fnmatch import fnmatchcase


def looks_odd(key: str) -> bool:
    """Whether a key, or one of several with slashes in between, may be none."""
    return "/." in key or "//" in key or "\0" in key or key[:1] in ("", "/", ".") or key[-1] == "/"


def refuse_to_escape(key: str) -> None:
    """Refuse what is no key; most keys with a dot in front of a part are sound.

    Raises:
        ValueError: it is none.
    """
    if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"{key!r} is no key of a record")


def is_hidden(key: str) -> bool:
    """Whether a part of a key begins with a dot."""
    return key.startswith(".") or "/." in key


def matches(key: str, pattern: str) -> bool:
    """Whether a key matches a pattern, part by part."""
    parts, patterns = key.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))
