"""Covariates: columns that decoders read beside latents, from numbers, names or mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# --- covariates -----------------------------------------------------------------------------------------------------------------
Covariates = Tensor | np.ndarray | Sequence[Any] | Mapping[str, Any]
"""Columns of covariates, see :func:`columns`."""


def columns(
    given: Covariates, names: Sequence[str], rows: int, device: torch.device | str | None = None
) -> Tensor:
    """Columns of covariates, (rows, C) float32.

    Args:
        given: (rows, C), or (C,) for every row; or by name a number for every row, or
            one for each (rows,), with zeros in the columns that are not named, so that
            ``{"batch=b": 1}`` is batch b.
        names: of the C columns.

    Raises:
        ValueError: no columns, an unknown name, another shape, or what is no finite
            number.
    """
    if not names:
        raise ValueError("no decoder of this model reads covariates; leave them out")
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        if unknown or not given:
            raise ValueError(
                f"{f'unknown covariate {unknown[0]!r}' if unknown else 'no covariate given'}; choose from {', '.join(names)}"
            )
        values = torch.zeros(rows, len(names))
        for name, column in given.items():
            numbers = _floats(f"covariate {name!r}", column)
            if numbers.shape not in ((), (rows,)):
                raise ValueError(
                    f"covariate {name!r} has shape {tuple(numbers.shape)}, expected one number, or ({rows},)"
                )
            values[:, names.index(name)] = numbers
    else:
        values = _floats("covariates", given)
        if values.shape not in ((len(names),), (rows, len(names))):
            raise ValueError(
                f"covariates have shape {tuple(values.shape)}, expected ({rows}, {len(names)}) or ({len(names)},): the columns are {', '.join(names)}"
            )
    if not bool(torch.isfinite(values).all()):
        raise ValueError(
            "covariates hold NaN or infinity; give a number for each column, or leave all of them out"
        )
    return values.expand(rows, -1).to(device)


def _floats(what: str, given: Any) -> Tensor:
    try:
        return torch.as_tensor(given.to_numpy() if hasattr(given, "to_numpy") else given).float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{what}: {given!r:.60} holds no numbers ({str(error).partition(chr(10))[0]})"
        ) from None
