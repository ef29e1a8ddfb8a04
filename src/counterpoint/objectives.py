"""Likelihood bounds: a list of routes and an estimator.

A route r conditions z on the modalities it is given and reconstructs its targets. With draws k = 1..K,

    lw_r = Σ_{d ∈ targets} c_rd·ω_d·log p(x_d | z, w_d) + β [ log p(z) − log q(z) + Σ_{d ∈ given} (log p(w_d) − log q(w_d | x_d)) ]

where w_d is drawn from q(w_d | x_d) if the route may see x_d and from the auxiliary prior otherwise, ω_d is the modality's
weight and c_rd the route's factor on cross targets. The estimators:

    elbo   mean_k lw_r, with KL(q(w_d) ‖ p(w_d)) and, where the density of z is the route's own, KL(q(z) ‖ p(z)) in closed form
    iwae   logmeanexp_k lw_r                         Burda et al. 2016, https://arxiv.org/abs/1509.00519
    dreg   the same value and expected gradient, with less noise; below
                                                     Tucker et al. 2019, https://arxiv.org/abs/1810.04152

``density="everything"`` evaluates log q(z) under the posterior given all that the row has (the mixture of MMVAE and MMVAE+);
``density="route"`` under the posterior that the route drew from. Absent targets count nothing, and rows that have none of a route's
given modalities leave that route out.

The doubly reparameterised gradient. Let u_k = g_φ(ε_k) be one latent of draw k (z, or a w_d that an encoder gave), w̃ = softmax_k lw and
s_k = ∂ log q_φ(u_k)/∂φ at fixed u_k. Whatever factors the likelihoods have, log q enters lw with the factor −β, so that

    ∂ iwae/∂φ = Σ_k w̃_k (∂lw_k/∂u_k ∂u_k/∂φ − β s_k).

The score s_k is what makes it noisy. For any f, E_q[f(u_k) s_k] = E_q[∂f/∂u_k ∂u_k/∂φ] (integration by parts), here with f = w̃_k, of which
∂w̃_k/∂u_k = w̃_k (1 − w̃_k) ∂lw_k/∂u_k. Hence, in expectation,

    ∂ iwae/∂φ = Σ_k [w̃_k − β w̃_k (1 − w̃_k)] ∂lw_k/∂u_k ∂u_k/∂φ = Σ_k [(1 − β) w̃_k + β w̃_k²] ∂lw_k/∂u_k ∂u_k/∂φ.

The published w̃_k² is the case β = 1. Each source of a sum over sources has w̃ of its own. All else that lw depends on has the weight w̃_k:
decoders, priors, and the scale of an auxiliary prior, whose draws have no density in lw.

The identity wants u_k ~ q, the density in lw. With ``density="everything"`` z comes from one component while log q(z) is the mixture's. The sum
over sources makes good for that where K = 1: z is then a draw of the mixture, and the bracket is 1. Where K > 1, w̃_k depends on the other
draws of the same component, and the gradient of the encoders of z is biased, as in the published MMVAE; all other gradients are not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from counterpoint import distributions as dist
from counterpoint import noise
from counterpoint.inference import Trace, approximation, elbo, refined, refinement, refiner_of
from counterpoint.model import Draw, Model
from counterpoint.posteriors import Encoding
from counterpoint.priors import Trained
from counterpoint.types import Batch, Latents, Route, Terms

Estimator = Literal["elbo", "iwae", "dreg"]
Direction = Literal["forward", "reverse", "both"]
Routes = Callable[[tuple[str, ...]], list[Route]]
"""Names of the modalities → the routes of one step (drawn anew each step where they are random)."""


class Loss(nn.Module, ABC):
    """One part of a method's loss. A step encodes once, asks every part for its draws, decodes all of them at once and hands each
    part its own outputs."""

    def check(self, model: Model) -> None:
        """Refuse, by ValueError, a model that this part can't train."""

    def draws(self, model: Model, encoding: Encoding) -> Sequence[Draw]:
        """What this part needs decoded."""
        return ()

    @abstractmethod
    def terms(self, model: Model, encoding: Encoding, draws: Sequence[Draw], decoded: Sequence[dict[str, Tensor]]) -> Terms:
        """Named terms, (B,) each."""


def everything_to_everything(names: tuple[str, ...]) -> list[Route]:
    """One route: all modalities to all modalities."""
    return [Route(names, names)]


def singles_to_everything(names: tuple[str, ...]) -> list[Route]:
    """Each modality to all modalities: M routes, M² reconstructions."""
    return [Route((name,), names) for name in names]


def singles_to_itself(names: tuple[str, ...]) -> list[Route]:
    """Each modality to itself."""
    return [Route((name,), (name,)) for name in names]


@dataclass(frozen=True)
class SinglesToSome:
    """Each modality to itself and to n random others, whose log-likelihoods count (M−1)/n times: unbiased for the ELBO, O(M) decodings.

    One random cyclic order serves all sources, so that each decoder gets the same number of rows at every step.
    """

    others: int

    def __call__(self, names: tuple[str, ...]) -> list[Route]:
        size = len(names)
        shifts = (torch.randperm(size - 1, generator=noise.generator())[: self.others] + 1).tolist()
        weight = (size - 1) / self.others
        return [Route((name,), (name, *(names[(i + s) % size] for s in shifts)), weight) for i, name in enumerate(names)]


@dataclass(frozen=True)
class RandomSubsets:
    """``count`` subsets of two or more, but not all, modalities, drawn anew each step; each reconstructs itself (MVAE)."""

    count: int

    def __call__(self, names: tuple[str, ...]) -> list[Route]:
        proper = [s for n in range(2, len(names)) for s in combinations(names, n)]
        chosen = torch.randperm(len(proper), generator=noise.generator())[: self.count].tolist()
        return [Route(proper[i], proper[i]) for i in chosen]


@dataclass(frozen=True)
class RouteDraw(Draw):
    """A draw together with the route, and the posteriors of z and, by modality, of w_m it came from."""

    route: Route
    posterior: dist.Posterior
    private: Mapping[str, dist.Diagonal]


class Bound(Loss):
    """Negative likelihood bound over routes; see the module's derivation.

    Args:
        routes: rules whose routes are joined.
        estimator: ``"elbo"``, ``"iwae"`` or ``"dreg"``.
        samples: K.
        beta: β on every KL.
        density: whose log q(z) enters the bound, ``"route"`` or ``"everything"``.
        posterior: where a route draws z: ``"rule"``, from what the posterior's rule says of its given modalities; ``"joint"``, from
            the joint encoder; or ``"refined"``, from the steps of the refinement of what everything says, the bound being the mean over the steps.
        rescale: weigh each modality's likelihood by the size of the largest over its own, so that small ones count as much.
        private: how a target outside the route's given modalities gets its private latent: ``"auxiliary"`` from the learned
            auxiliary prior, ``"own"`` from its own encoder.
        reduce: ``"mean"`` or ``"sum"`` over the routes a row takes.

    Terms: ``nll`` and ``kl`` for the ELBO, ``bound`` for the others.
    """

    def __init__(
        self,
        *routes: Routes,
        estimator: Estimator = "elbo",
        samples: int = 1,
        beta: float = 1.0,
        density: Literal["route", "everything"] = "route",
        posterior: Literal["rule", "joint", "refined"] = "rule",
        rescale: bool = False,
        private: Literal["auxiliary", "own"] = "auxiliary",
        reduce: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        if estimator not in ("elbo", "iwae", "dreg"):
            raise ValueError(f"estimator={estimator!r} is unknown; choose 'elbo', 'iwae' or 'dreg'")
        if samples < 1:
            raise ValueError(f"samples={samples} must be 1 or more")
        if beta < 0:
            raise ValueError(f"beta={beta} must not be negative")
        self.routes = routes
        self.estimator = estimator
        self.samples = samples
        self.beta = beta
        self.density = density
        self.posterior = posterior
        self.rescale = rescale
        self.private = private
        self.reduce = reduce

    def check(self, model: Model) -> None:
        if self.estimator != "elbo" and (surrogate := model.surrogates):
            raise ValueError(
                f"estimator={self.estimator!r} weighs draws by their density, and the decoder of {surrogate[0]!r} has none; use estimator='elbo'"
            )

    def draws(self, model: Model, encoding: Encoding) -> Sequence[RouteDraw]:
        routes = [route for rule in self.routes for route in rule(model.names)]
        return [self._draw(model, route, *q) for route in routes for q in self._posteriors(model, encoding, route)]

    def terms(self, model: Model, encoding: Encoding, draws: Sequence[Draw], decoded: Sequence[dict[str, Tensor]]) -> Terms:
        routes = [draw for draw in draws if isinstance(draw, RouteDraw)]
        taken = torch.stack([encoding.members(draw.route.given).any(0) for draw in routes])  # (R, B)
        share = taken.float() if self.reduce == "sum" else taken / taken.sum(0).clamp(min=1)
        nll = torch.stack([self._nll(model, encoding, d, raw) for d, raw in zip(routes, decoded, strict=True)])  # (R, K, B)
        everything = model.posterior.condition(encoding, model.names) if self.density == "everything" else None
        if self.estimator == "elbo":
            kls = torch.stack([self._kl(model, encoding, draw, everything) for draw in routes])  # (R, B)
            return {"nll": (share * nll.mean(1)).sum(0), "kl": self.beta * (share * kls).sum(0)}
        ratios = torch.stack([self._log_ratio(model, encoding, draw, everything) for draw in routes])  # (R, K, B)
        log_weights = self.beta * ratios - nll
        bounds = torch.logsumexp(log_weights, 1) - math.log(self.samples)
        if self.estimator == "dreg":
            encoded = [(draw.latents.shared, *(draw.latents.private[n] for n in self._privates(draw))) for draw in routes]
            bounds = _doubly_reparameterised(log_weights, bounds, encoded, self.beta)
        return {"bound": -(share * bounds).sum(0)}

    def _posteriors(self, model: Model, encoding: Encoding, route: Route) -> list[tuple[dist.Posterior, Mapping[str, dist.Diagonal]]]:
        """Of z and, by modality, of w_m: one pair, or one for each step of refinement."""
        if self.posterior == "refined":
            rounds, trace = refiner_of(model).options.rounds, refinement(model, encoding)
            return [(q.shared, q.private) for q in (trace.steps if rounds is None else trace.some(rounds))]
        q = joint_posterior(encoding) if self.posterior == "joint" else model.posterior.condition(encoding, route.given)
        return [(q, encoding.private if model.private_dims else {})]

    def _draw(self, model: Model, route: Route, q: dist.Posterior, privates: Mapping[str, dist.Diagonal]) -> RouteDraw:
        k = torch.Size((self.samples,))
        z = q.rsample(k)
        private = {}
        for name in route.targets:
            if name not in model.private_dims:
                continue
            if name in route.given or self.private == "own":
                private[name] = privates[name].rsample(k)
            else:
                private[name] = model.auxiliary_priors[name]().rsample(torch.Size((self.samples, z.shape[1])))
        return RouteDraw(Latents(z, private), route.targets, route, q, privates)

    def _nll(self, model: Model, encoding: Encoding, draw: RouteDraw, raw: dict[str, Tensor]) -> Tensor:
        """Weighted negative log-likelihood of the targets that are there, (K, B)."""
        total = torch.zeros(draw.latents.shared.shape[:2], device=draw.latents.shared.device)
        sizes = {name: math.prod(m.shape) for name, m in model.modalities.items()}
        for name in draw.targets:
            factor = model.modalities[name].weight * (1.0 if name in draw.route.given else draw.route.cross_weight)
            factor *= max(sizes.values()) / sizes[name] if self.rescale else 1.0
            total = total - factor * model.log_prob(name, raw[name], encoding.batch)
        return total

    def _privates(self, draw: RouteDraw) -> list[str]:
        """Targets whose private latent came from their encoder."""
        return [n for n in draw.latents.private if n in draw.route.given or self.private == "own"]

    def _kl(self, model: Model, encoding: Encoding, draw: RouteDraw, everything: dist.Posterior | None) -> Tensor:
        """KL of z (closed form, or by the draws against ``everything``) plus the closed-form KLs of the w's, (B,)."""
        prior = model.prior()
        if everything is None:
            total = dist.kl(draw.posterior, prior)
        else:
            total = (everything.log_prob(draw.latents.shared) - prior.log_prob(draw.latents.shared)).mean(0)
        for name in self._privates(draw):
            total = total + encoding.batch.present[name] * dist.kl(draw.private[name], model.private_priors[name]())
        return total

    def _log_ratio(self, model: Model, encoding: Encoding, draw: RouteDraw, everything: dist.Posterior | None) -> Tensor:
        """log p(z, w) − log q(z, w), (K, B)."""
        cut = dist.detached if self.estimator == "dreg" else _same
        z = draw.latents.shared
        total = model.prior().log_prob(z) - cut(everything or draw.posterior).log_prob(z)
        for name in self._privates(draw):
            w = draw.latents.private[name]
            ratio = model.private_priors[name]().log_prob(w) - cut(draw.private[name]).log_prob(w)
            total = total + encoding.batch.present[name] * ratio
        return total


def _same(q: dist.Posterior) -> dist.Posterior:
    return q


def _doubly_reparameterised(log_weights: Tensor, bounds: Tensor, encoded: Sequence[Sequence[Tensor]], beta: float) -> Tensor:
    """The IWAE value with the doubly reparameterised gradient: Σ_k w̃_k ∂lw_k, and (1 − β) w̃_k + β w̃_k² along the path to the encoders.

    Args:
        log_weights: lw of R routes, (R, K, B).
        bounds: their IWAE values, (R, B).
        encoded: each route's latents that came from encoders, (K, B, D) each.
        beta: β.
    """
    normalised = torch.softmax(log_weights.detach(), 1)  # (R, K, B)
    paths = 1 - beta * (1 - normalised)  # beside the w̃_k that all gradients have
    for path, latents in zip(paths, encoded, strict=True):
        for u in latents:
            if u.requires_grad:
                u.register_hook(lambda gradient, path=path: path.unsqueeze(-1) * gradient)
    surrogate = (normalised * log_weights).sum(1)
    return bounds.detach() + surrogate - surrogate.detach()


class PosteriorMatch(Loss):
    """Σ_m KL(q(z | X) ‖ q(z | x_m)) over the modalities a row has, where q(z | X) is given everything.

    Args:
        weight: factor on the sum; JMVAE calls it α, MVTCAE weighs it by α/M.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def terms(self, model: Model, encoding: Encoding, draws: Sequence[Draw], decoded: Sequence[dict[str, Tensor]]) -> Terms:
        everything = model.posterior.condition(encoding, model.names)
        divergences = [encoding.batch.present[name] * dist.kl(everything, q) for name, q in encoding.shared.items()]
        return {"match": self.weight * torch.stack(divergences).sum(0)}


class RefinerLoss(Loss):
    """−L(λ_t), mean over the steps of refinement, of what each row has, and in every other row of a random set of it: what a refiner learns by that is to
    serve whatever is given (ours). No gradient reaches the encoders; decoders learn, unless they are frozen. Term: ``refine``.

    Args:
        subsets: hide modalities; without, rows are refined as they are.
    """

    def __init__(self, subsets: bool = True) -> None:
        super().__init__()
        self.subsets = subsets

    def terms(self, model: Model, encoding: Encoding, draws: Sequence[Draw], decoded: Sequence[dict[str, Tensor]]) -> Terms:
        some = model.encode(_hidden(encoding.batch)) if self.subsets else encoding
        start = approximation(model, some, model.names).detached()
        trace, refiner = refined(model, some, model.names, start), refiner_of(model)
        learned = Trace(trace.steps[1:], trace.stopped)
        steps = learned.steps if refiner.options.rounds is None else learned.some(refiner.options.rounds)
        return {"refine": -elbo(model, some, steps, model.names, beta=refiner.beta).mean(0)}


def _hidden(batch: Batch) -> Batch:
    """The batch in which, in every other row, each modality is absent half the time, but never all that the row has."""
    had = torch.stack([*batch.present.values()])  # (M, B)
    luck = noise.uniform_like(had.float()) * had
    whole = noise.uniform_like(luck[0]) < 0.5
    kept = had & ((luck > 0.5) | (luck == luck.amax(0)) | whole)
    x = {name: torch.where(here.view(-1, *[1] * (v.ndim - 1)), v, 0) for (name, v), here in zip(batch.x.items(), kept, strict=True)}
    return replace(batch, x=x, present=dict(zip(batch.present, kept, strict=True)))


class Alignment(Loss):
    """Σ_m KL(q_T(z | X) ‖ q(z | x_m)) over the modalities a row has: unimodal posteriors learn from the refined one, which no gradient reaches.
    Term: ``align``.

    2024, https://arxiv.org/abs/2410.11403

    Args:
        direction: ``"forward"``, as above; ``"reverse"``, KL(q(z | x_m) ‖ q_T(z | X)); or ``"both"``, their mean.
    """

    def __init__(self, direction: Direction = "forward") -> None:
        super().__init__()
        if direction not in get_args(Direction):
            raise ValueError(f"direction={direction!r} is unknown; choose one of {', '.join(get_args(Direction))}")
        self.direction = direction

    def terms(self, model: Model, encoding: Encoding, draws: Sequence[Draw], decoded: Sequence[dict[str, Tensor]]) -> Terms:
        teacher = dist.detached(refinement(model, encoding).last.shared)
        return {
            "align": torch.stack([encoding.batch.present[name] * self._between(teacher, q) for name, q in encoding.shared.items()]).sum(0)
        }

    def _between(self, teacher: dist.Posterior, q: dist.Expert) -> Tensor:
        match self.direction:
            case "forward":
                return dist.kl(teacher, q)
            case "reverse":
                return dist.kl(q, cast(dist.Expert, teacher))
            case _:
                return 0.5 * (dist.kl(teacher, q) + dist.kl(q, cast(dist.Expert, teacher)))


class PosteriorFit(Loss):
    """Σ_m −log q(z | x_m), z ~ q(z | X), over the modalities a row has: the part of KL(q(z | X) ‖ q(z | x_m)) that depends on the unimodal
    posterior, of which only the density is asked, whatever its form. No gradient reaches q(z | X). Term: ``fit``.

    JNF 2025, https://arxiv.org/abs/2502.03952

    Args:
        samples: draws of z.
    """

    def __init__(self, samples: int = 1) -> None:
        super().__init__()
        if samples < 1:
            raise ValueError(f"samples={samples} must be 1 or more")
        self.samples = samples

    def terms(self, model: Model, encoding: Encoding, draws: Sequence[Draw], decoded: Sequence[dict[str, Tensor]]) -> Terms:
        with torch.no_grad():
            z = joint_posterior(encoding).rsample(torch.Size((self.samples,)))
        losses = [encoding.batch.present[name] * -q.log_prob(z).mean(0) for name, q in encoding.shared.items()]
        return {"fit": torch.stack(losses).sum(0)}


class DecoderFit(Loss):
    """−log p(x_m | z, w_m), or the surrogate of it, of some modalities: what a decoder learns by from a posterior that stays as it is. z is drawn from what
    the aggregate posterior is made of, one part a row (:meth:`~counterpoint.posteriors.Posterior.aggregated`), and w_m given x_m. Term: ``decoder``.

    Args:
        names: the modalities.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)

    def draws(self, model: Model, encoding: Encoding) -> Sequence[Draw]:
        with torch.no_grad():
            parts = model.posterior.aggregated(encoding)
            members = torch.stack([rows for _, rows in parts]).float().T
            part = members.multinomial(1, generator=noise.generator(members.device))  # (B, 1)
            z = torch.stack([q.rsample() for q, _ in parts]).take_along_dim(part.T.unsqueeze(-1), 0)  # (1, B, D)
            private = {name: encoding.private[name].rsample(torch.Size((1,))) for name in self.names if name in model.private_dims}
        return [Draw(Latents(z, private), self.names)]

    def terms(self, model: Model, encoding: Encoding, draws: Sequence[Draw], decoded: Sequence[dict[str, Tensor]]) -> Terms:
        learned = torch.stack([p.sum() for name in self.names for p in model.likelihood(name).parameters() if p.requires_grad]).sum()
        losses = [-model.log_prob(name, raw, encoding.batch)[0] for name, raw in decoded[0].items()]
        return {"decoder": torch.stack(losses).sum(0) + 0 * learned}  # a gradient, of 0, where no row has any of them


def joint_posterior(encoding: Encoding) -> dist.Normal:
    """q(z | X) of the joint encoder.

    Raises:
        ValueError: a posterior without one.
    """
    if encoding.joint is None:
        raise ValueError("this objective needs a joint encoder; give the posterior the rule Joint")
    return encoding.joint


class DiffusionPriorLoss(Loss):
    """Losses of the learned samplers on posterior means, over the M modalities that a row has:

        (1/M) Σ_m [ L(μ_z(x_m)) + L(μ_{w_m}(x_m)) ]

    as in the published code of IDMVAE (2025, https://arxiv.org/abs/2509.23548). Where the posterior is no mixture, L of what everything says of z
    takes the place of the mean over m. Term: the samplers' kind.

    Args:
        kind: ``"diffusion"``, ``"score"`` or ``"flow"``; the model must have them.
        detach: keep the gradient out of the encoders; the published code of IDMVAE lets it in.

    Raises:
        ValueError: a kind that does not learn by gradient.
    """

    def __init__(self, kind: Literal["diffusion", "score", "flow"] = "diffusion", *, detach: bool = False) -> None:
        super().__init__()
        if kind not in ("diffusion", "score", "flow"):
            raise ValueError(f"samplers of kind {kind!r} don't learn by gradient; choose 'diffusion', 'score' or 'flow'")
        self.kind, self.detach = kind, detach

    def terms(self, model: Model, encoding: Encoding, draws: Sequence[Draw], decoded: Sequence[dict[str, Tensor]]) -> Terms:
        parts = model.posterior.aggregated(encoding)
        count = torch.stack([rows for _, rows in parts]).sum(0)
        total = torch.zeros_like(count, dtype=torch.float32)
        for q, rows in parts:
            total = total + self._loss(model, "z", q, rows) / count
        modalities = encoding.members(model.names).sum(0)
        for name, w in encoding.private.items():
            total = total + self._loss(model, f"w_{name}", w, encoding.batch.present[name]) / modalities
        return {self.kind: total}

    def _loss(self, model: Model, key: str, q: dist.Posterior, present: Tensor) -> Tensor:
        means = q.centre.detach() if self.detach else q.centre
        rows = present.nonzero().squeeze(-1)
        losses = means.new_zeros(len(means))
        return losses.index_copy(0, rows, cast(Trained, model.sampler(self.kind, key)).loss(means[rows])) if len(rows) else losses
