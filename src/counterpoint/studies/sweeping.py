"""``sweep``: what methods lose as more values are missing.

    random   each training value is missing with the same probability
    block    each modality is missing in one run of the training rows (:meth:`counterpoint.data.Split.with_missing`)
    test     training rows are complete, and one modality is missing in a fraction of the test rows

The same values are hidden from all methods and seeds, so that these compare. Judges and
probes are trained on complete rows, and but for ``test`` the
test rows are complete: what differs between rates is the method alone. Of ``test``
probes are measured, ``probe/all/<label>`` of what each row has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import yaml
from tqdm import tqdm

from counterpoint.core.documents import read_yaml
from counterpoint.core.files import locked, replacing, write
from counterpoint.data import Dataset
from counterpoint.methods import METHODS, load, method
from counterpoint.metrics import Evaluation, evaluate, group_of
from counterpoint.model.format import settle
from counterpoint.studies.recipe import Recipe, Source
from counterpoint.training import NonFiniteLoss
from counterpoint.training.options import lifted, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

How = Literal["random", "block", "test"]

RATES = (0.0, 0.2, 0.4, 0.6, 0.8)

GROUPS = ("probe", "coherence", "likelihood")

READ_AT_TEST = ("probe",)
"""Groups that say what test rows lose with a modality: what is generated from others
does not hang on it, and a likelihood is of fewer values."""

KINDS = ("probe/z/{}", "probe/all/{}", "coherence/cross/{}", "coherence/unconditional/{}")
"""Metrics that are drawn of every shared label, beside the likelihood."""


@dataclass(frozen=True)
class Cell:
    """One measurement of a sweep.

    Attributes:
        how: the mechanism; ``"complete"`` at rate 0, which is the same for all.
    """

    method: str
    how: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Of its evaluation's file."""
        return f"{self.method}-{self.how}-{self.rate:g}-seed{self.seed}"

    @property
    def run(self) -> str:
        """Of the run folder that it measures: ``test`` measures what complete rows have
        trained."""
        how, rate = ("complete", 0.0) if self.how == "test" else (self.how, self.rate)
        return replace(self, how=how, rate=rate).name


@dataclass(frozen=True)
class Sweep:
    """What a sweep has measured.

    Attributes:
        cells: what was measured, each with its metrics by name.
        failed: why there is nothing of a cell, by its name.
        metrics: those that are drawn and tabulated.
    """

    cells: tuple[tuple[Cell, dict[str, float]], ...]
    failed: dict[str, str]
    metrics: tuple[str, ...]
    chance: dict[str, float] = field(default_factory=dict)

    def curve(self, metric: str, method: str, how: str) -> dict[float, list[float]]:
        """Values over seeds by rate; rate 0 is that of complete rows."""
        found: dict[float, list[float]] = {}
        for cell, metrics in self.cells:
            if cell.method == method and cell.how in (how, "complete") and metric in metrics:
                found.setdefault(cell.rate, []).append(metrics[metric])
        return dict(sorted(found.items()))

    @property
    def methods(self) -> list[str]:
        return [*dict.fromkeys(cell.method for cell, _ in self.cells)]

    @property
    def hows(self) -> list[str]:
        """The mechanisms; ``"complete"`` alone where nothing else was measured."""
        return [*dict.fromkeys(cell.how for cell, _ in self.cells if cell.how != "complete")] or [
            "complete"
        ]

    def drawn(self, metric: str, how: str) -> bool:
        """Whether a mechanism has anything to say of a metric."""
        return any(cell.how == how and metric in metrics for cell, metrics in self.cells)

    def table(self) -> str:
        """A block for each mechanism and metric: methods down, rates across, means over
        seeds."""
        lines = []
        for how in self.hows:
            for metric in (m for m in self.metrics if self.drawn(m, how)):
                curves = {name: self.curve(metric, name, how) for name in self.methods}
                rates = sorted({rate for curve in curves.values() for rate in curve})
                lines.append(
                    f"{metric}, {how}".ljust(40) + "".join(f"{rate:>10g}" for rate in rates)
                )
                for name, curve in curves.items():
                    values = (
                        f"{np.mean(curve[rate]):10.4g}" if rate in curve else " " * 10
                        for rate in rates
                    )
                    lines.append(f"  {name}".ljust(40) + "".join(values))
        return "".join(line.rstrip() + "\n" for line in lines)

    def json(self) -> str:
        """``{"runs": [{"method", "how", "rate", "seed", "metrics"}], "chance",
        "failed"}``."""
        runs = [{**asdict(cell), "metrics": metrics} for cell, metrics in self.cells]
        return (
            json.dumps(
                {"runs": runs, "chance": self.chance, "failed": self.failed},
                indent=2,
                allow_nan=False,
            )
            + "\n"
        )


def sweep(
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]],
    data: Source,
    *,
    out: str | Path,
    rates: Sequence[float] = RATES,
    how: Sequence[How] = ("random",),
    seeds: Sequence[int] = (0,),
    fit: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    metrics: Sequence[str] = (),
    hidden: str | None = None,
    progress: bool = True,
) -> Sweep:
    """Train methods on data of which ever more is missing, and measure each on complete
    rows.

    ``out`` gets ``sweep.json``, ``sweep.png``, ``evaluations/`` and the run folders in
    ``runs/``. The same call goes on with a sweep that was stopped, and
    more rates, methods, seeds or mechanisms add to it: what has been measured is not
        measured again.

    Args:
        methods: names; or by name ``{"model": ..., "fit": ...}``: keywords of the
            method and fields of ``FitOptions`` that are its own.
        data: complete data: a data set, the name of one, or keywords of ``data.load``.
        out: the folder.
        rates: fractions of missing values, in [0, 1).
        how: mechanisms, see the module.
        seeds: of training.
        fit: fields of ``FitOptions`` of all methods.
        evaluation: keywords of ``evaluate``; by default the groups probe, coherence and
            likelihood are measured.
        metrics: those that are drawn; by default probes and coherence of each shared
            label, and likelihood. Their groups are measured, too.
        hidden: the modality that is missing by ``"test"``; by default the last.
        progress: say on standard error what is done.

    Raises:
        ValueError: nothing to do, another split than the test split, a rate outside [0,
            1), an unknown method, mechanism, modality or metric, options that do not go
            together, data that are incomplete by an option, or a folder that holds a
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
    for recipe in recipes.values():
        recipe.made(complete)
    folder = Path(out)
    work = _Work(folder, recipes, complete, last, wanted, tuple(metrics))
    with (
        locked(folder),
        tqdm(
            total=len(cells),
            desc="sweep",
            unit="run",
            disable=not (progress and sys.stderr.isatty()),
            file=sys.stderr,
        ) as bar,
    ):
        work.check()
        for cell in cells:
            if not work.done(cell):
                if progress:
                    tqdm.write(f"sweep: {cell.name}", file=sys.stderr)
                work.measure(cell)
                work.write(cells)
            bar.update()
        return work.write(cells)


def _cells(
    methods: Sequence[str], rates: Sequence[float], how: Sequence[str], seeds: Sequence[int]
) -> list[Cell]:
    """What is to be measured, complete data first."""
    for what, given in (("methods", methods), ("rates", rates), ("how", how), ("seeds", seeds)):
        if not given:
            raise ValueError(f"{what} is empty; give at least one")
    for name in methods:
        method(name)
    wrong = [rate for rate in rates if not 0 <= rate < 1]
    unknown = [kind for kind in how if kind not in get_args(How)]
    if wrong or unknown:
        raise ValueError(
            f"rates: {wrong[0]} must lie in [0, 1)"
            if wrong
            else f"how: {unknown[0]!r} is unknown; choose one of {', '.join(get_args(How))}"
        )
    each = [
        Cell(m, kind if rate else "complete", float(rate), seed)
        for rate in rates
        for kind in how
        for seed in seeds
        for m in methods
    ]
    return [*dict.fromkeys(sorted(each, key=lambda cell: cell.rate))]


def _recipe(
    name: str, data: Source, settings: Mapping[str, Any], fit: Mapping[str, Any] | None
) -> Recipe:
    stray = [key for key in settings if key not in ("model", "fit")]
    if stray:
        raise ValueError(f"methods: {name} has {stray[0]!r}; it may have model and fit")
    if isinstance(data, Mapping) and data.get("missing"):
        raise ValueError(f"the sweep hides values itself; leave out missing={data['missing']}")
    own = dict(settings.get("fit") or {})
    general = {
        key: value for key, value in (fit or {}).items() if key not in lifted(own)
    }  # the method's own limits hold
    return Recipe.of(METHODS[name], data, settings.get("model"), {**general, **own})


def _evaluation(
    given: Mapping[str, Any], metrics: Sequence[str], data: Dataset, hidden: str
) -> dict[str, Any]:
    """Keywords of ``evaluate``."""
    if hidden not in [m.name for m in data.modalities]:
        raise ValueError(
            f"hidden={hidden!r} is no modality; choose one of {', '.join(m.name for m in data.modalities)}"
        )
    if given.get("split", "test") != "test":
        raise ValueError(
            f"a sweep is measured on the test split, got split={given['split']!r}; leave it out"
        )
    groups = dict.fromkeys([*(given.get("only") or GROUPS), *map(group_of, metrics)])
    return {**given, "only": [*groups], "progress": False}


class _Work:
    """A sweep under way."""

    def __init__(
        self,
        folder: Path,
        recipes: Mapping[str, Recipe],
        data: Dataset,
        hidden: str,
        evaluation: Mapping[str, Any],
        metrics: tuple[str, ...],
    ) -> None:
        self.folder, self.recipes, self.data, self.hidden = folder, recipes, data, hidden
        self.evaluation, self.metrics = evaluation, metrics
        self.failed: dict[str, str] = {}

    def path(self, cell: Cell) -> Path:
        """Of what was measured."""
        return self.folder / "evaluations" / f"{cell.name}.json"

    def check(self) -> None:
        """Keep the options in ``sweep.yaml``.

        Raises:
            ValueError: the folder holds a sweep with others.
        """
        about: dict[str, Any] = {
            "data": self.data.checksum(),
            "evaluation": plain({k: v for k, v in self.evaluation.items() if k != "only"}),
        }
        about |= {"hidden": self.hidden}
        for name, recipe in self.recipes.items():
            about[f"methods/{name}"] = plain(
                {"model": recipe.model, "fit": {k: v for k, v in recipe.fit.items() if k != "seed"}}
            )
        path = self.folder / "sweep.yaml"
        before = read_yaml(path) if path.is_file() else {}
        if not isinstance(before, dict):
            raise ValueError(f"{path} is no record of a sweep; remove it, or name another folder")
        for key, value in about.items():
            if key in before and before[key] != value:
                raise ValueError(
                    f"{self.folder} holds a sweep with other options ({key}); give the same, or name another folder"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        write(path, yaml.safe_dump({**before, **about}, sort_keys=False).encode())

    def measure(self, cell: Cell) -> None:
        """Train, unless that has been done, and evaluate. A run that diverges is left
        out."""
        run = self.folder / "runs" / cell.run
        data, described = self.data, dict[str, Any]({"fit.seed": cell.seed})
        seed = int(self.recipes[cell.method].data.get("seed") or 0)
        if cell.how in ("random", "block"):
            data = data.with_missing(cell.rate, seed, cell.how)  # type: ignore[arg-type]  # one of the two
            if self.recipes[cell.method].data:
                described |= {"data.missing": cell.rate, "data.missing_how": cell.how}
        recipe = self.recipes[cell.method].changed(described)
        settle(run / "model")
        try:
            trained = (
                load(run)
                if (run / "model" / "config.json").is_file()
                else recipe.trained(data, run, resume=True)[0]
            )
        except NonFiniteLoss as error:
            self.failed[cell.name] = str(error)
            return
        whole = self.data
        if cell.how == "test":
            whole = replace(
                whole, test=whole.test.with_missing(cell.rate, seed, among=[self.hidden])
            )
        groups = dict.fromkeys([*self._measured(cell), *self._wanted(cell)])
        found = evaluate(
            trained, whole, cache=self.folder / "judges", **{**self.evaluation, "only": [*groups]}
        )
        found.to_json(self.path(cell))

    def done(self, cell: Cell) -> bool:
        """Whether all that is wanted of it has been measured."""
        return {*self._wanted(cell)} <= {*self._measured(cell)}

    def _wanted(self, cell: Cell) -> list[str]:
        return [
            group
            for group in self.evaluation["only"]
            if cell.how != "test" or group in READ_AT_TEST
        ]

    def _measured(self, cell: Cell) -> list[str]:
        """The groups of metrics that are there."""
        path = self.path(cell)
        return list(Evaluation.from_json(path).meta["groups"]) if path.is_file() else []

    def write(self, cells: Sequence[Cell]) -> Sweep:
        """Write the table and the figure of what has been measured so far."""
        every = [
            (cell, Evaluation.from_json(self.path(cell)))
            for cell in cells
            if self.path(cell).is_file()
        ]
        drawn = self.metrics or tuple(
            _usual(self.data, {name for _, evaluation in every for name in evaluation.metrics})
        )
        chance = {
            name: value
            for name in drawn
            for _, evaluation in every
            if (value := evaluation.chance(name)) is not None
        }
        found = Sweep(
            tuple((cell, evaluation.metrics) for cell, evaluation in every),
            dict(self.failed),
            drawn,
            chance,
        )
        write(self.folder / "sweep.json", found.json().encode())
        if every and drawn:
            with replacing(self.folder / "sweep.png") as beside:
                figure(found).savefig(beside, format="png", dpi=160, facecolor="white")
        return found


def _usual(data: Dataset, measured: set[str]) -> Iterator[str]:
    """Metrics that are drawn unless others are asked for, as far as they are measured."""
    labels = data.test.shared_labels
    wanted = [kind.format(label) for kind in KINDS for label in labels] + ["loglik/joint"]
    yield from (name for name in wanted if name in measured)


def figure(found: Sweep) -> Figure:
    """A row for each metric, a column for each mechanism: means over seeds, with bars
    of a standard deviation, over the missing percentage."""
    from matplotlib.figure import Figure

    from counterpoint.report.figures.style import CLASSES, FAINT, INK, style_panel

    rows, columns = len(found.metrics), len(found.hows)
    made = Figure(
        figsize=(3.2 * columns + 0.8, 2.0 * rows + 0.4), facecolor="none", layout="constrained"
    )
    grid = made.subplots(rows, columns, squeeze=False, sharey="row", sharex=True)
    for line, metric in zip(grid, found.metrics, strict=True):
        for axes, how in zip(line, found.hows, strict=True):
            if not found.drawn(metric, how):
                axes.set_axis_off()
                continue
            for name, colour in zip(found.methods, CLASSES * 2, strict=False):
                curve = found.curve(metric, name, how)
                x, y = [100 * rate for rate in curve], [float(np.mean(v)) for v in curve.values()]
                bars = [float(np.std(v, ddof=1)) if len(v) > 1 else 0.0 for v in curve.values()]
                axes.errorbar(
                    x,
                    y,
                    bars,
                    color=colour,
                    linewidth=1.3,
                    marker="o",
                    ms=3,
                    elinewidth=0.8,
                    capsize=1.5,
                    label=name,
                )
            if metric in found.chance:
                axes.axhline(found.chance[metric], color=FAINT, linewidth=1.0, linestyle="--")
            style_panel(axes, f"{metric}, {how}" if how != "complete" else metric)
    for axes in grid[-1]:
        axes.set_xlabel("missing, %", fontsize=8, color=INK)
    handles, labels = grid[0][0].get_legend_handles_labels()
    made.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(6, len(labels)),
        fontsize=8,
        frameon=False,
    )
    return made
