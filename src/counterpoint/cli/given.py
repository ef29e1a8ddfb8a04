"""What a command gives a trained model: values of modalities, covariates, and an
autoencoder of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from counterpoint import data as datasets
from counterpoint.cli import choose
from counterpoint.cli.values import NUMBER_SUFFIXES, read_values
from counterpoint.core.modality import Modality
from counterpoint.core.reading import to_unit
from counterpoint.methods import Method


@dataclass(frozen=True)
class DrawOptions:
    """Options of every verb that draws from a trained run.

    Args:
        run: run folder.
        prior: prior of the latents that are not given. "standard" is the model's own,
            "auto" the one fitted last; "diffusion", "score", "score-ode", "flow" and
            "gmm" are kinds of fitted priors.
        covariates: COLUMN, which then is 1, or COLUMN=NUMBER, repeated for more.
            Columns that are not named are 0. The default is that of the rows, or the
            average of training.
        seed: seed of the draws.
    """

    run: Path
    prior: str = "auto"
    covariates: tuple[str, ...] = ()
    seed: int = 0

    def generator(self) -> torch.Generator:
        """A generator with the seed of the draws."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class ImageOptions(DrawOptions):
    """Options of verbs that generate images.

    Args:
        autoencoder: its folder, to read and write images instead of their latents.
        guidance: guidance of diffusion decoders. More than 1 exaggerates what latents
            say.
        solver_steps: steps of diffusion decoders.
    """

    autoencoder: Path | None = None
    guidance: float | None = None
    solver_steps: int | None = None


@dataclass(frozen=True)
class PosteriorOptions(DrawOptions):
    """Options of verbs that condition on some modalities.

    Args:
        rule: rule of the posterior of z: the method's "own", or the "product" of
            unimodal posteriors.
        refine: steps of refinement, for a run with a refiner (fit-refiner).
    """

    rule: Literal["own", "product"] = "own"
    refine: int | None = None


def given_values(
    entries: Sequence[str], method: Method, autoencoder: datasets.Autoencoder | None
) -> dict[str, np.ndarray]:
    """Rows by modality from the entries MODALITY=FILE of --given."""
    known = {m.name: m for m in method.modalities}
    values = {}
    for entry in entries:
        name, equals, file = entry.partition("=")
        if not equals:
            raise ValueError(
                f"--given {entry} must be MODALITY=FILE, or MODALITY=TEXT of words; the modalities are {', '.join(known)}"
            )
        values[name] = _read(known[choose(name, [*known], "modality")], file, autoencoder)
    return values


def presence(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By modality which rows are present, (N,) bool: those that are not all NaN.

    Raises:
        ValueError: different numbers of rows.
    """
    rows = {name: len(array) for name, array in values.items()}
    if len({*rows.values()}) > 1:
        raise ValueError(
            f"the files of --given have different numbers of rows: {rows}; mark missing rows by NaN"
        )
    return {name: _present_rows(array) for name, array in values.items()}


def _present_rows(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return np.ones(len(array), bool)
    present: np.ndarray = ~np.isnan(array).reshape(len(array), -1).all(1)
    return present


def target_names(names: Sequence[str], method: Method, default: Sequence[str]) -> list[str]:
    """The modalities of --to, or the default ones."""
    known = [m.name for m in method.modalities]
    return [choose(name, known, "modality") for name in names] or [*default]


def given_covariates(entries: Sequence[str], method: Method) -> dict[str, float] | None:
    """Columns and their values; None if none is named.

    Raises:
        ValueError: an entry that is neither a column nor a column and its number.
    """
    names = method.model.covariates
    values: dict[str, float] = {}
    for entry in entries:
        column, _, number = entry.rpartition("=")
        try:
            if entry in names:
                values[entry] = 1.0
            else:
                values[choose(column, [*names], "covariate")] = float(number)
        except ValueError:
            raise ValueError(
                f"--covariates {entry} must be COLUMN or COLUMN=NUMBER; the columns are {', '.join(names) or 'none'}"
            ) from None
    return values or None


def check_count(n: int) -> None:
    """Refuse fewer than one draw."""
    if n < 1:
        raise ValueError(f"--n {n} must be 1 or more")


# --------------------------------------------------------------------------- autoencoder


def image_autoencoder(folder: Path | None, method: Method) -> datasets.Autoencoder | None:
    """The autoencoder whose latents some modality holds, if one is named.

    Raises:
        ValueError: the model knows no latents of images.
    """
    if folder is None:
        return None
    if not any(m.unbounded for m in method.modalities):
        raise ValueError(
            f"--autoencoder {folder} has nothing to decode: the run knows no latents of images; leave it out"
        )
    return datasets.Autoencoder(folder)


def as_images(
    values: Mapping[str, Tensor],
    modalities: Sequence[Modality],
    autoencoder: datasets.Autoencoder | None,
) -> tuple[dict[str, Tensor], list[Modality]]:
    """Values and their modalities, with latents of images decoded if there is an
    autoencoder."""
    if autoencoder is None:
        return {**values}, [*modalities]
    shown = {**values}
    kinds = []
    for modality in modalities:
        if modality.unbounded and modality.name in values:
            shown[modality.name] = autoencoder.decode(values[modality.name])
            kinds.append(_image(modality, autoencoder))
        else:
            kinds.append(modality)
    return shown, kinds


def _image(modality: Modality, autoencoder: datasets.Autoencoder) -> Modality:
    """The images that latents stand for."""
    return replace(modality, shape=autoencoder.image_shape(modality.shape), unbounded=False)


def _read(modality: Modality, file: str, autoencoder: datasets.Autoencoder | None) -> np.ndarray:
    """Rows of a modality from a file or a text. With an autoencoder pictures are
    encoded, and numbers are taken for latents."""
    if autoencoder is None or not modality.unbounded or Path(file).suffix in NUMBER_SUFFIXES:
        return read_values(modality, file)
    images = torch.from_numpy(read_values(_image(modality, autoencoder), file))
    return autoencoder.encode(to_unit(images)).numpy()
