"""From the configuration to the indices of a project's classes."""

from __future__ import annotations

from blockwise.errors import UserError
from pipeline.configuration.settings import Settings


def chosen_classes(settings: Settings, names: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the classes whose probabilities are written, of those with these names.

    Raises:
        UserError: a class that the project lacks, none, or one twice.
    """
    chosen = settings.prediction.classes
    if chosen == "all":
        return tuple(range(len(names)))
    indices = tuple(class_index(c, names, settings, "prediction.classes") for c in chosen)
    if not indices or len(set(indices)) < len(indices):
        raise UserError(f"prediction.classes: {list(chosen)}; name each class once, or write all")
    return indices


def class_index(chosen: int | str, names: tuple[str, ...], settings: Settings, key: str) -> int:
    """Index of a class, given as index or name under a key of the configuration.

    Raises:
        UserError: the project has no such class.
    """
    listed = ", ".join(f"{i} {name!r}" for i, name in enumerate(names))
    if isinstance(chosen, str) and chosen in names:
        return names.index(chosen)
    if isinstance(chosen, int) and 0 <= chosen < len(names):
        return chosen
    raise UserError(
        f"{key}: {chosen!r} is no class of {settings.prediction.project}; its classes are {listed} "
        "(an index counts from 0, a name must be exact)"
    )
