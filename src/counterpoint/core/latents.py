"""Latents: shared and private latent values, and the keys that name them.

The axis ``K`` (posterior samples) stays even when it is 1. Where one mapping holds z
and every w_m, its keys are ``SHARED_KEY`` and ``private_key(modality)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from counterpoint.core.display import described_tensor, html_table

SHARED_KEY = "z"
"""The key of z."""

_PRIVATE_PREFIX = "w_"


def private_key(modality: str) -> str:
    """The key of w_m.

    >>> private_key("image")
    'w_image'
    """
    return _PRIVATE_PREFIX + modality


def modality_of(key: str) -> str | None:
    """The modality whose private latent a key names; None for z.

    >>> modality_of("w_image")
    'image'
    """
    return None if key == SHARED_KEY else key.removeprefix(_PRIVATE_PREFIX)


@dataclass(frozen=True)
class Latents:
    """Latent values or means.

    Attributes:
        shared: (K, B, D).
        private: by modality, (K, B, D_m); ``{}`` for a method without private latents.

    >>> import torch
    >>> [*Latents(torch.zeros(1, 2, 3), {"image": torch.zeros(1, 2, 4)}).by_key()]
    ['z', 'w_image']
    >>> Latents(torch.zeros(1, 2, 3))
    Latents(z (1, 2, 3))
    """

    shared: Tensor
    private: dict[str, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Latents({', '.join(f'{key} {shape}' for key, shape in self._shapes().items())})"

    def _repr_html_(self) -> str:
        return html_table("Latents", ["latent", "shape (K, B, D)"], [*self._shapes().items()])

    def _shapes(self) -> dict[str, str]:
        parts = self.by_key() if isinstance(self.private, dict) else {SHARED_KEY: self.shared}
        return {key: described_tensor(values) for key, values in parts.items()}

    def by_key(self) -> dict[str, Tensor]:
        """z and every w_m in one mapping."""
        private = {private_key(name): w for name, w in self.private.items()}
        return {SHARED_KEY: self.shared, **private}
