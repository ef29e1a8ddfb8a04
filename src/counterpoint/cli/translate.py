"""``counterpoint translate``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from counterpoint.cli.given import (
    ImageOptions,
    PosteriorOptions,
    as_images,
    check_count,
    given_covariates,
    given_values,
    image_autoencoder,
    presence,
    target_names,
)
from counterpoint.cli.names import gathered
from counterpoint.cli.parsing import called
from counterpoint.cli.runs import opened_model
from counterpoint.cli.values import as_printed, write_values
from counterpoint.core.batch import Batch


@dataclass(frozen=True)
class TranslateOptions(PosteriorOptions, ImageOptions):
    """Generate some modalities from others.

    Args:
        given: MODALITY=FILE, repeated for more: an image file, or numbers as .npy,
            .json, .csv or .txt. A .csv may name the features above its columns. For
            word ids whose words are known, a .txt file holds a text a line, and
            MODALITY=TEXT gives a text itself.
        to: MODALITY, repeated for more; all others by default.
        n: number of answers to each row.
        out: .png for a sheet of pictures, .npz or .json for the numbers, .csv for one
            vector with the names of its features. By default vectors and text are
            printed.
    """

    given: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    n: int = 1
    out: Path | None = None


def run(words: Sequence[str]) -> None:
    """Generate some modalities from others."""
    wanted = called(TranslateOptions, "translate", gathered(words, ("given", "to", "covariates")))
    method = opened_model(wanted.run)
    method.draw_by(guidance=wanted.guidance, solver_steps=wanted.solver_steps)
    check_count(wanted.n)
    known = {m.name: m for m in method.modalities}
    autoencoder = image_autoencoder(wanted.autoencoder, method)
    given = given_values(wanted.given, method, autoencoder)
    if not given:
        raise ValueError(
            f"name what to translate from: --given MODALITY=FILE; the modalities are {', '.join(known)}"
        )
    present = presence(given)
    _check_rows(present)
    targets = target_names(wanted.to, method, [name for name in known if name not in given])
    if not targets:
        raise ValueError(
            f"name what to translate to: --to MODALITY; the modalities are {', '.join(known)}"
        )
    output = method.translate(
        Batch.of(given, present, modalities=method.modalities),
        to=targets,
        n=wanted.n,
        prior=wanted.prior,
        rule=wanted.rule,
        refine=wanted.refine,
        covariates=given_covariates(wanted.covariates, method),
        generator=wanted.generator(),
    )
    # (n, B, ...) to (B n, ...): the n answers to a row stand together
    flat = {name: values.transpose(0, 1).flatten(0, 1) for name, values in output.items()}
    if wanted.out is not None:
        print(write_values(*as_images(flat, method.modalities, autoencoder), wanted.out))
        return
    images = [name for name in targets if len(known[name].shape) == 3]
    if images:
        raise ValueError(
            f"{images[0]!r} is an image; say where to put it: --out F.png, or F.npz for its numbers"
        )
    printed = {name: as_printed(values, known[name]) for name, values in flat.items()}
    print(json.dumps(printed, ensure_ascii=False))


def _check_rows(present: Mapping[str, np.ndarray]) -> None:
    """Refuse rows that have no modality."""
    empty = ~np.logical_or.reduce([*present.values()])
    if empty.any():
        raise ValueError(
            f"row {int(empty.argmax())} holds nothing but NaN in {', '.join(present)} ({empty.sum()} of {len(empty)} rows); leave such rows out, or"
            " take impute, which leaves them missing"
        )
