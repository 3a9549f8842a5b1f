"""Sound samples of all that users give, and what reads them: what mutations are made of."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import imageio.v3
import numpy as np
import tifffile
import yaml

from blockwise.errors import UserError
from blockwise.volume import create_volume, open_volume
from blockwise.volume.decoding import check_decodes
from pipeline.batch.manifest import load_batch
from pipeline.configuration.settings import load_settings
from tasks.alignment.transforms_file import read_transforms, write_transforms
from tasks.objects.classification.project import load_object_project
from tasks.pixel_classification.training import open_project
from tasks.stored_threshold import load_threshold
from tests.contract.files import WRITERS
from tests.unit.pixel_cases import case_folder

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


def copy_few_trees(name: str, item: h5py.Group | h5py.Dataset, file: h5py.File) -> None:
    """Copy an object of a project, but of its hundred trees four: reading them is all alike, and takes long."""
    if re.search(r"/Forest(?!000[01]\b)|/Tree_(?!0*[01]\b)", name):
        return
    if isinstance(item, h5py.Dataset):
        item.file.copy(item, file, name)
    else:
        file.require_group(name).attrs.update(item.attrs)


def project(case: str) -> Callable[[Path], str]:
    source = case_folder(case)  # unpacked once, for all processes that are made of this one

    def write(folder: Path) -> str:
        shutil.copy(source / "input.h5", folder.parent)  # sound, beside the samples
        path = folder / "p.ilp"
        with h5py.File(source / "project.ilp") as whole, h5py.File(path, "w") as file:
            whole.visititems(lambda name, item: copy_few_trees(name, item, file))
        if case == "3d_u8_labels_only":
            with h5py.File(path, "r+") as file:
                lane = file["Input Data/infos/lane0000/Raw Data"]
                del lane["filePath"]
                lane["filePath"] = f"{folder.parent}/input.h5/data"
        return str(path)

    return write


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
        values = {name: CONFIG[name] for name in ("work_dir", "output", "prediction", "threshold")}
        config.write_text(yaml.safe_dump({**values, "raw": {"axes": "yx"}}))
    load_batch(str(config), path)


def transforms(folder: Path) -> str:
    matrices = {z: np.array([[1.0, 0.0, z], [0.0, 1.0, 2.5]]) for z in range(4)}
    write_transforms(folder / "transforms.json", matrices, [2], {"grid": [4, 20, 24]})
    return f"{folder}/transforms.json"


def moved_slices(folder: Path) -> str:
    slices: list[object] = [None]
    for z, plane in enumerate(voxels()[:3]):
        path = folder / f"slice{z}.png"
        imageio.v3.imwrite(path, plane)
        slices.append({"path": str(path), "plane": None, "x": z, "y": 1 - z, "width": 24, "height": 20})
    value = {"shape": [4, 20, 24], "dtype": "uint16", "fill": 0, "slices": slices}
    (folder / "a.slices.json").write_text(json.dumps(value))
    return f"{folder}/a.slices.json"


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


READERS: dict[str, tuple[Callable[[Path], str], Read]] = {
    "project": (project("3d_u16_few_3class"), open_project),
    "project-labels": (project("3d_u8_labels_only"), open_project),
    "autocontext": (project("autocontext_2d_u8_3class"), open_project),
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
    "moved-slices": (moved_slices, look),
    "transforms": (transforms, read_transforms),
    "yaml": (configuration, load_settings),
    "csv": (manifest, read_manifest),
    "manifest-yaml": (manifest_yaml, read_manifest),
}
"""By name: what writes a sound sample and gives its address; what reads it."""
