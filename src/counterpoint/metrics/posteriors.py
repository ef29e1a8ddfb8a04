"""Posteriors: how far what some modalities say of z is from what all of them say, and
how well the chains mix where it takes chains."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from counterpoint.inference import Refiner
from counterpoint.metrics.means import device_of
from counterpoint.metrics.score import Scores, chosen, seed_of

if TYPE_CHECKING:
    from counterpoint.core.batch import Batch
    from counterpoint.data import Split
    from counterpoint.methods import Method

_MOST_SUBSETS = 8
MIXED = 1.01
"""R-hat of chains that have mixed. Only long chains can show it: perfect draws, fifty
of each of four chains, have up to 1.07 in the worst of tens of dimensions, three
hundred of each are enough."""


def score_posteriors(
    method: Method, split: Split, *, rows: int = 32, samples: int = 100, seed: int = 0
) -> Scores:
    """``posterior/kl/given<n>``: KL(q(z | X) ‖ q(z | x_S)) in nats, mean over rows that
    have everything and over the sets S of n modalities (a random 8 of them where there
    are more); for n = 1 each modality's stands one level below.

    ``posterior/cosine/given1``: cosine similarity of the posterior means of z given one
    modality and given everything, the latter refined where the model has a refiner;
    mean over rows and modalities, with each modality's one level below. The means are
    not centred: what all rows have in common counts.

    Where q(z | x_S) is sampled by chains, medians over rows and sets:
    ``posterior/acceptance/given<n>``, ``posterior/rhat/given<n>`` (of the worst
    dimension), ``posterior/ess/given<n>`` (effective sample size of the worst
    dimension), and the shares of rows ``posterior/mixed/given<n>`` whose R-hat is at
    most 1.01 and ``posterior/improper/given<n>`` whose product is no density.
    """
    scores = Scores()
    names = [m.name for m in method.modalities]
    if len(split.complete) == 0 or len(names) == 1:
        scores.left_out["posterior/kl"] = scores.left_out["posterior/cosine/given1"] = (
            "no row has every modality" if len(names) > 1 else "there is only one modality"
        )
        return scores
    kept = split.complete[chosen(len(split.complete), rows, seed_of(seed, "posterior rows"))]
    batch = split.batch(kept, device_of(method))
    rng = np.random.default_rng(seed_of(seed, "posterior subsets"))
    generator = torch.Generator().manual_seed(seed_of(seed, "posterior draws"))
    for size in range(1, len(names)):
        sets = list(combinations(names, size))
        sets = (
            [sets[i] for i in sorted(rng.permutation(len(sets))[:_MOST_SUBSETS])]
            if size > 1
            else sets
        )
        kls = {
            ",".join(s): float(
                method.divergence(batch, s, samples=samples, generator=generator).mean()
            )
            for s in sets
        }
        if size == 1:
            scores.add_mean("posterior/kl/given1", kls)
            scores.add_mean("posterior/cosine/given1", _cosines(method, batch, generator))
        else:
            scores.add(f"posterior/kl/given{size}", float(np.mean([*kls.values()])))
        try:
            found = [
                d
                for s in sets
                if (d := method.diagnose(batch.only(s), s, generator=generator)) is not None
            ]
        except ValueError as error:  # chains too short to be compared
            scores.left_out[f"posterior/rhat/given{size}"] = str(error)
            continue
        if found:
            rhat = torch.cat([d.rhat for d in found])
            scores.add(
                f"posterior/acceptance/given{size}",
                float(torch.cat([d.acceptance for d in found]).median()),
            )
            scores.add(f"posterior/rhat/given{size}", float(rhat.median()))
            scores.add(f"posterior/mixed/given{size}", float((rhat <= MIXED).float().mean()))
            scores.add(
                f"posterior/ess/given{size}", float(torch.cat([d.ess for d in found]).median())
            )
            scores.add(
                f"posterior/improper/given{size}",
                float(torch.cat([d.improper for d in found]).float().mean()),
            )
    scores.rest_on(len(kept))
    scores.extra["posterior"] = {"rows": len(kept), "samples": samples, "unit": "nats"}
    return scores


def _cosines(method: Method, batch: Batch, generator: torch.Generator) -> dict[str, float]:
    """By modality, the mean cosine similarity of what it says of z and what all
    modalities say."""
    refiner = method.model.refiner
    steps = refiner.options.steps if isinstance(refiner, Refiner) else None
    everything = method.encode(batch, refine=steps, generator=generator).shared[0]
    alone = {
        m.name: method.encode(batch, [m.name], generator=generator).shared[0]
        for m in method.modalities
    }
    return {
        name: float(F.cosine_similarity(z, everything, dim=-1).mean()) for name, z in alone.items()
    }
