"""Latents: shared and private latent values. The axis ``K`` (posterior samples) stays
even when it is 1."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Latents:
    """Latent values or means.

    Attributes:
        shared: (K, B, D).
        private: by modality, (K, B, D_m); ``{}`` where the method has no private
            latents.
    """

    shared: Tensor
    private: dict[str, Tensor] = field(default_factory=dict)
