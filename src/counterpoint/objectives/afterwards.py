"""Losses of what is fitted to a trained model: refiners, diffusion decoders and priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from counterpoint.core import noise
from counterpoint.core.batch import Batch
from counterpoint.core.latents import SHARED_KEY, Latents, private_key
from counterpoint.inference import Trace, approximation, elbo, refined, refiner_of
from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.fitted_priors import TrainedPrior
from counterpoint.model.model import Model
from counterpoint.objectives.loss import Ask, Decoded, EncodingLoss, Loss, Terms
from counterpoint.probability import distributions as dist


class RefinerLoss(EncodingLoss):
    """−L(λ_t), mean over the steps of refinement, of what each row has, and in every
    other row of a random set of it: what a refiner learns by that is to serve whatever
    is given (ours). No gradient reaches the encoders; decoders learn, unless they are
    frozen. Term: ``refine``.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.IterativeMVAE.from_config(modalities, {"shared_dim": 4}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> RefinerLoss(subsets=False).terms(model, encoding)["refine"].shape
    torch.Size([5])

    Args:
        subsets: hide modalities; without, rows are refined as they are.
    """

    def __init__(self, subsets: bool = True) -> None:
        super().__init__()
        self.subsets = subsets

    def terms(self, model: Model, encoding: Encoding) -> Terms:
        some = model.encode(_hidden(encoding.batch)) if self.subsets else encoding
        start = approximation(model, some, model.names).detached()
        trace = refined(model, some, model.names, start)
        refiner = refiner_of(model)
        learned = Trace(trace.steps[1:], trace.stopped)
        rounds = refiner.options.rounds
        steps = learned.steps if rounds is None else learned.some(rounds)
        return {"refine": -elbo(model, some, steps, model.names, beta=refiner.beta).mean(0)}


def _hidden(batch: Batch) -> Batch:
    """The batch in which, in every other row, each modality is absent half the time,
    but never all that the row has."""
    had = torch.stack([*batch.present.values()])  # (M, B)
    luck = noise.uniform_like(had.float()) * had
    whole = noise.uniform_like(luck[0]) < 0.5
    kept = had & ((luck > 0.5) | (luck == luck.amax(0)) | whole)
    x = {
        name: torch.where(here.view(-1, *[1] * (v.ndim - 1)), v, 0)
        for (name, v), here in zip(batch.x.items(), kept, strict=True)
    }
    return replace(batch, x=x, present=dict(zip(batch.present, kept, strict=True)))


class DecoderFit(Loss):
    """−log p(x_m | z, w_m), or the surrogate of it, of some modalities: what a decoder
    learns by from a posterior that stays as it is. z is drawn from what the aggregate
    posterior is made of, one part a row
    (:meth:`~counterpoint.model.posteriors.Posterior.aggregated`), and w_m given x_m.
    Term: ``decoder``.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> ask = DecoderFit(["x"])(model, encoding)
    >>> ask.draws[0].targets
    ('x',)

    Args:
        names: the modalities.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)

    def forward(self, model: Model, encoding: Encoding) -> Ask:
        draw = self._draw(model, encoding)
        return Ask([draw], lambda decoded: self._terms(model, encoding, decoded[0]))

    def _draw(self, model: Model, encoding: Encoding) -> Draw:
        names = [name for name in self.names if name in model.private_dims]
        with torch.no_grad():
            parts = model.posterior.aggregated(encoding)
            members = torch.stack([rows for _, rows in parts]).float().T
            part = members.multinomial(1, generator=noise.generator(members.device))  # (B, 1)
            draws = torch.stack([q.rsample() for q, _ in parts])
            z = draws.take_along_dim(part.T.unsqueeze(-1), 0)  # (1, B, D)
            private = {name: encoding.private[name].rsample(torch.Size((1,))) for name in names}
        return Draw(Latents(z, private), self.names)

    def _terms(self, model: Model, encoding: Encoding, raw: Decoded) -> Terms:
        losses = [-model.log_prob(name, values, encoding.batch)[0] for name, values in raw.items()]
        likelihoods = nn.ModuleList(model.likelihood(name) for name in self.names)
        learned = torch.stack([p.sum() for p in likelihoods.parameters() if p.requires_grad]).sum()
        # A gradient, of 0, also where no row has any of the modalities.
        return {"decoder": torch.stack(losses).sum(0) + 0 * learned}


class DiffusionPriorLoss(EncodingLoss):
    """Losses of the learned samplers on posterior means, over the M modalities that a
    row has:

        (1/M) Σ_m [ L(μ_z(x_m)) + L(μ_{w_m}(x_m)) ]

    as in the published code of IDMVAE (2025, https://arxiv.org/abs/2509.23548). Where
    the posterior is no mixture, L of what everything says of z
    takes the place of the mean over m. Term: the samplers' kind.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> model.add_fitted_priors("diffusion", 8)
    >>> [*DiffusionPriorLoss().terms(model, encoding)]
    ['diffusion']

    Args:
        kind: ``"diffusion"``, ``"score"`` or ``"flow"``; the model must have them.
        detach: keep the gradient out of the encoders; the published code of IDMVAE lets
            it in.

    Raises:
        ValueError: a kind that does not learn by gradient.
    """

    def __init__(
        self, kind: Literal["diffusion", "score", "flow"] = "diffusion", *, detach: bool = False
    ) -> None:
        super().__init__()
        if kind not in ("diffusion", "score", "flow"):
            raise ValueError(
                f"samplers of kind {kind!r} don't learn by gradient; choose 'diffusion', 'score' or 'flow'"
            )
        self.kind = kind
        self.detach = detach

    def terms(self, model: Model, encoding: Encoding) -> Terms:
        parts = model.posterior.aggregated(encoding)
        count = torch.stack([rows for _, rows in parts]).sum(0)
        total = torch.zeros_like(count, dtype=torch.float32)
        for q, rows in parts:
            total = total + self._loss(model, SHARED_KEY, q, rows) / count
        modalities = encoding.members(model.names).sum(0)
        for name, w in encoding.private.items():
            present = encoding.batch.present[name]
            total = total + self._loss(model, private_key(name), w, present) / modalities
        return {self.kind: total}

    def _loss(self, model: Model, key: str, q: dist.Posterior, present: Tensor) -> Tensor:
        means = q.point_estimate.detach() if self.detach else q.point_estimate
        rows = present.nonzero().squeeze(-1)
        losses = means.new_zeros(len(means))
        if len(rows) == 0:
            return losses
        fitted = cast(TrainedPrior, model.fitted_prior(self.kind, key))
        return losses.index_copy(0, rows, fitted.loss(means[rows]))
