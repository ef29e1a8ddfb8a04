"""Which searched fields change what the validation loss measures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from counterpoint.methods import Method
from counterpoint.studies.recipe import Recipe
from counterpoint.studies.space import Space
from counterpoint.studies.trials import LOSS_METRIC, Prune


def warn_of_other_losses(base: Recipe, space: Space, metric: str, prune: Prune) -> None:
    """Warn of searched fields that change the loss, if trials are compared by it."""
    if metric != LOSS_METRIC and prune == "none":
        return
    changing = [
        field
        for field, dimension in space.items()
        if _changes_the_loss(base, field, dimension.ends)
    ]
    if changing:
        instead = (
            "a metric of the evaluation and prune='none'"
            if metric == LOSS_METRIC
            else "prune='none'"
        )
        warnings.warn(
            f"{' and '.join(changing)} change what {LOSS_METRIC} measures, "
            f"by which trials are compared; give {instead}",
            stacklevel=3,
        )


def _changes_the_loss(base: Recipe, field: str, values: Sequence[Any]) -> bool:
    if not field.startswith("model.") or base.loaded is None:
        return field in ("data.likelihood", "data.scale")
    objectives = []
    for value in values:
        # a value that does not fit the others fails in its trial
        with suppress(ValueError, TypeError):
            objectives.append(_objective(base.changed({field: value}).made(base.loaded)))
    return any(objective != objectives[0] for objective in objectives)


def _objective(method: Method) -> list[object]:
    """The parts of each stage, with their final weights and settings."""
    parts: list[object] = []
    for stage in method.stages:
        for loss, ramp in stage.losses:
            plain = {}
            for key, value in vars(loss).items():
                if isinstance(value, bool | int | float | str):
                    plain[key] = value
            parts.append((stage.name, type(loss).__name__, ramp.value, plain))
    return parts
