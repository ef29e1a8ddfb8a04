"""Dependence between latents: HSIC of z and w, and an InfoNCE bound on the information
that the z of two modalities share.

HSIC (Gretton et al., "Measuring statistical dependence with Hilbert–Schmidt norms",
2005) uses Gaussian kernels k of the median bandwidth. We take the unbiased form of Song
et al. ("Feature selection via dependence maximization", 2012) through U-centred
matrices K̃ (Székely and Rizzo, 2014):

    HSIC(x, y) = ⟨K̃, L̃⟩ / (n(n−3))

It is reported normalised, ⟨K̃, L̃⟩ / √(⟨K̃, K̃⟩⟨L̃, L̃⟩): 0 in expectation for independent
variables, 1 for identical ones. Its null distribution comes from permuting the rows of
one variable.

InfoNCE (van den Oord et al., "Representation learning with contrastive predictive
coding", 2018; Poole et al., 2019) holds for any critic f:

    I(a; b) ≥ log B + E[f(a_i, b_i) − log Σ_j exp f(a_i, b_j)]

The critic is a Gaussian's log density ratio in canonical coordinates, fitted in closed
form on other rows. With canonical correlations ρ_k and a scale τ chosen on the fitting
rows,

    f(a, b) = τ Σ_k [ρ_k a_k b_k − ½ ρ_k² (a_k² + b_k²)] / (1 − ρ_k²)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import log

import numpy as np
import torch
from torch import Tensor

from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.intervals import Array
from counterpoint.metrics.means import Means
from counterpoint.metrics.sampling import chosen, seed_of
from counterpoint.metrics.score import FEW_ROWS, Metric, Way
from counterpoint.metrics.scores import Chance, Scores

_metric = partial(Metric, group="dependence")


@dataclass(frozen=True)
class Hsic:
    """A normalised HSIC and its permutation null.

    Attributes:
        value: the normalised HSIC.
        null: the mean over permutations.
        p_value: the share of permutations, with the observed one, that reach it.

    >>> Hsic(value=0.9, null=0.1, p_value=0.01).p_value
    0.01
    """

    value: float
    null: float
    p_value: float


def hsic(x: Array, y: Array, *, permutations: int = 100, seed: int = 0) -> Hsic:
    """Compute the normalised unbiased HSIC of the rows of ``x`` (n, d) and ``y`` (n, e).

    Args:
        x, y: the two variables.
        permutations: of the null distribution.
        seed: of the permutations.

    >>> from counterpoint.metrics import hsic
    >>> x = np.arange(20.0)[:, None]
    >>> round(hsic(x, 2 * x).value, 6)
    1.0

    Raises:
        ValueError: fewer than four rows, or different numbers of rows.
    """
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(
            f"HSIC needs the same number of rows, at least 4, of both variables; got {len(x)} and "
            f"{len(y)}"
        )
    k = _centred_kernel(x)
    el = _centred_kernel(y)
    norm = float((k.square().sum() * el.square().sum()).sqrt())
    if norm == 0:  # a constant variable depends on nothing
        return Hsic(0.0, 0.0, 1.0)
    value = float((k * el).sum()) / norm
    rng = np.random.default_rng(seed)
    null = []
    for _ in range(permutations):
        order = torch.from_numpy(rng.permutation(len(x)))
        null.append(float((k * el[order][:, order]).sum()) / norm)
    return Hsic(
        value, float(np.mean(null)), (1 + sum(n >= value for n in null)) / (1 + permutations)
    )


def _centred_kernel(x: Array) -> Tensor:
    """(n, n): the U-centred Gaussian kernel matrix, with the median distance as
    bandwidth and a zero diagonal."""
    rows = torch.as_tensor(x, dtype=torch.float64)
    distance = torch.cdist(rows, rows)
    n = len(rows)
    upper = distance[torch.ones(n, n, dtype=torch.bool).triu(1)]
    median = upper.median()
    bandwidth = median if median > 0 else upper.max().clamp(min=1e-12)
    kernel = torch.exp(-0.5 * (distance / bandwidth).square()).fill_diagonal_(0.0)
    if not bool((distance > 0).any()):
        return torch.zeros_like(kernel)
    sums = kernel.sum(0)
    centred = (
        kernel - sums[:, None] / (n - 2) - sums[None] / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    )
    return centred.fill_diagonal_(0.0)


def infonce(fit: tuple[Array, Array], held: tuple[Array, Array], *, ridge: float = 1e-3) -> float:
    """Compute a lower bound on I(a; b) in nats.

    It is at most the log of the number of held-out rows.

    Args:
        fit: pairs (N, d), (N, e) to fit the critic on. They must be disjoint from
            ``held``, or the bound does not hold.
        held: pairs (B, d), (B, e) to estimate the bound on. The other rows are the
            negatives.
        ridge: added to the unit variances of the standardised variables.

    >>> from counterpoint.metrics import infonce
    >>> a = np.random.default_rng(0).normal(size=(200, 2))
    >>> infonce((a[:100], a[:100]), (a[100:], a[100:])) > 1
    True
    """
    to_a, to_b, rho = _canonical(*fit, ridge)
    scales = 2.0 ** np.arange(-5, 2)
    most = slice(0, 500)
    critic = _scores(to_a(fit[0][most]), to_b(fit[1][most]), rho)
    near = _bounds(critic, scales)
    return float(
        _bounds(_scores(to_a(held[0]), to_b(held[1]), rho), scales[[int(np.argmax(near))]])[0]
    )


def _canonical(
    a: Array, b: Array, ridge: float
) -> tuple[Callable[[Array], Array], Callable[[Array], Array], Array]:
    """Map both variables to canonical coordinates (n, r).

    Returns:
        The two maps, and the canonical correlations (r,).
    """

    def whitener(x: Array) -> tuple[Array, Array]:
        mean = x.mean(0, dtype=np.float64)
        std = x.std(0, dtype=np.float64)
        std = np.where(std > 0, std, 1.0)
        values, vectors = np.linalg.eigh(
            np.cov(((x - mean) / std).T).reshape(x.shape[1], -1) + ridge * np.eye(x.shape[1])
        )
        return mean, (vectors / np.sqrt(values)) @ vectors.T / std[:, None]

    (mean_a, white_a), (mean_b, white_b) = whitener(a), whitener(b)
    left, rho, right = np.linalg.svd(
        white_a.T @ ((a - mean_a).T @ (b - mean_b) / (len(a) - 1)) @ white_b, full_matrices=False
    )
    return (
        (lambda x: (x - mean_a) @ white_a @ left),
        (lambda x: (x - mean_b) @ white_b @ right.T),
        rho.clip(max=0.999),
    )


def _scores(a: Array, b: Array, rho: Array) -> Array:
    """(B, B): the Gaussian critic of every a_i with every b_j."""
    gain = 1 / (1 - rho**2)
    own = 0.5 * rho**2 * gain
    cross = (a * (rho * gain)) @ b.T
    return cross - (a**2 @ own)[:, None] - (b**2 @ own)[None]


def _bounds(scores: Array, scales: Array) -> Array:
    """InfoNCE of a (B, B) score matrix for each scale."""
    found = []
    for scale in scales:
        f = torch.from_numpy(scores * scale)
        found.append(log(len(f)) + float((f.diagonal() - f.logsumexp(1)).mean()))
    return np.array(found)


def score_dependence(
    train: Means, test: Means, *, rows: int = 500, permutations: int = 100, seed: int = 0
) -> Scores:
    """Score ``hsic/z,w`` (mean over modalities) and ``mi/z_i,z_j`` (nats, mean over
    pairs).

    Each modality's and each pair's has its names at the end. The chance of HSIC is its
    permutation null. Its p-values go to ``extra``.

    Below 50 held-out rows both are left out. The bound of B rows cannot exceed log B,
    and the spread of HSIC under independence is then as large as weak dependence.

    >>> from counterpoint.metrics import Means, score_dependence
    >>> x, there = np.random.default_rng(0).normal(size=(60, 1)), {"x": np.ones(60, bool)}
    >>> means = Means({"x": x}, {"x": 2 * x}, there, {"x": {}})  # w says what z says
    >>> round(score_dependence(means, means).metrics["hsic/z,w"], 3)
    1.0

    Args:
        train: means on which the critic is fitted.
        test: means of the held-out rows.
        rows: most held-out rows of both.
        permutations: of the null distribution.
        seed: chooses rows and permutations.
    """
    scores = Scores()
    _score_hsic(scores, test, rows=rows, permutations=permutations, seed=seed)
    _score_information(scores, train, test, rows=rows, seed=seed)
    return scores


def _score_hsic(scores: Scores, test: Means, *, rows: int, permutations: int, seed: int) -> None:
    metric = _metric(kind="hsic", latent="z,w")
    results: dict[Way, Hsic] = {}
    counts: dict[Way, int] = {}
    for name in test.private:
        way = Way((name,))
        kept = np.flatnonzero(test.present[name])
        kept = kept[chosen(len(kept), rows, seed_of(seed, "hsic"))]
        counts[way] = len(kept)
        if len(kept) < FEW_ROWS:
            scores.leave_out(metric.along(way), _too_few(len(kept)), too_few=True)
            continue
        results[way] = hsic(
            test.shared[name][kept],
            test.private[name][kept],
            permutations=permutations,
            seed=seed_of(seed, "null"),
        )
    if results:
        null = Chance.mean({way: result.null for way, result in results.items()})
        values = {way: result.value for way, result in results.items()}
        scores.add_mean(metric, values, rows=counts, chance=null)
        scores.extra["p_values"] = {
            metric.along(way).name: result.p_value for way, result in results.items()
        }
    elif not test.private:
        scores.leave_out(metric, "the method has no private latents")


def _score_information(scores: Scores, train: Means, test: Means, *, rows: int, seed: int) -> None:
    metric = _metric(kind="mi/z_i,z_j")
    bounds: dict[Way, float] = {}
    counts: dict[Way, int] = {}
    for pair in combinations([name for name in train.shared if name in test.shared], 2):
        i, j = pair
        fit = np.flatnonzero(train.present[i] & train.present[j])
        held = np.flatnonzero(test.present[i] & test.present[j])
        held = held[chosen(len(held), rows, seed_of(seed, "infonce"))]
        counts[Way(pair)] = len(held)
        if 0 < len(held) < FEW_ROWS:
            scores.leave_out(metric.along(Way(pair)), _too_few(len(held)), too_few=True)
        elif len(fit) >= 4 and len(held):
            bounds[Way(pair)] = infonce(
                (train.shared[i][fit], train.shared[j][fit]),
                (test.shared[i][held], test.shared[j][held]),
            )
    if bounds:
        scores.add_mean(metric, bounds, rows=counts)
    elif not any(0 < count < FEW_ROWS for count in counts.values()):
        scores.leave_out(metric, "no pair of modalities is present together in both splits")


def _too_few(rows: int) -> str:
    return f"{rows} rows, {FEW_ROWS} are needed"


def _measure(context: Context) -> Scores:
    scores = score_dependence(*context.means, seed=context.options.seed)
    scores.mark_few({})
    return scores


GROUP = Group(
    "dependence",
    ("hsic", "mi/z_i,z_j"),
    _measure,
    default="always",
    complete=True,
    lower=("hsic", "mi/z_i,z_j"),
)
