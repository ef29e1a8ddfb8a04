"""What an evaluation is asked to do, checked before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from counterpoint.core.modality import Modality
from counterpoint.metrics.extractors import Extractor
from counterpoint.metrics.judge_fitting import JudgeOptions

EvaluationSplit = Literal["test", "val"]

_AT_LEAST_ONE = (
    "samples",
    "rows",
    "probe_rows",
    "likelihood_rows",
    "likelihood_samples",
    "batch_size",
    "refine",
)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """The options of :func:`counterpoint.metrics.evaluate`, where they are explained.

    Args:
        asked: whether the groups were named by the caller.

    Raises:
        ValueError: a number below 1, fewer than two folds, or an unknown split.
        TypeError: a feature extractor that is not a function.
    """

    samples: int = 1000
    rows: int | None = 1000
    probe_rows: int | None = 10_000
    likelihood_rows: int = 32
    likelihood_samples: int = 100
    batch_size: int = 256
    seed: int = 0
    cache: Path | None = None
    split: EvaluationSplit = "test"
    judge: JudgeOptions | None = None
    feature_extractors: Mapping[str, Extractor] = field(default_factory=dict)
    refine: int | None = None
    folds: int | None = None
    asked: bool = False

    def __post_init__(self) -> None:
        if self.split not in ("test", "val"):
            raise ValueError(f"split={self.split!r} is unknown; choose 'test' or 'val'")
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value} must be 1 or more")
        if self.folds is not None and self.folds < 2:
            raise ValueError(f"folds = {self.folds} must be 2 or more")
        for name, extractor in self.feature_extractors.items():
            if not callable(extractor):
                raise TypeError(
                    f"the feature extractor of {name!r} is {type(extractor).__name__}; "
                    "expected a function from values (B, *shape) to features (B, F)"
                )

    def check_names(self, modalities: Sequence[Modality], labels: Iterable[str]) -> None:
        """Check names of modalities and labels.

        Raises:
            ValueError: a feature extractor of an unknown modality, or a modality
                ``"cross"`` or label ``"match"``, because metrics have these names.
        """
        known = [m.name for m in modalities]
        for name in self.feature_extractors:
            if name not in known:
                raise ValueError(
                    f"feature_extractors names {name!r}; the modalities are {', '.join(known)}"
                )
        if "cross" in known:
            raise ValueError(
                "a modality is named 'cross', as a metric is (fid/cross); rename the modality"
            )
        if "match" in labels:
            raise ValueError(
                "a label is named 'match', as a metric is (judge/match); rename the label"
            )
