"""Agreement of generated binary values with the real ones: F1 of each row, averaged
over rows.

Values are 1 above a half. Of a row with real entries y and generated ŷ, F1 = 2 Σ yŷ /
(Σ y + Σ ŷ), and 1 where both are empty ("sample-averaged" F1). "Score-Based Multimodal
Autoencoder" (Wesego and Rooshenas, 2023, https://arxiv.org/abs/2305.15708) and
"Multimodal ELBO with Diffusion Decoders" (2024, https://arxiv.org/abs/2408.16883)
report it for every set of given modalities. Their "none" compares unconditional samples
with held-out rows that they have nothing to do with: what ignoring the given earns, and
is called chance here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from counterpoint.metrics.score import Array, Scores

if TYPE_CHECKING:
    from counterpoint.metrics.generations import Generations
    from counterpoint.metrics.judges import Seen


def score_f1(generations: Generations) -> Scores:
    """``f1/given<n>/<a>+<b>><target>`` of each Bernoulli modality from each set of n
    others, ``f1/self/<target>`` from itself, and their means without the last part;
    ``chance/f1/<target>`` of unconditional samples against rows that are none of
    theirs.
    """
    scores = Scores()
    if not generations.binary:
        return scores
    rows = len(generations.split)
    itself = {
        name: _by_row(generations.singles[name][name], rows)
        for name in generations.binary
        if name in generations.singles[name]
    }
    scores.add_accuracy("f1/self", itself)
    for size in range(1, len(generations.names)):
        found = {given: seen for given, seen in generations.given.items() if len(given) == size}
        into = {
            f"{'+'.join(given)}>{name}": _by_row(seen[name], rows)
            for name in generations.binary
            for given, seen in found.items()
            if name in seen
        }
        scores.add_accuracy(f"f1/given{size}", into)
    drawn = {
        name: seen.f1[~np.isnan(seen.f1)]
        for name, seen in generations.joint().items()
        if name in generations.binary
    }
    scores.add_mean(
        "chance/f1", {name: float(values.mean()) for name, values in drawn.items() if len(values)}
    )
    return scores


def _by_row(seen: Seen, rows: int) -> Array:
    """(N,): F1 of each row, NaN where there is none."""
    found = np.full(rows, np.nan)
    found[seen.rows] = seen.f1
    return found
