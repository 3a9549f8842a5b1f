"""From a configuration to steps: everything that can be wrong is found here, before any work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import psutil

from blockwise.errors import UserError
from blockwise.grid import Grid
from blockwise.sources import VolumeInfo
from blockwise.step import BlockStep
from blockwise.volume import Address
from blockwise.volume.formats import check_writable
from pipeline.config import BackendSettings, Settings
from pipeline.geometry import Storage, describe_raw, make_grid, one_block, output_storage
from tasks.component_faces import ComponentFacesStep
from tasks.component_labels import CONNECTIVITIES
from tasks.component_merge import ComponentMergeStep
from tasks.connected_components import ConnectedComponentsStep
from tasks.pixel_classification.engine import make_engine
from tasks.pixel_classification.project import Project
from tasks.pixel_classification.training import open_project
from tasks.prediction import PredictionStep
from tasks.threshold import ThresholdStep


@dataclass(frozen=True)
class Steps:
    """The steps of a configuration, each with those before it.

    Attributes:
        axes_from: who says what the raw volume's axes are, for people.
    """

    prediction: PredictionStep
    threshold: ThresholdStep
    component_faces: ComponentFacesStep
    component_merge: ComponentMergeStep
    connected_components: ConnectedComponentsStep
    axes_from: str

    def all(self) -> tuple[BlockStep, ...]:
        """All steps, each after those that it reads."""
        return (
            self.prediction,
            self.threshold,
            self.component_faces,
            self.component_merge,
            self.connected_components,
        )

    def up_to(self, name: str) -> tuple[BlockStep, ...]:
        """The steps up to and with the one of this name."""
        names = [step.name for step in self.all()]
        return self.all()[: names.index(name) + 1]


def build_steps(settings: Settings, *, whole: bool = False) -> Steps:
    """Make the steps of a configuration.

    Args:
        settings: the configuration.
        whole: one block for all of the volume (for each time step), whatever the configuration says.

    Raises:
        UserError: an input is missing, a value does not fit it, or a worker would need too much memory.
    """
    check_writable(Address(settings.output, "probabilities"))
    project = open_project(settings.prediction.project)
    info, axes_from = describe_raw(settings.raw, project)
    if whole:
        settings = settings.model_copy(update={"blocks": one_block(settings.blocks, info)})
    grid = make_grid(settings, info)
    storage = output_storage(settings, grid)
    prediction = _prediction_step(settings, info, project, grid, storage)
    threshold = _threshold_step(settings, prediction, storage)
    shared = {"work_dir": settings.work_dir, "change_detection": settings.change_detection}
    faces = ComponentFacesStep(
        **shared,
        grid=grid,
        threshold=threshold,
        foreground=settings.connected_components.foreground,
        connectivity=_connectivity(settings, grid),
    )
    merge = ComponentMergeStep(
        **shared,
        grid=Grid(grid.axes, grid.shape, grid.shape, grid.roi),
        faces=faces,
        min_size=settings.connected_components.min_size,
        numbering=settings.connected_components.numbering,
    )
    components = ConnectedComponentsStep(
        **shared, grid=grid, merge=merge, address=f"{settings.output}:connected_components", **storage
    )
    steps = Steps(prediction, threshold, faces, merge, components, axes_from)
    check_memory(steps, settings)
    _check_not_in_place(steps)
    return steps


def _check_not_in_place(steps: Steps) -> None:
    """Refuse to write over what is read; the raw volume may be the result of another run."""
    raw = _dataset_path(steps.prediction.raw.address)
    for step in (steps.prediction, steps.threshold, steps.connected_components):
        if _dataset_path(step.address) == raw:
            raise UserError(
                f"output {step.address}: this is the raw volume itself, which would be lost; set another `output`"
            )


def _dataset_path(text: str) -> Path:
    address = Address.parse(text)
    return Path(address.path).resolve() / address.key


def _prediction_step(
    settings: Settings, info: VolumeInfo, project: Project, grid: Grid, storage: Storage
) -> PredictionStep:
    prediction = settings.prediction
    channels = _channels(settings, info, project)
    _check_axes(settings, info, project, grid)
    engine = make_engine(prediction.engine, project, structure_tensor=prediction.structure_tensor)
    sizes = dict(zip(grid.axes, grid.shape, strict=True))
    try:
        engine.check_shape((sizes.get("z", 1), sizes["y"], sizes["x"]))
    except UserError as error:
        raise UserError(f"raw {info.address}: {error}") from None
    blocks = dict(zip(grid.axes, grid.block_shape, strict=True))
    block = (blocks.get("z", 1), blocks["y"], blocks["x"])
    halo = engine.halo if "z" in grid.axes else (0, *engine.halo[1:])
    read = tuple(min(b + 2 * h, sizes.get(a, 1)) for a, b, h in zip("zyx", block, halo, strict=True))
    return PredictionStep(
        work_dir=settings.work_dir,
        change_detection=settings.change_detection,
        grid=grid,
        raw=info,
        channels=channels,
        project=prediction.project,
        project_hash=project.content_hash,
        classes=_classes(settings, project),
        class_names=project.classes,
        dtype=prediction.dtype,
        engine=prediction.engine,
        structure_tensor=prediction.structure_tensor,
        seed=prediction.seed,
        feature_halo=halo,
        engine_memory=int(engine.bytes_per_voxel * math.prod(read)),
        address=f"{settings.output}:probabilities",
        **storage,
    )


def _check_axes(settings: Settings, info: VolumeInfo, project: Project, grid: Grid) -> None:
    expected = project.axes.replace("t", "").replace("c", "")
    found = grid.axes.replace("t", "")
    lengths = dict(zip(grid.axes, grid.shape, strict=True))
    image = project.lanes[-1]
    # As in ilastik, an axis of length 1 is as good as none.
    same = len([a for a in expected if image.length(a) != 1]) == len([a for a in found if lengths[a] != 1])
    if len(expected) != len(found) and not same:
        raise UserError(
            f"raw {info.address}: {len(found)} spatial axes ({info.axes}, shape {info.shape}), but project "
            f"{settings.prediction.project} was made for {len(expected)} ({project.axes}); use data with the same "
            "axes as the project's images, or set raw.axes if they are named wrongly"
        )


def _channels(settings: Settings, info: VolumeInfo, project: Project) -> tuple[int, ...]:
    available = info.shape[info.axes.index("c")] if "c" in info.axes else 1
    chosen = settings.raw.channel
    channels = tuple(range(available)) if chosen is None else (chosen,) if isinstance(chosen, int) else chosen
    if not channels or not all(0 <= c < available for c in channels):
        raise UserError(f"raw.channel: {chosen}, but {info.address} has channels 0 to {available - 1}")
    if len(channels) != project.n_channels:
        raise UserError(
            f"raw {info.address}: {len(channels)} channels ({info.axes}, shape {info.shape}), but project "
            f"{settings.prediction.project} was made for {project.n_channels}; choose with raw.channel, or check "
            "raw.axes"
        )
    return channels


def _classes(settings: Settings, project: Project) -> tuple[int, ...]:
    chosen = settings.prediction.classes
    if chosen == "all":
        return tuple(range(len(project.classes)))
    indices = tuple(_class_index(c, project.classes, settings, "prediction.classes") for c in chosen)
    if not indices or len(set(indices)) < len(indices):
        raise UserError(f"prediction.classes: {list(chosen)}; name each class once, or write all")
    return indices


def _class_index(chosen: int | str, names: tuple[str, ...], settings: Settings, key: str) -> int:
    listed = ", ".join(f"{i} {name!r}" for i, name in enumerate(names))
    if isinstance(chosen, str) and chosen in names:
        return names.index(chosen)
    if isinstance(chosen, int) and 0 <= chosen < len(names):
        return chosen
    raise UserError(
        f"{key}: {chosen!r} is no class of {settings.prediction.project}; its classes are {listed} "
        "(an index counts from 0, a name must be exact)"
    )


def _threshold_step(settings: Settings, prediction: PredictionStep, storage: Storage) -> ThresholdStep:
    threshold, axes = settings.threshold, prediction.grid.axes
    index = _class_index(threshold.class_, prediction.class_names, settings, "threshold.class")
    if index not in prediction.classes:
        raise UserError(
            f"threshold.class: {threshold.class_!r} is not among prediction.classes "
            f"{settings.prediction.classes}; add it there"
        )
    sigma, spatial = threshold.sigma, axes.replace("t", "")
    per_axis = (float(sigma),) * len(spatial) if isinstance(sigma, float | int) else tuple(map(float, sigma))
    if len(per_axis) != len(spatial):
        raise UserError(
            f"threshold.sigma: {list(per_axis)} for the axes {spatial}; write one number, or one for each"
        )
    return ThresholdStep(
        work_dir=settings.work_dir,
        change_detection=settings.change_detection,
        grid=prediction.grid,
        prediction=prediction,
        class_index=index,
        sigma=(0.0,) * ("t" in axes) + per_axis,
        threshold=threshold.threshold,
        address=f"{settings.output}:thresholded",
        **storage,
    )


def _connectivity(settings: Settings, grid: Grid) -> int:
    spatial = grid.axes.replace("t", "")
    known = CONNECTIVITIES[len(spatial)]
    chosen = settings.connected_components.connectivity
    if chosen is None:
        return known[-1]
    if chosen not in known:
        raise UserError(f"connected_components.connectivity: {chosen}; for the axes {spatial} it is one of {known}")
    return chosen


def check_memory(steps: Steps, settings: Settings) -> None:
    """Refuse a configuration whose workers would need more memory than there is.

    Raises:
        UserError: naming the step, what it needs, what it may have, and what to change.
    """
    limit, allowed = _memory_limit(settings.backend)
    for step in steps.all():
        needed = step.projected_memory()
        if needed > limit:
            raise UserError(
                f"{step.name}: a worker needs about {needed / 1e9:.2f} GB for blocks of "
                f"{'x'.join(map(str, step.grid.block_shape))}, but {allowed}; use smaller blocks, fewer workers, or "
                "more memory"
            )


def _memory_limit(backend: BackendSettings) -> tuple[float, str]:
    """Bytes that a worker may have, and who says so."""
    if backend.memory_gb:
        return backend.memory_gb * 1e9, f"backend.memory_gb allows {backend.memory_gb:.2f} GB"
    if backend.name == "slurm":
        memory_gb = backend.slurm.memory_gb or math.inf
        return memory_gb * 1e9, f"backend.slurm.memory_gb asks for {memory_gb:.2f} GB"
    limit = psutil.virtual_memory().total / backend.workers
    return limit, f"this machine has {limit / 1e9:.2f} GB for each of {backend.workers} workers"


def default_config() -> str:
    """The configuration that ``luigi.cfg`` names for ``ConnectedComponentsWorkflow``."""
    import luigi

    return str(luigi.configuration.get_config().get("ConnectedComponentsWorkflow", "config", "configs/example.yaml"))
