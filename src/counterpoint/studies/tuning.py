"""``tune``: search fields of a configuration with Optuna, one training run a trial.

Values are proposed by tree-structured Parzen estimators (Bergstra et al. 2011,
"Algorithms for hyper-parameter optimization",
https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization). A trial
trains with them and is measured on the *validation* split alone. Measure the best
configuration again on the test split before you report it. The study is kept in a
database, so a study that was stopped can be resumed.

Trials are pruned by ``val/loss`` at every validation. That loss has the final weight of
every term at every step, so warm-ups do not matter. Weights of terms, β, the likelihood
and its scale do: if they are searched, a warning says that losses of trials do not
compare.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
import yaml
from tqdm import tqdm

from counterpoint.core.documents import read_yaml
from counterpoint.core.files import locked, write
from counterpoint.core.optional import required
from counterpoint.methods import method_named
from counterpoint.metrics import Evaluation, evaluate, group_of
from counterpoint.studies.comparability import warn_of_other_losses
from counterpoint.studies.optuna_study import Stopped, opened, state_of, trial_of, watcher
from counterpoint.studies.recipe import Recipe, Source
from counterpoint.studies.space import Space, read_space
from counterpoint.studies.trials import (
    COUNTED_STATES,
    LOSS_METRIC,
    Direction,
    Prune,
    Tuning,
)
from counterpoint.training import FitOptions, FitResult, NonFiniteLoss

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial as Running


class UnknownMetric(ValueError):
    """A metric that no trial can have."""


def tune(
    name: str,
    data: Source,
    search: Mapping[str, Any] | str | Path,
    *,
    out: str | Path,
    model: Mapping[str, Any] | None = None,
    fit: Mapping[str, Any] | FitOptions | None = None,
    evaluation: Mapping[str, Any] | None = None,
    trials: int = 20,
    metric: str = LOSS_METRIC,
    direction: Direction | None = None,
    storage: str | None = None,
    prune: Prune = "median",
    sampler_seed: int = 0,
    progress: bool = True,
) -> Tuning:
    """Search fields of a configuration for the best value of a metric on the validation
    split.

    ``out`` gets ``best.yaml``, ``trials.csv`` and the run folder of each trial, without
    its checkpoints, below ``trials/``. The same call resumes a study that was stopped,
    with the same result. Interrupted trials begin again with the same values and do not
    count. One process at a time works on a study.

    >>> from tempfile import TemporaryDirectory
    >>> import counterpoint as cp
    >>> data = {"source": "digits-quadrant", "pairings": 1, "views": 2}
    >>> search, quick = {"model.shared_dim": [2, 3]}, {"trials": 1, "progress": False}
    >>> with TemporaryDirectory() as out:
    ...     found = cp.tune("mvae", data, search, out=out, fit={"max_steps": 1}, **quick)
    >>> found.best.number, found.fields
    (0, ['model.shared_dim'])

    Args:
        name: the name of the method.
        data: a data set, the name of one, or keywords of ``data.load``; fields of
            ``data`` can be searched unless it is a data set.
        search: fields and their ranges or choices, or a YAML file of them
            (:mod:`counterpoint.studies.space`).
        out: the folder.
        model, fit, evaluation: what is not searched: keywords of the method, fields of
            ``FitOptions``, keywords of ``evaluate``.
        trials: the number of trials, with pruned and failed ones.
        metric: ``"val/loss"``, of the last validation, or of the best with
            ``keep="best"``; or a metric of ``evaluate`` on the validation split.
        direction: ``"maximize"`` or ``"minimize"``; optional for ``"val/loss"`` only.
        storage: Optuna's address of a database, such as ``sqlite:///F.db``; by default
            ``study.db`` in ``out``.
        prune: ``"median"`` stops trials whose ``val/loss`` is worse than the median of
            the others at that validation, after five trials. ``"halving"`` gives only
            the best third of them three times as many validations. ``"none"`` stops
            none.
        sampler_seed: the seed of the proposals; that of the training is a field of
            ``fit``, the same in all trials.
        progress: report each trial on standard error.

    Raises:
        ValueError: a search space that is empty or wrong, no direction, an unknown
            metric, or a storage that holds another study.
        FileNotFoundError: no such file of the search space.
        BlockingIOError: another process works on the study.
        ModuleNotFoundError: Optuna is not installed.
    """
    kind = method_named(name)
    space = read_space(search, kind)
    way = _checked(metric, direction, prune, trials)
    base = _check_base(Recipe.of(kind, data, model, fit), space)
    warn_of_other_losses(base, space, metric, prune)
    required("optuna", "tune")
    folder = Path(out)
    about = {
        "metric": metric,
        "direction": way,
        "search": {field: str(dimension) for field, dimension in space.items()},
    }
    with (
        locked(folder),
        opened(storage or f"sqlite:///{folder}/study.db", name, way, about, prune) as study,
    ):
        work = _Work(study, base, space, metric, way, folder, evaluation or {}, sampler_seed)
        return _searched(work, trials, progress=progress)


def _searched(work: _Work, trials: int, *, progress: bool) -> Tuning:
    """Run trials until there are as many as wanted."""
    work.begin_again()
    quiet = not (progress and sys.stderr.isatty())
    with tqdm(total=trials, initial=work.done, desc="tune", disable=quiet, file=sys.stderr) as bar:
        while work.done < trials:
            number = work.run()
            tuning = work.write()
            bar.update(work.done - bar.n)
            if progress:
                tqdm.write(_line(tuning, number, trials), file=sys.stderr)
    return work.write()


class _Work:
    """A study under way."""

    def __init__(
        self,
        study: Study,
        base: Recipe,
        space: Space,
        metric: str,
        direction: Direction,
        folder: Path,
        evaluation: Mapping[str, Any],
        seed: int,
    ) -> None:
        self.study = study
        self.base = base
        self.space = space
        self.metric = metric
        self.direction = direction
        self.folder = folder
        self.evaluation = evaluation
        self.seed = seed

    @property
    def done(self) -> int:
        """The number of trials that count."""
        return sum(state_of(t) in COUNTED_STATES for t in self.study.get_trials(deepcopy=False))

    def begin_again(self) -> None:
        """Mark interrupted trials as failed.

        The next trial has the same values, because as many trials that count precede
        it.
        """
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING:
                self.study.tell(trial.number, state=TrialState.FAIL)
            self._forget_checkpoints(trial.number)

    def run(self) -> int:
        """Run one trial and return its number."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        # seeded by the number of trials, so that a study resumes as if it had not been stopped
        self.study.sampler = TPESampler(
            seed=int(np.random.SeedSequence(self.seed, spawn_key=(self.done,)).generate_state(1)[0])
        )
        trial = self.study.ask()
        began = time.monotonic()
        value = None
        state = TrialState.COMPLETE
        reason = ""
        try:
            value = self._value(trial)
        except UnknownMetric:
            raise
        except (Stopped, NonFiniteLoss) as stop:
            state = TrialState.PRUNED
            reason = str(stop)
        except (ValueError, TypeError, torch.OutOfMemoryError) as error:
            state = TrialState.FAIL
            reason = str(error)
        trial.set_user_attr("seconds", round(time.monotonic() - began, 2))
        if reason:
            trial.set_user_attr("reason", reason)
        self.study.tell(trial, value, state=state)
        self._forget_checkpoints(trial.number)
        return trial.number

    def write(self) -> Tuning:
        """Write the table of the trials and the best configuration."""
        trials = tuple(map(trial_of, self.study.get_trials(deepcopy=False)))
        path = self.folder / "best.yaml"
        found = Tuning(self.metric, self.direction, trials, None)
        if (best := found.best) is not None:
            config = read_yaml(self._run(best.number) / "config.yaml")
            config["fit"]["progress"] = True
            about = (
                f"# trial {best.number} of {len(trials)}: "
                f"{self.metric} {best.value:.6g}, of the validation split\n"
            )
            write(
                path, (about + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)).encode()
            )
            found = Tuning(self.metric, self.direction, trials, path)
        write(self.folder / "trials.csv", found.csv().encode())
        return found

    def _forget_checkpoints(self, number: int) -> None:
        shutil.rmtree(self._run(number) / "checkpoints", ignore_errors=True)

    def _run(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    def _value(self, trial: Running) -> float:
        """Train and measure.

        Raises:
            Stopped: it is pruned, or its loss on validation rows is not finite.
            UnknownMetric: the metric is not measured.
            ValueError, TypeError: values that do not go together, or a metric that
                could not be measured.
        """
        values = {
            field: dimension.suggested(trial, field) for field, dimension in self.space.items()
        }
        recipe = self.base.changed(values)
        data = recipe.dataset()
        run = self._run(trial.number)
        trained, result = recipe.trained(data, run, watch=watcher(trial, self.direction))
        if self.metric == LOSS_METRIC:
            return _loss(result, FitOptions(**recipe.fit))
        evaluation = evaluate(
            trained,
            data,
            split="val",
            only=[group_of(self.metric)],
            cache=self.folder / "judges",
            progress=False,
            **self.evaluation,
        )
        evaluation.to_json(run / "evaluation-partial.json")
        return _metric_value(evaluation, self.metric, f"{trained.name} on {data.name}")


def _metric_value(evaluation: Evaluation, metric: str, of: str) -> float:
    """The value of a metric.

    Raises:
        UnknownMetric: it is not measured.
        ValueError: it was left out.
    """
    names = [score.name for score in evaluation.scores]
    if metric in names:
        return evaluation.score(metric).value
    reason = evaluation.meta["left_out"].get(metric)
    if reason is not None:
        raise ValueError(f"{metric} could not be measured: {reason}")
    close = get_close_matches(metric, names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(names)}"
    raise UnknownMetric(f"metric {metric!r} is not measured of {of}; {hint}")


def _checked(metric: str, direction: str | None, prune: str, trials: int) -> Direction:
    """Check the options and return the direction."""
    if metric != LOSS_METRIC:
        group_of(metric)
    if direction is None and metric != LOSS_METRIC:
        raise ValueError(f"say what is better of {metric!r}: direction 'maximize' or 'minimize'")
    for option, value, allowed in (
        ("direction", direction, (None, *get_args(Direction))),
        ("prune", prune, get_args(Prune)),
    ):
        if value not in allowed:
            names = ", ".join(name for name in allowed if name is not None)
            raise ValueError(f"{option}={value!r} is unknown; choose one of {names}")
    if trials < 1:
        raise ValueError(f"trials={trials} must be 1 or more")
    return "maximize" if direction == "maximize" else "minimize"


def _check_base(base: Recipe, space: Space) -> Recipe:
    """The recipe with its data loaded, unless fields of these are searched.

    Raises:
        ValueError, TypeError: options that no value of the searched fields makes valid,
            or stages that the method does not have.
    """
    data = base.dataset()
    stages = [stage.name for stage in base.made(data).stages if stage.name]
    for field in space:
        if field.startswith("fit.stages.") and field.split(".")[2] not in stages:
            has = (
                f"its stages are {', '.join(stages)}"
                if stages
                else "it has only one, whose options stand outside stages"
            )
            raise ValueError(
                f"search: {field}: {base.method.name} has no stage {field.split('.')[2]!r}; {has}"
            )
    searched = [field for field in space if field.startswith("data.")]
    if searched:
        base.changed({searched[0]: None})
    return base if searched else replace(base, loaded=data)


def _loss(result: FitResult, options: FitOptions) -> float:
    """The loss on validation rows of the weights that were kept.

    Raises:
        ValueError: there was no validation.
    """
    if result.best is None:
        raise ValueError(
            f"{LOSS_METRIC} was never measured: a run must end a pass of the training rows; "
            "raise max_steps or max_epochs"
        )
    return result.best if options.keep == "best" else result.metrics[LOSS_METRIC]


def _line(tuning: Tuning, number: int, trials: int) -> str:
    trial = tuning.trials[number]
    best = tuning.best
    outcome = f"{trial.state}: {trial.reason}"
    if trial.value is not None:
        outcome = f"{tuning.metric} {trial.value:.6g}"
    leader = f"; best {best.value:.6g}, trial {best.number}" if best else ""
    return f"tune: trial {number} of {trials}, {outcome}{leader}"
