"""What steps say that a worker needs, against what it was measured to need, where that is more than the libraries."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import h5py
import imageio.v3
import numpy as np
import pytest
import yaml

from blockwise.backends.local import LocalBackend
from blockwise.run import run_step
from blockwise.step import BASE_MEMORY
from pipeline.assembly.steps import build_steps
from pipeline.batch.images import BatchImages
from pipeline.batch.manifest import load_batch
from pipeline.configuration.settings import load_settings
from tests.runs import ROOT
from tests.stacks import EXAMPLE, Stack
from tests.unit.pixel_cases import case_folder, with_objects

FIXED = 120_000_000
"""Bytes that a worker has at least, whatever it computes: the interpreter and the libraries."""
SPARE = 100_000_000
"""Bytes by which a projection may be too high whatever the volume is: libraries that a step may not need."""
NOISE = 30_000_000
"""Bytes by which two equal runs differ: what the allocator keeps, and what a small volume needs."""

LARGE, MEDIUM, SMALL = (128, 256, 256), (64, 96, 96), (48, 64, 64)
FLAT_LARGE, FLAT_SMALL = (2048, 2048), (256, 256)

HYSTERESIS = {"class": 1, "sigma": 1.6, "method": "hysteresis", "core": 0.9, "final": 0.1, "keep_cores": True}
SIZES = {"core_min_size": 3}
EVERYTHING = {"foreground": 1, "connectivity": 26, "intensities": True, "probabilities": True}
MASK = {"mask": "mask.h5:mask"}

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "uint8 probabilities": {"prediction": {"dtype": "uint8"}, "connected_components": EVERYTHING},
    "hysteresis": {"threshold": HYSTERESIS | SIZES, "connected_components": EVERYTHING},
    "hysteresis of two classes": {
        "threshold": HYSTERESIS | {"core_class": 0},
        "connected_components": {"foreground": 1},
    },
    "mask": {"blocks": MASK},
    "mask, two classes": {
        "blocks": MASK,
        "threshold": HYSTERESIS | {"core_class": 0},
        "connected_components": EVERYTHING,
    },
    "uint8, mask": {"blocks": MASK, "prediction": {"dtype": "uint8"}},
    "reference engine": {"prediction": {"engine": "reference"}},
    "flat, three channels": {"connected_components": {"intensities": True}},
    "classes of objects": {"connected_components": {"classifier": "project"}},
    "many objects": {
        "threshold": {"class": 1, "sigma": 0.3, "threshold": 0.5},
        "connected_components": EVERYTHING | {"connectivity": 6},
    },
}
"""Changes of the configuration."""


def raw_data(case: str, shape: tuple[int, ...]) -> np.ndarray:
    """As large as is wanted, of the kind that the case's project knows."""
    if case == "many objects":
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if case.startswith("flat"):
        with h5py.File(case_folder("2d_rgb_u8_3class") / "input.h5") as file:
            raw = file["data"][:]
    else:
        with h5py.File(ROOT / "data" / "raw.h5") as file:
            raw = file["data"][:100, :100, :100]
    spatial = len(shape)
    widths = [(0, max(0, n - m)) for n, m in zip(shape, raw.shape[:spatial], strict=True)]
    raw = np.pad(raw, widths + [(0, 0)] * (raw.ndim - spatial), "reflect")
    return raw[tuple(slice(0, n) for n in shape)].astype("uint16" if case == "hysteresis" else "uint8")


def write_project(case: str, shape: tuple[int, ...]) -> str:
    """Raw data of one block of this shape, and a configuration; its path."""
    flat = case.startswith("flat")
    source = case_folder("2d_rgb_u8_3class") / "project.ilp" if flat else ROOT / "data" / "membranes.ilp"
    shutil.copy(source, "p.ilp")
    if case == "classes of objects":
        with_objects(Path("p.ilp"))
    mask = np.ones(shape, np.uint8)
    mask[: shape[0] // 3] = 0
    with h5py.File("raw.h5", "w") as file:
        file.create_dataset("data", data=raw_data(case, shape), chunks=True)
    with h5py.File("mask.h5", "w") as file:
        file.create_dataset("mask", data=mask, chunks=True)
    config: dict[str, Any] = {
        "work_dir": "work",
        "raw": {"path": "raw.h5", "key": "data", "axes": "yxc" if flat else "zyx"},
        "output": "out.n5",
        "blocks": {"shape": list(shape)},
        "prediction": {"project": "p.ilp"},
        "threshold": {"class": 1, "sigma": 1.6, "threshold": 0.25},
        "connected_components": {"foreground": 0},
    }
    for key, section in CASES[case].items():
        config[key] = section if key == "threshold" else {**config[key], **section}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    return "config.yaml"


def measured(config: str, *, alone: bool) -> dict[str, tuple[int, int]]:
    """By step, bytes that it projects, and that its worker needed at its peak: one of its own if ``alone``."""
    found = {}
    backend = LocalBackend(1, None)
    for step in build_steps(load_settings(config)).everything():
        outcome = run_step(step, backend, 1, lambda outcome: None)
        assert step.read_target() is not None, outcome
        if alone:
            backend.close()
        found[step.label] = step.projected_memory(), int(max(m.peak_memory_mb for m in step.markers) * 1e6)
    backend.close()
    return found


def compare(case: str, folder: Path, shapes: tuple[tuple[int, ...], ...], noise: int, *, alone: bool) -> None:
    """Both in all, and beyond what the same steps need for a small volume: there libraries hide nothing."""
    needs = []
    for shape in shapes:
        place = folder / f"{shape[0]}"
        place.mkdir()
        with contextlib.chdir(place):
            needs.append(measured(write_project(case, shape), alone=alone))
    small, large = needs
    for label, (projected, peak) in large.items():
        text = f"{label}: {peak / 1e6:.0f} MB measured, {projected / 1e6:.0f} MB projected"
        assert peak <= projected, text
        if label in small:  # it has no coarser scales
            more, said = peak - small[label][1], projected - small[label][0]
            text = f"{text}; beyond a small volume {more / 1e6:.0f} and {said / 1e6:.0f}"
            assert more <= said + noise, text
        print(f"{case}: {text}")
        assert projected <= 3 * max(0, peak - FIXED) + BASE_MEMORY + SPARE, text


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
def test_what_is_projected_is_enough_and_not_absurd(case: str, tmp_path: Path) -> None:
    large = FLAT_LARGE if case.startswith("flat") else MEDIUM if case == "reference engine" else LARGE
    compare(case, tmp_path, (FLAT_SMALL if case.startswith("flat") else SMALL, large), NOISE, alone=True)


@pytest.mark.soak
def test_what_is_projected_for_a_small_run(tmp_path: Path) -> None:
    """Its workers serve one step after the other, so that some hold a little of the step before."""
    compare("plain", tmp_path, (SMALL, (96, 192, 192)), 2 * NOISE, alone=False)


def needed_for_a_stack(folder: Path, size: int) -> dict[str, tuple[int, int]]:
    """As ``measured``, of slices with so many pixels along each side, a slab of them at a time."""
    (folder / "slices").mkdir(parents=True)
    image = np.kron(imageio.v3.imread(EXAMPLE / "slice_0003.png"), np.ones((-(-size // 128),) * 2, np.uint8))
    for z in range(9):
        imageio.v3.imwrite(folder / "slices" / f"slice_{z:04d}.png", image[z : z + size, 2 * z : 2 * z + size])
    found = {}
    backend = LocalBackend(1, None)
    with contextlib.chdir(folder):
        stack = Stack(folder, interpolation="cubic", slab=4)
        for stage in (stack.stack, stack.placed):
            for step in stage().all():
                outcome = run_step(step, backend, 1, lambda outcome: None)
                assert step.read_target() is not None, outcome
                backend.close()
                found[step.label] = (
                    step.projected_memory(), int(max(m.peak_memory_mb for m in step.markers) * 1e6)
                )  # fmt: skip
    return found


@pytest.mark.soak
def test_what_is_projected_for_a_stack(tmp_path: Path) -> None:
    """Slices that are put in place take a slab, however many there are."""
    small, large = (needed_for_a_stack(tmp_path / str(size), size) for size in (128, 2048))
    for label, (projected, peak) in large.items():
        more, said = peak - small[label][1], projected - small[label][0]
        text = f"{label}: {peak / 1e6:.0f} MB measured, {projected / 1e6:.0f} MB projected"
        print(f"{text}; beyond a small stack {more / 1e6:.0f} and {said / 1e6:.0f}")
        assert peak <= projected, text
        if said:  # others look at pictures of a certain size at most, for which there is an allowance
            assert more <= said + NOISE, text
    assert {"slices", "slice_features", "aligned", "tissue"} <= {
        label for label in large if large[label][0] > small[label][0]
    }


@pytest.mark.soak
def test_what_is_projected_for_an_image_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_project("flat, three channels", FLAT_LARGE)
    config = yaml.safe_load(Path("config.yaml").read_text())
    config |= {"output": "out/{name}.n5", "batch": {"files": "raw.h5"}}
    del config["raw"]["path"]
    Path("config.yaml").write_text(yaml.safe_dump(config))
    step = BatchImages(load_batch("config.yaml", None)).small
    assert step is not None
    backend = LocalBackend(1, None)
    outcome = run_step(step, backend, 1, lambda outcome: None)
    backend.close()
    assert step.read_target() is not None, outcome
    peak, projected = max(m.peak_memory_mb for m in step.markers) * 1e6, step.projected_memory()
    print(f"images: {peak / 1e6:.0f} MB measured, {projected / 1e6:.0f} MB projected")
    assert peak <= projected <= 3 * max(0, peak - FIXED) + BASE_MEMORY + SPARE


@pytest.mark.soak
@pytest.mark.parametrize("case", ["plain", "flat, three channels"])
def test_what_is_projected_for_a_first_run(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose worker compiles: it keeps what the compiler took."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", f"{tmp_path}/compiled")
    monkeypatch.chdir(tmp_path)
    step = build_steps(
        load_settings(write_project(case, FLAT_SMALL if case.startswith("flat") else SMALL))
    ).prediction
    backend = LocalBackend(1, None)
    outcome = run_step(step, backend, 1, lambda outcome: None)
    backend.close()
    assert step.read_target() is not None, outcome
    peak, projected = max(m.peak_memory_mb for m in step.markers) * 1e6, step.projected_memory()
    print(f"{case}: {peak / 1e6:.0f} MB measured, {projected / 1e6:.0f} MB projected")
    assert peak > BASE_MEMORY, "it has compiled"
    assert peak <= projected
