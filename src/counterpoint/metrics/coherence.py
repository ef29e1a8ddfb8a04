"""Coherence: whether generated values show what they should, as the judges see them.

Of a shared label: ``self`` (each modality from itself), ``cross`` (mean over source ≠
target), ``given<k>`` (the others from k modalities), ``joint`` (all modalities of an
unconditional sample agree), ``recombine`` (the z of one row with the w of another: the
label follows z).
Of a private label: ``self``, ``recombine`` (it follows w), ``private`` (w kept, z from
the prior).
"""

from __future__ import annotations

import numpy as np

from counterpoint.metrics.generations import Generations
from counterpoint.metrics.judges import Seen
from counterpoint.metrics.means import labels_of
from counterpoint.metrics.score import Array, Scores


def score_coherence(generations: Generations) -> Scores:
    """All coherences, ``coherence/<kind>/<label>``; per-modality figures (by target)
    are one level below.

    ``coherence/joint/<label>`` is the prior "auto"; every prior of the method has its
    own as ``coherence/joint/<label>@<prior>``. ``chance/joint/<label>`` is the
    agreement of M judges that answer uniformly and independently.
    """
    scores = Scores()
    split = generations.split
    shared = {label: np.asarray(values) for label, values in split.shared_labels.items()}
    private = {
        label: {name: np.asarray(values) for name, values in by.items()}
        for label, by in split.private_labels.items()
    }
    if not shared and not private:
        scores.left_out["coherence"] = "the data set has no labels"
        return scores
    _score_translations(scores, generations, shared)
    _score_joint(scores, generations, list(shared))
    if not generations.method.model.private_dims:
        scores.left_out["coherence/recombine"] = "the method has no private latents"
        return scores
    partner, recombined = generations.recombined
    has_private = {name: split.present[name][partner] for name in recombined}
    for label, truth in shared.items():
        followed = {name: np.where(here, truth, -1) for name, here in has_private.items()}
        scores.add_accuracy(f"coherence/recombine/{label}", _hits(recombined, label, followed))
    for label, by in private.items():
        followed = {
            name: np.where(has_private[name], values[partner], -1) for name, values in by.items()
        }
        scores.add_accuracy(f"coherence/recombine/{label}", _hits(recombined, label, followed))
        scores.add_accuracy(
            f"coherence/private/{label}", _hits(generations.kept_private, label, by)
        )
    return scores


def _score_translations(scores: Scores, generations: Generations, shared: dict[str, Array]) -> None:
    singles, names = generations.singles, generations.names
    itself = {name: seen[name] for name, seen in singles.items() if name in seen}
    truths = {name: labels_of(generations.split, name) for name in names}
    for label in dict.fromkeys(label for truth in truths.values() for label in truth):
        scores.add_accuracy(
            f"coherence/self/{label}",
            _hits(itself, label, {name: t[label] for name, t in truths.items() if label in t}),
        )
    for label, truth in shared.items():
        pairs = {
            (s, t): singles[s][t].hits(label, truth)
            for s in names
            for t in singles[s]
            if s != t and label in singles[s][t].labels
        }
        if not pairs:
            continue
        scores.add_accuracy(
            f"coherence/cross/{label}", {f"{s}>{t}": hits for (s, t), hits in pairs.items()}
        )
        for target in dict.fromkeys(t for _, t in pairs):
            into = {s: hits for (s, t), hits in pairs.items() if t == target}
            scores.add_accuracy(f"coherence/cross/{label}/{target}", into, each=False)
        scores.add_accuracy(
            f"coherence/given1/{label}",
            {f"{s}>{t}": hits for (s, t), hits in pairs.items()},
            each=False,
        )
        for size in range(2, len(names)):
            found = [seen for given, seen in generations.several.items() if len(given) == size]
            by_target = {name: [seen[name] for seen in found if name in seen] for name in names}
            hits = {
                name: Seen.cat(parts).hits(label, truth)
                for name, parts in by_target.items()
                if parts and label in parts[0].labels
            }
            scores.add_accuracy(f"coherence/given{size}/{label}", hits, each=False)


def _score_joint(scores: Scores, generations: Generations, labels: list[str]) -> None:
    for suffix, prior in (
        ("", "auto"),
        *((f"@{prior}", prior) for prior in generations.method.priors),
    ):
        drawn = generations.joint(prior)
        for label in labels:
            seen = [s.labels[label] for s in drawn.values() if label in s.labels]
            if len(seen) < 2:
                continue
            agree = (np.stack(seen) == seen[0]).all(0).astype(float)
            scores.add_accuracy(f"coherence/joint/{label}{suffix}", {"all": agree}, each=False)
            classes = len(next(iter(generations.judges.by_modality.values())).classes[label])
            scores.add(f"chance/joint/{label}", float(classes) ** (1 - len(seen)))


def _hits(seen: dict[str, Seen], label: str, truth: dict[str, Array]) -> dict[str, Array]:
    return {
        name: s.hits(label, truth[name])
        for name, s in seen.items()
        if name in truth and label in s.labels
    }
