"""What each latent tells about each label, beside published figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from counterpoint.metrics.score import Score, Way
from counterpoint.report.bars import Bar, short
from counterpoint.report.published import Published

if TYPE_CHECKING:
    from counterpoint.data import Dataset

Latent = Literal["z", "w"]


@dataclass(frozen=True)
class Finding:
    """What one latent tells about one label.

    Args:
        latent: ``"z"`` or ``"w"``.
        label: the label.
        own: whether the latent should tell it (z the shared labels, w the private
            ones); otherwise it leaks.
        bar: the accuracy of the probe.
    """

    latent: Latent
    label: str
    own: bool
    bar: Bar


@dataclass(frozen=True)
class Row:
    """A row of the comparison: a method, whether it is this run, and a bar a column."""

    name: str
    own: bool
    bars: tuple[Bar | None, ...]


def findings_of(scores: Iterable[Score], data: Dataset) -> list[Finding]:
    """Every latent against every label: first what it should tell, then leakage."""
    probes = _probes(scores)
    shared = [*data.test.shared_labels]
    private = [*data.test.private_labels]
    wanted: list[tuple[Latent, bool, list[str]]] = [
        ("z", True, shared),
        ("w", True, private),
        ("z", False, private),
        ("w", False, shared),
    ]
    findings = []
    for latent, own, labels in wanted:
        for label in labels:
            score = probes.get((latent, label))
            if score is not None:
                bar = Bar.of(score, latent if own else "leak")
                findings.append(Finding(latent, label, own, bar))
    return findings


def summary_of(findings: Sequence[Finding]) -> str:
    """The findings in one or two sentences."""
    told = _listed(findings, own=True)
    leaked = _listed(findings, own=False)
    if not told:
        return ""
    leaks = f" Where it should find nothing, it reads {leaked}." if leaked else ""
    return f"From one modality, a linear probe reads {told}." + leaks


def comparison_of(name: str, scores: Iterable[Score], published: Published) -> list[Row]:
    """The probes of this run and of published methods, column by column."""
    probes = _probes(scores)
    chances = {label: score.chance for (_, label), score in reversed(probes.items())}
    own_bars: list[Bar | None] = []
    for latent, label in published.columns:
        score = probes.get((latent, label))
        tone = published.tone(latent, label)
        own_bars.append(None if score is None else Bar.of(score, tone))
    rows = [Row(name, True, tuple(own_bars))]
    for other, values in published.rows.items():
        bars = [
            None
            if value is None
            else Bar.at(value, short(value), chances.get(label), published.tone(latent, label))
            for (latent, label), value in zip(published.columns, values, strict=True)
        ]
        rows.append(Row(other, False, tuple(bars)))
    return rows


def _probes(scores: Iterable[Score]) -> dict[tuple[str, str], Score]:
    """The means over modalities, by latent and label."""
    return {
        (score.latent, score.label): score
        for score in scores
        if score.kind == "probe" and score.latent and score.label and score.way == Way()
    }


def _listed(findings: Sequence[Finding], *, own: bool) -> str:
    parts = []
    for finding in findings:
        if finding.own == own:
            tick = finding.bar.tick
            chance = f" (chance {100 * tick:.0f} %)" if tick else ""
            accuracy = f"{100 * finding.bar.value:.0f} % of the time"
            parts.append(f"the {finding.label} from {finding.latent} {accuracy}{chance}")
    return ", and ".join(parts)
