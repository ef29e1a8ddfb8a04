"""What figures ask of a trained method: its questions, as a protocol, so that figures
stand below methods and ``method.plot`` calls down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from counterpoint.core.batch import Batch
from counterpoint.core.covariates import Covariates
from counterpoint.core.latents import Latents
from counterpoint.core.modality import Modality
from counterpoint.model.model import Model


@runtime_checkable
class Drawable(Protocol):
    """A method that can be drawn. ``counterpoint.Method`` is one; its questions say what
    they compute."""

    model: Model

    @property
    def name(self) -> str: ...

    @property
    def modalities(self) -> tuple[Modality, ...]: ...

    @property
    def device(self) -> torch.device: ...

    def encode(
        self, x: Batch, given: Sequence[str] | None = None, *, samples: int | None = None
    ) -> Latents: ...

    def decode(
        self,
        latents: Latents,
        to: Sequence[str] | None = None,
        *,
        covariates: Covariates | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]: ...

    def reconstruct(
        self, x: Batch, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]: ...

    def translate(
        self,
        x: Batch,
        to: Sequence[str] | None = None,
        n: int = 1,
        *,
        prior: str = "auto",
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]: ...

    def sample(
        self, n: int, *, prior: str = "auto", generator: torch.Generator | None = None
    ) -> dict[str, Tensor]: ...

    def recombine(
        self, shared: Batch, private: Batch, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]: ...
