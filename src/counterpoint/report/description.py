"""Data and settings in words."""

from __future__ import annotations

import json
import math
from typing import Any

from counterpoint.core.modality import Modality


def describe(modality: Modality) -> str:
    """Describe the values of a modality, and how they are modelled.

    >>> describe(Modality("genes", (50,), "normal", 1.0))
    'vector of 50; normal likelihood, scale 1'
    """
    family = {"nb": "negative binomial", "zinb": "zero-inflated negative binomial"}.get(
        modality.likelihood, modality.likelihood
    )
    text = f"{_shape(modality)}; {family} likelihood"
    if modality.likelihood in ("normal", "laplace"):
        text += ", learned scale" if modality.scale is None else f", scale {modality.scale:g}"
    if modality.covariates:
        columns = len(modality.covariates)
        text += f"; its decoder reads covariates in {columns} column{'s' * (columns > 1)}"
    return text


def _shape(modality: Modality) -> str:
    if modality.likelihood == "categorical":
        return f"sequence of {math.prod(modality.shape)} out of {modality.classes} symbols"
    if len(modality.shape) == 3:
        channels, height, width = modality.shape
        unbounded = " of unbounded values" if modality.unbounded else ""
        return f"image{unbounded}, {height} × {width}, {channels} channel{'s' * (channels > 1)}"
    text = f"vector of {math.prod(modality.shape)}{' counts' * modality.counts}"
    if modality.features:
        more = ", …" if len(modality.features) > 3 else ""
        text += f" ({', '.join(modality.features[:3])}{more})"
    return text


def as_yaml(values: Any) -> str:
    """Write nested settings as YAML."""
    import yaml

    return yaml.safe_dump(
        json.loads(json.dumps(values, default=str)), sort_keys=False, allow_unicode=True, width=100
    ).strip()
