"""Run folders: where commands train, and what they find again."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from counterpoint import data as datasets
from counterpoint.cli.config_files import run_groups
from counterpoint.cli.settings import Settings, check_source
from counterpoint.core.files import locked
from counterpoint.data.loading import described
from counterpoint.methods import METHODS, Method, load
from counterpoint.training.fingerprint import Fingerprint
from counterpoint.training.run_folder import RunFolder, leads

if TYPE_CHECKING:
    from counterpoint.data import Dataset
    from counterpoint.metrics import Evaluation
    from counterpoint.training import FitResult


def out_folder(wanted: Settings) -> Path:
    """The run folder, if a run may be made there.

    Raises:
        ValueError: none is named, or it holds something already.
    """
    if wanted.out is None:
        raise ValueError("name the run folder: --out RUN")
    if not leads():  # the process that leads may have begun to fill it
        return wanted.out
    if wanted.out.exists() and not wanted.out.is_dir():
        raise ValueError(f"{wanted.out} is a file; name a folder: --out RUN")
    if not wanted.resume and not wanted.overwrite and not RunFolder(wanted.out).vacant:
        raise ValueError(
            f"{wanted.out} is not empty; go on with it by --resume {wanted.out}, replace it by --overwrite, or choose another --out"
        )
    return wanted.out


def trained(wanted: Settings, data: Dataset) -> tuple[Method, FitResult]:
    """Train a method on the data, in the run folder that was asked for."""
    from counterpoint.training import FitOptions
    from counterpoint.training import fit as train

    options = FitOptions(**wanted.fit)
    method = METHODS[wanted.method].for_data(data, seed=options.seed, **wanted.model)
    folder = RunFolder(out_folder(wanted))
    with locked(folder.path) if leads() else nullcontext():
        if wanted.overwrite and leads():
            folder.clear()
        if leads() and not (wanted.resume and folder.data.is_file()):
            Fingerprint.of(data, wanted.data.get("source")).write(folder.data)
        result = train(
            method,
            data.train,
            data.val,
            out=folder.path,
            resume=wanted.resume,
            describe=described(wanted.data),
            options=options,
        )
    return method, result


def decoder_folder(run: Path, resume: bool) -> Path:
    """The folder in which the decoders of a run are fitted, empty unless that fit is
    resumed."""
    folder = RunFolder(run).decoder
    if not resume and leads():
        RunFolder(folder).clear()
    return folder


def loaded(options: Mapping[str, Any]) -> Dataset:
    """The data set of these keywords of ``data.load``."""
    check_source(options)
    return datasets.load(**options)


def opened_model(run: Path) -> Method:
    """The model of a run, on a GPU if there is one.

    Raises:
        FileNotFoundError: no such folder.
    """
    _check_run(run)
    return load(run).to("cuda" if torch.cuda.is_available() else "cpu")


def opened(run: Path) -> tuple[Method, Dataset]:
    """The model of a run and the data that it was trained on, in the same splits."""
    method = opened_model(run)
    options = run_groups(run).get("data", {})
    source = options.get("source")
    config = RunFolder(run).config
    if not source:
        raise ValueError(
            f"{config} does not say what data the run was trained on; add 'data: {{source: NAME}}'"
        )
    if os.path.isabs(str(source)) and not Path(source).exists():
        raise FileNotFoundError(
            f"the data of {run} are not at {source}; bring them back, or say in {config}, data.source, where they are now"
        )
    return method, _as_trained(loaded(options), str(source), method, run)


@contextmanager
def extending(run: Path) -> Iterator[tuple[Method, Dataset]]:
    """A trained run to which this process alone fits something.

    Raises:
        ValueError: the record of what was added cannot be read.
        BlockingIOError: another process is changing the run.
    """
    _check_run(run)
    with locked(run) if leads() else nullcontext():
        RunFolder(run).additions()  # an unreadable record is found before anything is trained
        yield opened(run)


def evaluated(
    method: Method, data: Dataset, run: Path, options: Mapping[str, Any], as_trained: bool = True
) -> Evaluation:
    """Measure a run, and write the numbers into its folder.

    Args:
        options: keywords of ``metrics.evaluate``.
        as_trained: whether the model draws as its run has it. Only complete
            measurements of such a model are written to evaluation.json, on which the
            report rests.
    """
    from counterpoint.metrics import evaluate as measure

    folder = RunFolder(run)
    evaluation = measure(method, data, cache=folder.judges, **options)
    whole = evaluation.complete and as_trained
    evaluation.to_json(folder.evaluation if whole else folder.partial_evaluation)
    return evaluation


def measured(method: Method, data: Dataset, run: Path) -> Evaluation:
    """The evaluation of a run, measured now if it has none."""
    from counterpoint.metrics import Evaluation

    path = RunFolder(run).evaluation
    return Evaluation.from_json(path) if path.is_file() else evaluated(method, data, run, {})


def reported(
    method: Method,
    data: Dataset,
    evaluation: Evaluation,
    run: Path,
    *,
    out: Path | None = None,
    maps: Sequence[str] | None = None,
    seed: int = 0,
) -> Path:
    """Write the report of a run.

    Args:
        out: the file; that of the run folder by default.
        maps: maps of the latents to draw.
        seed: seed of the choice of examples.
    """
    from counterpoint.report import write_report as write

    folder = RunFolder(run)
    return write(
        method,
        data,
        evaluation,
        folder.metrics if folder.metrics.is_file() else None,
        out or folder.report,
        config=run_groups(run),
        commands=_commands(folder),
        maps=maps,
        seed=seed,
    )


def _commands(folder: RunFolder) -> list[str]:
    """The commands that make a run again, beside it."""
    again = f"{folder.path}-again"
    config = shlex.quote(str(folder.path))
    name = shlex.quote(again)
    additions = [
        shlex.join(["counterpoint", verb, again, *words]) for verb, *words in folder.additions()
    ]
    return [
        f"counterpoint fit --config {config}/config.yaml --out {name}",
        *additions,
        f"counterpoint evaluate {name}",
        f"counterpoint report {name}",
    ]


def _check_run(run: Path) -> None:
    if not run.is_dir():
        raise FileNotFoundError(
            f"no run folder {run}; make one with counterpoint fit METHOD --data NAME --out {run}"
        )


def _as_trained(data: Dataset, source: str, method: Method, run: Path) -> Dataset:
    """The data of a run in the splits that it was trained on, with a warning that says
    what has changed since. If config.yaml names another source now, that source's own
    splits are used.

    Raises:
        ValueError: nothing is left of a split.
    """
    then = Fingerprint.read(RunFolder(run).data)
    now = Fingerprint.of(data, source)
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
    wanted = {part: rows.keys for part, rows in then.splits.items()}
    keys = {part: rows.keys for part, rows in now.splits.items()}
    try:
        return data.read_as(method.modalities).divided_by(wanted, keys)
    except ValueError as error:
        raise ValueError(
            f"{error} that {run} was trained on; restore them, or train again"
        ) from None
