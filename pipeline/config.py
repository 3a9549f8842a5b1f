"""The configuration file: its keys, their types and defaults, and messages for what is wrong in it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator

from blockwise.backends.slurm import SlurmOptions
from blockwise.errors import UserError
from blockwise.faults import Faults


class Section(BaseModel):
    """A part of the configuration; keys that it does not know are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Raw(Section):
    """The raw volume. See ``configs/reference.yaml`` for the meaning of every key."""

    path: str
    key: str = ""
    axes: str | None = None
    channel: int | tuple[int, ...] | None = None

    @property
    def address(self) -> str:
        """The volume as one value."""
        return f"{self.path}:{self.key}" if self.key else self.path

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


class Prediction(Section):
    """Pixel classification."""

    project: str
    classes: Literal["all"] | tuple[int | str, ...] = "all"
    dtype: Literal["float32", "uint8"] = "float32"
    engine: str = "fast"
    structure_tensor: Literal["fastfilters", "vigra"] = "fastfilters"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


Sigma = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Threshold(Section):
    """Smoothing and threshold."""

    class_: int | str = Field(1, alias="class")
    sigma: Sigma | tuple[Sigma, ...] = 1.6
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5


class ConnectedComponents(Section):
    """Objects."""

    foreground: Literal[0, 1] = 1
    connectivity: Literal[4, 6, 8, 18, 26] | None = None
    min_size: Annotated[int, Field(ge=0)] = 0
    numbering: Literal["continue", "restart"] = "continue"


class Slurm(Section, SlurmOptions):
    """How jobs are submitted to a SLURM cluster."""


class FaultSettings(Section, Faults):
    """Faults on purpose, for trials."""


class BackendSettings(Section):
    """Where and how blocks are computed; changing it redoes nothing."""

    name: Literal["local", "slurm"] = "local"
    workers: PositiveInt = 2
    max_attempts: PositiveInt = 3
    timeout_s: PositiveFloat | None = None
    memory_gb: PositiveFloat | None = None
    detach: bool = False
    slurm: Slurm = Slurm()
    faults: FaultSettings = FaultSettings()


class Batch(Section):
    """Many files with the same settings."""

    files: str | tuple[str, ...] | None = None
    manifest: str | None = None
    small_voxels: PositiveInt = 4_194_304


class Settings(Section):
    """The whole configuration."""

    work_dir: str
    raw: Raw
    output: str
    blocks: Blocks = Blocks()
    prediction: Prediction
    threshold: Threshold = Threshold()
    connected_components: ConnectedComponents = ConnectedComponents()
    backend: BackendSettings = BackendSettings()
    batch: Batch = Batch()
    change_detection: Literal["files", "metadata"] = "files"

    @field_validator("raw", mode="before")
    @classmethod
    def _address_or_mapping(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


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
    """Read a configuration file as it stands.

    Raises:
        UserError: it is not there, or is not YAML with keys.
    """
    try:
        text = Path(path).read_text()
    except FileNotFoundError as error:
        raise UserError(f"configuration {path}: there is no such file (looked from {Path.cwd()})") from error
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise UserError(f"configuration {path}: cannot be read: {error}") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"configuration {path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"configuration {path}: expected keys such as work_dir, raw, output; found {values!r:.60}")
    return values


def make_settings(values: dict[str, Any], where: str) -> Settings:
    """Turn keys and values into settings.

    Raises:
        UserError: a key or value is not right; each is named, after ``where``.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [f"{where}:", *(f"  {_explain(item)}" for item in _distinct(error))]
        raise UserError("\n".join(lines)) from None


def _distinct(error: ValidationError) -> list[Any]:
    """One entry per key: pydantic reports each branch of a union."""
    found: dict[tuple[str, ...], Any] = {}
    for item in error.errors():
        found.setdefault(_key(item["loc"]), item)
    return list(found.values())


def _key(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys of a location that stand in the file; pydantic adds names of types."""
    model: Any = Settings
    keys: list[str] = []
    for part in location:
        fields = _fields(model)
        if isinstance(part, str) and keys and part not in fields and model is None:
            continue
        keys.append(str(part))
        model = fields.get(str(part))
    return tuple(keys)


def _fields(model: Any) -> dict[str, Any]:
    """Keys of a section, each with its own section or None."""
    if model is None:
        return {}
    fields = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        fields[field.alias or name] = kind if isinstance(kind, type) and issubclass(kind, Section) else None
    return fields


def _explain(item: Any) -> str:
    keys = _key(item["loc"])
    name = ".".join(keys)
    if item["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
        near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}"
        return f"{name}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{name}: this key is needed"
    message = item["msg"].removeprefix("Value error, ")
    return f"{name}: found {item['input']!r:.80}; {message[0].lower()}{message[1:]}"


def _known_keys(path: tuple[str, ...]) -> list[str]:
    model: Any = Settings
    for key in path:
        model = _fields(model).get(key)
    return list(_fields(model))
