"""Files as malice or a bad disk leaves them, given to what reads them; run as a process of its own, by seeds.

python -m tests.faults.mutations READER ... --first 0 --count 100

Each input is copied from a sound sample, changed by the rules below, and looked at as ``plan`` does. Before each a
line tells which one; after each a line says what came of it. Whoever reads these lines knows which input has ended
the process. Memory is bounded by the system, time by a signal.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import re
import resource
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import h5py
import imageio.v3
import numpy as np
import tifffile
import yaml

from blockwise.errors import UserError
from blockwise.volume import DamagedDataError, create_volume, open_volume
from blockwise.volume.decoding import check_decodes
from pipeline.batch.manifest import load_batch
from pipeline.configuration.settings import load_settings
from tasks.objects.classification.project import load_object_project
from tasks.pixel_classification.training import open_project
from tasks.stored_threshold import load_threshold
from tests.contract.files import WRITERS
from tests.unit.pixel_cases import case_folder

LIMIT_S = 10
"""Longest time for one input."""
MEMORY = 1 << 30
"""Bytes that looking at one input may take beside what the process holds anyhow."""
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"-1", b"0", b"1e999", b"99999999999", b"4611686018427387904", b"null", b"true", b"[]", b"{}", b'"\\u001b[2J"',
    b'"../../etc/passwd"', b"NaN", b"nothing", b"[[[[[[[[", b"1.5", b'""', b"\x00", b"\xff\xfe",
)  # fmt: skip
"""What stands in texts in place of a number or a word."""

Read = Callable[[str], object]


def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (9, 20, 24), np.uint16)


def look(address: str) -> None:
    """What ``plan`` does with a volume."""
    volume = open_volume(address)
    check_decodes(volume)
    volume.verify()
    volume.file_states()


def container(name: str, **more: object) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        address = f"{folder}/{name}:volumes/raw"
        attributes = {"axes": list("zyx"), "resolution": [4.0, 1, 1], "units": ["micrometer"] * 3}
        create_volume(address, (9, 20, 24), (8, 16, 16), "uint16", attributes, **more)  # type: ignore[arg-type]
        open_volume(address, "a").write(tuple(slice(0, n) for n in (9, 20, 24)), voxels())
        return address

    return write


def single(name: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        address = WRITERS[name](folder, voxels())
        for source in folder.glob("source*.zarr"):
            shutil.rmtree(source)
        return address

    return write


def hdf5(folder: Path) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("group/raw", data=voxels(), chunks=(4, 8, 8), compression="gzip")
    return f"{folder}/a.h5:group/raw"


def tiff(name: str, **more: object) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        tifffile.imwrite(folder / name, voxels(), **more)  # type: ignore[arg-type]
        return f"{folder}/{name}"

    return write


def stack(folder: Path) -> str:
    for z, plane in enumerate(voxels()[:3]):
        imageio.v3.imwrite(folder / f"slice{z}.png", plane)
    return f"{folder}/slice*.png"


def project(case: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        shutil.copy(case_folder(case) / "input.h5", folder.parent)  # sound, beside the samples
        path = folder / "p.ilp"
        shutil.copy(case_folder(case) / "project.ilp", path)
        if case == "3d_u8_labels_only":
            with h5py.File(path, "r+") as file:
                lane = file["Input Data/infos/lane0000/Raw Data"]
                del lane["filePath"]
                lane["filePath"] = f"{folder.parent}/input.h5/data"
        return str(path)

    return write


def read_object_project(path: str) -> None:
    """All parts, each of which is read by itself."""
    refused = []
    for load in (load_object_project, load_threshold, open_project):
        try:
            load(path)
        except UserError as error:
            refused.append(str(error))
    if refused:
        raise UserError("\n".join(refused))


CONFIG = {
    "work_dir": "work", "raw": {"path": "raw.n5", "key": "raw", "axes": "zyx"}, "output": "out/{name}.n5",
    "blocks": {"shape": [36, 18, 32], "roi": [[0, 9], [0, 20], [1, None]]},
    "prediction": {"project": "p.ilp", "classes": ["wall", 1]},
    "threshold": [{"name": "a", "class": 1, "sigma": [1, 1.6, 1.6], "threshold": 0.25}],
    "connected_components": {"foreground": 0, "connectivity": 26}, "backend": {"workers": 2, "memory_gb": 0.5},
}  # fmt: skip


def configuration(folder: Path) -> str:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return f"{folder}/config.yaml"


def manifest(folder: Path) -> str:
    rows = [
        {"raw": f"images/{i}.tif", "name": f"cell{i}", "threshold.sigma": 1 + i, "raw.axes": "yx"} for i in range(4)
    ]
    with (folder / "images.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return f"{folder}/images.csv"


def manifest_yaml(folder: Path) -> str:
    rows = [{"raw": {"path": f"{i}.tif"}, "name": f"cell{i}", "threshold.a.sigma": i} for i in range(3)]
    (folder / "images.yaml").write_text(yaml.safe_dump(rows))
    return f"{folder}/images.yaml"


def read_manifest(path: str) -> None:
    config = Path(path).parents[1] / "config.yaml"
    if not config.exists():
        config.write_text(yaml.safe_dump({**CONFIG, "raw": {"axes": "yx"}}))
    load_batch(str(config), path)


READERS: dict[str, tuple[Callable[[Path], str], Read]] = {
    "project": (project("3d_u16_few_3class"), open_project),
    "project-labels": (project("3d_u8_labels_only"), open_project),
    "project-objects": (project("objects_2d_prediction"), read_object_project),
    "n5": (container("a.n5"), look),
    "zarr2": (container("a.zarr"), look),
    "zarr3": (container("a.zarr", zarr_format=3), look),
    "zarr3-sharded": (container("a.zarr", shards=(16, 32, 32)), look),
    "ome-zarr": (container("a.ome.zarr"), look),
    "ome-zarr3": (container("a.ome.zarr", zarr_format=3), look),
    "hdf5": (hdf5, look),
    "tiff": (tiff("a.tif", metadata={"axes": "ZYX", "spacing": 4.0}, imagej=True), look),
    "ome-tiff": (tiff("a.ome.tif", metadata={"axes": "ZYX"}, tile=(16, 16), compression="zlib", ome=True), look),
    "stack": (stack, look),
    **{name: (single(name), look) for name in WRITERS},
    "yaml": (configuration, load_settings),
    "csv": (manifest, read_manifest),
    "manifest-yaml": (manifest_yaml, read_manifest),
}
"""By name: what writes a sound sample and gives its address; what reads it."""


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
    words = list(re.finditer(rb"[A-Za-z_]{2,}|-?\d+(?:\.\d+)?", bytes(data[:65536])))
    if not words:
        return data
    word = words[int(rng.integers(len(words)))]
    other = (
        words[int(rng.integers(len(words)))].group() if rng.random() < 0.3 else WORDS[int(rng.integers(len(WORDS)))]
    )
    return data[: word.start()] + other + data[word.end() :]


def damage(folder: Path, rng: np.random.Generator) -> None:
    """Change a file of a sample; of many, mostly one that describes the others."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    describing = [
        path
        for path in files
        if path.suffix in (".json", ".nhdr", ".mhd") or path.name[0] == "." or path.name == "info"
    ]
    chosen = describing if describing and rng.random() < 0.85 else files
    path = chosen[int(rng.integers(len(chosen)))]
    if len(files) > 1 and rng.random() < 0.03:
        path.unlink()
        if rng.random() < 0.5:
            path.symlink_to("../../../../../etc/passwd" if rng.random() < 0.5 else path.name)
        return
    path.write_bytes(changed(path.read_bytes(), rng))


class TooLongError(BaseException):
    """No Exception: nobody who reads catches it."""


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TooLongError("".join(traceback.format_stack(frame)[-4:]))


@contextlib.contextmanager
def limited_time() -> Iterator[None]:
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)


def outcome(read: Read, address: str) -> tuple[str, str]:
    """What came of an input: ``read``, ``refused``, or ``fault`` with what is wrong."""
    try:
        with limited_time():
            read(address)
    except (UserError, DamagedDataError) as error:
        text = str(error)
        if any(ord(sign) < 32 and sign not in "\n\t" for sign in text):
            return "fault", f"a message with control characters: {text!r}"
        return "refused", ""
    except BaseException as error:  # whatever it is
        return "fault", "".join(traceback.format_exception(error)[-6:])[-3000:]
    return "read", ""


def look_at(reader: str, seeds: range) -> None:
    """Look at mutated inputs of one reader; a line before each, and one after it."""
    write, read = READERS[reader]
    with tempfile.TemporaryDirectory() as place, without_limit():
        sound = Path(place, "sound")
        sound.mkdir()
        address = write(sound)
        read(address)  # loads the libraries
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
        for seed in seeds:
            print(json.dumps({"reader": reader, "seed": seed}), flush=True)
            target = Path(place, f"input{seed}")  # no library remembers it
            shutil.copytree(sound, target, symlinks=True)
            damage(target, np.random.default_rng(seed))
            kind, text = outcome(read, address.replace(str(sound), str(target)))
            print(json.dumps({"outcome": kind, "text": text}), flush=True)
            shutil.rmtree(target)


@contextlib.contextmanager
def without_limit() -> Iterator[None]:
    """Let the next one begin as this one did."""
    yield
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


def main() -> None:
    """Look at mutated inputs of readers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("readers", nargs="+", choices=READERS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_long)
    for reader in options.readers:
        look_at(reader, range(options.first, options.first + options.count))


if __name__ == "__main__":
    main()
