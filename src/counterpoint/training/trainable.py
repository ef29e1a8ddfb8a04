"""Trainable: what training asks of a method. ``counterpoint.Method`` is one; a module
with ``losses`` of its own can be another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.model.model import Model
from counterpoint.objectives.loss import Terms
from counterpoint.objectives.stages import Stage

Losses = Callable[[Batch, int | None], Terms]


class Trainable(nn.Module, ABC):
    """A module that ``fit`` can train.

    Attributes:
        name: shown in the summary line and written to ``config.yaml``.
        stages: how it is trained, one after the other; none for a module that has only
            ``losses``.

    >>> class Mean(Trainable):
    ...     name = "mean"
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.centre = nn.Parameter(torch.zeros(2))
    ...     def losses(self, batch, step=None):
    ...         return {"error": (batch.x["x"] - self.centre).square().sum(1)}
    ...     def save_pretrained(self, folder):
    ...         return Path(folder)
    >>> batch = Batch({"x": torch.ones(3, 2)}, {"x": torch.ones(3, dtype=torch.bool)})
    >>> Mean().losses(batch)
    {'error': tensor([2., 2., 2.], grad_fn=<SumBackward1>)}
    """

    name: ClassVar[str]
    stages: Sequence[Stage] = ()

    @abstractmethod
    def losses(self, batch: Batch, step: int | None = None) -> Terms:
        """Named terms, (B,) each; the loss is the mean over B of their sum. Without
        ``step``, at the final weights of all terms."""

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the weights to a folder."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """How values are read; with none, they are taken as they come."""
        return ()

    @property
    def config(self) -> Mapping[str, Any]:
        """Options, as JSON values."""
        return {}

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def begin(self, stage: Stage | None) -> None:  # a module without stages has nothing to do
        """Enter a stage; None ends training."""

    def compiled_losses(self) -> Losses:
        """``losses``, fused by ``torch.compile``."""
        return torch.compile(self.losses)


class TrainableModel(Trainable):
    """A trainable module with a model, to which priors, decoders and refiners can be
    fitted afterwards.

    >>> from counterpoint import MVAE
    >>> issubclass(MVAE, TrainableModel)
    True
    """

    model: Model
