"""Likelihood bounds: a list of routes and an estimator.

A route r conditions z on the modalities it is given and reconstructs its targets. With
draws k = 1..K,

    lw_r = Σ_{d ∈ targets} c_rd·ω_d·log p(x_d | z, w_d) + β [ log p(z) − log q(z) + Σ_{d ∈ given} (log p(w_d) − log q(w_d | x_d)) ]

where w_d is drawn from q(w_d | x_d) if the route may see x_d and from the auxiliary
prior otherwise, ω_d is the modality's weight and c_rd the route's factor on cross
targets. The estimators:

    elbo   mean_k lw_r, with KL(q(w_d) ‖ p(w_d)) and, where the density of z is the route's own, KL(q(z) ‖ p(z)) in closed form
    iwae   logmeanexp_k lw_r                         Burda et al. 2016, https://arxiv.org/abs/1509.00519
    dreg   the same value and expected gradient, with less noise; below
                                                     Tucker et al. 2019, https://arxiv.org/abs/1810.04152

``density="everything"`` evaluates log q(z) under the posterior given all that the row
has (the mixture of MMVAE and MMVAE+); ``density="route"`` under the posterior that the
route drew from. Absent targets count nothing, and rows that have none of a route's
given modalities leave that route out.

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

The identity wants u_k ~ q, the density in lw. With ``density="everything"`` z comes
from one component while log q(z) is the mixture's. The sum over sources makes good for
that where K = 1: z is then a draw of the mixture, and the bracket is 1. Where K > 1,
w̃_k depends on the other draws of the same component, and the gradient of the encoders
of z is biased, as in the published MMVAE; all other gradients are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from counterpoint.core.latents import Latents
from counterpoint.inference import refinement, refiner_of
from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.objectives.loss import Loss, Terms
from counterpoint.objectives.matching import joint_posterior
from counterpoint.objectives.routes import Route, Routes
from counterpoint.probability import distributions as dist

Estimator = Literal["elbo", "iwae", "dreg"]


@dataclass(frozen=True)
class RouteDraw(Draw):
    """A draw together with the route, and the posteriors of z and, by modality, of w_m
    it came from."""

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
        posterior: where a route draws z: ``"rule"``, from what the posterior's rule
            says of its given modalities; ``"joint"``, from the joint encoder; or
            ``"refined"``, from the steps of the refinement of what everything says, the
            bound being the mean over the steps.
        rescale: weigh each modality's likelihood by the size of the largest over its
            own, so that small ones count as much.
        private: how a target outside the route's given modalities gets its private
            latent: ``"auxiliary"`` from the learned auxiliary prior, ``"own"`` from its
            own encoder.
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
        return [
            self._draw(model, route, *q)
            for route in routes
            for q in self._posteriors(model, encoding, route)
        ]

    def terms(
        self,
        model: Model,
        encoding: Encoding,
        draws: Sequence[Draw],
        decoded: Sequence[dict[str, Tensor]],
    ) -> Terms:
        routes = [draw for draw in draws if isinstance(draw, RouteDraw)]
        taken = torch.stack(
            [encoding.members(draw.route.given).any(0) for draw in routes]
        )  # (R, B)
        share = taken.float() if self.reduce == "sum" else taken / taken.sum(0).clamp(min=1)
        nll = torch.stack(
            [self._nll(model, encoding, d, raw) for d, raw in zip(routes, decoded, strict=True)]
        )  # (R, K, B)
        everything = (
            model.posterior.condition(encoding, model.names)
            if self.density == "everything"
            else None
        )
        if self.estimator == "elbo":
            kls = torch.stack(
                [self._kl(model, encoding, draw, everything) for draw in routes]
            )  # (R, B)
            return {"nll": (share * nll.mean(1)).sum(0), "kl": self.beta * (share * kls).sum(0)}
        ratios = torch.stack(
            [self._log_ratio(model, encoding, draw, everything) for draw in routes]
        )  # (R, K, B)
        log_weights = self.beta * ratios - nll
        bounds = torch.logsumexp(log_weights, 1) - math.log(self.samples)
        if self.estimator == "dreg":
            encoded = [
                (draw.latents.shared, *(draw.latents.private[n] for n in self._privates(draw)))
                for draw in routes
            ]
            bounds = _doubly_reparameterised(log_weights, bounds, encoded, self.beta)
        return {"bound": -(share * bounds).sum(0)}

    def _posteriors(
        self, model: Model, encoding: Encoding, route: Route
    ) -> list[tuple[dist.Posterior, Mapping[str, dist.Diagonal]]]:
        """Of z and, by modality, of w_m: one pair, or one for each step of refinement."""
        if self.posterior == "refined":
            rounds, trace = refiner_of(model).options.rounds, refinement(model, encoding)
            return [
                (q.shared, q.private)
                for q in (trace.steps if rounds is None else trace.some(rounds))
            ]
        q = (
            joint_posterior(encoding)
            if self.posterior == "joint"
            else model.posterior.condition(encoding, route.given)
        )
        return [(q, encoding.private if model.private_dims else {})]

    def _draw(
        self, model: Model, route: Route, q: dist.Posterior, privates: Mapping[str, dist.Diagonal]
    ) -> RouteDraw:
        k = torch.Size((self.samples,))
        z = q.rsample(k)
        private = {}
        for name in route.targets:
            if name not in model.private_dims:
                continue
            if name in route.given or self.private == "own":
                private[name] = privates[name].rsample(k)
            else:
                private[name] = model.auxiliary_priors[name]().rsample(
                    torch.Size((self.samples, z.shape[1]))
                )
        return RouteDraw(Latents(z, private), route.targets, route, q, privates)

    def _nll(
        self, model: Model, encoding: Encoding, draw: RouteDraw, raw: dict[str, Tensor]
    ) -> Tensor:
        """Weighted negative log-likelihood of the targets that are there, (K, B)."""
        total = torch.zeros(draw.latents.shared.shape[:2], device=draw.latents.shared.device)
        sizes = {name: math.prod(m.shape) for name, m in model.modalities.items()}
        for name in draw.targets:
            factor = model.modalities[name].weight * (
                1.0 if name in draw.route.given else draw.route.cross_weight
            )
            factor *= max(sizes.values()) / sizes[name] if self.rescale else 1.0
            total = total - factor * model.log_prob(name, raw[name], encoding.batch)
        return total

    def _privates(self, draw: RouteDraw) -> list[str]:
        """Targets whose private latent came from their encoder."""
        return [n for n in draw.latents.private if n in draw.route.given or self.private == "own"]

    def _kl(
        self, model: Model, encoding: Encoding, draw: RouteDraw, everything: dist.Posterior | None
    ) -> Tensor:
        """KL of z (closed form, or by the draws against ``everything``) plus the
        closed-form KLs of the w's, (B,)."""
        prior = model.prior()
        if everything is None:
            total = dist.kl(draw.posterior, prior)
        else:
            total = (
                everything.log_prob(draw.latents.shared) - prior.log_prob(draw.latents.shared)
            ).mean(0)
        for name in self._privates(draw):
            total = total + encoding.batch.present[name] * dist.kl(
                draw.private[name], model.private_priors[name]()
            )
        return total

    def _log_ratio(
        self, model: Model, encoding: Encoding, draw: RouteDraw, everything: dist.Posterior | None
    ) -> Tensor:
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
