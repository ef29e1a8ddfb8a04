"""The runs of a comparison, each a task of its own: train and measure a method, or
measure a peer."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from counterpoint.core.documents import read_json
from counterpoint.core.files import write
from counterpoint.core.memory import forget_peak, peak
from counterpoint.data import Dataset
from counterpoint.methods import Method, load
from counterpoint.metrics import Evaluation, Recorded, evaluate, numbered
from counterpoint.model.format import settle
from counterpoint.studies.comparison import Cost
from counterpoint.studies.recipe import Recipe


@dataclass(frozen=True)
class Measuring:
    """How a run is measured.

    Args:
        recipe: of this seed and fold.
        scores: the file of the scores.
        judges: folder of the judges, which all runs on the same data share.
        evaluation: keywords of ``evaluate``.
    """

    recipe: Recipe
    scores: Path
    judges: Path
    evaluation: Mapping[str, Any]

    def keep(self, evaluation: Evaluation, **meta: Any) -> None:
        """Write the scores."""
        kept = Evaluation(evaluation.scores, {**evaluation.meta, **meta})
        self.scores.parent.mkdir(parents=True, exist_ok=True)
        kept.to_json(self.scores)


@dataclass(frozen=True)
class PeerTask:
    """Measure a peer.

    Args:
        measuring: how; groups that the answers do not suffice for are left out.
        name: how tables call it.
        file: its answers.
    """

    measuring: Measuring
    name: str
    file: Path

    def __call__(self) -> None:
        """Measure it, and keep the scores."""
        data = self.measuring.recipe.dataset()
        peer: Any = Recorded.read(self.file, data, self.name)
        keywords = dict(self.measuring.evaluation)
        wanted = keywords.pop("only")
        only = [group for group in wanted if group in peer.groups]
        if not only:
            raise ValueError(
                f"{self.file} does not suffice for any of {', '.join(wanted)}; it suffices for "
                f"{', '.join(peer.groups) or 'nothing'}"
            )
        judges = self.measuring.judges
        evaluation = evaluate(peer, numbered(data), cache=judges, only=only, **keywords)
        self.measuring.keep(evaluation, groups=wanted)


@dataclass(frozen=True)
class CompareTask:
    """One run of a comparison: train, measure, keep the scores.

    Args:
        measuring: what to train, and how to measure it.
        run: the run folder.
    """

    measuring: Measuring
    run: Path

    @property
    def recipe(self) -> Recipe:
        """Method, data and training of this seed and fold."""
        return self.measuring.recipe

    def __call__(self) -> None:
        """Train the run unless it is trained, and measure it."""
        data = self.recipe.dataset()
        settle(self.run / "model")
        trained = (self.run / "model" / "config.json").is_file()
        method = load(self.run) if trained else self._trained(data)
        judges = self.measuring.judges
        evaluation = evaluate(method, data, cache=judges, **self.measuring.evaluation)
        self.measuring.keep(evaluation, cost=read_json(self._cost))

    @property
    def _cost(self) -> Path:
        return self.run.parent / f"{self.run.name}.cost.json"

    def _trained(self, data: Dataset) -> Method:
        """Train, and keep what it took, earlier parts of a stopped run included."""
        before = read_json(self._cost) if self._cost.is_file() else {}
        forget_peak()
        wall, cpu = time.monotonic(), time.process_time()
        steps = 0
        method: Method | None = None
        try:
            method, result = self.recipe.trained(data, self.run, resume=True)
            steps = result.steps
            return method
        finally:
            cost = Cost(
                time.monotonic() - wall + before.get("seconds", 0.0),
                time.process_time() - cpu + before.get("cpu_seconds", 0.0),
                _most(peak(), before.get("peak_bytes")),
                0 if method is None else _parameters(method),
                steps,
            )
            self._cost.parent.mkdir(parents=True, exist_ok=True)
            write(self._cost, json.dumps(asdict(cost)).encode())


def _most(*values: int | None) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _parameters(method: torch.nn.Module) -> int:
    return sum(p.numel() for p in method.parameters())
