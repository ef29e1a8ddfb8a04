"""``tune``: fields of a configuration searched with Optuna, one training run a trial.

A trial trains with the values that the sampler (tree-structured Parzen estimators,
Bergstra et al. 2011, "Algorithms for hyper-parameter optimization",
https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization) proposes,
and is measured on the *validation* split
alone: what is reported of the best configuration has to be measured anew, on the test
split. The study lives in a database, so that one that was stopped goes on.

Trials are pruned by ``val/loss`` at every validation. It has the final weight of every
term at every step, so that warm-ups and a contrast that comes first do not matter.
Weights of terms, β, the likelihood and its scale do: where they are searched, a warning
says that losses of trials do not compare.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import yaml
from tqdm import tqdm

from counterpoint.core.documents import read_yaml
from counterpoint.core.files import locked, write
from counterpoint.core.optional import required
from counterpoint.methods import Method, method
from counterpoint.metrics import evaluate, group_of
from counterpoint.studies.recipe import Recipe, Source
from counterpoint.studies.space import Space, read_space
from counterpoint.studies.trials import Direction, State, Trial, Tuning
from counterpoint.training import FitOptions, FitResult, NonFiniteLoss

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Running

Prune = Literal["median", "halving", "none"]

COUNTED = ("complete", "pruned", "failed")

LOSS = "val/loss"


class Stopped(Exception):
    """A trial that is not worth going on with; says why."""


class UnknownMetric(ValueError):
    """A metric that no trial will have."""


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
    metric: str = LOSS,
    direction: Direction | None = None,
    storage: str | None = None,
    prune: Prune = "median",
    sampler_seed: int = 0,
    progress: bool = True,
) -> Tuning:
    """Search fields of a configuration for the best value of a metric on the validation
    split.

    ``out`` gets ``best.yaml``, ``trials.csv`` and the run folder of each trial, without
    its checkpoints, below ``trials/``. The same call goes on with a
    study that was stopped, and comes to the same: trials that were under way are begun
        anew with the same values, and do not count. One process at a time works on a
        study.

    Args:
        name: of the method.
        data: a data set, the name of one, or keywords of ``data.load``; fields of
            ``data`` can be searched unless it is a data set.
        search: fields and their ranges or choices, or a YAML file of them
            (:mod:`counterpoint.studies.space`).
        out: the folder.
        model, fit, evaluation: what is not searched: keywords of the method, fields of
            ``FitOptions``, keywords of ``evaluate``.
        trials: how many in all, pruned and failed ones included.
        metric: ``"val/loss"``, of the last validation, or of the best with
            ``keep="best"``; or a metric of ``evaluate``, of the validation split.
        direction: ``"maximize"`` or ``"minimize"``; only of ``"val/loss"`` it may be
            left out.
        storage: Optuna's address of a database, such as ``sqlite:///F.db``; by default
            ``study.db`` in ``out``.
        prune: by ``"median"`` stop trials whose ``val/loss`` is worse than the median
            of the others at that validation, after five trials; by ``"halving"`` give
            only the best third of them three times as many validations; ``"none"``.
        sampler_seed: of what is proposed; the seed of the training is a field of
            ``fit``, the same in all trials.
        progress: say on standard error what becomes of each trial.

    Raises:
        ValueError: a search space that is empty or wrong, no direction, an unknown
            metric, or a storage that holds another study.
        FileNotFoundError: no such file of the search space.
        BlockingIOError: another process works on the study.
        ModuleNotFoundError: Optuna is not installed.
    """
    kind = method(name)
    space = read_space(search, kind)
    way = _checked(metric, direction, prune, trials)
    base = _check_base(Recipe.of(kind, data, model, fit), space)
    _warn_of_other_losses(base, space, metric, prune)
    required("optuna", "tune")
    folder = Path(out)
    about = {
        "metric": metric,
        "direction": way,
        "search": {field: str(dimension) for field, dimension in space.items()},
    }
    with (
        locked(folder),
        _opened(storage or f"sqlite:///{folder}/study.db", name, way, about, prune) as study,
    ):
        work = _Work(study, base, space, metric, way, folder, evaluation or {}, sampler_seed)
        work.begin_again()
        with tqdm(
            total=trials,
            initial=work.done,
            desc="tune",
            disable=not (progress and sys.stderr.isatty()),
            file=sys.stderr,
        ) as bar:
            while work.done < trials:
                number = work.run()
                found = work.write()
                bar.update(work.done - bar.n)
                if progress:
                    tqdm.write(_line(found, number, trials), file=sys.stderr)
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
        self.study, self.base, self.space, self.metric, self.direction = (
            study,
            base,
            space,
            metric,
            direction,
        )
        self.folder, self.evaluation, self.seed = folder, evaluation, seed

    @property
    def done(self) -> int:
        """Trials that count."""
        return sum(_state(t) in COUNTED for t in self.study.get_trials(deepcopy=False))

    def begin_again(self) -> None:
        """Let what was under way when the study was stopped fail. The next trial
        proposes the same values, as it follows as many trials that count."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING:
                self.study.tell(trial.number, state=TrialState.FAIL)
            self._forget_checkpoints(trial.number)

    def run(self) -> int:
        """One trial; its number."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        # Seeded by what has been done, so that a study that was stopped goes on as if it had not
        # been.
        self.study.sampler = TPESampler(
            seed=int(np.random.SeedSequence(self.seed, spawn_key=(self.done,)).generate_state(1)[0])
        )
        trial = self.study.ask()
        began = time.monotonic()
        value, state, reason = None, TrialState.COMPLETE, ""
        try:
            value = self._value(trial)
        except UnknownMetric:
            raise
        except (Stopped, NonFiniteLoss) as stop:
            state, reason = TrialState.PRUNED, str(stop)
        except (ValueError, TypeError, torch.OutOfMemoryError) as error:
            state, reason = TrialState.FAIL, str(error)
        for key, note in {
            "seconds": round(time.monotonic() - began, 2),
            **({"reason": reason} if reason else {}),
        }.items():
            trial.set_user_attr(key, note)
        self.study.tell(trial, value, state=state)
        self._forget_checkpoints(trial.number)
        return trial.number

    def write(self) -> Tuning:
        """Write the table of the trials and the best configuration."""
        trials = tuple(map(_trial, self.study.get_trials(deepcopy=False)))
        path = self.folder / "best.yaml"
        found = Tuning(self.metric, self.direction, trials, None)
        if (best := found.best) is not None:
            config = read_yaml(self._run(best.number) / "config.yaml")
            config["fit"]["progress"] = True
            about = f"# trial {best.number} of {len(trials)}: {self.metric} {best.value:.6g}, of the validation split\n"
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
            UnknownMetric: the metric is none that is measured.
            ValueError, TypeError: values that do not go together, or a metric that
                could not be measured.
        """
        values = {
            field: dimension.suggested(trial, field) for field, dimension in self.space.items()
        }
        recipe = self.base.changed(values)
        data, run = recipe.dataset(), self._run(trial.number)
        trained, result = recipe.trained(data, run, watch=_watch(trial, self.direction))
        if self.metric == LOSS:
            return _loss(result, FitOptions(**recipe.fit))
        found = evaluate(
            trained,
            data,
            split="val",
            only=[group_of(self.metric)],
            cache=self.folder / "judges",
            progress=False,
            **self.evaluation,
        )
        found.to_json(run / "evaluation-partial.json")
        if self.metric in found.metrics:
            return float(found.metrics[self.metric])
        if (why := found.meta["left_out"].get(self.metric)) is not None:
            raise ValueError(f"{self.metric} could not be measured: {why}")
        close = get_close_matches(self.metric, [*found.metrics], 1)
        hint = (
            f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(found.metrics)}"
        )
        raise UnknownMetric(
            f"metric {self.metric!r} is not measured of {trained.name} on {data.name}; {hint}"
        )


def _checked(metric: str, direction: str | None, prune: str, trials: int) -> Direction:
    """The direction, after a check of what else may be wrong."""
    if metric != LOSS:
        group_of(metric)
    if direction is None and metric != LOSS:
        raise ValueError(f"say what is better of {metric!r}: direction 'maximize' or 'minimize'")
    if direction not in (None, *get_args(Direction)) or prune not in get_args(Prune):
        wrong, kinds = (
            ("prune", Prune)
            if direction in (None, *get_args(Direction))
            else ("direction", Direction)
        )
        raise ValueError(
            f"{wrong}={(prune if wrong == 'prune' else direction)!r} is unknown; choose one of {', '.join(get_args(kinds))}"
        )
    if trials < 1:
        raise ValueError(f"trials={trials} must be 1 or more")
    return "maximize" if direction == "maximize" else "minimize"


def _check_base(base: Recipe, space: Space) -> Recipe:
    """The recipe with its data loaded, unless fields of these are searched.

    Raises:
        ValueError, TypeError: options that no values of the searched fields can mend,
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


def _warn_of_other_losses(base: Recipe, space: Space, metric: str, prune: Prune) -> None:
    """Say which searched fields change what ``val/loss`` measures, where trials are
    compared by it."""
    if metric != LOSS and prune == "none":
        return
    changing = [
        field
        for field, dimension in space.items()
        if _changes_the_loss(base, field, dimension.ends)
    ]
    if changing:
        instead = (
            "a metric of the evaluation and prune='none'" if metric == LOSS else "prune='none'"
        )
        warnings.warn(
            f"{' and '.join(changing)} change what {LOSS} measures, by which trials are compared; give {instead}",
            stacklevel=3,
        )


def _changes_the_loss(base: Recipe, field: str, values: Sequence[Any]) -> bool:
    if not field.startswith("model.") or base.loaded is None:
        return field in ("data.likelihood", "data.scale")
    found = []
    for value in values:
        with suppress(
            ValueError, TypeError
        ):  # a value that does not go with the others fails in its trial
            found.append(_objective(base.changed({field: value}).made(base.loaded)))
    return any(objective != found[0] for objective in found)


def _objective(method: Method) -> list[object]:
    """What tells one loss from another: the parts of each stage, their final weights
    and settings."""
    return [
        (
            stage.name,
            type(loss).__name__,
            ramp.value,
            {k: v for k, v in vars(loss).items() if isinstance(v, bool | int | float | str)},
        )
        for stage in method.stages
        for loss, ramp in stage.losses
    ]


@contextmanager
def _opened(
    address: str, name: str, direction: Direction, about: Mapping[str, Any], pruner: str
) -> Iterator[Study]:
    """The study, made where there is none; Optuna's own lines on standard error are
    silenced meanwhile.

    Args:
        about: what has to be the same when it goes on.

    Raises:
        ValueError: a storage that cannot be used, or that holds another study.
    """
    optuna = required("optuna", "tune")
    from sqlalchemy.exc import SQLAlchemyError

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = optuna.storages.RDBStorage(address)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction=direction,
            load_if_exists=True,
            pruner=_pruner(optuna, pruner),
        )
        before = study.user_attrs
        if any(_state(t) in COUNTED for t in study.get_trials(deepcopy=False)):
            for key, value in about.items():
                if before.get(key) != value:
                    raise ValueError(
                        f"{address} holds a study of another {key} ({before.get(key)}); go on with that, or name another storage"
                    )
        for key, value in about.items():
            study.set_user_attr(key, value)
        yield study
    except (SQLAlchemyError, ImportError, optuna.exceptions.OptunaError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"storage {address!r} cannot be used ({reason}); give Optuna's address of a database, such as sqlite:///F.db"
        ) from error
    finally:
        optuna.logging.set_verbosity(level)


def _pruner(optuna: Any, kind: str) -> BasePruner:
    match kind:
        case "median":
            return optuna.pruners.MedianPruner()
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        case _:
            return optuna.pruners.NopPruner()


def _watch(trial: Running, direction: Direction) -> Callable[[Mapping[str, float]], None]:
    """Tells the study each validation's loss, so that more is better where the study
    maximizes, and ends the trial if it is behind."""
    sign = -1 if direction == "maximize" else 1
    count = 0

    def watch(means: Mapping[str, float]) -> None:
        nonlocal count
        count += 1
        loss = means[LOSS]
        if not math.isfinite(loss):
            raise Stopped(f"{LOSS} is {loss} at validation {count}")
        trial.report(sign * loss, count)
        if trial.should_prune():
            raise Stopped(f"{LOSS} {loss:.6g} is behind at validation {count}")

    return watch


def _loss(result: FitResult, options: FitOptions) -> float:
    """The loss on validation rows of the weights that were kept.

    Raises:
        ValueError: there was no validation.
    """
    if result.best is None:
        raise ValueError(
            f"{LOSS} was never measured: a run must end a pass of the training rows; raise max_steps or max_epochs"
        )
    return result.best if options.keep == "best" else result.metrics[LOSS]


def _state(trial: FrozenTrial) -> State:
    """A failed trial without a reason is one that was stopped with the study."""
    from optuna.trial import TrialState

    match trial.state:
        case TrialState.COMPLETE:
            return "complete"
        case TrialState.PRUNED:
            return "pruned"
        case TrialState.FAIL if "reason" in trial.user_attrs:
            return "failed"
        case _:
            return "interrupted"


def _trial(trial: FrozenTrial) -> Trial:
    attributes = trial.user_attrs
    reason = attributes.get("reason", "begun anew" if _state(trial) == "interrupted" else "")
    value = trial.value if _state(trial) == "complete" else None
    return Trial(
        trial.number,
        _state(trial),
        value,
        dict(trial.params),
        attributes.get("seconds", 0.0),
        reason,
    )


def _line(found: Tuning, number: int, trials: int) -> str:
    trial, best = found.trials[number], found.best
    what = (
        f"{trial.state}: {trial.reason}"
        if trial.value is None
        else f"{found.metric} {trial.value:.6g}"
    )
    return f"tune: trial {number} of {trials}, {what}" + (
        f"; best {best.value:.6g}, trial {best.number}" if best else ""
    )
