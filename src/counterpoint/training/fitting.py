"""``fit``: train a method and leave a run folder."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint.core.files import locked
from counterpoint.training.history import History
from counterpoint.training.options import FitOptions, as_config, for_stage, plain, with_changes
from counterpoint.training.result import FitResult, Watch
from counterpoint.training.run_folder import RunFolder, leads
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
    at the end, ``model/``. A run that was stopped, by SIGTERM, Ctrl-C or by force, goes
    on with ``resume=True`` from its last checkpoint, and on a CPU ends with the very
    same weights as if it had not been stopped. Where there is nothing left to do,
    ``model/`` keeps what was fitted afterwards by command (a prior, a decoder); the
    method given does not have it. Noise comes from torch's generators, which are seeded
    for the run and put back afterwards.

    A method of several stages goes through them one after the other, each with the
    whole budget unless ``options.stages`` says otherwise, and each from the best
    weights of the one before where there is ``val``. Their checkpoints lie in folders
    of their own.

    Validation measures the objective that a stage comes to, with every weight that
    rises at its final value, whatever the step: losses of two steps compare, and
    ``select="best"``, what a stage hands over, and ``tune`` choose by one and the same
    function of the weights. Stages have objectives of their own, so ``val/loss`` does
    not compare between stages, and each stage's best weights are chosen anew. With
    ``ema`` it is the averaged weights that are measured and handed over.

    On return the method is in eval mode and on the device where it was. A last batch of
    a pass that would leave a process with fewer than two rows is left out.

    Args:
        method: has ``losses(batch, step) -> {term: (B,)}``, where ``step`` is None in
            validation, ``name``, ``config`` and ``save_pretrained(folder)``.
        train: rows to learn from, in memory or as a stream.
        val: rows to validate on after every ``val_every`` epochs: with the averaged
            weights if there is ``ema``, and always with the same noise.
        out: the run folder.
        resume: go on in ``out``; where nothing has been saved yet, begin.
        describe: what config.yaml says of the data: name, options.
        again: the command that goes on with a run that was stopped, for the line that
            says so; by default that of ``counterpoint fit``.
        watch: called with the means of every validation, by name; an exception that it
            raises ends the run and reaches the caller.
        options: how to train; ``changes`` are fields of it, or further keywords of
            Lightning's ``Trainer``.

    Raises:
        ValueError: an option out of its range, a loss that can't train the decoders,
            too few rows, a folder that holds another run, or a checkpoint that cannot
            be read.
        TypeError: an unknown keyword.
        NonFiniteLoss: a term became NaN or infinite; the last checkpoint is from
            before.
        OSError: the run folder cannot be written, or another process trains in it; the
            last checkpoint is intact.
        KeyboardInterrupt: Ctrl-C, after saving.
        SystemExit: SIGTERM, after saving, with code 143.
    """
    options = with_changes(options or FitOptions(), changes)
    if resume and out is None:
        raise ValueError("resume=True needs out, the folder of the run to go on with")
    if options.select == "best" and val is None:
        raise ValueError("select='best' needs val, the rows by which to choose")
    for name, rows in (("train", train), ("val", val)):
        if (rows is not None and not hasattr(rows, "read_as")) or hasattr(rows, "splits"):
            raise TypeError(f"{name} is {type(rows).__name__}; give a split, such as data.{name}")
    if len(train) < 2:
        raise ValueError(f"train has {len(train)} row; give it at least 2")
    if known := method.modalities:
        train, val = train.read_as(known), val if val is None else val.read_as(known)
    config = {
        "method": {"name": method.name, "config": plain(method.config)},
        "data": plain(describe or {}),
        "rows": {"train": len(train), "val": 0 if val is None else len(val)},
        "fit": as_config(options),
    }
    folder = None if out is None else RunFolder(out)
    history = History(None if folder is None else folder.metrics)
    stages = _stages(method, options)

    from counterpoint.training.run import Run
    from counterpoint.training.signals import Stopped  # Lightning takes seconds to import

    if isinstance(method, TrainableModel):
        for loss in (loss for stage in method.stages for loss, _ in stage.losses):
            loss.check(
                method.model
            )  # again: decoders may have been replaced since the method was made
    staged = len(method.stages) > 1 or any(stage.trains is not None for stage in method.stages)
    results: list[FitResult] = []
    changed: set[str] = set()
    trained = False
    with nullcontext() if folder is None or not leads() else locked(folder.path):
        begun = [
            i
            for i, (stage, _) in enumerate(stages)
            if folder is not None and folder.stage(stage).last.exists()
        ]
        first = (
            begun[-1] if resume and begun else 0
        )  # a later stage's checkpoint has the weights of those before it
        try:
            for i, (name, own) in enumerate(stages[first:], first):
                title = (
                    method.name
                    if len(stages) == 1
                    else f"{method.name}, stage {i + 1} of {len(stages)} ({name})"
                )
                part = None if folder is None else folder.stage(name)
                if staged:
                    method.begin(method.stages[i])
                run = Run(
                    method,
                    train,
                    val,
                    own,
                    part,
                    history,
                    title=title,
                    hands_over=i + 1 < len(stages),
                    watch=watch,
                )
                if i == first and folder is not None and run.leads:
                    changed = folder.check(config, resume)
                    folder.prepare(config)
                if part is not None:
                    part.last.parent.mkdir(parents=True, exist_ok=True)
                run.go()
                trained = trained or run.keeper.rows > 0
                results.append(run.result())
                history.before = results[-1].steps
        except Stopped as stop:
            if run.leads:
                print(
                    _farewell(
                        history.before + stop.step, signal.Signals(stop.signum).name, folder, again
                    ),
                    file=sys.stderr,
                )
            if stop.signum == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + stop.signum) from None
        finally:
            if staged:
                method.begin(None)
        if (
            folder is not None
            and run.leads
            and (trained or "select" in changed or not folder.extended)
        ):
            folder.forget_additions()
            method.save_pretrained(folder.model)
    return _joined(results)


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
    """What all stages came to: the last one's weights, everybody's time."""
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
