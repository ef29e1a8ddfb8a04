"""GenAug: redundancy removal by generative augmentation; the derivation is that of
:mod:`counterpoint.objectives.contrast`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor

from counterpoint.core import checks
from counterpoint.core.latents import SHARED_KEY, Latents, private_key
from counterpoint.model.decoders import Draw
from counterpoint.model.encoders import Encoder
from counterpoint.model.encoding import Encoding, encode_present, on_present
from counterpoint.model.model import Model
from counterpoint.nn.modules import untracked
from counterpoint.objectives.contrast import nt_xent
from counterpoint.objectives.loss import Ask, Decoded, Loss, Terms, added
from counterpoint.probability.distributions import Diagonal


class GenAug(Loss):
    """Redundancy removal by generative augmentation. Term: ``genaug``.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> ask = GenAug()(model, encoding)
    >>> ask.answered(model, encoding.batch.covariates)["genaug"].shape
    torch.Size([5])

    Args:
        partner: where w' and z' come from: ``"posterior"`` of the row beside,
            ``"prior"``, or ``"diffusion"`` prior. A row's value has the mismatch of the
            z and w that its image carries.
        match: ``"contrast"`` or ``"l2"``, Σ_d (μ − μ'')², which the paper finds less
            stable.
        temperature: τ of the contrast.
    """

    def __init__(
        self,
        *,
        partner: Literal["posterior", "prior", "diffusion"] = "posterior",
        match: Literal["contrast", "l2"] = "contrast",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if partner not in ("posterior", "prior", "diffusion"):
            raise ValueError(
                f"partner={partner!r} is unknown; choose 'posterior', 'prior' or 'diffusion'"
            )
        if match not in ("contrast", "l2"):
            raise ValueError(f"match={match!r} is unknown; choose 'contrast' or 'l2'")
        self.partner = partner
        self.match = match
        self.temperature = checks.positive("temperature", temperature)

    def check(self, model: Model) -> None:
        if not model.private_dims:
            raise ValueError("GenAug needs private latents; give private_dim of 1 or more")

    def forward(self, model: Model, encoding: Encoding) -> Ask:
        return added([self._of_modality(model, encoding, name) for name in model.names])

    def _of_modality(self, model: Model, encoding: Encoding, name: str) -> Ask:
        """One draw, (z_i, w_{i+1}), with partners from the posterior; else two, (z_i, w'_i) and
        (z'_i, w_i). What is decoded is encoded again."""
        once = torch.Size((1,))
        z = encoding.shared[name].rsample(once)
        w = encoding.private[name].rsample(once)
        if self.partner == "posterior":
            pairs = [(z, w[:, next_present(encoding.batch.present[name])])]
        else:
            rows = len(encoding.batch)
            other_z = self._from_prior(model, SHARED_KEY, rows)
            other_w = self._from_prior(model, private_key(name), rows)
            pairs = [(z, other_w), (other_z, w)]
        draws = [Draw(Latents(shared, {name: private}), (name,)) for shared, private in pairs]

        def terms(decoded: Sequence[Decoded]) -> Terms:
            likelihood = model.likelihood(name)
            images = [likelihood.draft(raw[name].squeeze(0)) for raw in decoded]
            return {"genaug": self._mismatches(model, encoding, name, images)}

        return Ask(draws, terms)

    def _mismatches(
        self, model: Model, encoding: Encoding, name: str, images: Sequence[Tensor]
    ) -> Tensor:
        """½ (z-term + w-term) of a modality, (B,).

        Args:
            images: augmentations, one for both terms or one for each.
        """
        encoder = cast(Encoder, model.posterior.encoders[name])
        present = encoding.batch.present[name]
        z = encoding.shared[name].point_estimate
        w = encoding.private[name].point_estimate
        with untracked(encoder):  # augmentations are no data: running statistics leave them out
            if self.partner == "posterior":  # the image of row i carries the w of the next
                z_again, w_again = _means_again(encoder, images[0], present)
                w = w[next_present(present)]
            else:
                blank_z = torch.zeros_like(z)
                blank_w = torch.zeros_like(w)
                z_again = on_present(_mean_of(encoder.shared), images[0], present, blank_z)
                w_again = on_present(_mean_of(encoder.private), images[1], present, blank_w)
        return 0.5 * (self._mismatch(z, z_again, present) + self._mismatch(w, w_again, present))

    def _from_prior(self, model: Model, key: str, rows: int) -> Tensor:
        with torch.no_grad():
            return model.draw_prior(
                key, (1, rows), prior="diffusion" if self.partner == "diffusion" else "standard"
            )

    def _mismatch(self, mean: Tensor, again: Tensor, present: Tensor) -> Tensor:
        if self.match == "l2":
            return present * (mean - again).square().sum(-1)
        return nt_xent(mean[None], again[None], present[None], temperature=self.temperature)[0]


def _means_again(encoder: Encoder, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior means of z and w of augmented values, (B, D) and (B, D_m)."""
    z, w = encode_present(encoder, x, present)
    return z.point_estimate, cast(Diagonal, w).point_estimate


def _mean_of(tower: Callable[[Tensor], Diagonal]) -> Callable[[Tensor], Tensor]:
    return lambda x: tower(x).loc


def next_present(present: Tensor) -> Tensor:
    """For each row, the index of the next row (cyclically) that has the modality, (B,);
    rows without it point at themselves.

    >>> next_present(torch.tensor([True, False, True]))
    tensor([2, 1, 0])
    """
    rows = present.nonzero().squeeze(-1)
    partner = torch.arange(len(present), device=present.device)
    partner[rows] = rows.roll(-1)
    return partner
