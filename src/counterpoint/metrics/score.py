"""Scores: the figures of an evaluation, and the one place where their names are made.

A ``Metric`` says what is measured, field by field. A ``Score`` is a metric with its
value. The flat name of both, such as ``coherence/cross/digit/image>text``, is derived
from the fields:

    kind / latent / setting / label / step / given > target @prior=kind of the prior

Fields that do not apply are left out. Names are never parsed: tables and reports filter
the records.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

FEW_ROWS = 50
"""A figure on fewer rows is marked. HSIC, mutual information and Fréchet distances are
left out, because their bias is then as large as what they measure."""

FEW_PER_CLASS = 5
"""A figure about a label is marked if some class has fewer rows."""

Setting = Literal["self", "cross", "given", "unconditional", "recombine", "private", "all"]
"""What a figure is conditioned on: the modality itself, one other modality, ``size``
modalities, nothing, the latents of two rows, the private latent, or everything."""


@dataclass(frozen=True)
class Way:
    """The modalities that a detailed figure concerns.

    Args:
        given: the observed modalities.
        target: the generated (or judged) modality.

    >>> from counterpoint.metrics import Way
    >>> str(Way(("image", "text"), "sound")), str(Way(target="sound")), str(Way(("image",)))
    ('image+text>sound', 'sound', 'image')
    """

    given: tuple[str, ...] = ()
    target: str | None = None

    def __str__(self) -> str:
        given = "+".join(self.given)
        return f"{given}>{self.target}" if given and self.target else given or self.target or ""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What is measured.

    Args:
        group: the group that measures it (:mod:`counterpoint.metrics.groups`).
        kind: what the name begins with, such as ``"probe"`` or ``"posterior/kl"``.
        latent: ``"z"``, ``"w"`` or ``"zw"`` of probes; a pair of dependences.
        setting: what it is conditioned on; None for the usual of its kind.
        size: how many modalities are given, of the setting ``"given"``.
        label: the label that is read or judged.
        step: the step of a refiner.
        given: the observed modalities, of the figure of a certain set.
        target: the generated or judged modality.
        prior: the kind of the prior that samples come from; None for the last one.

    >>> from counterpoint.metrics import Metric, Way
    >>> Metric(group="probe", kind="probe", latent="z", label="digit").name
    'probe/z/digit'
    >>> fid = Metric(group="quality", kind="fid", setting="given", size=1)
    >>> fid.along(Way(("text",), "image")).name
    'fid/given1/text>image'
    >>> Metric(group="quality", kind="fid", prior="diffusion").name
    'fid@prior=diffusion'

    Raises:
        ValueError: an unknown setting, or a size without the setting ``"given"``.
    """

    group: str
    kind: str
    latent: str | None = None
    setting: Setting | None = None
    size: int | None = None
    label: str | None = None
    step: int | None = None
    given: tuple[str, ...] = ()
    target: str | None = None
    prior: str | None = None

    def __post_init__(self) -> None:
        if self.setting is not None and self.setting not in get_args(Setting):
            raise ValueError(
                f"setting={self.setting!r} is unknown; choose from {', '.join(get_args(Setting))}"
            )
        if (self.setting == "given") != (self.size is not None):
            raise ValueError(
                f"setting={self.setting!r} with size={self.size}; "
                "give a size with the setting 'given', and only with it"
            )

    @property
    def name(self) -> str:
        """The flat name."""
        setting = f"given{self.size}" if self.setting == "given" else self.setting
        step = None if self.step is None else f"t{self.step}"
        parts = (self.kind, self.latent, setting, self.label, step, str(self.way) or None)
        prior = "" if self.prior is None else f"@prior={self.prior}"
        return "/".join(part for part in parts if part is not None) + prior

    @property
    def way(self) -> Way:
        """The modalities that it concerns; empty for a mean over modalities."""
        return Way(self.given, self.target)

    def along(self, way: Way) -> Metric:
        """The same metric of certain modalities.

        >>> from counterpoint.metrics import Metric, Way
        >>> Metric(group="match", kind="match").along(Way(("a",), "b")).name
        'match/a>b'
        """
        return replace(self, given=way.given, target=way.target)


@dataclass(frozen=True, kw_only=True)
class Score(Metric):
    """One figure of an evaluation: a metric and its value.

    Args:
        value: the value; over seeds their mean.
        interval: the 95 % confidence interval, if one is known.
        chance: the value that guessing has, if it is known.
        n: the number of rows that it rests on, if known; of several modalities the
            smallest.
        few: whether it rests on few rows (fewer than 50, or than 5 of some class).
        std: sample standard deviation over seeds; None for a single run.
        seeds: the number of runs; None for a single run.

    >>> from counterpoint.metrics import Score
    >>> Score(group="probe", kind="probe", latent="z", label="digit", value=0.5, chance=0.1)
    Score(probe/z/digit = 0.500, chance 0.100)
    """

    value: float
    interval: tuple[float, float] | None = None
    chance: float | None = None
    n: int | None = None
    few: bool = False
    std: float | None = None
    seeds: int | None = None

    def __repr__(self) -> str:
        value = f"{self.name} = {number(self.value)}{FEW_MARK * self.few}"
        notes = [value, *self.notes()]
        return f"Score({', '.join(notes)})"

    def notes(self) -> list[str]:
        """Spread, chance and number of rows, in words."""
        chance = [] if self.chance is None else [f"chance {number(self.chance)}"]
        rows = [] if self.n is None else [f"n={self.n}"]
        return [spread for spread in [self.spread()] if spread] + chance + rows

    def spread(self) -> str:
        """The deviation over seeds, or else the interval, in words; may be empty."""
        if self.std is not None:
            return f"± {number(self.std)} ({self.seeds} seeds)"
        if self.interval is None:
            return ""
        return f"[{number(self.interval[0])}, {number(self.interval[1])}]"

    @property
    def figure(self) -> float | dict[str, float]:
        """The value, or ``{"mean", "std", "n"}`` over seeds."""
        if self.std is None:
            return self.value
        return {"mean": self.value, "std": self.std, "n": self.seeds or 0}

    def record(self) -> dict[str, Any]:
        """The fields that are set, JSON-able.

        >>> from counterpoint.metrics import Score
        >>> Score(group="match", kind="match", given=("a",), target="b", value=0.5).record()
        {'group': 'match', 'kind': 'match', 'given': ['a'], 'target': 'b', 'value': 0.5}
        """
        pairs = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        listed = {key: [*v] if isinstance(v, tuple) else v for key, v in pairs.items()}
        known = {}
        for key, value in listed.items():
            if value is not None and value is not False and value != []:
                known[key] = value
        return known

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Score:
        """The score that :meth:`record` describes.

        Raises:
            TypeError, ValueError: fields that no score has, or too few of them.
        """
        interval = record.get("interval")
        ends = None if interval is None else (float(interval[0]), float(interval[1]))
        return cls(**{**record, "given": tuple(record.get("given", ())), "interval": ends})


FEW_MARK = "*"
FEW_NOTE = (
    f"{FEW_MARK} on fewer than {FEW_ROWS} rows, or on fewer than {FEW_PER_CLASS} of some class"
)


def number(value: float) -> str:
    """Format a number with three decimals, large ones with four digits.

    >>> number(0.25), number(12345.6)
    ('0.250', '1.235e+04')
    """
    return f"{round(value, 3) + 0.0:.3f}" if abs(value) < 1000 else f"{value:.4g}"  # no "-0.000"
