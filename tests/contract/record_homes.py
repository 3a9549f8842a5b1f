"""Homes of records to test: a place for each, and what can go wrong there.

A new home gets a class like ``FolderHome`` and its place in ``make_home``.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import multiprocessing
import os
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from blockwise.records import Records, open_records
from tests.contract.memory_records import Bucket, MemoryRecords
from tests.contract.record_crowd import CROWD, ROUNDS
from tests.contract.store_proxy import Weather, before

SPAWN = multiprocessing.get_context("spawn")

Work = Callable[[Records, int, int], None]


class Home(Protocol):
    """A place for records, and what can go wrong there."""

    records: Records
    many: int
    """As many as are done of what is done often."""

    def crowd(self, work: Work) -> None:
        """Have several do something at once, in as different places as may be."""

    def full(self) -> contextlib.AbstractContextManager[Records]:
        """Records with room for some ten kilobytes, in which there is one, ``kept``."""

    def in_trouble(self) -> contextlib.AbstractContextManager[None]:
        """While it lasts, nothing can be asked."""


def crowd_of_processes(work: Work, records: Records, many: int) -> None:
    crowd = [SPAWN.Process(target=work, args=(records, number, many), daemon=True) for number in range(CROWD)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(60)
    assert [process.exitcode for process in crowd] == [0] * CROWD


def crowd_of_threads(work: Work, records: Records, many: int) -> None:
    errors = []

    def run(number: int) -> None:
        try:
            work(records, number, many)
        except BaseException as error:
            errors.append(error)

    crowd = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(CROWD)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)
    assert errors == []


class FolderHome:
    many = ROUNDS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = open_records(folder / "records")

    def crowd(self, work: Work) -> None:
        crowd_of_processes(work, self.records, self.many)

    @contextlib.contextmanager
    def full(self) -> Iterator[Records]:
        disk = self.folder / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")
        try:
            records = open_records(disk)
            records.put("kept", b"kept")
            yield records
            assert [path.name for path in disk.iterdir()] == ["kept"]
        finally:
            subprocess.run(["umount", "-l", disk], check=True)

    @contextlib.contextmanager
    def in_trouble(self) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = [os.open("/", os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                taken.extend(iter(lambda: os.open("/", os.O_RDONLY), None))
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for descriptor in taken:
                os.close(descriptor)


class MemoryHome:
    many = ROUNDS

    def __init__(self, _folder: Path) -> None:
        self.bucket = Bucket()
        self.records: Records = MemoryRecords(self.bucket)

    def crowd(self, work: Work) -> None:
        crowd_of_threads(work, self.records, self.many)

    @contextlib.contextmanager
    def full(self) -> Iterator[Records]:
        self.records.put("kept", b"kept")
        self.bucket.room = 16_384
        yield self.records
        assert list(self.records.keys()) == ["kept"]

    @contextlib.contextmanager
    def in_trouble(self) -> Iterator[None]:
        self.bucket.trouble = OSError(errno.ETIMEDOUT, "no answer")
        yield
        self.bucket.trouble = None


class StoreHome:
    """A bucket, behind a proxy that can be silenced; each request takes some milliseconds."""

    many = ROUNDS // 5

    def __init__(self, records: Records, weather: Weather) -> None:
        self.records = records
        self.weather = weather

    def crowd(self, work: Work) -> None:
        crowd_of_threads(work, self.records, self.many)  # who is first is for the server to say

    def full(self) -> contextlib.AbstractContextManager[Records]:
        pytest.skip("a bucket has no end")

    @contextlib.contextmanager
    def in_trouble(self) -> Iterator[None]:
        self.weather.down = True
        yield
        self.weather.down = False


NUMBERS = itertools.count()


@pytest.fixture(scope="module", params=["folder", "memory", "s3", "gs"])
def make_home(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], Home]]:
    """Gives a home in which there is nothing yet, with a folder for what is no record."""
    if request.param == "folder":
        yield FolderHome
    elif request.param == "memory":
        yield MemoryHome
    else:
        weather = Weather()
        url = request.getfixturevalue(f"{request.param}_server")
        with before(url, weather) as proxy, pytest.MonkeyPatch.context() as patch:
            options = f"endpoint={proxy}&" if request.param == "s3" else ""
            patch.setenv("TENSORSTORE_GCS_HTTP_URL", proxy)
            patch.setattr("blockwise.volume.containers.remote.RETRIES", {"max_retries": 2, "initial_delay": "10ms"})
            where = f"{request.param}://bucket/{os.getpid()}"
            yield lambda _: StoreHome(open_records(f"{where}-{next(NUMBERS)}/at?{options}timeout_s=3"), weather)


@pytest.fixture
def home(make_home: Callable[[Path], Home], tmp_path: Path) -> Home:
    return make_home(tmp_path)
