"""What a trained model answers: posterior latents, generation from any given
modalities, importance-sampled likelihood.

Functions of a model and an encoding; they hold no state. Gradients and modes are the
caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from counterpoint.core.latents import Latents, private_key
from counterpoint.inference.approximations import approximation
from counterpoint.inference.refinement import refined
from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.model.rules import Rule


def posterior_latents(
    model: Model,
    encoding: Encoding,
    given: tuple[str, ...],
    samples: int | None,
    rule: Rule | None = None,
    refine: int | None = None,
) -> Latents:
    """q(z | x_S) and q(w_m | x_m), m ∈ S: means with K = 1 where ``samples`` is None,
    else K draws; after so many steps of refinement.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> posterior_latents(model, encoding, ("x",), samples=7)
    Latents(z (7, 5, 4), w_x (7, 5, 1))
    """
    q = model.posterior.condition(encoding, given, rule)
    private = {name: encoding.private[name] for name in given if name in model.private_dims}
    if refine is not None:
        better = refined(
            model, encoding, given, approximation(model, encoding, given, rule), refine
        ).last
        q = better.shared
        private = better.private
    if samples is None:
        return Latents(
            q.point_estimate[None], {name: w.point_estimate[None] for name, w in private.items()}
        )
    k = torch.Size((samples,))
    return Latents(q.rsample(k), {name: w.rsample(k) for name, w in private.items()})


PriorDraws = Callable[[str, tuple[int, ...]], Tensor]
"""Name of a latent and shape → draws of its prior, as :meth:`Model.draw_prior` gives
them."""


def completed(
    model: Model,
    latents: Latents,
    targets: Sequence[str],
    present: dict[str, Tensor],
    draw: PriorDraws,
) -> Latents:
    """Add a private latent from the prior wherever a target has none: not given, or
    absent in that row.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> latents, present = Latents(torch.zeros(1, 5, 4)), encoding.batch.present
    >>> completed(model, latents, ["x"], present, model.draw_prior)
    Latents(z (1, 5, 4), w_x (1, 5, 1))
    """
    k, rows = latents.shared.shape[:2]
    private = {}
    for name in targets:
        if name not in model.private_dims:
            continue
        own = latents.private.get(name)
        if own is not None and bool(present[name].all()):
            private[name] = own
            continue
        drawn = draw(private_key(name), (k, rows))
        private[name] = (
            drawn if own is None else torch.where(present[name].view(1, -1, 1), own, drawn)
        )
    return Latents(latents.shared, private)


def means(
    model: Model,
    draws: Sequence[Draw],
    covariates: Tensor | None,
    x: Mapping[str, Tensor] | None = None,
) -> list[dict[str, Tensor]]:
    """Decoder means of each draw by target, (K, B, *shape).

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> latents = Latents(torch.zeros(1, 5, 4), {"x": torch.zeros(1, 5, 1)})
    >>> means(model, [Draw(latents, ("x",))], encoding.batch.covariates)[0]["x"].shape
    torch.Size([1, 5, 3])

    Args:
        covariates: of the rows, (B, C), as in ``Model.decode``.
        x: by modality what is known of the same rows, (B, *shape), zeros in rows where
            it is not: counts have their totals.
    """
    x = x or {}
    decoded = model.decode(draws, covariates)
    return [
        {name: model.likelihood(name).mean(raw, x.get(name)) for name, raw in out.items()}
        for out in decoded
    ]
