"""The linear-Gaussian oracle: a multimodal model whose every quantity is known in
closed form.

    z ~ N(0, I),   w_m ~ N(0, I),   x_m = A_m z + C_m w_m + B_m c + b_m + σ_m ε

c are covariates that decoders are told; closed forms are those of c = 0, so that what
is asked of them is x_m − B_m c. The columns of [A_m, C_m] are orthogonal, so that the
posteriors of z given any modalities and of every w_m are diagonal and independent
of each other: the factorised family of the library holds the exact posterior. Closed
forms are computed in numpy by conditioning the joint Gaussian, which supposes none of
that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, cast

import numpy as np
import torch
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.model.decoders import Decoder
from counterpoint.model.encoders import Head
from counterpoint.model.likelihoods import likelihood
from counterpoint.model.model import Model
from counterpoint.model.posteriors import Posterior
from counterpoint.model.priors import Prior
from counterpoint.model.rules import BayesRule, JointEncoder, JointRule, ProductRule, Rule
from counterpoint.nn.options import NetworkOptions
from counterpoint.probability.distributions import Normal
from counterpoint.probability.mcmc import HMC

Array = np.ndarray
Experts = Literal["posterior", "likelihood"]


class Gaussian(nn.Module):
    """N(W x + c, diag(s²)), all of it trainable."""

    def __init__(self, weight: Array, bias: Array, scale: Array) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.float64))
        self.bias = nn.Parameter(torch.as_tensor(bias, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.as_tensor(np.log(scale), dtype=torch.float64))

    def forward(self, x: Tensor) -> Normal:
        loc = x @ self.weight.T + self.bias
        return Normal(loc, self.log_scale.exp().expand_as(loc))


class LinearEncoder(nn.Module):
    """q(z | x_m) and q(w_m | x_m), linear and Gaussian."""

    def __init__(self, shared: Gaussian, private: Gaussian | None) -> None:
        super().__init__()
        self.shared = shared
        self.private = private

    def forward(self, x: Tensor) -> tuple[Normal, Normal | None]:
        return self.shared(x), None if self.private is None else self.private(x)


class AnySubset(nn.Module):
    """A joint encoder for incomplete rows, made exact: p(z | x_S) of what each row has.
    Keys of ``gaussians`` are names joined by commas."""

    def __init__(self, gaussians: Mapping[str, Gaussian]) -> None:
        super().__init__()
        self.gaussians = nn.ModuleDict(gaussians)

    def forward(self, batch: Batch) -> Normal:
        loc, scale = None, None
        for key, gaussian in self.gaussians.items():
            q = gaussian(torch.cat([batch.x[n] for n in key.split(",")], -1))
            fits = (
                torch.stack([here == (n in key.split(",")) for n, here in batch.present.items()])
                .all(0)
                .unsqueeze(-1)
            )
            loc = torch.where(fits, q.loc, 0.0 if loc is None else loc)
            scale = torch.where(fits, q.scale, 1.0 if scale is None else scale)
        assert loc is not None and scale is not None
        return Normal(loc, scale)


@dataclass(frozen=True)
class LinearGaussian:
    """Args:
    shared: A_m by modality, (n_m, D).
    private: C_m by modality, (n_m, D_m); empty without private latents.
    effect: B_m by modality, (n_m, number of covariates); empty without covariates.
    offset: b_m.
    noise: σ_m.
    """

    shared: dict[str, Array]
    offset: dict[str, Array]
    noise: dict[str, float]
    private: dict[str, Array] = field(default_factory=dict)
    effect: dict[str, Array] = field(default_factory=dict)

    @staticmethod
    def make(
        sizes: Mapping[str, int] = {"a": 4, "b": 5, "c": 3},
        *,
        shared_dim: int = 2,
        private_dim: int = 1,
        seed: int = 0,
    ) -> LinearGaussian:
        rng = np.random.default_rng(seed)
        shared, private, offset, noise = {}, {}, {}, {}
        for i, (name, size) in enumerate(sizes.items()):
            columns = np.linalg.qr(rng.normal(size=(size, size)))[0]
            shared[name] = columns[:, :shared_dim] * rng.uniform(0.6, 1.6, shared_dim)
            if private_dim:
                private[name] = columns[:, shared_dim : shared_dim + private_dim] * rng.uniform(
                    0.6, 1.6, private_dim
                )
            offset[name] = rng.normal(size=size)
            noise[name] = 0.7 + 0.2 * i
        return LinearGaussian(shared, offset, noise, private)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.shared)

    @property
    def dim(self) -> int:
        return next(iter(self.shared.values())).shape[1]

    @property
    def modalities(self) -> tuple[Modality, ...]:
        told = {
            n: tuple(f"c{i}" for i in range(effect.shape[1])) for n, effect in self.effect.items()
        }
        return tuple(
            Modality(
                n, (len(self.offset[n]),), "normal", scale=self.noise[n], covariates=told.get(n, ())
            )
            for n in self.names
        )

    # --- closed forms ------------------------------------------------------------------------------------------------

    def draw(self, rows: int, seed: int = 1) -> dict[str, Array]:
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(rows, self.dim))
        x = {}
        for n in self.names:
            x[n] = (
                z @ self.shared[n].T
                + self.offset[n]
                + self.noise[n] * rng.normal(size=(rows, len(self.offset[n])))
            )
            if n in self.private:
                x[n] += rng.normal(size=(rows, self.private[n].shape[1])) @ self.private[n].T
        return x

    def marginal(self, names: Sequence[str]) -> tuple[Array, Array]:
        """Mean and covariance of the stacked x_S."""
        loading = np.concatenate([self.shared[n] for n in names])
        covariance = loading @ loading.T
        start = 0
        for n in names:
            size = len(self.offset[n])
            block = self.noise[n] ** 2 * np.eye(size)
            if n in self.private:
                block = block + self.private[n] @ self.private[n].T
            covariance[start : start + size, start : start + size] += block
            start += size
        return np.concatenate([self.offset[n] for n in names]), covariance

    def log_prob(self, x: Mapping[str, Array], names: Sequence[str]) -> Array:
        """log p(x_S), (B,)."""
        return np.atleast_1d(
            multivariate_normal(*self.marginal(names)).logpdf(
                np.concatenate([x[n] for n in names], 1)
            )
        )

    def _conditioned(
        self, x: Mapping[str, Array], names: Sequence[str], cross: Array
    ) -> tuple[Array, Array]:
        """Mean (B, d) and standard deviation (d,) of a standard normal latent whose
        covariance with the stacked x_S is ``cross``."""
        mean, covariance = self.marginal(names)
        gain = np.linalg.solve(covariance, cross).T
        variance = np.eye(cross.shape[1]) - gain @ cross
        assert np.allclose(variance, np.diag(np.diag(variance)), atol=1e-12), (
            "the oracle's posteriors must be diagonal"
        )
        return (np.concatenate([x[n] for n in names], 1) - mean) @ gain.T, np.sqrt(
            np.diag(variance)
        )

    def posterior(self, x: Mapping[str, Array], names: Sequence[str]) -> tuple[Array, Array]:
        """p(z | x_S): mean (B, D), standard deviation (D,)."""
        return self._conditioned(x, names, np.concatenate([self.shared[n] for n in names]))

    def private_posterior(self, x: Mapping[str, Array], name: str) -> tuple[Array, Array]:
        """p(w_m | x_m): mean (B, D_m), standard deviation (D_m,)."""
        return self._conditioned(x, [name], self.private[name])

    def evidence(self, x: Mapping[str, Array], name: str) -> tuple[Array, Array]:
        """The likelihood of x_m as a density of z, N(mean, std²) ∝ p(x_m | z): the
        posterior divided by the prior."""
        mean, std = self.posterior(x, [name])
        precision = std**-2 - 1
        return mean * std**-2 / precision, precision**-0.5

    def expected_log_likelihood(
        self, x: Array, name: str, z: tuple[Array, Array], w: tuple[Array, Array] | None = None
    ) -> Array:
        """E log p(x_m | z, w) over diagonal Gaussians z and w given by mean and
        standard deviation, (B,)."""
        error, spread = (
            x - z[0] @ self.shared[name].T - self.offset[name],
            ((self.shared[name] * z[1]) ** 2).sum(),
        )
        if w is not None:
            error = error - w[0] @ self.private[name].T
            spread = spread + ((self.private[name] * w[1]) ** 2).sum()
        variance, size = self.noise[name] ** 2, len(self.offset[name])
        return -0.5 * ((error**2).sum(1) + spread) / variance - 0.5 * size * np.log(
            2 * np.pi * variance
        )

    # --- as a model of the library -----------------------------------------------------------------------------------

    def batch(self, x: Mapping[str, Array], present: Mapping[str, Array] | None = None) -> Batch:
        rows = len(next(iter(x.values())))
        here = {
            n: np.ones(rows, bool) if present is None else np.asarray(present[n])
            for n in self.names
        }
        values = {n: np.where(here[n][:, None], x[n], 0.0) for n in self.names}
        return Batch(
            {n: torch.as_tensor(v) for n, v in values.items()},
            {n: torch.as_tensor(v) for n, v in here.items()},
        )

    def model(
        self, rule: Rule, *, experts: Experts = "posterior", auxiliary_scale: float | None = None
    ) -> Model:
        """The same model of the library's parts, in float64.

        Args:
            experts: what the encoder of z says: ``"posterior"`` p(z | x_m), or
                ``"likelihood"``, the posterior divided by the prior.
            auxiliary_scale: of the auxiliary private priors; None for none.
        """
        private_priors = {n: Prior(self.private[n].shape[1]) for n in self.private}
        auxiliary = {}
        if auxiliary_scale is not None:
            auxiliary = {
                n: Prior(self.private[n].shape[1], learned_scale=True) for n in self.private
            }
            for prior in auxiliary.values():
                nn.init.constant_(prior.log_scale, float(np.log(auxiliary_scale)))
        posterior = Posterior({}, rule)
        posterior.encoders = nn.ModuleDict({n: self._encoder(n, experts) for n in self.names})
        return Model(
            self.modalities,
            prior=Prior(self.dim),
            private_priors=private_priors,
            posterior=posterior,
            decoders={m.name: self._decoder(m) for m in self.modalities},
            auxiliary_priors=auxiliary,
        ).double()

    def joint_rule(self, subsets: Rule | None = None) -> JointRule:
        """The rule with a joint encoder, made exact: it reads the raw values and
        returns p(z | X). Subsets take a product by default."""
        encoder = JointEncoder(
            self.modalities, self.dim, networks=NetworkOptions(hidden=(2,)), hidden=2
        )
        encoder.trunks = nn.ModuleDict({n: nn.Identity() for n in self.names})
        encoder.layers = nn.Sequential()
        encoder.head = cast(Head, self._gaussian(self.names))
        return JointRule(encoder, subsets or ProductRule(prior_expert="never"))

    def jnf_rule(self, hmc: HMC) -> JointRule:
        """JNF's rule, made exact for every set of modalities that a row may have."""
        subsets = [
            s for size in range(1, len(self.names) + 1) for s in combinations(self.names, size)
        ]
        encoder = AnySubset({",".join(s): self._gaussian(s) for s in subsets})
        return JointRule(cast(JointEncoder, encoder), BayesRule(hmc))

    def _gaussian(
        self, names: Sequence[str], name: str | None = None, *, evidence: bool = False
    ) -> Gaussian:
        """p(z | x_S), p(w_m | x_m) where ``name`` is given, or the evidence of one
        modality, as a linear map of the stacked x_S."""
        sizes = [len(self.offset[n]) for n in names]
        at = np.split(
            np.concatenate([np.zeros((1, sum(sizes))), np.eye(sum(sizes))]),
            np.cumsum(sizes)[:-1],
            1,
        )
        probe = dict(zip(names, at, strict=True))  # the origin and every unit vector
        if evidence:
            mean, std = self.evidence(probe, names[0])
        else:
            mean, std = (
                self.posterior(probe, names)
                if name is None
                else self.private_posterior(probe, name)
            )
        return Gaussian((mean[1:] - mean[0]).T, mean[0], std)

    def _encoder(self, name: str, experts: Experts) -> LinearEncoder:
        private = self._gaussian([name], name) if name in self.private else None
        return LinearEncoder(self._gaussian([name], evidence=experts == "likelihood"), private)

    def _decoder(self, modality: Modality) -> Decoder:
        name = modality.name
        parts = (self.shared, self.private, self.effect)
        weight = np.concatenate([part[name] for part in parts if name in part], 1)
        network = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            network.weight.copy_(torch.as_tensor(weight))
            network.bias.copy_(torch.as_tensor(self.offset[name]))
        return Decoder(network, likelihood(modality), len(modality.covariates))


def perturbed(model: Model, amount: float, seed: int = 3) -> Model:
    """The model with its posterior moved away from the exact one, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.posterior.parameters():
            parameter.add_(
                amount * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            )
    return model


def log_normal(value: Array, mean: Array, std: Array) -> Array:
    """log N(value; mean, diag(std²)), summed over the last axis."""
    return (-0.5 * ((value - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(-1)


def gaussian_kl(q: tuple[Array, Array], p: tuple[Array, Array] | None = None) -> Array:
    """KL between diagonal Gaussians given by mean (B, D) and standard deviation, (B,);
    p is N(0, I) by default."""
    mean, std = (np.zeros(1), np.ones(1)) if p is None else p
    return (np.log(std / q[1]) + (q[1] ** 2 + (q[0] - mean) ** 2) / (2 * std**2) - 0.5).sum(-1)


def gaussian_product(experts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The normalised product of diagonal Gaussians."""
    precision = sum(np.asarray(std, dtype=float) ** -2 for _, std in experts)
    weighted = sum(mean * np.asarray(std, dtype=float) ** -2 for mean, std in experts)
    return np.asarray(weighted / precision), np.asarray(precision) ** -0.5


def log_mixture(value: Array, components: Sequence[tuple[Array, Array]]) -> Array:
    """log of the uniform mixture of diagonal Gaussians."""
    densities = np.stack([log_normal(value, *c) for c in components])
    return np.logaddexp.reduce(densities, 0) - np.log(len(components))


def expected_log_mixture(
    q: tuple[Array, Array], components: Sequence[tuple[Array, Array]], nodes: int = 48
) -> Array:
    """E_q of ``log_mixture`` by Gauss–Hermite quadrature in two dimensions, (B,)."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    total = np.zeros(len(q[0]))
    for i, j in np.ndindex(nodes, nodes):
        total += (
            weights[i]
            * weights[j]
            * log_mixture(q[0] + q[1] * np.array([points[i], points[j]]), components)
        )
    return total


def assert_mean(draws: Array, expected: Array | float, *, errors: float = 4.0) -> None:
    """The mean over the first axis lies within ``errors`` standard errors of what is
    expected."""
    draws = np.asarray(draws, dtype=float)
    standard_error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    distance = np.abs(draws.mean(0) - expected)
    assert (distance <= errors * standard_error + 1e-9).all(), (
        f"{draws.mean(0)} is not {expected}: {distance / (standard_error + 1e-12)} standard errors"
    )
