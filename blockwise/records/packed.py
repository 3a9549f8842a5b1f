"""Very many small records, many of them in each object of a store: a request for each would cost too much to read.

Keys are called ``kind/group/name``, and a *pack* has records of one group by one writer: a process that writes, or
rewrites whole, a pack of its own with each record, and touches no other's. So no two ever write the same object, and
a record is safe when its writing returns.

Each writing of a record is an *entry* with an id of its own. Whoever replaces or deletes a record takes the entries
that he knows of out of his pack, or, where they are another's, names them in it as *revoked*. A record is there as
long as there is an entry that nobody has revoked. That needs no clocks and no order: an entry that was written at the
same moment stays, and of two the one with the greater id counts (two who compute one block write the same).

An object is called ``packs/<group>/<writer>-<part>-<number>.json``; each rewriting has the next number, and those
before it are deleted some rewritings later, as others may just have found them in a listing. So a listing tells what
has changed, and what has been read never changes.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from blockwise.records.base import Records, Version
from blockwise.transient import ShortFailureError, is_transient

PACKS = "packs"
"""Begins the keys of packs."""

ENTRIES = 100
"""That a pack gets at most: rewriting it costs their length each time, reading all of them a request a pack."""

GROUPS_APART = 8
"""Records of more groups than these are looked for in one listing of all groups."""

FORMER = 3
"""So many former objects of a pack that is being written are left to those who have listed and not yet read them."""

LOOKS = 40
"""How often packs are listed anew that were rewritten between their listing and their reading."""
PAUSE_S = 0.05


class Pack(msgspec.Struct):
    """Content of an object.

    Attributes:
        entries: key and content of a record, by id.
        revoked: ids of other packs' entries that are no more.
    """

    entries: dict[str, tuple[str, msgspec.Raw]] = msgspec.field(default_factory=dict)
    revoked: list[str] = msgspec.field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether another one is to be begun."""
        return len(self.entries) + len(self.revoked) >= ENTRIES


@dataclass
class _Own:
    """The pack of a group that this writer writes."""

    part: int = 0
    number: int = 0
    pack: Pack = field(default_factory=Pack)
    key: str = ""
    former: list[str] = field(default_factory=list)


class _Group:
    """What is known of a group."""

    def __init__(self) -> None:
        self.packs: dict[str, Pack] = {}
        self.present: dict[str, dict[str, bytes]] = {}

    def take(self, packs: dict[str, Pack]) -> None:
        self.packs = packs
        revoked = {name for pack in packs.values() for name in pack.revoked}
        self.present = {}
        for pack in packs.values():
            for name, (key, content) in pack.entries.items():
                if name not in revoked:
                    self.present.setdefault(key, {})[name] = bytes(content)

    def find(self, key: str) -> tuple[str, bytes] | None:
        """Id and content of the entry that counts."""
        found = self.present.get(key)
        return max(found.items()) if found else None


class PackedRecords:
    """Small records of JSON in packs; threads may share an object, a copy of a process may not.

    Attributes:
        records: where the packs are.
        writer: names this one's packs.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self.writer = uuid.uuid4().hex[:12]
        self._groups: dict[str, _Group] = {}
        self._own: dict[str, _Own] = {}
        self._entries = 0
        self._mutex = threading.RLock()

    def get(self, key: str) -> bytes | None:
        """A record, as it is now: one listing, and a request for each pack of the group that has changed."""
        with self._mutex:
            self._look((key,))
            found = self._find(key)
            return found and found[1]

    def put(self, key: str, content: bytes) -> Version | None:
        """Write a record: one request, and another one that deletes the pack before.

        What is known of the former record is revoked; it should have been looked at, or deleted, before.
        """
        with self._mutex:
            group = _group_of(key)
            name = f"{self.writer}.{self._entries:08x}"
            self._entries += 1
            own = self._own_of(group)
            revoked = self._without(group, own.pack, (key,))
            entries = {**revoked.entries, name: (key, msgspec.Raw(content))}
            self._write(group, own, Pack(entries, revoked.revoked))
            return Version(name)

    def delete(self, *keys: str) -> None:
        """Revoke what is there of some records, as it is now."""
        with self._mutex:
            self._look(keys)
            self.forget(*keys)

    def forget(self, *keys: str) -> None:
        """Revoke what this object has seen of some records when it last looked."""
        with self._mutex:
            by_group: dict[str, list[str]] = {}
            for key in keys:
                if self._find(key) is not None:
                    by_group.setdefault(_group_of(key), []).append(key)
            for group, of_group in by_group.items():
                for start in range(0, len(of_group), ENTRIES):
                    own = self._own_of(group)
                    self._write(group, own, self._without(group, own.pack, of_group[start : start + ENTRIES]))

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Many records, as they are now."""
        return ((key, entry[1]) for key, entry in self._look_for(keys))

    def versions(self, keys: Iterable[str]) -> dict[str, Version]:
        """Versions of those records that are there: the ids of their entries."""
        return {key: Version(entry[0]) for key, entry in self._look_for(keys)}

    def states(self, keys: Iterable[str]) -> dict[str, str]:
        """The versions."""
        return dict(self.versions(keys))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Keys of all records below a prefix."""
        with self._mutex:
            self._refresh(None)
            found = [key for group in self._groups.values() for key in group.present]
        start = f"{prefix}/" if prefix else ""
        return (key for key in found if key.startswith(start))

    def _look_for(self, keys: Iterable[str]) -> list[tuple[str, tuple[str, bytes]]]:
        wanted = tuple(keys)
        with self._mutex:
            self._look(wanted)
            return [(key, entry) for key in wanted if (entry := self._find(key)) is not None]

    def _find(self, key: str) -> tuple[str, bytes] | None:
        group = self._groups.get(_group_of(key))
        return None if group is None else group.find(key)

    # What this one writes.

    def _own_of(self, group: str) -> _Own:
        """The pack that is written on; a new one where it is full, or was removed: then what is in it is over."""
        own = self._own.setdefault(group, _Own())
        known = self._groups.get(group)
        is_gone = bool(own.key) and (known is None or own.key not in known.packs)
        if own.pack.is_full or is_gone:
            self._delete(own.former)
            own = self._own[group] = _Own(own.part + 1)
        return own

    def _without(self, group: str, pack: Pack, keys: Iterable[str]) -> Pack:
        """A pack from which the known entries of some keys are gone, as are those of other packs."""
        known = self._groups.get(group) or _Group()
        gone = [name for key in keys for name in known.present.get(key, ())]
        kept = {name: entry for name, entry in pack.entries.items() if name not in gone}
        return Pack(kept, [*pack.revoked, *(name for name in gone if name not in pack.entries)])

    def _write(self, group: str, own: _Own, pack: Pack) -> None:
        before = own.key
        own.number += 1  # never twice the same, also where it is not known whether one was written
        key = f"{PACKS}/{group}/{self.writer}-{own.part:04d}-{own.number:06d}.json"
        self.records.put(key, msgspec.json.encode(pack) + b"\n")
        own.pack, own.key = pack, key
        known = self._groups.setdefault(group, _Group())
        known.take({**{name: one for name, one in known.packs.items() if name != before}, key: pack})
        own.former += [before] if before else []
        self._delete(own.former[:-FORMER])
        own.former = own.former[-FORMER:]

    def _delete(self, former: list[str]) -> None:
        """Delete objects that count for nothing beside a newer one."""
        with _passing():
            self.records.delete(*former)

    # What others have written.

    def _look(self, keys: Iterable[str]) -> None:
        groups = {_group_of(key) for key in keys}
        if len(groups) > GROUPS_APART:
            self._refresh(None)
            return
        for group in groups:
            self._refresh(group)

    def _refresh(self, group: str | None) -> None:
        """Bring what is known of a group, or of all, to what is there."""
        fetched: dict[str, Pack] = {}
        for _ in range(LOOKS):
            listed = _newest(self.records.keys(PACKS if group is None else f"{PACKS}/{group}"))
            known = {key: pack for one in self._of(group).values() for key, pack in one.packs.items()}
            missing = [key for key in listed if key not in known and key not in fetched]
            fetched |= {key: _decoded(content) for key, content in self.records.get_many(missing)}
            if all(key in fetched for key in missing):
                self._take(group, {key: known[key] if key in known else fetched[key] for key in listed})
                return
            time.sleep(PAUSE_S)
        raise ShortFailureError(
            f"{self.records.place(PACKS)}: records are rewritten faster than they can be read; run again later"
        )

    def _of(self, group: str | None) -> dict[str, _Group]:
        if group is None:
            return self._groups
        return {group: self._groups[group]} if group in self._groups else {}

    def _take(self, group: str | None, packs: dict[str, Pack]) -> None:
        by_group: dict[str, dict[str, Pack]] = {} if group is None else {group: {}}
        for key, pack in packs.items():
            by_group.setdefault(_group_of(key.partition("/")[2], of_pack=True), {})[key] = pack
        for name in [*self._groups] if group is None else [group]:
            by_group.setdefault(name, {})
        for name, of_group in by_group.items():
            known = self._groups.setdefault(name, _Group())
            if known.packs.keys() != of_group.keys():
                known.take(of_group)


def _group_of(key: str, *, of_pack: bool = False) -> str:
    """The group of a record; of a pack, of what follows ``packs/``."""
    parts = key.split("/")
    return parts[0] if of_pack else parts[1]


def _newest(keys: Iterable[str]) -> list[str]:
    """Of each pack the object with the highest number: one with a lower number has not been deleted yet."""
    found: dict[str, str] = {}
    for key in keys:
        pack = key.rpartition("-")[0]
        found[pack] = max(found.get(pack, ""), key)
    return list(found.values())


def _decoded(content: bytes) -> Pack:
    """A pack; one that cannot be understood holds nothing: its blocks are computed again."""
    try:
        return msgspec.json.decode(content, type=Pack)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Pack()


@contextlib.contextmanager
def _passing() -> Iterator[None]:
    """What passes does not matter here."""
    try:
        yield
    except Exception as error:
        if not is_transient(error):
            raise
