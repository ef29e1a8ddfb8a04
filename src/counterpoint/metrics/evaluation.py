"""``Evaluation``: the scores of a method, and what is needed to repeat them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.core.display import html_text
from counterpoint.core.documents import read_json
from counterpoint.core.files import write
from counterpoint.metrics.drawing import figure
from counterpoint.metrics.groups import complete_groups
from counterpoint.metrics.score import Score, number
from counterpoint.metrics.table import table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Evaluation:
    """The scores of a method, and what they rest on.

    Args:
        scores: one record for each figure.
        meta: JSON-able: method, data, split, groups, seed, rows, seconds,
            feature_space, left_out (name: reason), too_few (names in left_out that need
            more rows), versions.

    >>> from counterpoint.metrics import Evaluation, Score
    >>> digit = Score(group="probe", kind="probe", latent="z", label="digit", value=0.5)
    >>> evaluation = Evaluation((digit,), {"split": "test"})
    >>> evaluation.metrics
    {'probe/z/digit': 0.5}
    >>> evaluation
    Evaluation(1 score of probe on the test split: probe/z/digit = 0.500)

    Raises:
        ValueError: two scores of one name.
    """

    scores: tuple[Score, ...]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", tuple(self.scores))
        names = [score.name for score in self.scores]
        double = [name for name in names if names.count(name) > 1]
        if double:
            raise ValueError(f"two scores have the name {double[0]!r}; keep one")

    @property
    def metrics(self) -> dict[str, Any]:
        """By flat name a number, or ``{"mean", "std", "n"}`` over seeds."""
        return {score.name: score.figure for score in self.scores}

    @cached_property
    def _by_name(self) -> dict[str, Score]:
        return {score.name: score for score in self.scores}

    def score(self, name: str) -> Score:
        """The score of a flat name.

        Raises:
            ValueError: there is none.
        """
        if name in self._by_name:
            return self._by_name[name]
        close = get_close_matches(name, [*self._by_name], 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {len(self.scores)} others"
        reason = self.meta.get("left_out", {}).get(name)
        raise ValueError(
            f"no score {name!r}; " + (hint if reason is None else f"it was left out: {reason}")
        )

    def chance(self, name: str) -> float | None:
        """The score of guessing on a metric, if it is known."""
        score = self._by_name.get(name)
        return None if score is None else score.chance

    @property
    def few(self) -> list[str]:
        """The names of the scores that rest on few rows, or few of some class."""
        return [score.name for score in self.scores if score.few]

    @property
    def left_out_for_rows(self) -> dict[str, list[str]]:
        """By reason, the names of the metrics that need more rows."""
        by_reason: dict[str, list[str]] = {}
        for name in self.meta.get("too_few", ()):
            by_reason.setdefault(self.meta["left_out"][name], []).append(name)
        return by_reason

    @property
    def complete(self) -> bool:
        """Whether it has every group that a report needs, on the test split, with
        posteriors that are not refined."""
        return (
            self.meta.get("split") == "test"
            and set(self.meta.get("groups", ())) >= complete_groups()
            and not self.meta.get("refine")
        )

    def table(self, *, detail: bool = False, width: int = 100) -> str:
        """Render value, chance and 95 % interval (or deviation over seeds) as a table.

        Notes below it explain the marks, and name what was left out for want of rows.

        Args:
            detail: add the figures of single modalities and pairs.
            width: columns of the terminal.
        """
        notes = [f"left out, {why}: {', '.join(n)}" for why, n in self.left_out_for_rows.items()]
        return table_of(
            self.scores,
            detail=detail,
            width=width,
            folds=self.meta.get("folds"),
            split=self.meta.get("split", "test"),
            notes=notes,
        )

    def plot(self) -> Figure:
        """Draw the scores of :meth:`table` as bars, a panel for each kind.

        Lines are 95 % intervals, or deviations over seeds; ticks are chance.

        Raises:
            ValueError: no finite score.
        """
        return figure(self.scores)

    def to_json(self, path: str | Path) -> Path:
        """Write ``{"metrics", "scores", "meta"}``.

        ``metrics`` has flat names and numbers, ``scores`` the records. The file appears
        whole or not at all.
        """
        content = {
            "metrics": self.metrics,
            "scores": [score.record() for score in self.scores],
            "meta": self.meta,
        }
        path = Path(path)
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, text.encode())
        return path

    @classmethod
    def from_json(cls, path: str | Path) -> Evaluation:
        """Read the file that ``to_json`` writes.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not an evaluation.
        """
        expected = "expected the JSON that Evaluation.to_json writes, with 'scores' and 'meta'"
        try:
            content = read_json(Path(path))
            if not isinstance(content, dict) or not isinstance(content.get("meta"), dict):
                raise ValueError("no 'meta'")
            return cls(tuple(map(Score.of_record, content["scores"])), content["meta"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is not an evaluation: {error}; {expected}") from None

    def __repr__(self) -> str:
        groups = [*dict.fromkeys(score.group for score in self.scores)]
        count = f"{len(self.scores)} score{'s' * (len(self.scores) != 1)}"
        of = f" of {', '.join(groups)}" if groups else ""
        overall = [score for score in self.scores if not score.given][:4]
        shown = [f"{score.name} = {number(score.value)}" for score in overall]
        more = ", ..." if len(self.scores) > len(shown) else ""
        split = self.meta.get("split", "test")
        return f"Evaluation({count}{of} on the {split} split: {', '.join(shown)}{more})"

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        return html_text(self.table())


def merge(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Average every score over evaluations (seeds).

    Values become means with their sample standard deviation (0 for one evaluation) and
    the number of evaluations. Chances are averaged too.

    >>> from counterpoint.metrics import Evaluation, Score, merge
    >>> runs = [Evaluation((Score(group="match", kind="match", value=v),)) for v in (0.5, 0.7)]
    >>> merge(runs).scores
    (Score(match = 0.600, ± 0.141 (2 seeds)),)

    Raises:
        ValueError: no evaluation, one that is merged already, or different splits.
    """
    if not evaluations:
        raise ValueError("no evaluation to merge; give at least one")
    if any(score.seeds is not None for e in evaluations for score in e.scores):
        raise ValueError(
            "an evaluation is already merged over seeds; merge the evaluations of single runs"
        )
    splits = sorted({e.meta.get("split", "test") for e in evaluations})
    if len(splits) > 1:
        raise ValueError(f"evaluations of different splits ({', '.join(splits)}) do not merge")
    by_name: dict[str, list[Score]] = {}
    for evaluation in evaluations:
        for score in evaluation.scores:
            by_name.setdefault(score.name, []).append(score)
    return Evaluation(
        tuple(_merged(scores) for scores in by_name.values()),
        {"split": splits[0], "merged": [e.meta for e in evaluations]},
    )


def _merged(scores: Sequence[Score]) -> Score:
    values = [score.value for score in scores]
    chances = [score.chance for score in scores if score.chance is not None]
    rows = [score.n for score in scores if score.n is not None]
    return replace(
        scores[0],
        value=float(np.mean(values)),
        interval=None,
        chance=float(np.mean(chances)) if chances else None,
        n=min(rows, default=None),
        few=any(score.few for score in scores),
        std=float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        seeds=len(values),
    )
