"""Quality of generated values in a feature space: Fréchet and kernel distance,
precision, recall, density, coverage; sharpness of images.

Fréchet distance between Gaussians fitted to features (Heusel et al., "GANs trained by a
two time-scale update rule", 2017), in closed form
by symmetric eigendecompositions in double precision:  d² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½).
Precision and recall: Kynkäänniemi et al. ("Improved precision and recall metric",
2019). Density and coverage: Naeem et al. ("Reliable fidelity and diversity metrics",
2020). Kernel distance: Bińkowski et al. ("Demystifying MMD GANs", 2018). Features are a
judge's penultimate layer, so the numbers do not compare with Inception's; or what the
user's own function makes of values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

from counterpoint.metrics.generations import Generations
from counterpoint.metrics.judges import Seen
from counterpoint.metrics.score import FEW_ROWS, Array, Scores, chosen, seed_of


def frechet_distance(mean_a: Array, cov_a: Array, mean_b: Array, cov_b: Array) -> float:
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians with means (d,)
    and covariances (d, d)."""
    values, vectors = np.linalg.eigh(np.asarray(cov_a, np.float64))
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    return float(
        max(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross, 0.0)
    )


def frechet(real: Array, fake: Array) -> float:
    """Squared Fréchet distance between Gaussians fitted to features (N, d) and (N', d).

    Raises:
        ValueError: fewer than two rows on a side.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(
            f"a Fréchet distance needs two rows or more on each side; got {len(real)} and {len(fake)}"
        )
    (mean_a, cov_a), (mean_b, cov_b) = (
        (x.mean(0, dtype=np.float64), np.atleast_2d(np.cov(x.astype(np.float64).T)))
        for x in (real, fake)
    )
    return frechet_distance(mean_a, cov_a, mean_b, cov_b)


def kernel_distance(real: Array, fake: Array) -> float:
    """Unbiased squared maximum mean discrepancy of features (N, d) and (N', d) under
    k(a, b) = (aᵀb/d + 1)³: about 0, also below it, where both are drawn from the same.

    Raises:
        ValueError: fewer than two rows on a side.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(
            f"a kernel distance needs two rows or more on each side; got {len(real)} and {len(fake)}"
        )
    a, b = np.asarray(real, np.float64), np.asarray(fake, np.float64)

    def within(x: Array) -> float:
        kernel = (x @ x.T / x.shape[1] + 1) ** 3
        return float((kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2 * float(((a @ b.T / a.shape[1] + 1) ** 3).mean())


@dataclass(frozen=True)
class Prdc:
    """Precision, recall, density and coverage; all but density lie in [0, 1]."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Array, fake: Array, k: int = 5) -> Prdc:
    """k-nearest-neighbour precision, recall, density and coverage of ``fake`` (N', d)
    against ``real`` (N, d).

    A manifold is the union of balls around its points, each reaching to the point's
    k-th neighbour in its own set.

    Raises:
        ValueError: a set has k rows or fewer.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(
            f"precision and recall with k = {k} need more than {k} rows on each side; got {len(real)} and {len(fake)}"
        )
    a, b = torch.as_tensor(real, dtype=torch.float64), torch.as_tensor(fake, dtype=torch.float64)
    reach_a, reach_b = (
        torch.cdist(x, x).kthvalue(k + 1, dim=1).values for x in (a, b)
    )  # the first neighbour is the point itself
    distance = torch.cdist(a, b)
    inside_a = (
        distance <= reach_a[:, None]
    )  # ≤, so that words that repeat exactly lie in balls of radius 0
    return Prdc(
        precision=float(inside_a.any(0).double().mean()),
        recall=float((distance <= reach_b).any(1).double().mean()),
        density=float(inside_a.double().sum(0).mean() / k),
        coverage=float((distance.min(1).values <= reach_a).double().mean()),
    )


def score_quality(generations: Generations, real: Mapping[str, Seen], *, k: int = 5) -> Scores:
    """``{fid,kid,precision,recall,density,coverage}/<modality>`` of unconditional
    samples, and ``..._cross/<modality>`` of cross generation; of images
    ``sharpness/<modality>``, too, the fine detail of what is generated over that of the
    real rows; ``fid_given<n>/<a>+<b>><target>`` from each set of n others, where there
    are few enough sets to give every row to each; and of each prior, where there are
    several, ``fid@<prior>/<modality>``.

    Each also has its mean over modalities, without the last part of the name. The
    reference is the real rows, as ``Judges.look`` sees them; the kernel distance,
    precision and its kin use the same number of rows on both sides. A Fréchet distance
    is left out below 50 rows on either side, of which no covariance of tens of features
    can be had.
    """
    scores = Scores()
    crossed = {
        target: [
            seen[target]
            for source, seen in generations.singles.items()
            if source != target and target in seen
        ]
        for target in real
    }
    found: dict[str, dict[str, float]] = {}
    rows = {}
    for target, reference in real.items():
        for suffix, parts in (("", [generations.joint().get(target)]), ("_cross", crossed[target])):
            fake = _features(parts)
            counts = len(reference.features), len(fake)
            if min(counts) <= k:
                scores.left_out[f"fid{suffix}/{target}"] = (
                    f"{counts[0]} real and {counts[1]} generated rows, more than {k} are needed"
                )
                continue
            most = min(*counts, generations.samples)
            a, b = (
                x[chosen(len(x), most, seed_of(generations.seed, "prdc"))]
                for x in (reference.features, fake)
            )
            values = {"kid": kernel_distance(a, b), **asdict(prdc(a, b, k))}
            if min(counts) < FEW_ROWS:
                scores.left_out[f"fid{suffix}/{target}"] = _too_few(counts)
            else:
                values = {"fid": frechet(reference.features, fake), **values}
            real_detail, fake_detail = (
                float(np.mean([s.detail.mean() for s in seen if s]))
                for seen in ([reference], parts)
            )
            if real_detail > 0:
                values["sharpness"] = fake_detail / real_detail
            for kind, value in values.items():
                found.setdefault(kind + suffix, {})[target] = value
            rows[f"fid{suffix}/{target}"] = {
                "real": counts[0],
                "generated": counts[1],
                "precision": most,
            }
    for kind, key, target, seen in _alone(generations, real, scores):
        counts = len(real[target].features), len(seen.features)
        if min(counts) < FEW_ROWS:
            scores.left_out[f"{kind}/{key}"] = _too_few(counts)
            continue
        found.setdefault(kind, {})[key] = frechet(real[target].features, seen.features)
        rows[f"{kind}/{key}"] = {"real": counts[0], "generated": counts[1]}
    for kind, by_modality in found.items():
        first = (
            kind
            if kind.startswith(("fid@", "fid_given"))
            else "fid_cross"
            if kind.endswith("_cross")
            else "fid"
        )
        scores.add_mean(
            kind, by_modality, {name: min(rows[f"{first}/{name}"].values()) for name in by_modality}
        )
    scores.extra["quality_rows"] = rows
    return scores


def _alone(
    generations: Generations, real: Mapping[str, Seen], scores: Scores
) -> Iterator[tuple[str, str, str, Seen]]:
    """What has a Fréchet distance alone: its kind, its key, the modality, and what was
    generated."""
    priors = generations.method.priors
    for prior in priors if len(priors) > 1 else ():
        yield from (
            (f"fid@{prior}", name, name, seen)
            for name, seen in generations.joint(prior).items()
            if name in real
        )
    if not generations.whole:
        scores.left_out["fid_given2"] = (
            f"{len(generations.names)} modalities have too many sets to generate from every row for each"
        )
    for given, found in (generations.given if generations.whole else generations.given_one).items():
        label = "+".join(given)
        yield from (
            (f"fid_given{len(given)}", f"{label}>{name}", name, seen)
            for name, seen in found.items()
            if name in real
        )


def _too_few(counts: tuple[int, int]) -> str:
    return f"{counts[0]} real and {counts[1]} generated rows, {FEW_ROWS} of each are needed"


def _features(parts: list[Seen | None] | list[Seen]) -> Array:
    found = [seen.features for seen in parts if seen is not None]
    return np.concatenate(found) if found else np.empty((0, 1))
