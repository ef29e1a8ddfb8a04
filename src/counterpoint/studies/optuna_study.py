"""The Optuna study of a search: its database, its pruner, and its trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from counterpoint.core.optional import required
from counterpoint.studies.trials import COUNTED_STATES, LOSS_METRIC, Direction, State, Trial

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Running


class Stopped(Exception):
    """A trial was pruned, or its loss is not finite; the message says why."""


@contextmanager
def opened(
    address: str, name: str, direction: Direction, about: Mapping[str, Any], pruner: str
) -> Iterator[Study]:
    """Open a study, or create it. Optuna's own log is silenced meanwhile.

    Args:
        address: Optuna's address of the database.
        name: of the study.
        direction: of the metric.
        about: what must be the same when the study is resumed.
        pruner: ``"median"``, ``"halving"`` or ``"none"``.

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
        if any(state_of(t) in COUNTED_STATES for t in study.get_trials(deepcopy=False)):
            for key, value in about.items():
                if before.get(key) != value:
                    raise ValueError(
                        f"{address} holds a study of another {key} ({before.get(key)}); "
                        "go on with that, or name another storage"
                    )
        for key, value in about.items():
            study.set_user_attr(key, value)
        yield study
    except (SQLAlchemyError, ImportError, optuna.exceptions.OptunaError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"storage {address!r} cannot be used ({reason}); "
            "give Optuna's address of a database, such as sqlite:///F.db"
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


def watcher(trial: Running, direction: Direction) -> Callable[[Mapping[str, float]], None]:
    """Make a function that reports each validation's loss and stops a bad trial.

    If the study maximizes, the negative loss is reported, so that more is better.
    """
    sign = -1 if direction == "maximize" else 1
    count = 0

    def watch(means: Mapping[str, float]) -> None:
        nonlocal count
        count += 1
        loss = means[LOSS_METRIC]
        if not math.isfinite(loss):
            raise Stopped(f"{LOSS_METRIC} is {loss} at validation {count}")
        trial.report(sign * loss, count)
        if trial.should_prune():
            raise Stopped(f"{LOSS_METRIC} {loss:.6g} is behind at validation {count}")

    return watch


def state_of(trial: FrozenTrial) -> State:
    """The state of a trial. A failed trial without a reason was interrupted."""
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


def trial_of(trial: FrozenTrial) -> Trial:
    """The record of one of Optuna's trials."""
    attributes = trial.user_attrs
    reason = attributes.get("reason", "begun anew" if state_of(trial) == "interrupted" else "")
    value = trial.value if state_of(trial) == "complete" else None
    return Trial(
        trial.number,
        state_of(trial),
        value,
        dict(trial.params),
        attributes.get("seconds", 0.0),
        reason,
    )
