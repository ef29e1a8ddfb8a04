"""Numbers of a report: as text, and as bars with a mark."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from counterpoint.metrics.score import FEW_MARK, Score

Tone = Literal["z", "w", "leak"]
"""The colour of a bar: of the shared latent, of the private one, or grey."""


@dataclass(frozen=True)
class Bar:
    """A value on [0, 1] with a mark.

    Args:
        value: the length.
        text: the value in words.
        tick: where the mark is (chance or a ceiling), if there is one.
        tone: the colour.
    """

    value: float
    text: str
    tick: float | None = None
    tone: Tone = "leak"

    @staticmethod
    def at(value: float, text: str, tick: float | None, tone: Tone) -> Bar:
        """A bar whose length is the value, limited to [0, 1].

        >>> Bar.at(1.25, "1.250", None, "z").value
        1.0
        """
        return Bar(min(1.0, max(0.0, value if math.isfinite(value) else 0.0)), text, tick, tone)

    @staticmethod
    def of(score: Score, tone: Tone) -> Bar:
        """The bar of a score, marked at chance."""
        return Bar.at(score.value, text_of(score), score.chance, tone)


def text_of(score: Score) -> str:
    """Write a score as text, with the mark of figures on few rows.

    >>> text_of(Score(group="match", kind="match", value=0.75, std=0.125, seeds=3))
    '.750 ± .125'
    """
    spread = "" if score.std is None else f" ± {short(score.std)}"
    return short(score.value) + spread + FEW_MARK * score.few


def short(value: float) -> str:
    """Write a number briefly: three decimals, one from 10 on, a dash if not finite.

    >>> short(0.983), short(12.34), short(float("nan"))
    ('.983', '12.3', '–')
    """
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 10:
        return f"{value:,.1f}"
    text = f"{value:.3f}"
    return text.removeprefix("0") if 0 <= value < 1 else text
