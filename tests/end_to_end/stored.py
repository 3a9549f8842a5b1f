"""A project all of which, its classifier too, lies in a store of this machine, which may answer badly."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from blockwise.records import Records, open_records
from blockwise.volume import open_volume
from tests.contract import servers
from tests.contract.store_proxy import Weather, before
from tests.runs import DATASETS, Project, environment

NUMBERS = itertools.count()
GIVEN = ("raw.n5", "membranes.ilp")


@pytest.fixture(scope="module")
def weather() -> Weather:
    return Weather()


@pytest.fixture(scope="module")
def bucket(weather: Weather) -> Iterator[str]:
    with servers.s3() as url, before(url, weather) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_ENDPOINT_URL", proxy)
        patch.setattr("blockwise.volume.containers.remote.RETRIES", {"max_retries": 8, "initial_delay": "20ms"})
        yield "s3://bucket"


@dataclass
class Stored:
    """A project all of which but its configuration is in a store."""

    project: Project
    place: str
    weather: Weather

    @property
    def records(self) -> Records:
        return open_records(self.place)

    def results(self) -> dict[str, NDArray[Any] | bytes]:
        values: dict[str, NDArray[Any] | bytes] = {}
        for name in DATASETS:
            volume = open_volume(f"{self.place}/result.n5:{name}")
            values[name] = volume.read(tuple(slice(0, n) for n in volume.shape))
        values["objects"] = self.records.get("work/objects.csv") or b""
        return values

    def left(self) -> list[str]:
        """Keys of all but what was given."""
        return [key for key in self.records.keys("") if not key.startswith(GIVEN)]

    def finished(self) -> dict[str, list[int]]:
        """Blocks that have a marker, by step."""
        return {step.label: sorted(step.markers.scan()) for step in self.project.steps().all()}

    def killed_at(self, request: int) -> bool:
        """Run in another process, which is killed when it asks for the so many-th time; whether that came to pass."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.stored_run", str(self.project.folder)],
            env=environment(),
            stdout=subprocess.DEVNULL,
        )
        with self.weather.at_request(request, lambda: process.send_signal(signal.SIGKILL)):
            return process.wait() == -signal.SIGKILL


@pytest.fixture
def stored(unused: Project, bucket: str, weather: Weather) -> Iterator[Stored]:
    with put_into(bucket, unused, weather) as found:
        yield found


@contextmanager
def put_into(bucket: str, unused: Project, weather: Weather) -> Iterator[Stored]:
    """A project that is to be run with all in a bucket."""
    place = f"{bucket}/run-{os.getpid()}-{next(NUMBERS)}"
    for path in (path for name in GIVEN for path in (Path(name), *Path(name).rglob("*")) if path.is_file()):
        open_records(place).put(path.as_posix(), path.read_bytes())
    for key, value in {"work_dir": "work", "raw": "raw.n5:raw", "output": "result.n5"}.items():
        unused.change(key, f"{place}/{value}")
    unused.change("prediction.project", f"{place}/membranes.ilp")
    weather.asked.clear()
    yield Stored(unused, place, weather)
    weather.refused = weather.lost = weather.slow = weather.conflicts = 0.0
    for one in (place, f"{place}/work"):
        open_records(one).leave_this_machine()
