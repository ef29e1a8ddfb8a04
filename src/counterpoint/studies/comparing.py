"""``compare``: several methods on one data set, over seeds or folds, in one table.

    methods × seeds × folds  →  runs  →  evaluations by the same judges  →  Comparison

Every run has a folder of its own, and a comparison that was stopped goes on. Methods
meet the same seeds and folds, so that differences are paired.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from counterpoint.core import checks
from counterpoint.core.documents import read_json
from counterpoint.core.files import locked, write
from counterpoint.core.memory import forget_peak, peak
from counterpoint.data import Dataset
from counterpoint.methods import Method, load
from counterpoint.metrics import Evaluation, Metric, check_names, evaluate, group_of
from counterpoint.model.format import settle
from counterpoint.studies import comparison_tables
from counterpoint.studies.comparison import ComparedRun, Comparison, Cost, Repetition
from counterpoint.studies.comparison_page import run_folder, write_comparison
from counterpoint.studies.launching import Launcher, Places
from counterpoint.studies.recipe import Recipe, Source
from counterpoint.studies.record import keep_record
from counterpoint.training.options import plain

LABELLED_GROUPS = ("probe", "judge", "coherence", "quality", "likelihood")
"""Groups that are measured of data with shared labels, by default."""

UNLABELLED_GROUPS = ("match", "retrieval", "quality", "likelihood", "imputation")
"""Groups that are measured of other data, by default."""


@checks.arguments
def compare(
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]],
    data: Source,
    *,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    folds: Sequence[int] = (),
    fit: Mapping[str, Any] | None = None,
    cpu_minutes: float | None = None,
    evaluation: Mapping[str, Any] | None = None,
    metrics: Sequence[str] = (),
    baseline: str | None = None,
    jobs: int = 1,
    launcher: Launcher = "local",
    progress: bool = True,
) -> Comparison:
    """Train and measure several methods on the same data.

    ``out`` gets ``comparison.json``, the table as ``.md``, ``.csv`` and ``.tex``, a page
    ``comparison.html`` with figures, the run folders in ``runs/`` and their scores in
    ``evaluations/``. The same call goes on with a comparison that was stopped. More methods, seeds, folds or metrics add to it,
    and nothing is trained twice. A run that fails is noted and does not stop the others.

    Args:
        methods: names; or by a name of your choice ``{"method": ..., "model": ...,
            "fit": ...}``: the method (by default that of the name), keywords of it and
            fields of ``FitOptions`` of its own.
        data: a data set, the name of one, or keywords of ``data.load``.
        out: the folder.
        seeds: of training.
        folds: of cross-validation, for data that have the option ``fold``.
        fit: fields of ``FitOptions`` of all methods.
        cpu_minutes: equal processor time for every method, in minutes, instead of
            other limits on training. The stages of a method share it evenly.
        evaluation: keywords of ``evaluate``. By default the groups probe, judge,
            coherence, quality and likelihood are measured, and for data without shared
            labels match, retrieval, quality, likelihood and imputation.
        metrics: names of those in the table; by default those that tell most. Their
            groups are measured too.
        baseline: the method that differences are taken to; by default the first.
        jobs: most runs at a time. Their processes share the threads of the machine.
        launcher: ``"local"``; ``"submitit"`` for jobs of SLURM, or of this machine where
            there is none; or ``"ray"``.
        progress: report progress on standard error.

    Raises:
        ValueError: nothing to do, seeds or folds that repeat, an unknown method, metric
            or baseline, options that do not go together, or a folder that holds a
            comparison with other options.
        BlockingIOError: another process works on the comparison.
    """
    settings = methods if isinstance(methods, Mapping) else _once("methods", methods)
    repetitions = _repetitions(seeds, folds)
    first = baseline or next(iter(settings), "")
    if first not in settings:
        raise ValueError(
            f"baseline={first!r} is not compared; choose one of {', '.join(settings)}"
            if settings
            else "methods is empty; give at least one"
        )
    recipes = {name: Recipe.of_entry(name, data, s, fit) for name, s in settings.items()}
    loaded = _of_fold(recipes[first], repetitions[0]).dataset()
    check_names(metrics, loaded)
    for name, recipe in recipes.items():
        made = recipe.made(loaded)
        if cpu_minutes is not None:
            share = cpu_minutes / len(made.stages)
            recipes[name] = recipe.changed({"fit.max_cpu_minutes": share})
    groups = _groups(evaluation or {}, metrics, loaded)
    wanted = {**(evaluation or {}), "only": groups, "progress": False}
    work = _Work(Path(out), recipes, loaded, wanted, tuple(metrics), first)
    places = Places(Path(out), launcher, jobs)
    return _compared(work, repetitions, places, progress=progress)


def _compared(
    work: _Work, repetitions: Sequence[Repetition], places: Places, *, progress: bool
) -> Comparison:
    """Do what is not done yet."""
    tasks = work.tasks(repetitions, here=places.here)
    failed: dict[str, str] = {}
    quiet = not (progress and sys.stderr.isatty())
    with locked(work.folder):
        work.check()
        if progress:
            already = len(work.recipes) * len(repetitions) - len(tasks)
            print(f"compare: {len(tasks)} runs to do, {already} done", file=sys.stderr)
        bar = tqdm(total=len(tasks), desc="compare", unit="run", disable=quiet, file=sys.stderr)
        with bar:
            for name, reason in places.run(tasks):
                bar.update()
                if reason is not None:
                    failed[name] = reason
                if progress:
                    tqdm.write(f"compare: {name} {reason or 'is measured'}", file=sys.stderr)
                work.write(repetitions, failed)
        found = work.write(repetitions, failed)
        write_comparison(found, work.data, work.folder)
        return found


def _once(option: str, values: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Names without settings of their own."""
    refuse_repeats(option, values)
    return {name: {} for name in values}


def _repetitions(seeds: Sequence[int], folds: Sequence[int]) -> list[Repetition]:
    if not seeds:
        raise ValueError("seeds is empty; give at least one")
    refuse_repeats("seeds", seeds)
    refuse_repeats("folds", folds)
    every: list[int | None] = [*folds] or [None]
    return [Repetition(seed, fold) for fold, seed in product(every, seeds)]


def refuse_repeats(option: str, values: Sequence[Any]) -> None:
    """Refuse a value that stands twice, by ValueError."""
    for value in values:
        if [*values].count(value) > 1:
            raise ValueError(f"{option} has {value!r} twice; leave one of them")


def _groups(given: Mapping[str, Any], metrics: Sequence[str], data: Dataset) -> list[str]:
    """The groups of metrics to measure."""
    usual = LABELLED_GROUPS if data.test.shared_labels else UNLABELLED_GROUPS
    return [*dict.fromkeys([*(given.get("only") or usual), *map(group_of, metrics)])]


def _of_fold(recipe: Recipe, repetition: Repetition) -> Recipe:
    """A recipe whose data are those of a fold."""
    return recipe if repetition.fold is None else recipe.changed({"data.fold": repetition.fold})


@dataclass(frozen=True)
class _Work:
    """A comparison under way.

    Attributes:
        data: of the first fold.
        evaluation: keywords of ``evaluate``.
        metrics: those to tabulate; empty for the default.
    """

    folder: Path
    recipes: Mapping[str, Recipe]
    data: Dataset
    evaluation: Mapping[str, Any]
    metrics: tuple[str, ...]
    baseline: str

    def check(self) -> None:
        """Write the options to ``comparison.yaml``; raise if the folder has others."""
        about: dict[str, Any] = {
            "data": self.data.checksum(),
            "evaluation": plain({k: v for k, v in self.evaluation.items() if k != "only"}),
        }
        for name, recipe in self.recipes.items():
            about[f"methods/{name}"] = recipe.about
        keep_record(self.folder, "comparison", about)

    def path(self, name: str) -> Path:
        """The file of the scores of a run."""
        return self.folder / "evaluations" / f"{name}.json"

    def tasks(self, repetitions: Sequence[Repetition], *, here: bool) -> dict[str, CompareTask]:
        """What is not done yet, by name of the run: every method of a repetition before
        the next one.

        Args:
            here: the tasks run in this process, which has loaded the data.
        """
        tasks = {}
        for repetition in repetitions:
            for entry, recipe in self.recipes.items():
                name = f"{entry}-{repetition}"
                measured = self._measured(name)
                if {*self.evaluation["only"]} <= {*measured}:
                    continue
                groups = [*dict.fromkeys([*measured, *self.evaluation["only"]])]
                of_run = _of_fold(recipe, repetition).changed({"fit.seed": repetition.seed})
                if here and repetition.fold == repetitions[0].fold:
                    of_run = replace(of_run, loaded=self.data)
                tasks[name] = CompareTask(
                    of_run,
                    run_folder(self.folder, entry, repetition),
                    self.path(name),
                    self.folder / "judges",
                    {**self.evaluation, "only": groups},
                )
        return tasks

    def _measured(self, name: str) -> list[str]:
        path = self.path(name)
        return list(Evaluation.from_json(path).meta["groups"]) if path.is_file() else []

    def write(self, repetitions: Sequence[Repetition], failed: Mapping[str, str]) -> Comparison:
        """Write what is known so far."""
        runs = []
        for entry, repetition in product(self.recipes, repetitions):
            path = self.path(f"{entry}-{repetition}")
            if path.is_file():
                evaluation = Evaluation.from_json(path)
                cost = Cost(**evaluation.meta["cost"])
                runs.append(ComparedRun(entry, repetition, evaluation, cost))
        found = Comparison(
            self.data.name,
            tuple(self.recipes),
            tuple(runs),
            self.metrics or default_metrics(self.data, runs),
            self.baseline,
            dict(failed),
            tuple(self.data.test.private_labels),
        )
        write(self.folder / "comparison.json", found.json().encode())
        for suffix, text in comparison_tables.as_files(found).items():
            write(self.folder / f"comparison{suffix}", text.encode())
        return found


@dataclass(frozen=True)
class CompareTask:
    """One run of a comparison: train, measure, keep the scores.

    Args:
        recipe: of this seed and fold.
        run: the run folder.
        scores: the file of the scores.
        judges: folder of the judges, which all runs on the same data share.
        evaluation: keywords of ``evaluate``.
    """

    recipe: Recipe
    run: Path
    scores: Path
    judges: Path
    evaluation: Mapping[str, Any]

    def __call__(self) -> None:
        """Train the run unless it is trained, and measure it."""
        data = self.recipe.dataset()
        settle(self.run / "model")
        trained = (self.run / "model" / "config.json").is_file()
        method = load(self.run) if trained else self._trained(data)
        evaluation = evaluate(method, data, cache=self.judges, **self.evaluation)
        cost = read_json(self._cost)
        kept = Evaluation(evaluation.scores, {**evaluation.meta, "cost": cost})
        self.scores.parent.mkdir(parents=True, exist_ok=True)
        kept.to_json(self.scores)

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


def default_metrics(data: Dataset, runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    """The metrics that tell most of a data set, of those that were measured."""
    test = data.test
    wanted: list[Metric] = []
    for latent, labels in (
        ("z", (*test.shared_labels, *test.private_labels)),
        ("w", (*test.private_labels, *test.shared_labels)),
    ):
        probe = Metric(group="probe", kind="probe", latent=latent)
        wanted += [replace(probe, label=label) for label in labels]
    for label in test.shared_labels:
        wanted.append(Metric(group="probe", kind="probe", setting="all", label=label))
        coherence = Metric(group="coherence", kind="coherence", label=label)
        wanted += [replace(coherence, setting="cross"), replace(coherence, setting="unconditional")]
    wanted.append(Metric(group="match", kind="match"))
    wanted.append(Metric(group="retrieval", kind="retrieval@1"))
    for kind in ("fid", "coverage"):
        wanted.append(Metric(group="quality", kind=kind, setting="cross"))
    for m in data.modalities:
        wanted.append(Metric(group="imputation", kind="impute/nrmse", target=m.name))
    wanted.append(Metric(group="likelihood", kind="loglik/joint"))
    measured = {name for run in runs for name in run.evaluation.metrics}
    names = dict.fromkeys(metric.name for metric in wanted)
    return tuple(name for name in names if name in measured)
