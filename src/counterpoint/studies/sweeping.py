"""``sweep``: how much methods lose as more values are missing.

    random   each training value is missing with the same probability
    block    each modality is missing in one run of consecutive training rows
             (:meth:`counterpoint.data.Split.with_missing`)
    test     training rows are complete, and one modality is missing in a fraction of
             the test rows

The same values are hidden from all methods and seeds. Judges and probes are trained on
complete rows, and the test rows are complete except for ``test``. Only the method
differs between rates. ``test`` measures the probes, ``probe/all/<label>`` among them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from counterpoint.core.files import locked, replacing, write
from counterpoint.data import Dataset
from counterpoint.methods import Method, load, method_named
from counterpoint.metrics import Evaluation, Metric, check_names, evaluate, group_of
from counterpoint.model.format import settle
from counterpoint.studies.cells import Cell, Mechanism, Sweep
from counterpoint.studies.drawing import figure
from counterpoint.studies.launching import Launcher, Places
from counterpoint.studies.recipe import Recipe, Source
from counterpoint.studies.record import keep_record
from counterpoint.training.options import plain

RATES = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Default fractions of missing values."""

DEFAULT_GROUPS = ("probe", "coherence", "likelihood")
"""Groups of metrics that are measured by default."""

TEST_GROUPS = ("probe",)
"""Groups that are measured with missing test values. Generated values do not depend on
them, and likelihoods of different values do not compare."""

DRAWN_METRICS = (
    Metric(group="probe", kind="probe", latent="z"),
    Metric(group="probe", kind="probe", setting="all"),
    Metric(group="coherence", kind="coherence", setting="cross"),
    Metric(group="coherence", kind="coherence", setting="unconditional"),
)
"""Metrics that are drawn of every shared label by default, beside the likelihood."""


def sweep(
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]],
    data: Source,
    *,
    out: str | Path,
    rates: Sequence[float] = RATES,
    how: Sequence[Mechanism] = ("random",),
    seeds: Sequence[int] = (0,),
    fit: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    metrics: Sequence[str] = (),
    hidden: str | None = None,
    jobs: int = 1,
    launcher: Launcher = "local",
    progress: bool = True,
) -> Sweep:
    """Train methods with more and more missing values, and measure each on complete rows.

    ``out`` gets ``sweep.json``, ``sweep.png``, ``evaluations/`` and the run folders in
    ``runs/``. The same call resumes a sweep that was stopped. More rates, methods,
    seeds or mechanisms add to it, and nothing is measured twice. A run that fails is
    noted and does not stop the others.

    >>> from tempfile import TemporaryDirectory
    >>> import counterpoint as cp
    >>> data = {"source": "digits-quadrant", "pairings": 1, "views": 2}
    >>> quick = {"fit": {"max_steps": 1}, "evaluation": {"only": ["likelihood"], "likelihood_rows": 4}}
    >>> with TemporaryDirectory() as out:
    ...     found = cp.sweep(["mvae"], data, out=out, rates=[0], progress=False, **quick)
    >>> found.methods, found.metrics
    (['mvae'], ('loglik/joint',))

    Args:
        methods: names; or by name ``{"model": ..., "fit": ...}``: keywords of the
            method and fields of ``FitOptions`` of its own.
        data: complete data: a data set, the name of one, or keywords of ``data.load``.
        out: the folder.
        rates: fractions of missing values, in [0, 1).
        how: mechanisms, see the module.
        seeds: of training.
        fit: fields of ``FitOptions`` of all methods.
        evaluation: keywords of ``evaluate``; by default the groups probe, coherence and
            likelihood are measured.
        metrics: the names of those to draw; by default probes and coherence of each
            shared label, and likelihood. Their groups are measured too.
        hidden: the modality that ``"test"`` hides; by default the last.
        jobs, launcher: how many runs at a time, and where, as in
            :func:`~counterpoint.studies.compare`.
        progress: report progress on standard error.

    Raises:
        ValueError: nothing to do, another split than the test split, a rate outside [0,
            1), an unknown method, mechanism, modality or metric, options that do not go
            together, data with missing values by an option, or a folder that holds a
            sweep with other options.
        BlockingIOError: another process works on the sweep.
    """
    own = (
        {name: dict(settings) for name, settings in methods.items()}
        if isinstance(methods, Mapping)
        else {name: {} for name in methods}
    )
    cells = _cells([*own], rates, how, seeds)
    recipes = {name: _recipe(name, data, settings, fit) for name, settings in own.items()}
    complete = next(iter(recipes.values())).dataset()
    last = hidden or complete.modalities[-1].name
    wanted = _evaluation(evaluation or {}, metrics, complete, last)
    check_names(metrics, complete)
    for recipe in recipes.values():
        recipe.made(complete)
    work = _Work(Path(out), recipes, complete, last, wanted, tuple(metrics))
    return _swept(work, cells, Places(Path(out), launcher, jobs), progress=progress)


def _swept(work: _Work, cells: Sequence[Cell], places: Places, *, progress: bool) -> Sweep:
    """Measure each cell that has not been measured."""
    quiet = not (progress and sys.stderr.isatty())
    tasks = {run: partial(work.measure, of_run) for run, of_run in work.missing(cells).items()}
    failed: dict[str, str] = {}
    with (
        locked(work.folder),
        tqdm(total=len(tasks), desc="sweep", unit="run", disable=quiet, file=sys.stderr) as bar,
    ):
        work.check()
        for name, reason in places.run(tasks):
            bar.update()
            if reason is not None:
                failed[name] = reason
            if progress:
                tqdm.write(f"sweep: {name} {reason or 'is measured'}", file=sys.stderr)
            work.write(cells, failed)
        return work.write(cells, failed)


def _cells(
    methods: Sequence[str], rates: Sequence[float], how: Sequence[Mechanism], seeds: Sequence[int]
) -> list[Cell]:
    """The cells to measure, complete data first."""
    for option, values in (("methods", methods), ("rates", rates), ("how", how), ("seeds", seeds)):
        if not values:
            raise ValueError(f"{option} is empty; give at least one")
    for name in methods:
        method_named(name)
    wrong = [rate for rate in rates if not 0 <= rate < 1]
    unknown = [kind for kind in how if kind not in get_args(Mechanism)]
    if wrong or unknown:
        raise ValueError(
            f"rates: {wrong[0]} must lie in [0, 1)"
            if wrong
            else f"how: {unknown[0]!r} is unknown; choose one of {', '.join(get_args(Mechanism))}"
        )
    cells = []
    for rate, kind, seed in product(sorted(map(float, rates)), how, seeds):
        cells += [Cell(name, kind if rate else "complete", rate, seed) for name in methods]
    return [*dict.fromkeys(cells)]


def _recipe(
    name: str, data: Source, settings: Mapping[str, Any], fit: Mapping[str, Any] | None
) -> Recipe:
    if isinstance(data, Mapping) and data.get("missing"):
        raise ValueError(f"the sweep hides values itself; leave out missing={data['missing']}")
    return Recipe.of_entry(name, data, settings, fit)


def _evaluation(
    given: Mapping[str, Any], metrics: Sequence[str], data: Dataset, hidden: str
) -> dict[str, Any]:
    """Keywords of ``evaluate``."""
    if hidden not in [m.name for m in data.modalities]:
        raise ValueError(
            f"hidden={hidden!r} is no modality; "
            f"choose one of {', '.join(m.name for m in data.modalities)}"
        )
    if given.get("split", "test") != "test":
        raise ValueError(
            f"a sweep is measured on the test split, got split={given['split']!r}; leave it out"
        )
    groups = dict.fromkeys([*(given.get("only") or DEFAULT_GROUPS), *map(group_of, metrics)])
    return {**given, "only": [*groups], "progress": False}


@dataclass(frozen=True)
class _Work:
    """A sweep under way."""

    folder: Path
    recipes: Mapping[str, Recipe]
    data: Dataset
    hidden: str
    evaluation: Mapping[str, Any]
    metrics: tuple[str, ...]

    def path(self, cell: Cell) -> Path:
        """The file of a cell's evaluation."""
        return self.folder / "evaluations" / f"{cell.name}.json"

    def check(self) -> None:
        """Write the options to ``sweep.yaml``.

        Raises:
            ValueError: the folder holds a sweep with other options.
        """
        about: dict[str, Any] = {
            "data": self.data.checksum(),
            "evaluation": plain({k: v for k, v in self.evaluation.items() if k != "only"}),
            "hidden": self.hidden,
        }
        for name, recipe in self.recipes.items():
            about[f"methods/{name}"] = recipe.about
        keep_record(self.folder, "sweep", about)

    def missing(self, cells: Sequence[Cell]) -> dict[str, list[Cell]]:
        """The cells that have not been measured, by the run that they measure."""
        by_run: dict[str, list[Cell]] = {}
        for cell in cells:
            if not self.done(cell):
                by_run.setdefault(cell.run, []).append(cell)
        return by_run

    def measure(self, cells: Sequence[Cell]) -> None:
        """Train the run of some cells unless it is trained, and evaluate it for each."""
        trained = self._trained(cells[0])
        for cell in cells:
            data = self.data
            if cell.how == "test":
                holed = data.test.with_missing(cell.rate, self._seed(cell), among=[self.hidden])
                data = replace(data, test=holed)
            groups = dict.fromkeys([*self._measured(cell), *self._wanted(cell)])
            keywords = {**self.evaluation, "only": [*groups]}
            evaluation = evaluate(trained, data, cache=self.folder / "judges", **keywords)
            self.path(cell).parent.mkdir(parents=True, exist_ok=True)
            evaluation.to_json(self.path(cell))

    def _trained(self, cell: Cell) -> Method:
        """The method of a cell, loaded if it was trained before."""
        run = self.folder / "runs" / cell.run
        recipe = self.recipes[cell.method]
        settle(run / "model")
        if (run / "model" / "config.json").is_file():
            return load(run)
        data = self.data
        changes = dict[str, Any]({"fit.seed": cell.seed})
        if cell.how == "random" or cell.how == "block":
            data = data.with_missing(cell.rate, self._seed(cell), cell.how)
            if recipe.data:
                changes |= {"data.missing": cell.rate, "data.missing_how": cell.how}
        return recipe.changed(changes).trained(data, run, resume=True)[0]

    def _seed(self, cell: Cell) -> int:
        """The seed of the missing values: that of the data."""
        return int(self.recipes[cell.method].data.get("seed") or 0)

    def done(self, cell: Cell) -> bool:
        """Whether all groups that are wanted of a cell have been measured."""
        return {*self._wanted(cell)} <= {*self._measured(cell)}

    def _wanted(self, cell: Cell) -> list[str]:
        return [
            group for group in self.evaluation["only"] if cell.how != "test" or group in TEST_GROUPS
        ]

    def _measured(self, cell: Cell) -> list[str]:
        """The groups that have been measured of a cell."""
        path = self.path(cell)
        return list(Evaluation.from_json(path).meta["groups"]) if path.is_file() else []

    def write(self, cells: Sequence[Cell], failed: Mapping[str, str]) -> Sweep:
        """Write the results so far, and their figure."""
        every = [
            (cell, Evaluation.from_json(self.path(cell)))
            for cell in cells
            if self.path(cell).is_file()
        ]
        measured = {name for _, evaluation in every for name in evaluation.metrics}
        drawn = self.metrics or _default_metrics(self.data, measured)
        chance: dict[str, float] = {}
        for name in drawn:
            for _, evaluation in every:
                guess = evaluation.chance(name)
                chance |= {} if guess is None else {name: guess}
        results = Sweep(
            tuple((cell, evaluation.metrics) for cell, evaluation in every),
            dict(failed),
            drawn,
            chance,
        )
        write(self.folder / "sweep.json", results.json().encode())
        if every and drawn:
            with replacing(self.folder / "sweep.png") as beside:
                figure(results).savefig(beside, format="png", dpi=160, facecolor="white")
        return results


def _default_metrics(data: Dataset, measured: set[str]) -> tuple[str, ...]:
    """The metrics that are drawn unless others are named, if they were measured."""
    of_labels = []
    for metric in DRAWN_METRICS:
        for label in data.test.shared_labels:
            of_labels.append(replace(metric, label=label))
    likelihood = Metric(group="likelihood", kind="loglik/joint")
    names = [metric.name for metric in (*of_labels, likelihood)]
    return tuple(name for name in names if name in measured)
