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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.core import checks, noise
from counterpoint.core.latents import Latents
from counterpoint.core.modality import Modality
from counterpoint.inference.bounds import Approximation, component_bounds, elbo, parametrised
from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.likelihoods import Likelihood
from counterpoint.model.model import Model
from counterpoint.nn.build import trunk
from counterpoint.nn.mlp import mlp
from counterpoint.nn.modules import ByName, readable
from counterpoint.nn.options import NetworkOptions
from counterpoint.probability.distributions import Diagonal

Signal = Literal["gradient", "error"]

LOG_SCALES = (-7.5, 2.5)
"""Bounds of ln σ."""

WORD_FEATURES = 32
"""Features into which the error of a word's probabilities is read."""


@dataclass(frozen=True)
class RefinerOptions:
    """How posteriors are refined.

    Args:
        steps: T.
        signal: what the network sees of the bound: its ``"gradient"``, or the
            ``"error"`` of what is decoded.
        draws: over how many draws a gradient is taken; two make a pair.
        rounds: how many steps of each row, random ones, a step of training measures and
            learns from; None for all of them. The mean over all is estimated without
            bias by any number.
        width: of the network's two hidden layers.
        unroll: in training, let the gradient through the steps and their signals
            instead of cutting it between steps (dearer, and not to be compiled).

    Raises:
        ValueError: an option out of its range.
    """

    steps: int = 5
    signal: Signal = "gradient"
    draws: int = 2
    rounds: int | None = None
    width: int = 256
    unroll: bool = False

    def __post_init__(self) -> None:
        checks.record(self)
        if self.signal not in get_args(Signal):
            raise ValueError(
                f"refiner: signal={self.signal!r} is unknown; choose one of {', '.join(get_args(Signal))}"
            )
        if self.steps < 1:
            raise ValueError(
                f"refiner: steps={self.steps} must be 1 or more; without refinement, use jmvae"
            )
        if self.draws < 1 or self.width < 1:
            raise ValueError(
                f"refiner: draws={self.draws} and width={self.width} must be 1 or more"
            )
        if self.rounds is not None and not 1 <= self.rounds <= self.steps + 1:
            raise ValueError(
                f"refiner: rounds={self.rounds} must lie in 1..{self.steps + 1}, the steps and the start, or be None for all"
            )


@dataclass(frozen=True)
class Trace:
    """A refinement.

    Attributes:
        steps: λ_0 .. λ_T.
        stopped: (B,) bool, rows that kept their last finite λ because what came next
            was not.
        elbo: L(λ_t) of each row in nats, (T + 1, B); None where nobody measured it.
    """

    steps: tuple[Approximation, ...]
    stopped: Tensor
    elbo: Tensor | None = None

    @property
    def last(self) -> Approximation:
        return self.steps[-1]

    def some(self, count: int) -> list[Approximation]:
        """For each row so many of its steps, random and distinct."""
        shape, device = (len(self.steps), len(self.stopped)), self.stopped.device
        order = torch.rand(shape, generator=noise.generator(device), device=device).argsort(0)[
            :count
        ]  # (count, B)
        parts = [q.parts for q in self.steps]
        rows = torch.arange(order.shape[1], device=order.device)

        def taken(values: list[Tensor], at: Tensor) -> Tensor:
            return torch.stack(values)[at, :, rows].transpose(
                0, 1
            )  # of (T + 1, S, B, D), (S, B, D)

        return [
            self.last.moved(
                {
                    k: type(q)(
                        taken([p[k].loc for p in parts], at), taken([p[k].scale for p in parts], at)
                    )
                    for k, q in parts[0].items()
                }
            )
            for at in order
        ]


def refinement(model: Model, encoding: Encoding) -> Trace:
    """The refinement of what all that each row has says together, made once for an
    encoding: what a step of training reads."""
    if not isinstance(encoding.trace, Trace):
        start = parametrised(model, encoding, model.names, model.posterior.everything(encoding))
        encoding.trace = refined(model, encoding, model.names, start)
    return encoding.trace


# ------------------------------------------------------------------------------------------------ refinement
class Refiner(nn.Module):
    """f: from λ_t, signals and λ_0 to λ_{t+1}.

    Args:
        modalities: of the model.
        latents: sizes by latent, as ``Model.latents`` has them.
        options: T, signals and sizes.
        beta: β of the bound.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latents: dict[str, int],
        options: RefinerOptions = RefinerOptions(),
        *,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        if beta < 0:
            raise ValueError(f"beta={beta} must not be negative")
        self.latents, self.options, self.beta = dict(latents), options, beta
        by_error = options.signal == "error"
        self.errors = ByName(
            {m.name: _error_reader(m, options.width) for m in modalities} if by_error else {}
        )
        width, seen = options.width, len(self.errors) * options.width
        self.networks = nn.ModuleDict(
            {key: mlp((6 * dim + seen, width, width)) for key, dim in latents.items()}
        )
        self.heads = nn.ModuleDict(
            {key: _still(nn.Linear(width, 4 * dim)) for key, dim in latents.items()}
        )

    def check(self, model: Model) -> None:
        """Refuse, by ValueError, a model that this refiner was not made for."""
        if self.latents != model.latents:
            raise ValueError(
                f"this refiner is for latents {self.latents}, and the model has {model.latents}; fit one to it by fit_refiner"
            )
        if self.errors and set(self.errors) != set(model.names):
            raise ValueError(
                f"this refiner reads errors of {', '.join(self.errors)}, and the model has {', '.join(model.names)}"
            )

    def forward(self, key: str, q: Diagonal, start: Diagonal, signal: Tensor) -> Diagonal:
        """The next q of one latent, parameters (S, B, D).

        Args:
            signal: (S, B, 2 D), and the features of the errors.
        """
        seen = torch.cat([q.loc, q.scale.log(), start.loc, start.scale.log(), signal], -1)
        move, gate = self.heads[key](self.networks[key](seen)).float().chunk(2, -1)
        a, b = ((1 - gate.sigmoid()) * move).chunk(2, -1)
        return type(q)(q.loc + q.scale * a, (q.scale.log() + b).clamp(*LOG_SCALES).exp())


def refiner_of(model: Model) -> Refiner:
    """The model's refiner.

    Raises:
        ValueError: it has none, or one that was made for other latents.
    """
    if not isinstance(model.refiner, Refiner):
        raise ValueError(
            "this model has no refiner; fit one by fit_refiner, or train the method iterative"
        )
    model.refiner.check(model)
    return model.refiner


def refined(
    model: Model,
    encoding: Encoding,
    given: tuple[str, ...],
    start: Approximation,
    steps: int | None = None,
) -> Trace:
    """q(z, w | x_S) refined by the model's refiner. Gradients reach its weights and
    λ_0; between steps they are cut, unless they are to be unrolled.

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
    trace, stopped = [start], torch.zeros_like(encoding.members(given)[0])
    keep = refiner.options.unroll and torch.is_grad_enabled()
    first = start.detached()
    for _ in range(steps):
        here = q if keep else q.detached()
        signals = _signals(model, encoding, here, given, refiner)
        finite = _finite(signals.values())
        before, origin = here.parts, first.parts
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


def _signals(
    model: Model, encoding: Encoding, q: Approximation, given: tuple[str, ...], refiner: Refiner
) -> dict[str, Tensor]:
    """By latent, (S, B, 2 D + features): what the refiner sees of the bound."""
    if refiner.options.signal == "gradient":
        return _gradients(model, encoding, q, given, refiner)
    parts = q.parts
    seen = _errors(model, encoding, parts, given, refiner)
    found = {}
    for key, part in parts.items():
        prior = model.prior() if key == "z" else model.private_priors[key.removeprefix("w_")]()
        off = torch.cat(
            [(part.loc - prior.loc) / prior.scale, (part.scale / prior.scale).log()], -1
        )
        found[key] = torch.cat(
            [off, seen if key == "z" else (q.shares.unsqueeze(-1) * seen).sum(0, keepdim=True)], -1
        )
    return found


def _gradients(
    model: Model, encoding: Encoding, q: Approximation, given: tuple[str, ...], refiner: Refiner
) -> dict[str, Tensor]:
    """σ ⊙ ∇_{(μ, σ)} L, signed, as log(1 + |·|)."""
    unroll = refiner.options.unroll and torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = {
            key: part if unroll and part.loc.requires_grad else _leaf(part)
            for key, part in q.parts.items()
        }
        drawn = {key: _signed(part, refiner.options.draws) for key, part in leaves.items()}
        bound = (
            q.shares * component_bounds(model, encoding, leaves, drawn, given, refiner.beta)
        ).sum()
        at = [t for part in leaves.values() for t in (part.loc, part.scale)]
        slopes = iter(torch.autograd.grad(bound, at, create_graph=unroll))
    found = {}
    for key, part in leaves.items():
        g = part.scale.repeat(1, 1, 2) * torch.cat([next(slopes), next(slopes)], -1)
        if key == "z":  # each component's own bound, whatever it weighs in the mixture
            g = g / q.shares.where(q.shares > 0, 1.0).unsqueeze(-1)
        found[key] = g.sign() * g.abs().log1p()
    return found if unroll else {key: g.detach() for key, g in found.items()}


def _signed(q: Diagonal, draws: int) -> Tensor:
    """(draws, S, B, D): μ + σ ⊙ ε, σ the standard deviation and ε random signs, of
    which the second half are the first's opposites."""
    shape, at = (-(-draws // 2), *q.loc.shape), q.loc.device
    signs = (
        torch.randint(0, 2, shape, generator=noise.generator(at), device=at, dtype=q.loc.dtype) * 2
        - 1
    )
    return q.loc + q.base_dist.stddev * torch.cat([signs, -signs])[:draws]


def _still(head: nn.Linear) -> nn.Linear:
    """A map to next to nothing: hardly a displacement, and a gate that is half open."""
    nn.init.normal_(head.weight, std=1e-3)
    nn.init.zeros_(head.bias)
    return head


def _errors(
    model: Model,
    encoding: Encoding,
    parts: dict[str, Diagonal],
    given: tuple[str, ...],
    refiner: Refiner,
) -> Tensor:
    """(S, B, features): how each given modality differs from what is decoded at μ;
    zeros where it is not there."""
    at = {key: part.loc for key, part in parts.items()}
    private = {
        name: at[f"w_{name}"].expand(len(at["z"]), -1, -1) for name in given if f"w_{name}" in at
    }
    raw = model.decode([Draw(Latents(at["z"], private), given)], encoding.batch.covariates)[0]
    blank = at["z"].new_zeros(*at["z"].shape[:-1], refiner.options.width)
    found = []
    for name, reader in refiner.errors.items():
        if name not in given:
            found.append(blank)
            continue
        error = _error(
            model.modalities[name], model.likelihood(name), raw[name], encoding.batch.x[name]
        )
        error = error * encoding.batch.observed(name) if name in encoding.batch.entries else error
        error = (
            error if refiner.options.unroll else error.detach()
        )  # decoders learn from the bound alone
        found.append(
            encoding.batch.present[name].unsqueeze(-1)
            * reader(error.flatten(0, 1)).unflatten(0, error.shape[:2])
        )
    return torch.cat(found, -1)


def _error(modality: Modality, likelihood: Likelihood, raw: Tensor, x: Tensor) -> Tensor:
    """x − E[x | raw], (S, B, *shape), both as networks see them; of words, what is and
    what was thought likely."""
    if not likelihood.exact:
        raise ValueError(
            "a diffusion decoder has no mean to take an error from; use signal='gradient'"
        )
    mean = likelihood.mean(raw, x)
    return (
        F.one_hot(x, mean.shape[-1])
        if modality.likelihood == "categorical"
        else readable(modality, x)
    ) - readable(modality, mean)


def _error_reader(modality: Modality, width: int) -> nn.Module:
    """A network from errors to features (N, width)."""
    if modality.likelihood == "categorical":
        words = (
            nn.Linear(modality.classes or 0, WORD_FEATURES),
            nn.Flatten(),
            mlp((modality.shape[0] * WORD_FEATURES, width)),
        )
        return nn.Sequential(*words)
    values = Modality(modality.name, modality.shape, "normal", unbounded=len(modality.shape) == 3)
    network = trunk(values, NetworkOptions(width=max(4, width // 16), hidden=(width,)))
    return nn.Sequential(network, mlp((network.features, width)))


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

    Raises:
        ValueError: no step, or a rate that is not positive.
    """
    if steps < 1 or not 0 < lr <= 1:
        raise ValueError(f"gradient ascent needs steps={steps} of 1 or more and lr={lr} in (0, 1]")
    start = start.detached()
    trace, stopped = [start], torch.zeros_like(encoding.members(given)[0])
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
            at = [t for pair in free.values() for t in pair]
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


# -------------------------------------------------------------------------------------------------- helpers
def _leaf(q: Diagonal) -> Diagonal:
    return type(q)(q.loc.detach().requires_grad_(), q.scale.detach().requires_grad_())


def _where(rows: Tensor, first: Diagonal, second: Diagonal) -> Diagonal:
    at = rows.unsqueeze(-1)
    return type(first)(
        torch.where(at, first.loc, second.loc), torch.where(at, first.scale, second.scale)
    )


def _finite(tensors: Iterable[Tensor]) -> Tensor:
    """(B,): rows in which all of (S, B, ...) is finite."""
    return torch.stack([t.isfinite().all(-1).all(0) for t in tensors]).all(0)
