"""Iterative amortised inference: posteriors refined by a network that sees how the
bound answers to them.

The encoders' q(z | x_S) ∏ q(w_m | x_m) has parameters λ = (μ, σ) and falls short of the
best of its family, which maximises L(λ) (:mod:`counterpoint.inference.bounds`).
Refinement starts where the encoders end, λ_0, and for t < T

    μ_{t+1} = μ_t + (1 − g) ⊙ σ_t ⊙ a,     ln σ_{t+1} = ln σ_t + (1 − g) ⊙ b,     (a, b, g) = f(λ_t, s_t, λ_0),     ln σ² ∈ [−15, 5],

with a gate g = sigmoid(·) and signals s_t: by gradient, σ_t ⊙ ∇_{(μ, σ)} L(λ_t), signed
and on a logarithmic scale; by error, how far x_m is from what is decoded at μ_t and λ_t
from the prior. f is the same network at every step, one for z and one for each w_m. Of
a mixture, each component is refined as a posterior of its own, by all that is given.

    Iterative amortised inference            Marino et al. 2018, https://arxiv.org/abs/1807.09356
    Of a multimodal posterior                2024, https://arxiv.org/abs/2410.11403
    Gradient ascent from the encoders' λ_0   semi-amortised inference, Kim et al. 2018, https://arxiv.org/abs/1802.02550

The papers' update is g ⊙ λ + (1 − g) ⊙ f(λ, ∇, h(x)). Ours is the same with f written
as a displacement in units of σ, which makes signals and displacements numbers without a
scale; it begins near zero, so that an untrained refiner leaves λ where it is. In the
place of h(x) stands λ_0, which is what the encoders made of x, whatever they are.
Gradients are taken over pairs μ ± σ ⊙ ε with ε of random signs: where the posterior is
normal, such a pair has no noise in the gradient by μ, and none in that by σ but what
latents have in common.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from counterpoint.core import noise
from counterpoint.inference.approximations import Approximation, parametrised
from counterpoint.inference.bounds import elbo
from counterpoint.inference.refiner import LOG_SCALES, refiner_of
from counterpoint.inference.signals import signals_of
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.probability.distributions import Diagonal


@dataclass(frozen=True)
class Trace:
    """A refinement.

    Attributes:
        steps: λ_0 .. λ_T.
        stopped: (B,) bool, rows that kept their last finite λ because what came next
            was not.
        elbo: L(λ_t) of each row in nats, (T + 1, B); None where nobody measured it.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.IterativeMVAE.from_config(modalities, {"shared_dim": 4}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> trace = trace_of(model, encoding)
    >>> len(trace.steps), trace.last is trace.steps[-1]
    (6, True)
    """

    steps: tuple[Approximation, ...]
    stopped: Tensor
    elbo: Tensor | None = None

    @property
    def last(self) -> Approximation:
        return self.steps[-1]

    def some(self, count: int) -> list[Approximation]:
        """For each row so many of its steps, random and distinct."""
        shape = (len(self.steps), len(self.stopped))
        device = self.stopped.device
        # (count, B)
        order = torch.rand(shape, generator=noise.generator(device), device=device).argsort(0)[
            :count
        ]
        parts = [q.parts for q in self.steps]
        rows = torch.arange(order.shape[1], device=order.device)

        def taken(values: list[Tensor], at: Tensor) -> Tensor:
            # Of (T + 1, S, B, D), (S, B, D)
            return torch.stack(values)[at, :, rows].transpose(0, 1)

        chosen = []
        for at in order:
            moved = {}
            for key, q in parts[0].items():
                loc = taken([part[key].loc for part in parts], at)
                scale = taken([part[key].scale for part in parts], at)
                moved[key] = type(q)(loc, scale)
            chosen.append(self.last.moved(moved))
        return chosen


def trace_of(model: Model, encoding: Encoding) -> Trace:
    """The refinement of what all that each row has says together, made once for an
    encoding: what a step of training reads.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.IterativeMVAE.from_config(modalities, {"shared_dim": 4}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> trace_of(model, encoding) is trace_of(model, encoding)  # it is made once
    True
    """
    if not isinstance(encoding.trace, Trace):
        start = parametrised(model, encoding, model.names, model.posterior.everything(encoding))
        encoding.trace = refined(model, encoding, model.names, start)
    return encoding.trace


def refined(
    model: Model,
    encoding: Encoding,
    given: tuple[str, ...],
    start: Approximation,
    steps: int | None = None,
) -> Trace:
    """q(z, w | x_S) refined by the model's refiner. Gradients reach its weights and
    λ_0; between steps they are cut, unless they are to be unrolled.

    >>> from counterpoint.inference import approximation
    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.IterativeMVAE.from_config(modalities, {"shared_dim": 4}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> start = approximation(model, encoding, ("x", "y"))
    >>> len(refined(model, encoding, ("x", "y"), start, steps=2).steps)  # λ_0, λ_1, λ_2
    3

    Args:
        start: λ_0.
        steps: T; the refiner's own where None.

    Raises:
        ValueError: no step, or a model without a refiner for its latents.
    """
    refiner = refiner_of(model)
    steps = refiner.options.steps if steps is None else steps
    if steps < 1:
        raise ValueError(f"refine={steps} must be 1 or more steps; leave it out for none")
    q = start
    trace = [start]
    stopped = torch.zeros_like(encoding.members(given)[0])
    keep = refiner.options.unroll and torch.is_grad_enabled()
    first = start.detached()
    for _ in range(steps):
        here = q if keep else q.detached()
        signals = signals_of(model, encoding, here, given, refiner)
        finite = _finite(signals.values())
        before = here.parts
        origin = first.parts
        after = {
            key: refiner(key, before[key], origin[key], signals[key].nan_to_num(0.0, 0.0, 0.0))
            for key in before
        }
        stopped = stopped | ~(
            finite & _finite([t for part in after.values() for t in (part.loc, part.scale)])
        )
        q = here.moved({key: _where(~stopped, after[key], before[key]) for key in before})
        trace.append(q)
    return Trace(tuple(trace), stopped)


# ------------------------------------------------------------------------------------------- gradient ascent
def ascended(
    model: Model,
    encoding: Encoding,
    given: tuple[str, ...],
    start: Approximation,
    *,
    steps: int = 100,
    lr: float = 0.03,
    samples: int = 4,
    beta: float = 1.0,
) -> Trace:
    """q(z, w | x_S) moved up the gradient of L from where the encoders left it, by Adam
    on (μ, ln σ) of each row, no network in between: what refinement is compared with.
    The learning rate falls to zero by a cosine.

    >>> from counterpoint.inference import approximation
    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> start = approximation(model, encoding, ("x", "y"))
    >>> len(ascended(model, encoding, ("x", "y"), start, steps=3).steps)
    4

    Raises:
        ValueError: no step, or a rate that is not positive.
    """
    if steps < 1 or not 0 < lr <= 1:
        raise ValueError(f"gradient ascent needs steps={steps} of 1 or more and lr={lr} in (0, 1]")
    start = start.detached()
    trace = [start]
    stopped = torch.zeros_like(encoding.members(given)[0])
    with torch.enable_grad():
        free = {
            key: (part.loc.clone().requires_grad_(), part.scale.log().requires_grad_())
            for key, part in start.parts.items()
        }
        optimiser = torch.optim.Adam([t for pair in free.values() for t in pair], lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            parts = {
                key: type(part)(free[key][0], free[key][1].clamp(*LOG_SCALES).exp())
                for key, part in start.parts.items()
            }
            bound = elbo(model, encoding, [start.moved(parts)], given, samples=samples, beta=beta)
            optimiser.zero_grad()
            at = []
            for pair in free.values():
                for t in pair:
                    at.append(t)
            slopes = torch.autograd.grad(-bound.sum(), at)
            stopped = stopped | ~_finite(slopes)
            for t, slope in zip(at, slopes, strict=True):
                t.grad = torch.where(stopped.unsqueeze(-1), 0.0, slope)
            optimiser.step()
            schedule.step()
            after = {
                key: type(part)(
                    free[key][0].detach(), free[key][1].detach().clamp(*LOG_SCALES).exp()
                )
                for key, part in parts.items()
            }
            before = trace[-1].parts
            trace.append(
                start.moved({key: _where(~stopped, after[key], before[key]) for key in after})
            )
    return Trace(tuple(trace), stopped)


def _where(rows: Tensor, first: Diagonal, second: Diagonal) -> Diagonal:
    at = rows.unsqueeze(-1)
    return type(first)(
        torch.where(at, first.loc, second.loc), torch.where(at, first.scale, second.scale)
    )


def _finite(tensors: Iterable[Tensor]) -> Tensor:
    """(B,): rows in which all of (S, B, ...) is finite."""
    return torch.stack([t.isfinite().all(-1).all(0) for t in tensors]).all(0)
