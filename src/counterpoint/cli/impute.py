"""``counterpoint impute``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from counterpoint.cli import choose
from counterpoint.cli.given import (
    PosteriorOptions,
    given_covariates,
    given_values,
    presence,
    target_names,
)
from counterpoint.cli.names import gathered
from counterpoint.cli.parsing import called
from counterpoint.cli.runs import opened, opened_model
from counterpoint.cli.values import write_imputation
from counterpoint.core.batch import Batch
from counterpoint.methods import Method

if TYPE_CHECKING:
    from counterpoint.inference import Imputation


@dataclass(frozen=True)
class ImputeOptions(PosteriorOptions):
    """Fill missing values, with an interval for each.

    Args:
        given: MODALITY=FILE, repeated for more: an image file, or numbers as .npy,
            .json, .csv or .txt. A row of NaN is missing. With --split, MODALITY alone:
            condition on these, and fill all others in every row. Rows that have none of
            them stay missing, NaN, and are counted.
        split: split of the run's own data to fill.
        to: MODALITY, repeated for more: those to fill; all by default.
        out: .npz of values as NAME, ends of intervals as lower/NAME and upper/NAME,
            probabilities of words as probability/NAME, and what was filled as
            missing/NAME.
        n: draws of each row.
        level: probability with which a value lies inside its interval, if the model is
            right.
        samples: write the draws too, as samples/NAME.
    """

    given: tuple[str, ...] = ()
    split: Literal["train", "val", "test"] | None = None
    to: tuple[str, ...] = ()
    out: Path = Path("imputed.npz")
    n: int = 100
    level: float = 0.9
    samples: bool = False


@dataclass(frozen=True)
class _Question:
    """What to fill.

    Attributes:
        batch: the rows that have any value.
        given: modalities to condition on; None for all that are there.
        has_values: which of all rows are in the batch, (N,) bool.
    """

    method: Method
    batch: Batch
    given: list[str] | None
    has_values: np.ndarray


def run(words: Sequence[str]) -> None:
    """Fill missing values, with an interval for each."""
    wanted = called(ImputeOptions, "impute", gathered(words, ("given", "to", "covariates")))
    if wanted.out.suffix != ".npz":
        raise ValueError(f"cannot write {wanted.out}: end its name in .npz")
    question = _question(wanted)
    method = question.method
    rows = len(question.has_values)
    targets = target_names(wanted.to, method, [m.name for m in method.modalities])
    imputation = _imputed(question, targets, wanted)
    counts = {name: int(imputation.filled(name).sum()) for name in targets}
    if not any(counts.values()):
        raise ValueError(
            f"nothing is missing of {', '.join(targets)}; name what to go by in --given, and the rest is filled"
        )
    filled = [f"{count} of {rows} rows of {name}" for name, count in counts.items() if count]
    path = write_imputation(imputation, method.modalities, wanted.out)
    print(
        f"{path}: filled {', '.join(filled)}; {100 * wanted.level:g} % intervals by {wanted.n} draws"
    )
    if imputation.left is not None:
        there = [name for name, mask in question.batch.present.items() if bool(mask.any())]
        print(
            f"{int(imputation.left.sum())} of {rows} rows have none of {', '.join(question.given or there)} to go by, and stay missing (NaN; -1 for word ids)"
        )


def _imputed(question: _Question, targets: list[str], wanted: ImputeOptions) -> Imputation:
    """Impute behind a progress bar; rows without any value are missing."""
    from tqdm import tqdm

    method = question.method
    with tqdm(
        total=len(question.batch),
        desc="impute",
        unit="row",
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
        file=sys.stderr,
    ) as bar:
        imputation = method.impute(
            question.batch,
            question.given,
            to=targets,
            n=wanted.n,
            level=wanted.level,
            samples=wanted.samples,
            prior=wanted.prior,
            rule=wanted.rule,
            refine=wanted.refine,
            covariates=given_covariates(wanted.covariates, method),
            generator=wanted.generator(),
            progress=bar.update,
        )
    if question.has_values.all():
        return imputation
    return imputation.among(torch.from_numpy(question.has_values).to(method.device))


def _question(wanted: ImputeOptions) -> _Question:
    """Rows of files, or of a split of the run's own data."""
    names_files = any("=" in entry for entry in wanted.given)
    if wanted.split is None:
        if not names_files:
            raise ValueError(
                "name the rows: --given MODALITY=FILE, or --split test for those of the run's own data"
            )
        return _of_files(wanted)
    if names_files:
        raise ValueError(
            f"--split {wanted.split} reads the run's own data; leave out the files of --given"
        )
    method, data = opened(wanted.run)
    known = [m.name for m in method.modalities]
    names = [choose(name, known, "modality") for name in wanted.given]
    batch = data.splits()[wanted.split].batch(slice(None))
    return _Question(method, batch, names or None, np.ones(len(batch), bool))


def _of_files(wanted: ImputeOptions) -> _Question:
    method = opened_model(wanted.run)
    values = given_values(wanted.given, method, None)
    present = presence(values)
    has_values: np.ndarray = np.logical_or.reduce([*present.values()])
    if not has_values.any():
        raise ValueError(f"every row of {', '.join(values)} is NaN, so there is nothing to go by")
    batch = Batch.of(
        {name: array[has_values] for name, array in values.items()},
        {name: mask[has_values] for name, mask in present.items()},
        modalities=method.modalities,
    )
    return _Question(method, batch, None, has_values)
