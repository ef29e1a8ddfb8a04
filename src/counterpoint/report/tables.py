"""The tables of a report: coherence, quality, given sets, posteriors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from counterpoint.metrics.score import Score, Setting, Way
from counterpoint.report.bars import Bar, Tone, short, text_of

if TYPE_CHECKING:
    from counterpoint.data import Dataset

COHERENCE_TITLES = {
    "judge": "real data, by the same judges",
    "self": "from itself",
    "cross": "from one other modality",
    "given": "from {} modalities",
    "recombine": "recombined: z of one row, w of another",
    "private": "w kept, z from the prior",
    "unconditional": "unconditional: all judges agree",
}
"""By setting, and of the judges on real data; in the order of rows."""

QUALITY_TITLES = {
    "fid": "Fréchet distance ↓",
    "kid": "kernel distance ↓",
    "precision": "precision ↑",
    "recall": "recall ↑",
    "density": "density ↑",
    "coverage": "coverage ↑",
    "sharpness": "sharpness → 1",
}

GIVEN_TITLES = {
    "match": "match ↑",
    "judge/match": "match of real pairs",
    "retrieval": "retrieval of two ↑",
    "retrieval@1": "first of all ↑",
    "retrieval@10": "among ten ↑",
    "f1": "F1 ↑",
    "fid": "Fréchet distance ↓",
}

POSTERIOR_TITLES = {
    "posterior/kl": "KL to everything ↓",
    "posterior/cosine": "cosine to everything ↑",
    "posterior/acceptance": "acceptance",
    "posterior/rhat": "R-hat ↓",
    "posterior/mixed": "share mixed ↑",
    "posterior/ess": "effective draws ↑",
    "posterior/improper": "share improper ↓",
}


@dataclass(frozen=True)
class Table:
    """Column titles, and rows: titles of the row, then one text a column.

    A table without rows is not shown.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


@dataclass(frozen=True)
class CoherenceRow:
    """What is generated from what, the label, and how often they agree."""

    title: str
    label: str
    bar: Bar


def coherence_rows(scores: Sequence[Score], data: Dataset) -> list[CoherenceRow]:
    """The means over modalities, by label.

    From one given modality is ``cross``. Unconditional samples without a named prior
    are shown only if no prior is named.
    """
    shown = [
        score
        for score in scores
        if score.kind in ("judge", "coherence") and score.label and score.way == Way()
    ]
    named = any(score.prior for score in shown)
    rows: list[tuple[tuple[bool, str, int, int], CoherenceRow]] = []
    for score in shown:
        label = score.label or ""
        setting = score.setting or "judge"
        unnamed = setting == "unconditional" and score.prior is None
        if score.size == 1 or (unnamed and named):
            continue
        title = COHERENCE_TITLES[setting].format(score.size)
        title += f", {score.prior} prior" if score.prior else ""
        order = [*COHERENCE_TITLES].index(setting), score.size or 0
        place = (label not in data.test.shared_labels, label, *order)
        rows.append((place, CoherenceRow(title, label, Bar.of(score, _tone(score, data)))))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def quality_table(scores: Iterable[Score], data: Dataset) -> Table:
    """By modality, unconditional samples and generation from another modality."""
    known = {
        (score.kind, score.setting, score.target): score
        for score in scores
        if score.group == "quality" and not score.given and not score.prior
    }
    titles: dict[Setting | None, str] = {None: "unconditional", "cross": "from another modality"}
    rows = []
    for m in data.modalities:
        for setting, title in titles.items():
            cells = [known.get((kind, setting, m.name)) for kind in QUALITY_TITLES]
            if any(cells):
                rows.append(((m.name, title), _texts(cells)))
    return Table(tuple(QUALITY_TITLES.values()), tuple(rows))


def given_table(scores: Sequence[Score], data: Dataset) -> Table:
    """By modality and set of given modalities, smaller sets first."""
    cells = _cells_by_given(scores)
    kinds = []
    for kind in GIVEN_TITLES:
        if any(kind in by_kind for sets in cells.values() for by_kind in sets.values()):
            kinds.append(kind)
    rows = []
    for m in data.modalities:
        sets = cells.get(m.name, {})
        for given in sorted(sets, key=len):
            texts = tuple(sets[given].get(kind, "–") for kind in kinds)
            rows.append(((m.name, ", ".join(given) or "nothing"), texts))
    return Table(tuple(GIVEN_TITLES[kind] for kind in kinds), tuple(rows))


def posterior_table(scores: Iterable[Score]) -> Table:
    """By the number of given modalities; in nats, except where chains were run."""
    known = {
        (score.kind, score.size): score
        for score in scores
        if score.kind in POSTERIOR_TITLES and score.setting == "given" and score.way == Way()
    }
    kinds = [kind for kind in POSTERIOR_TITLES if kind in {key for key, _ in known}]
    rows = []
    for size in sorted({size for _, size in known if size is not None}):
        title = f"{size} modalit{'y' if size == 1 else 'ies'}"
        rows.append(((title,), _texts([known.get((kind, size)) for kind in kinds])))
    return Table(tuple(POSTERIOR_TITLES[kind] for kind in kinds), tuple(rows))


def _cells_by_given(
    scores: Sequence[Score],
) -> Mapping[str, Mapping[tuple[str, ...], Mapping[str, str]]]:
    """Texts by target, given set and kind; the empty set has what needs nothing."""
    cells: dict[str, dict[tuple[str, ...], dict[str, str]]] = {}
    for score in scores:
        usual = score.setting in (None, "given")
        if score.target and score.given and usual and score.kind in GIVEN_TITLES:
            sets = cells.setdefault(score.target, {(): {}})
            sets.setdefault(score.given, {})[score.kind] = text_of(score)
            if score.kind == "f1" and score.chance is not None:
                sets[()]["f1"] = short(score.chance)
    for score in scores:
        unconditional = score.kind == "fid" and score.setting is None and not score.prior
        if unconditional and score.target in cells:
            cells[score.target][()]["fid"] = text_of(score)
    return cells


def _texts(scores: Iterable[Score | None]) -> tuple[str, ...]:
    return tuple("–" if score is None else text_of(score) for score in scores)


def _tone(score: Score, data: Dataset) -> Tone:
    if score.kind == "judge":
        return "leak"
    return "w" if score.label in data.test.private_labels else "z"
