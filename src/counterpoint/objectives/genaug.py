"""GenAug: redundancy removal by generative augmentation; the derivation is that of
:mod:`counterpoint.objectives.contrast`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor

from counterpoint.core.latents import Latents
from counterpoint.model.decoders import Draw
from counterpoint.model.encoders import Encoder
from counterpoint.model.encoding import Encoding, encode_present, on_present
from counterpoint.model.model import Model
from counterpoint.nn.modules import untracked
from counterpoint.objectives.contrast import _positive, nt_xent
from counterpoint.objectives.loss import Loss, Terms
from counterpoint.probability.distributions import Diagonal


class GenAug(Loss):
    """Redundancy removal by generative augmentation. Term: ``genaug``.

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
        self.temperature = _positive(temperature)

    def draws(self, model: Model, encoding: Encoding) -> Sequence[Draw]:
        """A modality's draws: (z_i, w_{i+1}) with partners from the posterior; (z_i,
        w'_i), then (z'_i, w_i) with others."""
        draws = []
        for name in model.names:
            z, w = (
                encoding.shared[name].rsample(torch.Size((1,))),
                encoding.private[name].rsample(torch.Size((1,))),
            )
            if self.partner == "posterior":
                pairs = [(z, w[:, next_present(encoding.batch.present[name])])]
            else:
                other_z, other_w = (
                    self._from_prior(model, key, len(encoding.batch)) for key in ("z", f"w_{name}")
                )
                pairs = [(z, other_w), (other_z, w)]
            draws += [Draw(Latents(shared, {name: private}), (name,)) for shared, private in pairs]
        return draws

    def terms(
        self,
        model: Model,
        encoding: Encoding,
        draws: Sequence[Draw],
        decoded: Sequence[dict[str, Tensor]],
    ) -> Terms:
        total = torch.zeros(len(encoding.batch), device=encoding.members(model.names).device)
        each = len(draws) // len(model.names)
        for i, name in enumerate(model.names):
            encoder, likelihood, present = (
                cast(Encoder, model.posterior.encoders[name]),
                model.likelihood(name),
                encoding.batch.present[name],
            )
            z, w = encoding.shared[name].point_estimate, encoding.private[name].point_estimate
            images = [
                likelihood.draft(raw[name].squeeze(0)) for raw in decoded[each * i : each * (i + 1)]
            ]
            with untracked(
                encoder
            ):  # augmentations are not data: evaluation must not see their statistics
                if self.partner == "posterior":  # the image of row i carries the w of the next
                    z_again, w_again = (
                        q.point_estimate
                        for q in encode_present(encoder, images[0], present)
                        if q is not None
                    )
                    w = w[next_present(present)]
                else:
                    z_again = on_present(
                        _mean_of(encoder.shared), images[0], present, torch.zeros_like(z)
                    )
                    w_again = on_present(
                        _mean_of(encoder.private), images[1], present, torch.zeros_like(w)
                    )
            total = total + 0.5 * (
                self._mismatch(z, z_again, present) + self._mismatch(w, w_again, present)
            )
        return {"genaug": total}

    def _from_prior(self, model: Model, key: str, rows: int) -> Tensor:
        with torch.no_grad():
            return model.draw_prior(
                key, (1, rows), prior="diffusion" if self.partner == "diffusion" else "standard"
            )

    def _mismatch(self, mean: Tensor, again: Tensor, present: Tensor) -> Tensor:
        if self.match == "l2":
            return present * (mean - again).square().sum(-1)
        return nt_xent(mean[None], again[None], present[None], temperature=self.temperature)[0]


def _mean_of(tower: Callable[[Tensor], Diagonal]) -> Callable[[Tensor], Tensor]:
    return lambda x: tower(x).loc


def next_present(present: Tensor) -> Tensor:
    """For each row, the index of the next row (cyclically) that has the modality, (B,);
    rows without it point at themselves."""
    rows = present.nonzero().squeeze(-1)
    partner = torch.arange(len(present), device=present.device)
    partner[rows] = rows.roll(-1)
    return partner
