"""The configuration file: its keys, their types and defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from blockwise.backends.kind import Setup
from blockwise.backends.registry import BACKENDS
from blockwise.errors import UserError
from blockwise.faults import Faults
from blockwise.records import in_store
from blockwise.volume import Address
from blockwise.volume.axes import unit_name
from blockwise.volume.lengths import MICROMETERS
from pipeline.configuration.alignment import Alignment, aligned_view, aligned_volume, with_aligned_volume
from pipeline.configuration.complaints import explanations
from pipeline.configuration.paths import LocalPath, ProjectPath, WorkPlace, expand_path, expand_paths
from pipeline.configuration.section import Section
from pipeline.configuration.setting_names import backend_names
from pipeline.configuration.sizes import Size
from pipeline.configuration.strict_yaml import parse_yaml


class Raw(Section):
    """The raw volume. See ``configs/reference.yaml`` for the meaning of every key."""

    path: str
    key: str = ""
    axes: str | None = None
    channel: int | tuple[int, ...] | None = None
    moved_from: str | None = None
    voxel_size: tuple[PositiveFloat, ...] | None = None
    voxel_unit: str = "micrometer"

    @field_validator("voxel_unit")
    @classmethod
    def _unit_of_length(cls, unit: str) -> str:
        name = unit_name(unit)
        if name not in MICROMETERS:
            raise ValueError(f"{unit!r} is no unit of length; write one of {', '.join(MICROMETERS)}, or nm, um, mm")
        return name

    @property
    def address(self) -> str:
        """The volume as one value."""
        return str(Address(self.path, self.key)) if self.key else self.path

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, axes: str | None) -> str | None:
        if axes is not None and (
            set(axes) - set("tczyx") or len(set(axes)) < len(axes) or not {"y", "x"} <= set(axes)
        ):
            raise ValueError(
                f"{axes!r} are not axes; write one letter of t, c, z, y, x per axis, such as zyx or czyx"
            )
        return axes


class Blocks(Section):
    """The blocks."""

    shape: tuple[PositiveInt, ...] | None = None
    chunks: tuple[PositiveInt, ...] | None = None
    shards: tuple[PositiveInt, ...] | None = None
    roi: tuple[tuple[int | None, int | None], ...] | None = None
    mask: str | None = None
    mask_factor: tuple[PositiveInt, ...] | None = None


class Prediction(Section):
    """Pixel classification."""

    project: ProjectPath
    classes: Literal["all"] | tuple[int | str, ...] = "all"
    dtype: Literal["float32", "uint8"] = "float32"
    engine: str = "fast"
    structure_tensor: Literal["fastfilters", "vigra"] = "fastfilters"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    export_stage_1: bool = False
    probabilities: str | None = None


Sigma = Annotated[float, Field(ge=0)]


Probability = Annotated[float, Field(ge=0, le=1)]


class Split(Section):
    """Touching objects."""

    method: Literal["distance", "seeds", "labels"] = "distance"
    h: PositiveFloat = 1.0
    largest: PositiveInt | tuple[PositiveInt, ...] = 128


class ConnectedComponents(Section):
    """Objects."""

    foreground: Literal[0, 1] = 1
    connectivity: Literal[4, 6, 8, 18, 26] | None = None
    min_size: Size = 0
    max_size: Size | None = None
    exclude_border: bool = False
    intensities: bool = False
    probabilities: bool = False
    features: Literal["project"] | tuple[str, ...] | None = None
    margin: PositiveInt | tuple[PositiveInt, ...] | None = None
    numbering: Literal["continue", "restart"] = "continue"
    split: Split | None = None
    classifier: ProjectPath | None = None

    @model_validator(mode="after")
    def _sizes_leave_something(self) -> ConnectedComponents:
        if self.margin is not None and not self.features:
            raise ValueError("margin: only with features, whose neighbourhoods it belongs to")
        if self.max_size == 0:
            raise ValueError("max_size 0: no object has such a size")
        sizes = self.min_size, self.max_size  # those with units are compared when it is known how large voxels are
        if isinstance(sizes[0], int) and isinstance(sizes[1], int) and sizes[1] < sizes[0]:
            raise ValueError(f"max_size {self.max_size} is below min_size {self.min_size}; no object has such a size")
        return self


OF_CORES = {"core_class": None, "core_min_size": 0, "core_max_size": None, "keep_cores": False}
"""Keys of a threshold that belong to hysteresis, and their defaults."""


WITH_PROJECT = {"name", "as_", "project", "keep_cores", "connected_components"}
"""Keys of a threshold that may stand beside the project which says the others."""


class Threshold(Section):
    """Smoothing and threshold."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")] | None = None
    as_: Literal["skimage", "ilastik", "project"] = Field("skimage", alias="as")
    project: ProjectPath | None = None
    class_: int | str = Field(1, alias="class")
    sigma: Sigma | tuple[Sigma, ...] = 1.6
    sigma_unit: Literal["voxel", "physical"] = "voxel"
    method: Literal["simple", "hysteresis"] = "simple"
    threshold: Probability = 0.5
    core: Probability | None = None
    core_class: int | str | None = None
    core_min_size: Annotated[int, Field(ge=0)] = 0
    core_max_size: PositiveInt | None = None
    final: Probability | None = None
    keep_cores: bool = False
    connected_components: ConnectedComponents | None = None

    @model_validator(mode="after")
    def _values_of_ilastik(self) -> Threshold:
        if self.as_ == "project":
            if odd := sorted(self.model_fields_set - WITH_PROJECT):
                raise ValueError(
                    f"{', '.join(odd).replace('class_', 'class')}: as: project takes this from the project"
                )
        elif self.project is not None:
            raise ValueError("project: only with as: project, which takes the threshold from it")
        if self.as_ == "ilastik" and (self.core_min_size or self.core_max_size):
            raise ValueError(
                "core_min_size, core_max_size: ilastik takes those of connected_components, min_size and max_size"
            )
        return self

    @model_validator(mode="after")
    def _levels_of_the_method(self) -> Threshold:
        if self.as_ == "project":
            return self
        if self.method == "simple":
            if self.core is not None or self.final is not None:
                raise ValueError("core and final belong to method: hysteresis, which is not set")
            if odd := [name for name in OF_CORES if getattr(self, name) != OF_CORES[name]]:
                raise ValueError(f"{', '.join(odd)}: only for method: hysteresis, which is not set")
        elif self.core is None or self.final is None or "threshold" in self.model_fields_set:
            raise ValueError(
                "method hysteresis needs core and final, such as core: 0.8, final: 0.5, and no threshold"
            )
        elif self.core < self.final and self.core_class is None:
            raise ValueError(f"core {self.core} is below final {self.final}; the core lies within the final objects")
        elif self.core_max_size is not None and self.core_max_size < self.core_min_size:
            raise ValueError(
                f"core_max_size {self.core_max_size} is below core_min_size {self.core_min_size}; no core has such "
                "a size"
            )
        return self

    @property
    def lowest(self) -> float:
        """What a voxel of an object exceeds."""
        return self.threshold if self.final is None else self.final


PyramidDataset = Literal[
    "raw",
    "probabilities",
    "simple_segmentation",
    "thresholded",
    "connected_components",
    "split_objects",
    "cores",
    "object_classes",
]
PYRAMID_DATASETS: tuple[PyramidDataset, ...] = (
    "probabilities",
    "thresholded",
    "connected_components",
    "split_objects",
    "cores",
    "object_classes",
)
"""Datasets that get coarser scales unless something else is said."""


class Pyramid(Section):
    """Coarser scales of datasets, for viewers."""

    scales: Literal["auto"] | PositiveInt | None = None
    datasets: tuple[PyramidDataset, ...] = PYRAMID_DATASETS
    output: str | None = None
    shards: tuple[PositiveInt, ...] | None = None
    copy_finest: bool = False


class FaultSettings(Section, Faults):
    """Faults on purpose, for trials."""


def _option_sections() -> dict[str, Any]:
    """A section for each kind of backend that has options of its own."""
    kinds = {name: kind.options for name, kind in BACKENDS.items() if kind.options.model_fields}
    sections = {name: create_model(options.__name__, __base__=(Section, options)) for name, options in kinds.items()}
    return {name: (section, section()) for name, section in sections.items()}


OptionSections: Any = create_model("OptionSections", __base__=Section, **_option_sections())
"""Options of all kinds of backends, each under its name."""


class BackendSettings(OptionSections, Section):
    """Where and how blocks are computed; changing it redoes nothing."""

    name: str = "local"
    workers: PositiveInt = 2
    max_attempts: PositiveInt = 3
    timeout_s: PositiveFloat | None = None
    memory_gb: PositiveFloat | None = None
    detach: bool = False
    faults: FaultSettings = FaultSettings()

    @field_validator("name", mode="before")
    @classmethod
    def _known_name(cls, name: Any) -> Any:
        if name not in list(BACKENDS):
            *others, last = map(repr, BACKENDS)
            raise ValueError(f"input should be {', '.join(others)} or {last}")
        return name

    @model_validator(mode="after")
    def _needed_options(self) -> BackendSettings:
        missing = [key for key in BACKENDS[self.name].needed if getattr(getattr(self, self.name), key) is None]
        if missing:
            raise ValueError(f"name {self.name!r} needs {' and '.join(f'{self.name}.{key}' for key in missing)}")
        return self

    def setups(self) -> dict[str, Setup[Any]]:
        """Settings for each kind of backend."""
        return {
            name: Setup(
                options=getattr(self, name, None) or kind.options(),
                workers=self.workers,
                timeout_s=self.timeout_s,
                detach=self.detach,
                faults=self.faults,
                names=backend_names(name),
            )
            for name, kind in BACKENDS.items()
        }


class Batch(Section):
    """Many files with the same settings."""

    files: str | tuple[str, ...] | None = None
    manifest: LocalPath | None = None
    small_voxels: PositiveInt = 4_194_304


class Settings(Section):
    """The whole configuration."""

    work_dir: WorkPlace
    raw: Raw
    output: str
    blocks: Blocks = Blocks()
    prediction: Prediction
    threshold: tuple[Threshold, ...] = (Threshold(),)
    connected_components: ConnectedComponents = ConnectedComponents()
    pyramid: Pyramid = Pyramid()
    backend: BackendSettings = BackendSettings()
    batch: Batch = Batch()
    alignment: Alignment = Alignment()
    change_detection: Literal["files", "metadata"] = "files"

    @model_validator(mode="after")
    def _has_a_folder_where_one_is_needed(self) -> Self:
        if in_store(self.work_dir):
            if BACKENDS[self.backend.name].needs_folder:
                raise ValueError(
                    f"work_dir: {self.work_dir}: backend {self.backend.name} needs a folder that all nodes share"
                )
            if self.alignment.virtual:
                raise ValueError(f"work_dir: {self.work_dir}: alignment.virtual needs a folder of this machine")
        return self

    @property
    def takes_aligned(self) -> bool:
        """Whether the raw volume is the one that an alignment of this configuration makes."""
        made = aligned_view(self.work_dir) if self.alignment.virtual else aligned_volume(self.output)
        return self.alignment.slices is not None and self.raw.address == made

    @field_validator("raw", mode="before")
    @classmethod
    def _address_or_mapping(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("threshold", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        several = value if isinstance(value, list | tuple) else (value,)
        return tuple({"as": "project"} if one == "project" else one for one in several)

    @field_validator("threshold")
    @classmethod
    def _names_differ(cls, value: tuple[Threshold, ...]) -> tuple[Threshold, ...]:
        names = [threshold.name for threshold in value]
        if not names:
            raise ValueError("the list is empty; leave the key out for the defaults")
        if len(names) > 1 and (None in names or len(set(names)) < len(names)):
            raise ValueError(f"several thresholds need a name each, all different; found {names}")
        return value


def load_settings(path: str) -> Settings:
    """Read a configuration file.

    Raises:
        UserError: it is not there, is not YAML, or holds a key or value that is not right; each such key is named.
    """
    values = read_values(path)
    if is_of_batch(values):
        raise UserError(
            f"configuration {path}: it is of many files (batch), which BatchWorkflow runs; for one volume, set raw"
        )
    return make_settings(values, f"configuration {path}")


def is_of_batch(values: dict[str, Any]) -> bool:
    """Whether a configuration is of many files: it names them under ``batch``, and none under ``raw``."""
    raw = values.get("raw")
    return bool(values.get("batch")) and not (isinstance(raw, str) or (isinstance(raw, dict) and raw.get("path")))


def read_values(path: str) -> dict[str, Any]:
    """Read a configuration file as it stands, but for ``~`` and variables in its paths.

    Raises:
        UserError: it is not there, or is not YAML with keys, or a path in it names a variable that is not set.
    """
    if not path:
        raise UserError(
            "no configuration is named: give --config FILE, or set config below [ConnectedComponentsWorkflow] in a "
            f"luigi.cfg (looked from {Path.cwd()})"
        )
    path = expand_path(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"configuration {path}: there is no such file (looked from {Path.cwd()})") from error
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise UserError(f"configuration {path}: cannot be read: {error}") from error
    values = parse_yaml(text, f"configuration {path}")
    if not isinstance(values, dict):
        raise UserError(f"configuration {path}: expected keys such as work_dir, raw, output; found {values!r:.60}")
    try:
        return expand_paths(values)
    except UserError as error:
        raise UserError(f"configuration {path}: {error}") from None


def make_settings(values: dict[str, Any], where: str) -> Settings:
    """Turn keys and values into settings.

    Raises:
        UserError: a key or value is not right; each is named, after ``where``.
    """
    values = with_aligned_volume(values)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = explanations(error, values, Settings)
        raise UserError("\n".join([f"{where}:", *(f"  {line}" for line in lines)])) from None
