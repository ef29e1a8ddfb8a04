"""F1 of binary values."""

from __future__ import annotations

import torch
from torch import Tensor


def f1(real: Tensor, fake: Tensor) -> Tensor:
    """Compute the F1 of each row, (B,), of values (B, *shape) in [0, 1].

    A value is 1 above a half. The F1 of two empty rows is 1.

    >>> from counterpoint.metrics import f1
    >>> f1(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
    tensor([0.6667])
    """
    y, drawn = ((values > 0.5).flatten(1) for values in (real, fake))
    size = y.sum(1) + drawn.sum(1)
    return torch.where(size > 0, 2 * (y & drawn).sum(1) / size.clamp(min=1), 1.0)
