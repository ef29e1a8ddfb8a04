"""Arguments of questions, checked and read as the model takes them.

Each function raises ValueError for arguments that do not fit the model.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from counterpoint.core import checks
from counterpoint.core.batch import Batch
from counterpoint.core.conversion import read_as
from counterpoint.core.covariates import Covariates, columns
from counterpoint.core.latents import Latents
from counterpoint.model.model import Model
from counterpoint.model.rules import BayesRule, Rule

Values = Batch | Mapping[str, Tensor | np.ndarray]

RuleLike = Rule | Literal["own", "product"]


def read_batch(model: Model, x: Values) -> Batch:
    """Read values on the model's device and in its precision.

    Values far from the scale of training cause a warning.

    Raises:
        ValueError: no rows, or values that do not fit the modalities.
    """
    parameter = next(model.parameters())
    modalities = [*model.modalities.values()]
    if not isinstance(x, Batch):
        x = Batch.of(x, modalities=modalities, device=parameter.device)
    if len(x) == 0:
        raise ValueError("the batch has no rows (0); give at least one")
    batch = read_as(x.to(parameter.device), modalities)
    if strange := model.on_another_scale(batch):
        warnings.warn(strange, stacklevel=4)
    values = {
        name: v.to(parameter.dtype) if v.is_floating_point() else v for name, v in batch.x.items()
    }
    return dataclasses.replace(batch, x=values)


def names_to_condition_on(
    model: Model, batch: Batch, given: Sequence[str] | None
) -> tuple[Sequence[str], tuple[str, ...]]:
    """The names as given, and in the model's order those that it knows.

    None means every modality that some row has.

    Raises:
        ValueError: one name in place of a list.
    """
    if isinstance(given, str):
        raise ValueError(f"given={given!r} must be a list of names, such as [{given!r}]")
    if given is None:
        given = [name for name in model.names if bool(batch.present[name].any())]
    return given, tuple(name for name in model.names if name in given)


def conditioned(
    model: Model, x: Values, given: Sequence[str] | None
) -> tuple[Batch, tuple[str, ...]]:
    """Read values and hide the modalities that are not given.

    Returns:
        The batch, and the names of the given modalities in the model's order.
    """
    batch = read_batch(model, x)
    wanted, names = names_to_condition_on(model, batch, given)
    return batch.only(wanted), names


def target_names(model: Model, to: Sequence[str] | None) -> tuple[str, ...]:
    """The modalities to generate; None means all."""
    if isinstance(to, str):
        raise ValueError(f"to={to!r} must be a list of names, such as [{to!r}]")
    targets = model.names if to is None else tuple(to)
    unknown = [name for name in targets if name not in model.names]
    if unknown or not targets:
        problem = (
            f"unknown modality {unknown[0]!r}" if unknown else f"to={to!r} names no target modality"
        )
        raise ValueError(f"{problem}; choose from {', '.join(model.names)}")
    return targets


def covariate_columns(model: Model, covariates: Covariates | None, rows: int) -> Tensor | None:
    """Covariates as columns (rows, C) on the model's device; None stays None."""
    if covariates is None:
        return None
    return columns(covariates, model.covariates, rows, next(model.parameters()).device)


def count_totals(model: Model, totals: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Totals (rows,) by modality of counts, on the model's device."""
    device = next(model.parameters()).device
    read = {}
    for name, values in totals.items():
        if name not in model.names or not model.modalities[name].counts:
            counts = ", ".join(m.name for m in model.modalities.values() if m.counts) or "none"
            raise ValueError(
                f"totals name {name!r}, which are no counts; the modalities of counts are {counts}"
            )
        numbers = _number_tensor(f"totals of {name!r}", values)
        if numbers.shape != (rows,) or not bool(((numbers >= 0) & numbers.isfinite()).all()):
            raise ValueError(
                f"totals of {name!r} must be {rows} numbers that are not negative, one for each row, got {checks.shown(values)}"
            )
        read[name] = numbers.to(device)
    return read


def chosen_rule(model: Model, rule: RuleLike) -> Rule | None:
    """The rule to condition by; None for the model's own."""
    if isinstance(rule, Rule):
        return rule
    if rule not in ("own", "product"):
        raise ValueError(f"rule={rule!r} is unknown; choose 'own', 'product', or give a Rule")
    if rule == "own":
        return None
    return BayesRule(model.posterior.rule.hmc, prior=model.prior())


def chosen_prior(model: Model, prior: str) -> str:
    """The name of the prior to draw from; "auto" means the one fitted last."""
    if prior == "auto":
        return model.priors[-1]
    if prior not in model.priors:
        raise ValueError(
            f"this model has no prior {prior!r}; it has {', '.join(model.priors)}, or 'auto'"
        )
    return prior


def check_latents(model: Model, latents: Latents) -> None:
    """Refuse latents of other sizes than the model's, or of unequal K or B."""
    lead = tuple(getattr(latents.shared, "shape", ()))[:2]
    for key, values in latents.by_key().items():
        if not isinstance(values, Tensor):
            raise ValueError(
                f"the latents {key!r} are {checks.shown(values)}, expected a tensor (K, B, D)"
            )
        if key not in model.latents:
            raise ValueError(
                f"the latents hold {key!r}, and this model has {', '.join(model.latents)}; give it latents of its own"
            )
        wanted = (*lead, model.latents[key])
        if values.ndim != 3 or tuple(values.shape) != wanted or 0 in wanted:
            raise ValueError(
                f"the latents {key!r} have shape {tuple(values.shape)}, expected (K, B, {wanted[-1]}) with one K and B of 1 or more for all"
            )


def _number_tensor(what: str, values: object) -> Tensor:
    try:
        return torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{what} must be numbers, got {checks.shown(values)}") from None
