"""Quality of generated values in a feature space: Fréchet and kernel distance,
precision, recall, density, coverage; sharpness of images.

Fréchet distance between Gaussians fitted to features (Heusel et al., "GANs trained by a
two time-scale update rule", 2017), in closed form by symmetric eigendecompositions in
double precision:

    d² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½)

Precision and recall: Kynkäänniemi et al. ("Improved precision and recall metric",
2019). Density and coverage: Naeem et al. ("Reliable fidelity and diversity metrics",
2020). Kernel distance: Bińkowski et al. ("Demystifying MMD GANs", 2018).

Features are the penultimate layer of a judge, so the numbers do not compare with those
of Inception. You can pass a feature extractor of your own instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import torch

from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.generations import Generations
from counterpoint.metrics.intervals import Array
from counterpoint.metrics.sampling import chosen, seed_of
from counterpoint.metrics.score import FEW_ROWS, Metric, Way
from counterpoint.metrics.scores import Scores
from counterpoint.metrics.seen import Seen

_metric = partial(Metric, group="quality")


def frechet_distance(mean_a: Array, cov_a: Array, mean_b: Array, cov_b: Array) -> float:
    """Compute the squared Fréchet (2-Wasserstein) distance between two Gaussians.

    Args:
        mean_a, mean_b: means (d,).
        cov_a, cov_b: covariances (d, d).

    >>> from counterpoint.metrics import frechet_distance
    >>> round(frechet_distance(np.zeros(2), np.eye(2), np.ones(2), np.eye(2)), 6)
    2.0
    """
    values, vectors = np.linalg.eigh(np.asarray(cov_a, np.float64))
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    return float(
        max(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross, 0.0)
    )


def frechet(real: Array, fake: Array) -> float:
    """Compute the squared Fréchet distance between Gaussians fitted to features.

    Args:
        real, fake: (N, d) and (N', d).

    >>> from counterpoint.metrics import frechet
    >>> x = np.random.default_rng(0).normal(size=(50, 2))
    >>> round(frechet(x, x + 3), 6)
    18.0

    Raises:
        ValueError: fewer than two rows on a side.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(
            f"a Fréchet distance needs two rows or more on each side; got {len(real)} and "
            f"{len(fake)}"
        )
    (mean_a, cov_a), (mean_b, cov_b) = (
        (x.mean(0, dtype=np.float64), np.atleast_2d(np.cov(x.astype(np.float64).T)))
        for x in (real, fake)
    )
    return frechet_distance(mean_a, cov_a, mean_b, cov_b)


def kernel_distance(real: Array, fake: Array) -> float:
    """Compute the unbiased squared maximum mean discrepancy of features (N, d), (N', d).

    The kernel is k(a, b) = (aᵀb/d + 1)³. If both have the same distribution, the value
    is about 0, and can be negative.

    Raises:
        ValueError: fewer than two rows on a side.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(
            f"a kernel distance needs two rows or more on each side; got {len(real)} and "
            f"{len(fake)}"
        )
    a = np.asarray(real, np.float64)
    b = np.asarray(fake, np.float64)

    def within(x: Array) -> float:
        kernel = (x @ x.T / x.shape[1] + 1) ** 3
        return float((kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1)))

    between = ((a @ b.T / a.shape[1] + 1) ** 3).mean()
    return within(a) + within(b) - 2 * float(between)


@dataclass(frozen=True)
class Prdc:
    """Precision, recall, density and coverage; all but density lie in [0, 1].

    >>> Prdc(precision=0.9, recall=0.5, density=1.1, coverage=0.6).recall
    0.5
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Array, fake: Array, k: int = 5) -> Prdc:
    """Compute the k-nearest-neighbour precision, recall, density and coverage of
    ``fake`` (N', d) against ``real`` (N, d).

    A manifold is the union of balls around its points. The radius of a ball is the
    distance to the k-th neighbour in the same set.

    >>> from counterpoint.metrics import prdc
    >>> x = np.random.default_rng(0).normal(size=(50, 2))
    >>> prdc(x, x + 100)
    Prdc(precision=0.0, recall=0.0, density=0.0, coverage=0.0)

    Raises:
        ValueError: a set has k rows or fewer.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(
            f"precision and recall with k = {k} need more than {k} rows on each side; "
            f"got {len(real)} and {len(fake)}"
        )
    a = torch.as_tensor(real, dtype=torch.float64)
    b = torch.as_tensor(fake, dtype=torch.float64)
    # The first neighbour is the point itself.
    reach_a = torch.cdist(a, a).kthvalue(k + 1, dim=1).values
    reach_b = torch.cdist(b, b).kthvalue(k + 1, dim=1).values
    distance = torch.cdist(a, b)
    # ≤, so that words that repeat exactly lie in balls of radius 0.
    inside_a = distance <= reach_a[:, None]
    return Prdc(
        precision=float(inside_a.any(0).double().mean()),
        recall=float((distance <= reach_b).any(1).double().mean()),
        density=float(inside_a.double().sum(0).mean() / k),
        coverage=float((distance.min(1).values <= reach_a).double().mean()),
    )


@dataclass
class _Distances:
    """Figures by metric and modality, and the rows that they rest on."""

    values: dict[Metric, dict[Way, float]] = field(default_factory=dict)
    rows: dict[Metric, dict[Way, int]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, metric: Metric, way: Way, value: float, rows: int) -> None:
        self.values.setdefault(metric, {})[way] = value
        self.rows.setdefault(metric, {})[way] = rows


def score_quality(generations: Generations, real: Mapping[str, Seen], *, k: int = 5) -> Scores:
    """Score the distances of generated from real features.

    - ``{fid,kid,precision,recall,density,coverage}/<modality>`` of unconditional
      samples, and ``.../cross/<modality>`` of generation from one other modality.
    - ``sharpness/<modality>`` of images: the fine detail of generated images relative
      to that of real ones.
    - ``fid/given<n>/<a>+<b>><target>`` from each set of n others, if there are few
      enough sets to give every row to each.
    - ``fid/<modality>@prior=<prior>`` of each prior, if there are several.

    Each has its mean over modalities. The kernel distance, precision and its kin use
    the same number of rows on both sides. A Fréchet distance is left out below 50 rows
    on either side, because the covariance of tens of features needs more.

    >>> from counterpoint.metrics import score_quality
    >>> import counterpoint as cp
    >>> from counterpoint.metrics import Generations, Judge, JudgeOptions, Judges, Matchers
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split, classes = data.test.take(range(8)), {"digit": np.arange(10)}
    >>> judges = Judges({m.name: Judge(m, classes, JudgeOptions()) for m in data.modalities})
    >>> generations = Generations(method, split, judges, Matchers({}, {}), samples=8)
    >>> real = judges.look(split)
    >>> scores = score_quality(generations, real, k=2)
    >>> "sharpness/view0" in scores.metrics
    True

    Args:
        generations: what the method generates.
        real: what ``Judges.look`` sees in the real rows, the reference.
        k: of the nearest neighbours of precision and its kin.
    """
    scores = Scores()
    found = _Distances()
    for target, reference in real.items():
        drawn = generations.unconditional().get(target)
        _measure_all(scores, found, generations, reference, [drawn] if drawn else [], target, k)
        _measure_all(
            scores, found, generations, reference, _crossed(generations, target), target, k, True
        )
    for metric, way, seen in _frechet_only(generations, scores):
        original = real.get(way.target or "")
        if original is None:
            continue
        counts = len(original.features), len(seen.features)
        if min(counts) < FEW_ROWS:
            scores.leave_out(metric.along(way), _too_few(counts), too_few=True)
            continue
        found.add(metric, way, frechet(original.features, seen.features), min(counts))
        found.counts[metric.along(way).name] = {"real": counts[0], "generated": counts[1]}
    for metric, values in found.values.items():
        scores.add_mean(metric, values, rows=found.rows[metric])
    scores.extra["quality_rows"] = found.counts
    return scores


def _measure_all(
    scores: Scores,
    found: _Distances,
    generations: Generations,
    reference: Seen,
    parts: list[Seen],
    target: str,
    k: int,
    cross: bool = False,
) -> None:
    """Measure everything of one modality, generated unconditionally or from another."""
    way = Way(target=target)
    metric = partial(_metric, setting="cross" if cross else None)
    fid = metric(kind="fid")
    fake = np.concatenate([s.features for s in parts]) if parts else np.empty((0, 1))
    counts = len(reference.features), len(fake)
    if min(counts) <= k:
        reason = f"{counts[0]} real and {counts[1]} generated rows, more than {k} are needed"
        scores.leave_out(fid.along(way), reason, too_few=True)
        return
    most = min(*counts, generations.samples)
    seed = seed_of(generations.seed, "prdc")
    a, b = (x[chosen(len(x), most, seed)] for x in (reference.features, fake))
    values = {"kid": kernel_distance(a, b), **asdict(prdc(a, b, k))}
    if min(counts) < FEW_ROWS:
        scores.leave_out(fid.along(way), _too_few(counts), too_few=True)
    else:
        values = {"fid": frechet(reference.features, fake), **values}
    real_detail = float(reference.detail.mean())
    if real_detail > 0:
        values["sharpness"] = float(np.mean([s.detail.mean() for s in parts])) / real_detail
    for kind, value in values.items():
        found.add(metric(kind=kind), way, value, most)
    found.counts[fid.along(way).name] = {
        "real": counts[0],
        "generated": counts[1],
        "precision": most,
    }


def _crossed(generations: Generations, target: str) -> list[Seen]:
    """What is generated of a modality from each other one."""
    return [
        by_target[target]
        for source, by_target in generations.singles.items()
        if source != target and target in by_target
    ]


def _frechet_only(generations: Generations, scores: Scores) -> Iterator[tuple[Metric, Way, Seen]]:
    """What has a Fréchet distance alone: samples of each prior, and from each set."""
    priors = generations.method.priors
    for prior in priors if len(priors) > 1 else ():
        for name, seen in generations.unconditional(prior).items():
            yield _metric(kind="fid", prior=prior), Way(target=name), seen
    sets = generations.given if generations.whole else generations.given_one
    if not generations.whole:
        reason = (
            f"{len(generations.names)} modalities have too many sets "
            "to generate from every row for each"
        )
        scores.leave_out(_metric(kind="fid", setting="given", size=2), reason)
    for given, by_target in sets.items():
        for name, seen in by_target.items():
            yield _metric(kind="fid", setting="given", size=len(given)), Way(given, name), seen


def _too_few(counts: tuple[int, int]) -> str:
    return f"{counts[0]} real and {counts[1]} generated rows, {FEW_ROWS} of each are needed"


def _measure(context: Context) -> Scores:
    scores = score_quality(context.generations, context.real)
    scores.extra["feature_space"] = context.judges.spaces()
    scores.mark_few({})
    return scores


GROUP = Group(
    "quality",
    ("fid", "kid", "precision", "recall", "density", "coverage", "sharpness"),
    _measure,
    needs=("judge",),
    default="always",
    complete=True,
    higher=("precision", "recall", "density", "coverage"),
    lower=("fid", "kid"),
)
