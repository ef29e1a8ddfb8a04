"""``fit``: train a method and leave a run folder."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint.core.files import locked
from counterpoint.training.history import History
from counterpoint.training.options import FitOptions, as_config, for_stage, plain, with_changes
from counterpoint.training.result import FitResult, Watch
from counterpoint.training.run_folder import RunFolder, leads
from counterpoint.training.signals import Stopped
from counterpoint.training.trainable import Trainable, TrainableModel

if TYPE_CHECKING:
    from counterpoint.data.rows import Rows


def fit(
    method: Trainable,
    train: Rows,
    val: Rows | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    describe: Mapping[str, Any] | None = None,
    again: str | None = None,
    options: FitOptions | None = None,
    watch: Watch | None = None,
    **changes: Any,
) -> FitResult:
    """Train ``method`` in place: minimise the mean over the batch of the sum of its
    named terms, with Adam.

    The run folder ``out`` gets ``config.yaml``, ``checkpoints/``, ``metrics.csv`` and,
    at the end, ``model/``. A run that was stopped by SIGTERM, Ctrl-C or by force
    resumes from its last checkpoint with ``resume=True``. On a CPU it ends with exactly
    the same weights as a run that was not stopped. If nothing is left to train,
    ``model/`` keeps the priors and decoders that were fitted to it; the ``method``
    given does not have them. Noise comes from torch's generators, which are seeded for
    the run and restored afterwards.

    A method of several stages trains them in order. Each has the whole budget unless
    ``options.stages`` says otherwise. With ``val``, each starts from the best weights
    of the stage before. Checkpoints of a stage lie in a folder of its own.

    Validation measures the final objective of a stage, with every rising weight at its
    final value. Losses of two steps are therefore comparable, and ``keep="best"``, the
    start of the next stage and ``tune`` all choose by the same function of the weights.
    ``val/loss`` is not comparable between stages. With ``ema_decay`` the averaged
    weights are measured and kept.

    On return the method is in eval mode and on the device where it was. A last batch
    that would leave a process with fewer than two rows is skipped.

    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.MVAE.for_data(data, shared_dim=2, networks=cp.NetworkOptions(width=4))
    >>> train, val = data.train.take(range(32)), data.val.take(range(16))
    >>> result = cp.fit(method, train, val, max_steps=2, batch_size=16, progress=False)
    >>> result.steps, len(result.history["val/loss"])
    (2, 2)

    Args:
        method: has ``losses(batch, step) -> {term: (B,)}``, where ``step`` is None in
            validation, ``name``, ``config`` and ``save_pretrained(folder)``.
        train: rows to learn from, in memory or as a stream.
        val: rows to validate on after every ``val_every`` epochs, always with the same
            noise.
        out: the run folder.
        resume: resume the run in ``out``; start it if nothing has been saved yet.
        describe: description of the data for config.yaml: name, options.
        again: the command that resumes the run, for the message of a stopped run; by
            default that of ``counterpoint fit``.
        watch: called with the means of every validation, by name. An exception that it
            raises ends the run and reaches the caller.
        options: how to train. ``changes`` are fields of it, or further keywords of
            Lightning's ``Trainer``.

    Raises:
        ValueError: an option out of its range, a loss that cannot train the decoders,
            too few rows, a folder that holds another run, or a checkpoint that cannot
            be read.
        TypeError: an unknown keyword.
        NonFiniteLoss: a term became NaN or infinite. The last checkpoint is from an
            earlier step.
        OSError: the run folder cannot be written, or another process trains in it. The
            last checkpoint is intact.
        KeyboardInterrupt: Ctrl-C, after saving.
        SystemExit: SIGTERM, after saving, with code 143.
    """
    options = with_changes(options or FitOptions(), changes)
    _check_arguments(train, val, out, resume, options)
    if known := method.modalities:
        train = train.read_as(known)
        val = val if val is None else val.read_as(known)
    if isinstance(method, TrainableModel):
        _check_losses(method)
    config = {
        "method": {"name": method.name, "config": plain(method.config)},
        "data": plain(describe or {}),
        "rows": {"train": len(train), "val": 0 if val is None else len(val)},
        "fit": as_config(options),
    }
    folder = None if out is None else RunFolder(out)
    return _Fit(
        method, train, val, _stages(method, options), folder, config, resume, watch, again
    ).go()


@dataclass
class _Fit:
    """The stages of one call of ``fit``, trained in order.

    Attributes:
        stages: name and options of each stage.
        config: contents of config.yaml.
        results: of the stages that this call has gone through.
        changed: free options that have another value than in the run that is resumed.
        trained: whether this call has trained on any row.
        leads: whether this process writes the files.
    """

    method: Trainable
    train: Rows
    val: Rows | None
    stages: Sequence[tuple[str, FitOptions]]
    folder: RunFolder | None
    config: Mapping[str, Any]
    resume: bool
    watch: Watch | None
    again: str | None
    results: list[FitResult] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    trained: bool = False
    leads: bool = False

    def __post_init__(self) -> None:
        self.history = History(None if self.folder is None else self.folder.metrics)

    def go(self) -> FitResult:
        with nullcontext() if self.folder is None or not leads() else locked(self.folder.path):
            try:
                for index in range(self._first(), len(self.stages)):
                    self._train(index)
            except Stopped as stop:
                self._stop(stop)
            finally:
                if self._freezes:
                    self.method.begin(None)
            self._save()
        return _joined(self.results)

    @property
    def _freezes(self) -> bool:
        """Whether some stage trains only a part of the method."""
        stages = self.method.stages
        return len(stages) > 1 or any(stage.trains is not None for stage in stages)

    def _first(self) -> int:
        """The stage to begin with: on resuming the last that has a checkpoint, which
        holds the weights of those before it."""
        if self.folder is None or not self.resume:
            return 0
        begun = [
            index
            for index, (name, _) in enumerate(self.stages)
            if self.folder.stage(name).last.exists()
        ]
        return begun[-1] if begun else 0

    def _train(self, index: int) -> None:
        """Train one stage."""
        from counterpoint.training.run import Run  # Lightning takes seconds to import

        name, options = self.stages[index]
        part = None if self.folder is None else self.folder.stage(name)
        if self._freezes:
            self.method.begin(self.method.stages[index])
        run = Run(
            self.method,
            self.train,
            self.val,
            options,
            part,
            self.history,
            title=self._title(index),
            hands_over=index + 1 < len(self.stages),
            watch=self.watch,
        )
        self.leads = run.leads
        if not self.results:
            self._prepare()
        if part is not None:
            part.last.parent.mkdir(parents=True, exist_ok=True)
        run.go()
        self.trained = self.trained or run.checkpointing.rows > 0
        self.results.append(run.result())
        self.history.before = self.results[-1].steps

    def _title(self, index: int) -> str:
        if len(self.stages) == 1:
            return self.method.name
        return (
            f"{self.method.name}, stage {index + 1} of {len(self.stages)} ({self.stages[index][0]})"
        )

    def _prepare(self) -> None:
        """Check the run folder and write its config.yaml, before the first stage."""
        if self.folder is not None and self.leads:
            self.changed = self.folder.check(self.config, self.resume)
            self.folder.prepare(self.config)

    def _stop(self, stop: Stopped) -> None:
        """End the process as the signal asks, after a line that says how to resume."""
        if self.leads:
            step = self.history.before + stop.step
            cause = signal.Signals(stop.signum).name
            print(_farewell(step, cause, self.folder, self.again), file=sys.stderr)
        if stop.signum == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + stop.signum) from None

    def _save(self) -> None:
        """Write ``model/``, unless the run folder has the same model with additions."""
        if self.folder is None or not self.leads:
            return
        if self.trained or "keep" in self.changed or not self.folder.extended:
            self.folder.forget_additions()
            self.method.save_pretrained(self.folder.model)


def _check_arguments(
    train: Rows,
    val: Rows | None,
    out: str | Path | None,
    resume: bool,
    options: FitOptions,
) -> None:
    if resume and out is None:
        raise ValueError("resume=True needs out, the folder of the run to go on with")
    if options.keep == "best" and val is None:
        raise ValueError("keep='best' needs val, the rows by which to choose")
    for name, rows in (("train", train), ("val", val)):
        if (rows is not None and not hasattr(rows, "read_as")) or hasattr(rows, "splits"):
            raise TypeError(f"{name} is {type(rows).__name__}; give a split, such as data.{name}")
    if len(train) < 2:
        raise ValueError(f"train has {len(train)} row; give it at least 2")


def _check_losses(method: TrainableModel) -> None:
    """Check losses against the model again: decoders may have been replaced since the
    method was made."""
    for stage in method.stages:
        for loss, _ in stage.losses:
            loss.check(method.model)


def _stages(method: Trainable, options: FitOptions) -> list[tuple[str, FitOptions]]:
    """Name and options of each stage; a method of one stage has one without a name.

    Raises:
        ValueError: options for a stage that the method does not have.
    """
    stages = method.stages
    names = [stage.name for stage in stages] if len(stages) > 1 else [""]
    unknown = [name for name in options.stages if name not in names]
    if unknown:
        has = (
            f"its stages are {', '.join(names)}"
            if len(names) > 1
            else "it has only one, whose options stand outside stages"
        )
        raise ValueError(f"{method.name} has no stage {unknown[0]!r}; {has}")
    return [(name, for_stage(options, name)) for name in names]


def _joined(results: Sequence[FitResult]) -> FitResult:
    """Join the results of all stages: the metrics of the last, the time of all."""
    seconds = sum(result.seconds for result in results)
    rows = sum(result.samples_per_second * result.seconds for result in results)
    return replace(
        results[-1], seconds=seconds, samples_per_second=rows / seconds if seconds else 0.0
    )


def _farewell(step: int, cause: str, folder: RunFolder | None, again: str | None) -> str:
    if folder is None:
        return f"stopped by {cause} after {step} steps; nothing is saved, because the run has no folder (out)"
    again = again or f"counterpoint fit --resume {folder.path}"
    return f"stopped by {cause} after {step} steps, which are saved; go on with resume=True, or: {again}"
