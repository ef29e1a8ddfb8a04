"""Coherence: whether generated values show what they should, as the judges see them.

Of a shared label:

    self           each modality generated from itself
    cross          from one other modality, mean over source ≠ target
    given<k>       the other modalities from k modalities
    unconditional  all modalities of an unconditional sample agree
    recombine      the z of one row with the w of another: the label follows z

Of a private label: ``self``, ``recombine`` (the label follows w) and ``private`` (w is
kept, z comes from the prior).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.metrics.agreement import score_f1
from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.generations import Generations
from counterpoint.metrics.intervals import Array
from counterpoint.metrics.means import labels_of
from counterpoint.metrics.score import Metric, Setting, Way
from counterpoint.metrics.scores import Chance, Scores
from counterpoint.metrics.seen import Seen

if TYPE_CHECKING:
    from counterpoint.data import Split

Chances = Mapping[str, Chance]
"""By label, the accuracy of guessing."""

_metric = partial(Metric, group="coherence", kind="coherence")


def score_coherence(generations: Generations, chances: Chances | None = None) -> Scores:
    """Score all coherences, ``coherence/<setting>/<label>``.

    Figures of single modalities and pairs have their names at the end. The last prior's
    unconditional samples give ``coherence/unconditional/<label>``. Every prior has its
    own figure with ``@prior=<prior>``. Its chance is the agreement of M judges that
    answer uniformly and independently.

    >>> from counterpoint.metrics import score_coherence
    >>> import counterpoint as cp
    >>> from counterpoint.metrics import Generations, Judge, JudgeOptions, Judges, Matchers
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split, classes = data.test.take(range(8)), {"digit": np.arange(10)}
    >>> judges = Judges({m.name: Judge(m, classes, JudgeOptions()) for m in data.modalities})
    >>> generations = Generations(method, split, judges, Matchers({}, {}), samples=8)
    >>> "coherence/cross/digit" in score_coherence(generations).metrics
    True

    Args:
        generations: what the method generates.
        chances: by label, the accuracy of guessing.
    """
    scores = Scores()
    split = generations.split
    chances = chances or {}
    shared = {label: np.asarray(values) for label, values in split.shared_labels.items()}
    private = {}
    for label, by_modality in split.private_labels.items():
        private[label] = {name: np.asarray(values) for name, values in by_modality.items()}
    if not shared and not private:
        scores.left_out["coherence"] = "the data set has no labels"
        return scores
    _score_self(scores, generations, chances)
    for label, truth in shared.items():
        _score_cross(scores, generations, label, truth, _mean_chance(chances, label))
    _score_unconditional(scores, generations, [*shared])
    if generations.method.model.private_dims:
        _score_recombined(scores, generations, shared, private, chances)
    else:
        metric = _metric(setting="recombine")
        scores.leave_out(metric, "the method has no private latents")
    return scores


def score_judges(split: Split, real: Mapping[str, Seen], chances: Chances | None = None) -> Scores:
    """Score ``judge/<label>``: accuracy on the real rows, mean over modalities.

    Each modality's has its name at the end.

    >>> from counterpoint.metrics import score_judges
    >>> import counterpoint as cp
    >>> from counterpoint.metrics import Generations, Judge, JudgeOptions, Judges, Matchers
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split, classes = data.test.take(range(8)), {"digit": np.arange(10)}
    >>> judges = Judges({m.name: Judge(m, classes, JudgeOptions()) for m in data.modalities})
    >>> generations = Generations(method, split, judges, Matchers({}, {}), samples=8)
    >>> [*score_judges(split, judges.look(split)).metrics]
    ['judge/digit', 'judge/digit/view0', 'judge/digit/view1']

    Args:
        split: the rows.
        real: what ``Judges.look`` sees in them.
        chances: by label, the accuracy of guessing.
    """
    scores = Scores()
    for label in dict.fromkeys(label for seen in real.values() for label in seen.labels):
        hits = {
            Way(target=name): seen.hits(label, labels_of(split, name)[label])
            for name, seen in real.items()
            if label in seen.labels
        }
        metric = Metric(group="judge", kind="judge", label=label)
        scores.add_accuracy(metric, hits, chance=_mean_chance(chances, label))
    return scores


def _score_self(scores: Scores, generations: Generations, chances: Chances) -> None:
    singles = generations.singles
    itself = {name: seen[name] for name, seen in singles.items() if name in seen}
    truths = {name: labels_of(generations.split, name) for name in generations.names}
    for label in dict.fromkeys(label for truth in truths.values() for label in truth):
        truth = {name: labels[label] for name, labels in truths.items() if label in labels}
        _add_hits(scores, "self", label, itself, truth, chances)


def _score_cross(
    scores: Scores, generations: Generations, label: str, truth: Array, chance: Chance | None
) -> None:
    """From one other modality, and from sets of several."""
    pairs = {}
    for source, by_target in generations.singles.items():
        for target, seen in by_target.items():
            if source != target and label in seen.labels:
                pairs[Way((source,), target)] = seen.hits(label, truth)
    if not pairs:
        return
    cross = _metric(setting="cross", label=label)
    scores.add_accuracy(cross, pairs, chance=chance)
    for name in dict.fromkeys(way.target for way in pairs):
        into = {way: hits for way, hits in pairs.items() if way.target == name}
        scores.add_accuracy(cross.along(Way(target=name)), into, each=False, chance=chance)
    one = _metric(setting="given", size=1, label=label)
    scores.add_accuracy(one, pairs, each=False, chance=chance)
    for size in range(2, len(generations.names)):
        metric = _metric(setting="given", size=size, label=label)
        hits = _hits_given(generations, size, label, truth)
        scores.add_accuracy(metric, hits, each=False, chance=chance)


def _hits_given(generations: Generations, size: int, label: str, truth: Array) -> dict[Way, Array]:
    """By target, hits of what is generated from the sets of ``size`` modalities."""
    sets = [seen for names, seen in generations.several.items() if len(names) == size]
    hits = {}
    for name in generations.names:
        parts = [seen[name] for seen in sets if name in seen]
        if parts and label in parts[0].labels:
            hits[Way(target=name)] = Seen.cat(parts).hits(label, truth)
    return hits


def _score_unconditional(scores: Scores, generations: Generations, labels: list[str]) -> None:
    classes = next(iter(generations.judges.by_modality.values())).classes
    for prior in (None, *generations.method.priors):
        drawn = generations.unconditional(prior)
        for label in labels:
            seen = [s.labels[label] for s in drawn.values() if label in s.labels]
            if len(seen) < 2:
                continue
            agree = (np.stack(seen) == seen[0]).all(0).astype(float)
            metric = _metric(setting="unconditional", label=label, prior=prior)
            chance = Chance(float(len(classes[label])) ** (1 - len(seen)))
            scores.add_accuracy(metric, {Way(): agree}, each=False, chance=chance)


def _score_recombined(
    scores: Scores,
    generations: Generations,
    shared: Mapping[str, Array],
    private: Mapping[str, Mapping[str, Array]],
    chances: Chances,
) -> None:
    partner, recombined = generations.recombined
    present = {name: generations.split.present[name][partner] for name in recombined}
    for label, truth in shared.items():
        followed = {name: np.where(mask, truth, -1) for name, mask in present.items()}
        _add_hits(scores, "recombine", label, recombined, followed, chances)
    for label, by_modality in private.items():
        followed = {
            name: np.where(present[name], values[partner], -1)
            for name, values in by_modality.items()
        }
        _add_hits(scores, "recombine", label, recombined, followed, chances)
        _add_hits(scores, "private", label, generations.kept_private, by_modality, chances)


def _add_hits(
    scores: Scores,
    setting: Setting,
    label: str,
    seen: Mapping[str, Seen],
    truth: Mapping[str, Array],
    chances: Chances,
) -> None:
    """Add the accuracy of what was seen of each modality."""
    hits = {
        Way(target=name): s.hits(label, truth[name])
        for name, s in seen.items()
        if name in truth and label in s.labels
    }
    metric = _metric(setting=setting, label=label)
    scores.add_accuracy(metric, hits, chance=_mean_chance(chances, label))


def _mean_chance(chances: Chances | None, label: str) -> Chance | None:
    """The mean over modalities, for each of them too."""
    chance = (chances or {}).get(label)
    return None if chance is None else Chance(chance.value)


def _measure_judges(context: Context) -> Scores:
    scores = score_judges(context.held_out, context.real, context.chances)
    scores.mark_few(context.rarest)
    return scores


def _measure(context: Context) -> Scores:
    scores = score_coherence(context.generations, context.chances)
    scores.extend(score_f1(context.generations))
    scores.mark_few(context.rarest)
    return scores


JUDGE_GROUP = Group("judge", ("judge",), _measure_judges)
GROUP = Group(
    "coherence",
    ("coherence", "f1"),
    _measure,
    needs=("judge",),
    default="always",
    complete=True,
    higher=("coherence", "f1"),
)
