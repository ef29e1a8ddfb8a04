"""Likelihood bounds: a list of routes and an estimator.

A route r conditions z on the modalities it is given and reconstructs its targets. With
draws k = 1..K,

    lw_r = Σ_{d ∈ targets} c_rd·ω_d·log p(x_d | z, w_d) + β [ log p(z) − log q(z) + Σ_{d ∈ given} (log p(w_d) − log q(w_d | x_d)) ]

where w_d is drawn from q(w_d | x_d) if the route may see x_d. Other w_d come from the
auxiliary prior, or from their own encoder (``from_encoder``), whose KL then counts too.
ω_d is the modality's weight and c_rd the route's factor on cross targets. The estimators:

    elbo   mean_k lw_r, with KL(q(w_d) ‖ p(w_d)) and, where the density of z is the route's own, KL(q(z) ‖ p(z)) in closed form
    iwae   logmeanexp_k lw_r                         Burda et al. 2016, https://arxiv.org/abs/1509.00519
    dreg   the same value and expected gradient, with less noise; below
                                                     Tucker et al. 2019, https://arxiv.org/abs/1810.04152

log q(z) is the density of the posterior that the route drew from, or of another one: in
MMVAE and MMVAE+, of the posterior given everything that the row has (``of_everything``).
Absent targets add no term. Rows that have none of a route's given modalities leave that
route out; a row with one modality takes the route of everything and its own, which are the
same bound, so that ``sum_over_routes`` counts it twice (our choice: papers suppose complete
rows).

The doubly reparameterised gradient. Let u_k = g_φ(ε_k) be one latent of draw k (z, or a
w_d that an encoder gave), w̃ = softmax_k lw and s_k = ∂ log q_φ(u_k)/∂φ at fixed u_k.
Whatever factors the likelihoods have, log q enters lw with the factor −β, so that

    ∂ iwae/∂φ = Σ_k w̃_k (∂lw_k/∂u_k ∂u_k/∂φ − β s_k).

The score s_k is what makes it noisy. For any f, E_q[f(u_k) s_k] = E_q[∂f/∂u_k ∂u_k/∂φ]
(integration by parts), here with f = w̃_k, of which ∂w̃_k/∂u_k = w̃_k (1 − w̃_k)
∂lw_k/∂u_k. Hence, in expectation,

    ∂ iwae/∂φ = Σ_k [w̃_k − β w̃_k (1 − w̃_k)] ∂lw_k/∂u_k ∂u_k/∂φ = Σ_k [(1 − β) w̃_k + β w̃_k²] ∂lw_k/∂u_k ∂u_k/∂φ.

The published w̃_k² is the case β = 1. Each source of a sum over sources has w̃ of its
own. All else that lw depends on has the weight w̃_k: decoders, priors, and the scale of
an auxiliary prior, whose draws have no density in lw.

The identity wants u_k ~ q, the density in lw. In a mixture z comes
from one component while log q(z) is the mixture's. The sum over sources corrects
that where K = 1: z is then a draw of the mixture, and the bracket is 1. Where K > 1,
w̃_k depends on the other draws of the same component, and the gradient of the encoders
of z is biased, as in the published MMVAE; all other gradients are not.

>>> import counterpoint as cp
>>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
>>> model = cp.IterativeMVAE.from_config(modalities, {"shared_dim": 4}).model
>>> encoding = model.encode(cp.Batch.of({"x": torch.zeros(5, 3)}, modalities=modalities))
>>> [len(made(model, encoding, Route(("x",), ("y",)))) for made in (by_rule, by_refinement)]
[1, 6]
>>> of_everything(model, encoding).loc.shape
torch.Size([5, 4])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from counterpoint.core.batch import Batch
from counterpoint.core.latents import Latents
from counterpoint.inference.approximations import LatentPosterior
from counterpoint.inference.bounds import (
    divergence_from_prior,
    log_likelihoods,
    log_weight,
    private_divergence,
)
from counterpoint.inference.refinement import trace_of
from counterpoint.inference.refiner import refiner_of
from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.objectives.loss import Ask, Decoded, Loss, Terms
from counterpoint.objectives.matching import joint_posterior
from counterpoint.objectives.routes import Route, Routes
from counterpoint.probability import distributions as dist

Estimator = Literal["elbo", "iwae", "dreg"]

Condition = Callable[[Model, Encoding, Route], Sequence[LatentPosterior]]
"""Where a route draws z and the private latents of its given modalities: one posterior, or
several whose bounds are averaged."""

Density = Callable[[Model, Encoding], dist.Posterior]
"""Whose log q(z) enters the bound."""

CrossPrivate = Callable[[Model, LatentPosterior, str], dist.Diagonal]
"""Where a target outside the route's given modalities gets its private latent."""

RouteShares = Callable[[Tensor], Tensor]
"""From (R, B) bool, the routes that each row takes, to what each counts, (R, B)."""


# --- where a route draws z -------------------------------------------------------------------


def by_rule(model: Model, encoding: Encoding, route: Route) -> Sequence[LatentPosterior]:
    """From the posterior that the rule makes of the route's given modalities."""
    q = model.posterior.condition(encoding, route.given)
    return [LatentPosterior(q, _private(model, encoding))]


def by_joint_encoder(model: Model, encoding: Encoding, route: Route) -> Sequence[LatentPosterior]:
    """From the joint encoder's posterior.

    >>> from counterpoint import Batch, JMVAE, Modality
    >>> model = JMVAE.from_config(x := [Modality("x", (3,))], {}).model
    >>> encoding = model.encode(Batch.of({"x": [[0.0, 0.0, 0.0]]}, modalities=x))
    >>> [q] = by_joint_encoder(model, encoding, Route(("x",), ("x",)))
    >>> q.shared is encoding.joint
    True
    """
    return [LatentPosterior(joint_posterior(encoding), _private(model, encoding))]


def by_refinement(model: Model, encoding: Encoding, route: Route) -> Sequence[LatentPosterior]:
    """From the steps of the refinement of the posterior given everything, or from as many
    random steps of each row as the refiner's ``rounds`` say. Each step decodes again."""
    trace = trace_of(model, encoding)
    rounds = refiner_of(model).options.rounds
    return trace.steps if rounds is None else trace.some(rounds)


def _private(model: Model, encoding: Encoding) -> Mapping[str, dist.Diagonal]:
    """q(w_m | x_m); where there are none, no encoder runs for them."""
    return encoding.private if model.private_dims else {}


# --- whose density, and where cross targets get their private latent ------------------------------


def of_everything(model: Model, encoding: Encoding) -> dist.Posterior:
    """The posterior given all modalities that a row has."""
    return model.posterior.condition(encoding, model.names)


def from_auxiliary_prior(model: Model, q: LatentPosterior, target: str) -> dist.Diagonal:
    """From the learned auxiliary prior, so that private encoders get no short cut.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.MMVAEPlus.from_config(modalities, {"private_dim": 1}).model
    >>> q = LatentPosterior(dist.Normal(torch.zeros(5, 4), torch.ones(5, 4)), {})
    >>> from_auxiliary_prior(model, q, "y").loc
    tensor([0.])
    """
    prior: dist.Diagonal = model.auxiliary_priors[target]()
    return prior


def from_encoder(model: Model, q: LatentPosterior, target: str) -> dist.Diagonal:
    """From the target's own encoder.

    >>> w = dist.Normal(torch.zeros(5, 1), torch.ones(5, 1))
    >>> q = LatentPosterior(dist.Normal(torch.zeros(5, 4), torch.ones(5, 4)), {"y": w})
    >>> from_encoder(None, q, "y") is w
    True
    """
    return q.private[target]


def mean_over_routes(taken: Tensor) -> Tensor:
    """The mean over the routes that a row takes.

    >>> mean_over_routes(torch.tensor([[True, True], [True, False]]))
    tensor([[0.5000, 1.0000],
            [0.5000, 0.0000]])
    """
    return taken / taken.sum(0).clamp(min=1)


def sum_over_routes(taken: Tensor) -> Tensor:
    """The sum over the routes that a row takes.

    >>> sum_over_routes(torch.tensor([[True, True], [True, False]]))
    tensor([[1., 1.],
            [1., 0.]])
    """
    return taken.float()


# --- the bound --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RouteDraw:
    """Latents that a route drew.

    Attributes:
        route: the route.
        latents: shared (K, B, D) and private (K, B, D_m) of its targets.
        q: what they were drawn from; of the private latents, those that encoders gave.

    >>> q = LatentPosterior(dist.Normal(torch.zeros(5, 4), torch.ones(5, 4)), {})
    >>> RouteDraw(Route(("x",), ("x",)), Latents(torch.zeros(1, 5, 4)), q).latents
    Latents(z (1, 5, 4))
    """

    route: Route
    latents: Latents
    q: LatentPosterior


class Bound(Loss):
    """Negative likelihood bound over routes; see the module's derivation.

    >>> from counterpoint.objectives.routes import everything_to_everything
    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> ask = Bound(everything_to_everything, beta=2.0)(model, encoding)
    >>> [*ask.answered(model, encoding.batch.covariates)]
    ['nll', 'kl']

    Args:
        routes: rules whose routes are joined.
        estimator: ``"elbo"``, ``"iwae"`` or ``"dreg"``.
        samples: K.
        beta: β on every KL.
        condition: where a route draws z: :func:`by_rule`, :func:`by_joint_encoder`,
            :func:`by_refinement`, or a function like them.
        density: whose log q(z) enters the bound, such as :func:`of_everything`; that of
            the posterior that was drawn from without.
        cross_private: where a target outside the route's given modalities gets its private
            latent: :func:`from_auxiliary_prior` or :func:`from_encoder`.
        shares: :func:`mean_over_routes` or :func:`sum_over_routes`.
        rescale: weigh each modality's likelihood by the size of the largest modality over
            its own, so that small ones count as much.

    Terms: ``nll`` and ``kl`` for the ELBO, ``bound`` for the others.

    Raises:
        ValueError: an unknown estimator, no route, no sample, or a negative β.
    """

    def __init__(
        self,
        *routes: Routes,
        estimator: Estimator = "elbo",
        samples: int = 1,
        beta: float = 1.0,
        condition: Condition = by_rule,
        density: Density | None = None,
        cross_private: CrossPrivate = from_auxiliary_prior,
        shares: RouteShares = mean_over_routes,
        rescale: bool = False,
    ) -> None:
        super().__init__()
        if estimator not in get_args(Estimator):
            choices = ", ".join(map(repr, get_args(Estimator)))
            raise ValueError(f"estimator={estimator!r} is unknown; choose one of {choices}")
        if not routes:
            raise ValueError("a bound needs routes; give one, such as everything_to_everything")
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise ValueError(f"samples={samples} must be a whole number of 1 or more")
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta={beta} must not be negative, infinite or NaN")
        self.routes = routes
        self.estimator = estimator
        self.samples = samples
        self.beta = beta
        self.condition = condition
        self.density = density
        self.cross_private = cross_private
        self.shares = shares
        self.rescale = rescale

    def check(self, model: Model) -> None:
        if self.estimator != "elbo" and (surrogate := model.surrogates):
            raise ValueError(
                f"estimator={self.estimator!r} weighs draws by their density, and the decoder of"
                f" {surrogate[0]!r} has none; use estimator='elbo'"
            )

    def forward(self, model: Model, encoding: Encoding) -> Ask:
        routes = []
        for rule in self.routes:
            for route in rule(model.names):
                routes.append(route)
        sources = []
        for route in routes:
            for q in self.condition(model, encoding, route):
                sources.append((route, q))
        drawn = [self._drawn(model, route, q) for route, q in sources]
        draws = [Draw(draw.latents, draw.route.targets) for draw in drawn]
        return Ask(draws, partial(self._terms, model, encoding, drawn))

    def _drawn(self, model: Model, route: Route, q: LatentPosterior) -> RouteDraw:
        z = q.shared.rsample(torch.Size((self.samples,)))
        private = {}
        encoded = {}
        for name in [name for name in route.targets if name in model.private_dims]:
            own = name in route.given
            q_w = q.private[name] if own else self.cross_private(model, q, name)
            rows = z.shape[: 3 - q_w.loc.ndim]  # a prior has one row for all
            private[name] = q_w.rsample(rows)
            if own or q_w is q.private[name]:
                encoded[name] = q_w
        return RouteDraw(route, Latents(z, private), LatentPosterior(q.shared, encoded))

    def _terms(
        self,
        model: Model,
        encoding: Encoding,
        drawn: Sequence[RouteDraw],
        decoded: Sequence[Decoded],
    ) -> Terms:
        taken = torch.stack([encoding.members(draw.route.given).any(0) for draw in drawn])
        shares = self.shares(taken)  # (R, B)
        density = None if self.density is None else self.density(model, encoding)
        parts = [(encoding.batch, draw, raw) for draw, raw in zip(drawn, decoded, strict=True)]
        if self.estimator == "elbo":
            nll = torch.stack([self._nll(model, *part) for part in parts])
            kls = torch.stack([_kl(model, encoding.batch, draw, density) for draw in drawn])
            return {"nll": (shares * nll).sum(0), "kl": self.beta * (shares * kls).sum(0)}
        weights = torch.stack([self._log_weight(model, *part, density) for part in parts])
        bounds = torch.logsumexp(weights, 1) - math.log(self.samples)  # (R, B)
        if self.estimator == "dreg":
            encoded = [_encoded(draw) for draw in drawn]
            bounds = _doubly_reparameterised(weights, bounds, encoded, self.beta)
        return {"bound": -(shares * bounds).sum(0)}

    def _nll(self, model: Model, batch: Batch, draw: RouteDraw, raw: Decoded) -> Tensor:
        """Mean negative log-likelihood over the draws, (B,)."""
        return -log_likelihoods(model, batch, raw, self._factors(model, draw.route)).mean(0)

    def _log_weight(
        self,
        model: Model,
        batch: Batch,
        draw: RouteDraw,
        raw: Decoded,
        density: dist.Posterior | None,
    ) -> Tensor:
        """lw of each draw, (K, B); DReG takes no score of the densities that were drawn from."""
        shared = draw.q.shared if density is None else density
        private = draw.q.private
        if self.estimator == "dreg":
            shared = dist.detached(shared)
            private = {name: dist.detached(q_w) for name, q_w in private.items()}
        q = LatentPosterior(shared, private)
        factors = self._factors(model, draw.route)
        return log_weight(model, batch, draw.latents, raw, q, factors, beta=self.beta)

    def _factors(self, model: Model, route: Route) -> dict[str, float]:
        """Factors on the log-likelihoods of a route's targets."""
        sizes = {name: math.prod(m.shape) for name, m in model.modalities.items()}
        factors = {}
        for name in route.targets:
            cross = 1.0 if name in route.given else route.cross_weight
            scale = max(sizes.values()) / sizes[name] if self.rescale else 1.0
            factors[name] = model.modalities[name].weight * cross * scale
        return factors


def _kl(model: Model, batch: Batch, draw: RouteDraw, density: dist.Posterior | None) -> Tensor:
    """KL of z, in closed form or by the draws against ``density``, and the KLs of every w,
    (B,)."""
    if density is None:
        return divergence_from_prior(model, batch, draw.q)
    z = draw.latents.shared
    by_draws = (density.log_prob(z) - model.prior().log_prob(z)).mean(0)
    return by_draws + private_divergence(model, batch, draw.q.private)


def _encoded(draw: RouteDraw) -> list[Tensor]:
    """The latents of a draw that encoders gave, (K, B, D) each."""
    return [draw.latents.shared, *(draw.latents.private[name] for name in draw.q.private)]


def _doubly_reparameterised(
    log_weights: Tensor, bounds: Tensor, encoded: Sequence[Sequence[Tensor]], beta: float
) -> Tensor:
    """The IWAE value with the doubly reparameterised gradient: Σ_k w̃_k ∂lw_k, and (1 −
    β) w̃_k + β w̃_k² along the path to the encoders.

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
