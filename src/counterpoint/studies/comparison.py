"""What a comparison found: the runs, their scores and costs, and what repetitions say of
the differences between methods."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from counterpoint.metrics import Direction, Evaluation, Score, direction, is_leak
from counterpoint.studies.statistics import (
    LEVEL,
    Difference,
    Summary,
    holm,
    mean_ranks,
    paired,
    summary,
)


@dataclass(frozen=True)
class Repetition:
    """What varies between the runs of one method.

    Args:
        seed: of initial weights, order of rows and noise.
        fold: of cross-validation; None for the usual splits.

    >>> str(Repetition(0)), str(Repetition(1, fold=2))
    ('seed0', 'seed1-fold2')
    """

    seed: int
    fold: int | None = None

    def __str__(self) -> str:
        return f"seed{self.seed}" + ("" if self.fold is None else f"-fold{self.fold}")


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Args:
        seconds: of training, validation included, by the clock.
        cpu_seconds: of the same, by the processor, summed over threads.
        peak_bytes: most memory of the process, data included; None if unknown.
        parameters: of the model.
        steps: of training.

    >>> Cost(60.0, 110.0, None, parameters=1000, steps=500).cpu_seconds
    110.0
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int | None
    parameters: int
    steps: int


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Args:
        entry: the name that the comparison gives to the method and its options.
        repetition: its seed and fold.
        evaluation: its scores.
        cost: what it took; None for a peer, who trains elsewhere.

    >>> ComparedRun("mvae", Repetition(0), Evaluation(())).cost is None
    True
    """

    entry: str
    repetition: Repetition
    evaluation: Evaluation
    cost: Cost | None = None


@dataclass(frozen=True)
class Cell:
    """A metric of one method.

    Args:
        summary: over repetitions.
        few: whether it rests on few rows.
        difference: to the baseline, over the repetitions of both.
        p: of that difference, corrected by Holm for the number of methods.
        best: whether no method has a better mean.
        close: whether it can't be told from the best: the corrected p of the paired
            test is above .05, or there is no test.
    """

    summary: Summary
    few: bool = False
    difference: Difference | None = None
    p: float | None = None
    best: bool = False
    close: bool = False


@dataclass(frozen=True)
class Column:
    """A metric of all methods.

    Args:
        metric: its name.
        better: which values are better; None for neither.
        leak: whether it is what a latent holds that is not meant for it.
        cells: by entry.
        chance: of guessing.
        ceiling: accuracy of the judges on real data, for what judges measure.
        ranks: by entry, mean over the repetitions that all have; empty without them.
    """

    metric: str
    better: Direction | None
    leak: bool
    cells: Mapping[str, Cell]
    chance: float | None = None
    ceiling: float | None = None
    ranks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Args:
        data: name of the data set.
        entries: names of what was compared, in order.
        runs: those that ended.
        failed: by the name of a run, why it has no result.
        metrics: names of the metrics that are tabulated.
        baseline: the entry that differences are taken to.
        private_labels: labels that are private to a modality.

    >>> def run(entry, seed, value):
    ...     fid = Score(group="quality", kind="fid", value=value)
    ...     return ComparedRun(entry, Repetition(seed), Evaluation((fid,)))
    >>> runs = [run("a", 0, 9.0), run("a", 1, 9.5), run("b", 0, 20.0), run("b", 1, 20.4)]
    >>> found = Comparison("digits", ("a", "b"), tuple(runs), ("fid",), baseline="a")
    >>> found
    Comparison of a, b on digits: 4 runs
    >>> found.columns[0].cells["b"].difference.mean, found.mean_ranks
    (10.95, {'a': 1.0, 'b': 2.0})
    """

    data: str
    entries: tuple[str, ...]
    runs: tuple[ComparedRun, ...]
    metrics: tuple[str, ...]
    baseline: str
    failed: Mapping[str, str] = field(default_factory=dict)
    private_labels: tuple[str, ...] = ()

    def __repr__(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return (
            f"Comparison of {', '.join(self.entries)} on {self.data}: {len(self.runs)} runs{failed}"
        )

    def values(self, metric: str, entry: str) -> dict[Repetition, Score]:
        """Scores of a metric, by repetition."""
        found = {}
        for run in self.runs:
            if run.entry == entry and metric in run.evaluation.metrics:
                found[run.repetition] = run.evaluation.score(metric)
        return found

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """What was found, metric by metric."""
        return tuple(self._column(metric) for metric in self.metrics)

    def costs(self, entry: str) -> list[Cost]:
        """What the runs of a method took."""
        return [run.cost for run in self.runs if run.entry == entry and run.cost is not None]

    @cached_property
    def mean_ranks(self) -> dict[str, float]:
        """By entry, the mean of its ranks over the metrics of which one end is better."""
        of_entry: dict[str, list[float]] = {}
        for column in self.columns:
            for entry, rank in column.ranks.items():
                of_entry.setdefault(entry, []).append(rank)
        return {entry: sum(ranks) / len(ranks) for entry, ranks in of_entry.items()}

    def json(self) -> str:
        """Everything as JSON: ``{"data", "baseline", "runs", "columns", "ranks",
        "failed"}``."""
        content = {
            "data": self.data,
            "baseline": self.baseline,
            "columns": [asdict(column) for column in self.columns],
            "ranks": self.mean_ranks,
            "runs": [*self._records()],
            "failed": dict(self.failed),
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def _records(self) -> Iterator[dict[str, Any]]:
        for run in self.runs:
            yield {
                "entry": run.entry,
                "seed": run.repetition.seed,
                "fold": run.repetition.fold,
                "cost": None if run.cost is None else asdict(run.cost),
                "scores": {score.name: score.value for score in run.evaluation.scores},
            }

    def _column(self, metric: str) -> Column:
        scores = {entry: self.values(metric, entry) for entry in self.entries}
        scores = {entry: of_entry for entry, of_entry in scores.items() if of_entry}
        example = next((s for of_entry in scores.values() for s in of_entry.values()), None)
        if example is None:
            return Column(metric, None, False, {})
        better = direction(example, self.private_labels)
        values = {
            entry: {repetition: score.value for repetition, score in of_entry.items()}
            for entry, of_entry in scores.items()
        }
        best = _best(values, better)
        differences = _differences(values, self.baseline)
        corrected = _corrected(differences)
        close = _corrected(_differences(values, best)) if best else {}
        cells = {}
        for entry, of_entry in values.items():
            cells[entry] = Cell(
                summary([*of_entry.values()]),
                any(score.few for score in scores[entry].values()),
                differences.get(entry),
                corrected.get(entry),
                entry == best,
                bool(best) and entry != best and close.get(entry, 1.0) > 1 - LEVEL,
            )
        chances = [s.chance for of_entry in scores.values() for s in of_entry.values()]
        chance = next((c for c in chances if c is not None), None)
        leak = is_leak(example, self.private_labels)
        return Column(
            metric, better, leak, cells, chance, self._ceiling(example), _ranks(values, better)
        )

    def _ceiling(self, score: Score) -> float | None:
        """The accuracy of the judges on real data, of what they judge."""
        if score.group != "coherence" or score.label is None:
            return None
        real = [s for run in self.runs for s in run.evaluation.scores if s.kind == "judge"]
        return next((s.value for s in real if s.label == score.label and not s.target), None)


Values = Mapping[str, Mapping[Repetition, float]]
"""By entry and repetition."""


def _best(values: Values, better: Direction | None) -> str | None:
    """The entry with the best mean."""
    if better is None:
        return None
    means = {entry: sum(v.values()) / len(v) for entry, v in values.items()}
    return (max if better == "higher" else min)(means, key=means.__getitem__)


def _differences(values: Values, other: str | None) -> dict[str, Difference]:
    """By entry, its difference to another one over the repetitions that both have."""
    if other is None or other not in values:
        return {}
    theirs = values[other]
    found = {}
    for entry, ours in values.items():
        common = [repetition for repetition in ours if repetition in theirs]
        if entry != other and common:
            found[entry] = paired([ours[r] for r in common], [theirs[r] for r in common])
    return found


def _corrected(differences: Mapping[str, Difference]) -> dict[str, float]:
    """p-values corrected for the number of methods."""
    return holm({entry: d.p for entry, d in differences.items() if d.p is not None})


def _ranks(values: Values, better: Direction | None) -> dict[str, float]:
    """Mean ranks over the repetitions that all entries have."""
    first: Sequence[Repetition] = [*next(iter(values.values()))]
    common = [r for r in first if all(r in of_entry for of_entry in values.values())]
    if better is None or not common or len(values) < 2:
        return {}
    return mean_ranks({entry: [v[r] for r in common] for entry, v in values.items()}, better)
