"""Run folders: where commands train, and what they find again."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from counterpoint import data as datasets
from counterpoint.cli.arguments import Settings, check_source, run_groups, words_for
from counterpoint.cli.options import FitDecoderOptions, FitRefinerOptions, PriorOptions
from counterpoint.core.files import locked
from counterpoint.data.loading import described
from counterpoint.methods import METHODS, Method, load
from counterpoint.training.fingerprint import Fingerprint
from counterpoint.training.run_folder import RunFolder, leads

if TYPE_CHECKING:
    from counterpoint.data import Dataset
    from counterpoint.metrics import Evaluation
    from counterpoint.training import FitResult

Addition = PriorOptions | FitDecoderOptions | FitRefinerOptions
"""What asks for something to be added to a trained run."""


def out_folder(wanted: Settings) -> Path:
    """The run folder, if a run may be made there.

    Raises:
        ValueError: none named, or it holds something already.
    """
    if wanted.out is None:
        raise ValueError("name the run folder: --out RUN")
    if not leads():  # the process that does may have begun to fill it
        return wanted.out
    if wanted.out.exists() and not wanted.out.is_dir():
        raise ValueError(f"{wanted.out} is a file; name a folder: --out RUN")
    if not wanted.resume and not wanted.overwrite and not RunFolder(wanted.out).vacant:
        raise ValueError(
            f"{wanted.out} is not empty; go on with it by --resume {wanted.out}, replace it by --overwrite, or choose another --out"
        )
    return wanted.out


def trained(wanted: Settings, data: Dataset) -> tuple[Method, FitResult]:
    from counterpoint.training import FitOptions
    from counterpoint.training import fit as train

    options = FitOptions(**wanted.fit)
    method = METHODS[wanted.method].for_data(data, seed=options.seed, **wanted.model)
    run = out_folder(wanted)
    folder = RunFolder(run)
    about = described(wanted.data)
    with locked(run) if leads() else nullcontext():
        if wanted.overwrite and leads():
            folder.clear()
        if leads() and not (wanted.resume and folder.data.is_file()):
            Fingerprint.of(data, wanted.data.get("source")).write(folder.data)
        return method, train(
            method,
            data.train,
            data.val,
            out=run,
            resume=wanted.resume,
            describe=about,
            options=options,
        )


def decoder_folder(run: Path, resume: bool) -> Path:
    """Where the fit of a run's decoders is kept; what was there of another is removed,
    unless that goes on."""
    folder = RunFolder(run).decoder
    if not resume and leads():
        RunFolder(folder).clear()
    return folder


def loaded(options: Mapping[str, Any]) -> Dataset:
    check_source(options)
    return datasets.load(**options)


def check_run(run: Path) -> None:
    if not run.is_dir():
        raise FileNotFoundError(
            f"no run folder {run}; make one with counterpoint fit METHOD --data NAME --out {run}"
        )


def opened_model(run: Path) -> Method:
    check_run(run)
    return load(run).to("cuda" if torch.cuda.is_available() else "cpu")


def saved(method: Method, verb: str, options: Addition) -> None:
    """Keep the model in its run, with the command that added to it, and nothing that
    was measured on what it was before."""
    usual = type(options)(options.run)
    if isinstance(options, FitDecoderOptions):
        options = replace(options, resume=False)
    RunFolder(options.run).add([verb, *words_for(options, usual)], method.checksum)
    method.save_pretrained(options.run / "model")


@contextmanager
def extending(run: Path) -> Iterator[tuple[Method, Dataset]]:
    """A trained run to which something is to be fitted, by this process alone.

    Raises:
        ValueError: also where the record of what was added cannot be read, before
            anything is trained.
        BlockingIOError: another process is changing the run.
    """
    check_run(run)
    with locked(run) if leads() else nullcontext():
        RunFolder(run).additions()
        yield opened(run)


def opened(run: Path) -> tuple[Method, Dataset]:
    method = opened_model(run)
    options = run_groups(run).get("data", {})
    source, config = options.get("source"), run / "config.yaml"
    if not source:
        raise ValueError(
            f"{config} does not say what data the run was trained on; add 'data: {{source: NAME}}'"
        )
    if os.path.isabs(str(source)) and not Path(source).exists():
        raise FileNotFoundError(
            f"the data of {run} are not at {source}; bring them back, or say in {config}, data.source, where they are now"
        )
    return method, _as_trained(loaded(options), str(source), method, run)


def _as_trained(data: Dataset, source: str, method: Method, run: Path) -> Dataset:
    """The data of a run in the splits that it was trained on, with a warning that says
    what has changed since. Where config.yaml names another source now, its splits are
    its own.

    Raises:
        ValueError: nothing is left of a split.
    """
    then, now = Fingerprint.read(RunFolder(run).data), Fingerprint.of(data, source)
    changes = [] if then is None else [*then.changes(now)]
    if then is None or not changes:
        return data
    divide = bool(then.splits and now.splits) and then.source == now.source
    remedy = (
        "; rows are put back into the splits of then, and new ones are left out" if divide else ""
    )
    warnings.warn(
        f"the data of {run} have changed since it was trained: {'; '.join(changes)}{remedy}",
        stacklevel=2,
    )
    if not divide:
        return data
    wanted, keys = (
        {part: rows.keys for part, rows in known.splits.items()} for known in (then, now)
    )
    try:
        return data.read_as(method.modalities).divided_by(wanted, keys)
    except ValueError as error:
        raise ValueError(
            f"{error} that {run} was trained on; restore them, or train again"
        ) from None


def evaluated(
    method: Method, data: Dataset, run: Path, options: Mapping[str, Any], usual: bool = True
) -> Evaluation:
    """Measure, and leave the numbers in the run: what is complete, and of the model as
    its run has it, is what its report rests on."""
    from counterpoint.metrics import evaluate as measure

    evaluation = measure(method, data, cache=run / "judges", **options)
    evaluation.to_json(
        run / ("evaluation.json" if evaluation.complete and usual else "evaluation-partial.json")
    )
    return evaluation


def measured(method: Method, data: Dataset, run: Path) -> Evaluation:
    from counterpoint.metrics import Evaluation

    path = run / "evaluation.json"
    return Evaluation.from_json(path) if path.is_file() else evaluated(method, data, run, {})


def reported(
    method: Method,
    data: Dataset,
    evaluation: Evaluation,
    run: Path,
    out: Path | None = None,
    maps: Sequence[str] | None = None,
    seed: int = 0,
) -> Path:
    from counterpoint.report import write_report as write

    history, name, again = run / "metrics.csv", shlex.quote(str(run)), shlex.quote(f"{run}-again")
    commands = [
        f"counterpoint fit --config {name}/config.yaml --out {again}",
        *(
            shlex.join(["counterpoint", verb, f"{run}-again", *words])
            for verb, *words in RunFolder(run).additions()
        ),
        f"counterpoint evaluate {again}",
        f"counterpoint report {again}",
    ]
    return write(
        method,
        data,
        evaluation,
        history if history.is_file() else None,
        out or run / "report.html",
        config=run_groups(run),
        commands=commands,
        maps=maps,
        seed=seed,
    )
