"""``compare``: several methods on one data set, over seeds or folds, in one table.

    methods × seeds × folds  →  runs  →  evaluations by the same judges  →  Comparison

Every run has a folder of its own, and a comparison that was stopped goes on. Methods
meet the same seeds and folds, so that differences are paired.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from counterpoint.core import checks
from counterpoint.core.files import locked, write
from counterpoint.data import Dataset
from counterpoint.metrics import (
    Evaluation,
    Metric,
    check_names,
    group_of,
)
from counterpoint.studies import comparison_tables
from counterpoint.studies.compare_tasks import CompareTask, Measuring, PeerTask
from counterpoint.studies.comparison import ComparedRun, Comparison, Cost, Repetition
from counterpoint.studies.comparison_page import run_folder, write_comparison
from counterpoint.studies.launching import Launcher, Places, Task
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
            fields of ``FitOptions`` of its own. ``{"peer": "FILE.npz"}`` is another
            library's answers (:mod:`counterpoint.metrics.recorded`), and
            ``"{seed}.npz"`` or ``"{fold}.npz"`` those of each repetition.
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

    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import counterpoint as cp
    >>> values = np.random.default_rng(0).normal(size=(40, 3))
    >>> data = cp.data.load({"a": values, "b": values[:, :2]})
    >>> quick = {"max_steps": 2, "batch_size": 16, "loggers": ()}
    >>> with TemporaryDirectory() as folder:
    ...     compare(["mvae", "mmvae"], data, out=folder, fit=quick, progress=False)
    Comparison of mvae, mmvae on mapping: 2 runs

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
    peers = {name: _peer(name, own) for name, own in settings.items() if "peer" in own}
    recipes = {
        name: Recipe.of_entry(name, data, own, fit)
        for name, own in settings.items()
        if name not in peers
    }
    if not recipes:
        raise ValueError("only peers are compared; add a method, such as mvae")
    loaded = _of_fold(next(iter(recipes.values())), repetitions[0]).dataset()
    check_names(metrics, loaded)
    for name, recipe in recipes.items():
        made = recipe.made(loaded)
        if cpu_minutes is not None:
            share = cpu_minutes / len(made.stages)
            recipes[name] = recipe.changed({"fit.max_cpu_minutes": share})
    groups = _groups(evaluation or {}, metrics, loaded)
    wanted = {**(evaluation or {}), "only": groups, "progress": False}
    entries = tuple(settings)
    work = _Work(Path(out), entries, recipes, peers, loaded, wanted, tuple(metrics), first)
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
            already = len(work.entries) * len(repetitions) - len(tasks)
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


def _peer(name: str, settings: Mapping[str, Any]) -> str:
    """The file of a peer's answers."""
    if len(settings) > 1 or not isinstance(settings["peer"], str | Path):
        raise ValueError(f"methods: {name} is a peer; give it {{'peer': 'FILE.npz'}} alone")
    return str(settings["peer"])


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
    entries: tuple[str, ...]
    recipes: Mapping[str, Recipe]
    peers: Mapping[str, str]
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
        for name, file in self.peers.items():
            about[f"methods/{name}"] = {"peer": file}
        keep_record(self.folder, "comparison", about)

    def path(self, name: str) -> Path:
        """The file of the scores of a run."""
        return self.folder / "evaluations" / f"{name}.json"

    def tasks(self, repetitions: Sequence[Repetition], *, here: bool) -> dict[str, Task]:
        """What is not done yet, by name of the run: every method of a repetition before
        the next one.

        Args:
            here: the tasks run in this process, which has loaded the data.
        """
        tasks: dict[str, Task] = {}
        for repetition in repetitions:
            for entry in self._entries_of(repetition, repetitions):
                name = f"{entry}-{repetition}"
                measured = self._measured(name)
                if {*self.evaluation["only"]} <= {*measured}:
                    continue
                groups = [*dict.fromkeys([*measured, *self.evaluation["only"]])]
                recipe = self.recipes.get(entry, next(iter(self.recipes.values())))
                of_run = _of_fold(recipe, repetition).changed({"fit.seed": repetition.seed})
                if here and repetition.fold == repetitions[0].fold:
                    of_run = replace(of_run, loaded=self.data)
                measuring = Measuring(
                    of_run,
                    self.path(name),
                    self.folder / "judges",
                    {**self.evaluation, "only": groups},
                )
                if entry in self.peers:
                    tasks[name] = PeerTask(measuring, entry, self._file(entry, repetition))
                else:
                    run = run_folder(self.folder, entry, repetition)
                    tasks[name] = CompareTask(measuring, run)
        return tasks

    def _entries_of(
        self, repetition: Repetition, repetitions: Sequence[Repetition]
    ) -> Iterator[str]:
        """What takes part in a repetition: a peer of one file only in the first."""
        for entry in self.entries:
            file = self.peers.get(entry, "{seed}")
            if "{seed}" in file or "{fold}" in file or repetition == repetitions[0]:
                yield entry

    def _file(self, entry: str, repetition: Repetition) -> Path:
        """The file of a peer's answers in a repetition."""
        file = self.peers[entry]
        for key, value in asdict(repetition).items():
            file = file.replace(f"{{{key}}}", str(value))
        return Path(file)

    def _measured(self, name: str) -> list[str]:
        path = self.path(name)
        return list(Evaluation.from_json(path).meta["groups"]) if path.is_file() else []

    def write(self, repetitions: Sequence[Repetition], failed: Mapping[str, str]) -> Comparison:
        """Write what is known so far."""
        runs = []
        for entry, repetition in product(self.entries, repetitions):
            path = self.path(f"{entry}-{repetition}")
            if path.is_file():
                evaluation = Evaluation.from_json(path)
                cost = Cost(**evaluation.meta["cost"]) if entry in self.recipes else None
                runs.append(ComparedRun(entry, repetition, evaluation, cost))
        found = Comparison(
            self.data.name,
            self.entries,
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


def default_metrics(data: Dataset, runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    """The metrics that tell most of a data set, of those that were measured."""
    shared = [*data.test.shared_labels]
    private = [*data.test.private_labels]
    wanted = []
    z = Metric(group="probe", kind="probe", latent="z")
    w = replace(z, latent="w")
    for label in (*shared, *private):
        wanted.append(replace(z, label=label))
    for label in (*private, *shared):
        wanted.append(replace(w, label=label))
    for label in shared:
        probe = replace(z, latent=None, setting="all", label=label)
        coherence = Metric(group="coherence", kind="coherence", label=label)
        cross = replace(coherence, setting="cross")
        unconditional = replace(coherence, setting="unconditional")
        wanted += [probe, cross, unconditional]
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
