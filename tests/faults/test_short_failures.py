"""Short failures of a file system, struck into the system's calls: nothing is taken for damaged or for gone."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blockwise.backends import LocalBackend, Outcome
from blockwise.backends.slurm import SlurmBackend, SlurmOptions
from blockwise.outputs.volume import found_dataset
from blockwise.plan import is_complete
from blockwise.run import run_step
from blockwise.volume import open_volume
from blockwise.volume.containers.remote import StoreUnreachableError
from tests.containers import FORMATS
from tests.contract import servers
from tests.contract.files import WRITERS
from tests.contract.steps import Workspace

DATA = np.random.default_rng(3).integers(1, 200, (16, 32, 32)).astype(np.uint8)
SOURCE = Path(__file__).with_name("short_failures.c")

READ = """
import errno, json, os, sys
from blockwise.transient import is_transient
from blockwise.volume import DamagedDataError, open_volume

# Of each case: a name, address, part of the paths that are struck, call, error, and when it strikes: open or read.
for name, address, path, call, number, when in json.loads(sys.argv[1]):
    with open(os.environ["SHORT_FAILURES"], "wb") as left:
        left.write(b"x")
    os.environ["SHORT_PATH"] = "nothing so far"
    volume = open_volume(address) if when == "read" else None
    os.environ.update(SHORT_PATH=path, SHORT_CALL=call, SHORT_ERRNO=str(number))
    try:
        volume = volume or open_volume(address)
        said = str(volume.read(tuple(slice(0, n) for n in volume.shape)).sum(dtype=int))
    except DamagedDataError as error:
        said = f"damaged {error}"
    except Exception as error:
        said = f"{'transient' if is_transient(error) else 'final'} {error!r}"
    os.environ["SHORT_PATH"] = "nothing so far"
    print(json.dumps([name, said, os.path.getsize(os.environ["SHORT_FAILURES"])]))
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is preloaded."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and Linux")
    target = tmp_path_factory.mktemp("preloaded") / "short_failures.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(SOURCE), "-ldl"], check=True)
    return target


Strike = Callable[..., Path]


@pytest.fixture
def strike(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Strike:
    """Have calls on a path fail in processes that are started from now on; the file of what is still to come."""

    def _strike(call: str, path: str, times: int, number: int = errno.ESTALE) -> Path:
        left = tmp_path / "failures"
        left.write_bytes(b"x" * times)
        for name, value in (("FAILURES", left), ("PATH", path), ("CALL", call), ("ERRNO", number)):
            monkeypatch.setenv(f"SHORT_{name}", str(value))
        monkeypatch.setenv("LD_PRELOAD", str(library))
        return left

    return _strike


def what_is_said(cases: list[tuple[str, str, str, str, int, str]], strike: Strike) -> list[tuple[str, str, int]]:
    """Of each case, see ``READ``: its name, sum of the voxels or error, and how many failures nobody has met."""
    strike("none so far", "nothing so far", 1)
    command = [sys.executable, "-W", "ignore", "-c", READ, json.dumps(cases)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(cases)
    return [tuple(json.loads(line)) for line in lines]


@pytest.mark.parametrize("name", FORMATS)
def test_no_short_failure_is_damage(name: str, strike: Strike, tmp_path: Path) -> None:
    address = FORMATS[name](tmp_path, DATA, "zyx")
    path = open_volume(address).file_of((0, 0, 0))
    numbers = {"open": errno.EMFILE, "stat": errno.ESTALE, "read": errno.ESTALE}
    cases = [
        (f"{call} at {when}", address, path, call, number, when)
        for call, number in numbers.items()
        for when in ("open", "read")
    ]
    right = str(DATA.sum(dtype=int))
    for case, said, left in what_is_said(cases, strike):
        if left:  # this reader has no need of this call
            assert said == right, case
        else:  # the second look may have succeeded
            assert said.startswith("transient") or said == right, (case, said)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_opened_now_is_not_called_damaged(number: int, strike: Strike, tmp_path: Path) -> None:
    cases = []
    for name, write in WRITERS.items():
        (tmp_path / name).mkdir()
        address = write(tmp_path / name, DATA.astype(np.uint16))
        cases.append((name, address, open_volume(address).file_of((0, 0, 0)), "open", number, "open"))
    answers = what_is_said(cases, strike)
    right = str(DATA.sum(dtype=int))
    for name, said, _ in answers:  # a library may try again by itself
        assert said.startswith("transient") or said == right, (name, said)
        assert "damaged" not in said, (name, said)
    assert sum(said.startswith("transient") for _, said, _ in answers) > len(cases) // 2, answers


@pytest.mark.parametrize("call", ["open", *(pytest.param(name, marks=pytest.mark.soak) for name in ("stat", "read"))])
def test_metadata_that_cannot_be_read_are_not_gone(call: str, strike: Strike, tmp_path: Path) -> None:
    """Taken for gone, all markers of the step would be deleted."""
    work = Workspace(tmp_path / "work")
    run_step(work.addition(), LocalBackend(2, None), 1, lambda outcome: None)
    look = (
        "import sys; from blockwise.outputs.volume import found_dataset; "
        "from blockwise.transient import ShortFailureError\n"
        "try: print((found_dataset(sys.argv[1]) or {}).get('id'))\n"
        "except ShortFailureError: print('later')"
    )
    address = work.addition().address
    strike(call, "out.n5/addition/attributes.json", 1)
    said = subprocess.run([sys.executable, "-c", look, address], capture_output=True, text=True, check=True).stdout
    assert said.strip() in ("later", found_dataset(address)["id"])


@pytest.mark.parametrize(
    "look",
    ["blockwise.volume.description_files", pytest.param("pipeline.assembly.known.files_of", marks=pytest.mark.soak)],
)
def test_files_that_cannot_be_looked_at_are_not_others(look: str, strike: Strike, tmp_path: Path) -> None:
    """Taken for fewer files, or for none, others would pass for them, or they for others."""
    address = FORMATS["n5"](tmp_path, DATA, "zyx")
    module, _, name = look.rpartition(".")
    program = (
        f"import sys; from {module} import {name}\nfrom blockwise.transient import ShortFailureError\n"
        f"try: print({name}(sys.argv[1]))\nexcept ShortFailureError: print('later')"
    )
    strike("open", "attributes.json", 1)
    command = [sys.executable, "-W", "ignore", "-c", program, address]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)]
    assert said[0] == "later"
    assert said[1] not in ("", "()")


def test_a_store_that_fails_for_a_while_has_lost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "blockwise.volume.containers.remote.RETRIES", {"max_retries": 1, "initial_delay": "1ms", "max_delay": "1ms"}
    )
    with servers.scripted(503) as (url, _), pytest.raises(StoreUnreachableError):
        found_dataset(f"s3://bucket/a.n5:raw?endpoint={url}&anonymous=true")


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.soak)])
def backend(request: pytest.FixtureRequest, library: Path) -> LocalBackend | SlurmBackend:
    if request.param == "local":
        return LocalBackend(2, timeout_s=60)
    request.getfixturevalue("cluster")
    return SlurmBackend(SlurmOptions(poll_s=0.2, grace_s=0.5, blocks_per_job=3, time_min=5))


@pytest.mark.soak
def test_the_step_before_keeps_its_blocks(
    backend: LocalBackend | SlurmBackend, strike: Strike, tmp_path: Path
) -> None:
    """Nor does a short failure cost one of the attempts that a block has."""
    work = Workspace(tmp_path / "work")
    first, second = work.addition(), work.doubling()
    _run(first, LocalBackend(2, None))
    left = strike("open", "out.n5/addition/0/0/", 20)
    try:
        outcome = _run(second, backend)
        if isinstance(backend, LocalBackend):
            backend.close()
    finally:
        os.environ.pop("LD_PRELOAD")
    assert left.stat().st_size == 0
    assert (outcome.computed, outcome.failed, outcome.upstream) == (8, {}, "")
    assert is_complete(first)
    assert len(first.markers.scan()) == 8
    assert np.array_equal(work.result("doubling"), 2 * (work.values + 1))
    assert any(marker.attempt > 1 for marker in second.markers)


@pytest.mark.soak
def test_a_failure_that_does_not_end_is_told_at_last(strike: Strike, tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    _run(work.addition(), LocalBackend(2, None))
    strike("open", "out.n5/addition/0/0/3", 1000)
    backend = LocalBackend(2, None)
    outcome = _run(work.doubling(), backend)
    backend.close()
    assert list(outcome.failed) == [3]
    assert outcome.failed[3].error == "ShortFailureError"
    assert "addition" in outcome.failed[3].message
    assert outcome.upstream == ""
    assert len(work.addition().markers.scan()) == 8


def _run(step: object, backend: LocalBackend | SlurmBackend) -> Outcome:
    outcome: Outcome = run_step(step, backend, 1, lambda outcome: None, pauses_s=(0,) * 20)
    return outcome
