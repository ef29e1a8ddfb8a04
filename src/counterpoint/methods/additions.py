"""Additions to a model as records: written when it is saved, applied when it is opened."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from counterpoint.inference import Refiner, RefinerOptions, refiner_of
from counterpoint.model.additions import Addition
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.model import Model


def additions_of(model: Model) -> tuple[Addition, ...]:
    """What was fitted to a model: priors, decoders, and the refiner last."""
    refiner = model.refiner
    if not isinstance(refiner, Refiner):
        return tuple(model.additions.values())
    options = {**asdict(refiner.options), "latents": refiner.latents, "beta": refiner.beta}
    return (*model.additions.values(), Addition("refiner", options))


def add(model: Model, addition: Addition) -> None:
    """Add to a model what a record says, not yet fitted.

    Raises:
        ValueError, TypeError, KeyError: options that do not fit the model.
    """
    options: dict[str, Any] = dict(addition.options)
    match addition.kind:
        case "prior":
            model.add_fitted_priors(**options)
        case "decoder":
            model.replace_decoders(DenoiserOptions(**options))
        case "refiner":
            latents = options.pop("latents")
            beta = options.pop("beta")
            modalities = [*model.modalities.values()]
            model.put_refiner(Refiner(modalities, latents, RefinerOptions(**options), beta=beta))
            refiner_of(model)  # refuses one that does not fit
