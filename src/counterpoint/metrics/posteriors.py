"""Posteriors: how far q(z | some modalities) is from q(z | all of them), and how well
chains mix where the posterior is sampled by chains."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from counterpoint.inference import Refiner
from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.means import device_of
from counterpoint.metrics.sampling import chosen, seed_of
from counterpoint.metrics.score import Metric, Way
from counterpoint.metrics.scores import Scores

if TYPE_CHECKING:
    from counterpoint.core.batch import Batch
    from counterpoint.data import Split
    from counterpoint.inference import Diagnostics
    from counterpoint.methods import Method

_MAX_SUBSETS = 8  # of one size
MAX_MIXED_RHAT = 1.01
"""Largest R-hat of chains that have mixed. Only long chains can reach it. Perfect draws
have up to 1.07 in the worst of tens of dimensions with 50 draws of each of four chains;
300 draws are enough."""

_metric = partial(Metric, group="posterior")


def score_posteriors(
    method: Method, split: Split, *, rows: int = 32, samples: int = 100, seed: int = 0
) -> Scores:
    """Score posteriors given some modalities against those given all.

    ``posterior/kl/given<n>`` is KL(q(z | X) ‖ q(z | x_S)) in nats. It is a mean over
    complete rows and over the sets S of n modalities (a random 8 if there are more).
    For n = 1 each modality's has its name at the end.

    ``posterior/cosine/given1`` is the cosine similarity of the posterior means of z
    given one modality and given all. The latter is refined if the model has a refiner.
    The means are not centred.

    If q(z | x_S) is sampled by chains, there are medians over rows and sets of
    ``posterior/acceptance/given<n>``, ``posterior/rhat/given<n>`` and
    ``posterior/ess/given<n>`` (both of the worst dimension), and shares of rows:
    ``posterior/mixed/given<n>`` with R-hat at most 1.01, and
    ``posterior/improper/given<n>`` with an improper product.

    >>> from counterpoint.metrics import score_posteriors
    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split = data.test.take(range(8))
    >>> [*score_posteriors(method, split, rows=4, samples=5).metrics][:2]
    ['posterior/kl/given1', 'posterior/kl/given1/view0']

    Args:
        method: the method.
        split: the rows, of which the complete ones count.
        rows: most rows.
        samples: draws of each divergence.
        seed: chooses rows, sets and draws.
    """
    scores = Scores()
    names = [m.name for m in method.modalities]
    if len(split.complete) == 0 or len(names) == 1:
        reason = "no row has every modality" if len(names) > 1 else "there is only one modality"
        scores.leave_out(_metric(kind="posterior/kl"), reason)
        scores.leave_out(_metric(kind="posterior/cosine", setting="given", size=1), reason)
        return scores
    kept = split.complete[chosen(len(split.complete), rows, seed_of(seed, "posterior rows"))]
    batch = split.batch(kept, device_of(method))
    rng = np.random.default_rng(seed_of(seed, "posterior subsets"))
    generator = torch.Generator().manual_seed(seed_of(seed, "posterior draws"))
    for size in range(1, len(names)):
        sets = list(combinations(names, size))
        if size > 1:
            sets = [sets[i] for i in sorted(rng.permutation(len(sets))[:_MAX_SUBSETS])]
        _score_divergences(scores, method, batch, sets, samples, generator)
        _score_chains(scores, method, batch, sets, generator)
    scores.rest_on(len(kept))
    scores.extra["posterior"] = {"rows": len(kept), "samples": samples, "unit": "nats"}
    return scores


def _score_divergences(
    scores: Scores,
    method: Method,
    batch: Batch,
    sets: list[tuple[str, ...]],
    samples: int,
    generator: torch.Generator,
) -> None:
    """The divergences of sets of one size, and the cosines of single modalities."""
    size = len(sets[0])
    divergences = {}
    for given in sets:
        values = method.divergence(batch, given, samples=samples, generator=generator)
        divergences[Way(given)] = float(values.mean())
    metric = _metric(kind="posterior/kl", setting="given", size=size)
    if size > 1:
        scores.add(metric, float(np.mean([*divergences.values()])))
        return
    scores.add_mean(metric, divergences)
    cosine = _metric(kind="posterior/cosine", setting="given", size=1)
    scores.add_mean(cosine, _cosines(method, batch, generator))


def _score_chains(
    scores: Scores,
    method: Method,
    batch: Batch,
    sets: list[tuple[str, ...]],
    generator: torch.Generator,
) -> None:
    """How well the chains of sets of one size mix, if there are chains."""
    metric = partial(_metric, setting="given", size=len(sets[0]))
    chains: list[Diagnostics] = []
    try:
        for given in sets:
            diagnostics = method.diagnose(batch.only(given), given, generator=generator)
            chains += [] if diagnostics is None else [diagnostics]
    except ValueError as error:  # chains too short to be compared
        scores.leave_out(metric(kind="posterior/rhat"), str(error))
        return
    if not chains:
        return
    rhat = torch.cat([d.rhat for d in chains])
    values = {
        "acceptance": torch.cat([d.acceptance for d in chains]).median(),
        "rhat": rhat.median(),
        "mixed": (rhat <= MAX_MIXED_RHAT).float().mean(),
        "ess": torch.cat([d.ess for d in chains]).median(),
        "improper": torch.cat([d.improper for d in chains]).float().mean(),
    }
    for name, value in values.items():
        scores.add(metric(kind=f"posterior/{name}"), float(value))


def _cosines(method: Method, batch: Batch, generator: torch.Generator) -> dict[Way, float]:
    """The mean cosine similarity of each modality's posterior mean and that of all."""
    refiner = method.model.refiner
    steps = refiner.options.steps if isinstance(refiner, Refiner) else None
    everything = method.encode(batch, refine=steps, generator=generator).shared[0]
    cosines = {}
    for m in method.modalities:
        z = method.encode(batch, [m.name], generator=generator).shared[0]
        cosines[Way((m.name,))] = float(F.cosine_similarity(z, everything, dim=-1).mean())
    return cosines


def _measure(context: Context) -> Scores:
    options = context.options
    scores = score_posteriors(
        context.method,
        context.held_out,
        rows=options.likelihood_rows,
        samples=options.likelihood_samples,
        seed=options.seed,
    )
    scores.mark_few({})
    return scores


GROUP = Group(
    "posterior",
    tuple(
        f"posterior/{name}"
        for name in ("kl", "cosine", "acceptance", "rhat", "mixed", "ess", "improper")
    ),
    _measure,
    default="always",
    complete=True,
    higher=("posterior/cosine",),
    lower=("posterior/kl",),
)
