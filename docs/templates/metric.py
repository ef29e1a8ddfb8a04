"""Spread: how much generated values vary, compared with real ones.

    spread(m) = E_x[std of generated values] / E_x[std of real values]

1 is best. Say which paper defines the metric, and which choices are ours.
"""

from __future__ import annotations

import torch

from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.sampling import seed_of
from counterpoint.metrics.score import Metric, Way
from counterpoint.metrics.scores import Scores


def score_spread(context: Context) -> Scores:
    """Score the standard deviation of unconditional samples, by modality.

    Returns:
        ``spread``, the mean over modalities, and ``spread/MODALITY``.
    """
    scores, values = Scores(), {}
    rows = context.sources
    generator = torch.Generator().manual_seed(seed_of(context.options.seed, "spread"))
    samples = context.method.sample(len(rows), generator=generator)
    real = rows.batch(slice(None)).x
    for modality in context.data.modalities:
        if modality.likelihood == "categorical":
            continue
        generated, observed = samples[modality.name].cpu(), real[modality.name]
        ratio = generated.std(0).mean() / observed.std(0).mean()
        values[Way(target=modality.name)] = float(ratio)
    scores.add_mean(Metric(group="spread", kind="spread"), values)
    return scores


GROUP = Group("spread", ("spread",), score_spread)
