"""The commands that ask a trained run: sample, translate, impute and annotate."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from counterpoint import data as datasets
from counterpoint.cli import choose
from counterpoint.cli.arguments import called, gathered, run_groups
from counterpoint.cli.options import AnnotateOptions, ImputeOptions, SampleOptions, TranslateOptions
from counterpoint.cli.runs import opened, opened_model
from counterpoint.cli.values import NUMBERS, printed, read_values, write_imputation, write_values
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.core.reading import to_unit
from counterpoint.methods import Method


def sample(words: Sequence[str]) -> None:
    """New examples of all modalities."""
    wanted = called(SampleOptions, "sample", gathered(words, ("covariates",)))
    method = opened_model(wanted.run)
    method.draw_by(guidance=wanted.guidance, sampler_steps=wanted.sampler_steps)
    _check_count(wanted.n)
    autoencoder = _autoencoder(wanted.autoencoder, method)
    covariates, generator = (
        _covariates(wanted.covariates, method),
        torch.Generator().manual_seed(wanted.seed),
    )
    values = method.sample(wanted.n, prior=wanted.prior, covariates=covariates, generator=generator)
    print(write_values(*_seen(values, method.modalities, autoencoder), wanted.out))


def translate(words: Sequence[str]) -> None:
    """Some modalities from others."""
    wanted = called(TranslateOptions, "translate", gathered(words, ("given", "to", "covariates")))
    method = opened_model(wanted.run)
    method.draw_by(guidance=wanted.guidance, sampler_steps=wanted.sampler_steps)
    _check_count(wanted.n)
    known = {m.name: m for m in method.modalities}
    autoencoder = _autoencoder(wanted.autoencoder, method)
    given = _given(wanted.given, method, autoencoder)
    if not given:
        raise ValueError(
            f"name what to translate from: --given MODALITY=FILE; the modalities are {', '.join(known)}"
        )
    present = _present(given)
    empty = ~np.logical_or.reduce([*present.values()])
    if empty.any():
        raise ValueError(
            f"row {int(empty.argmax())} holds nothing but NaN in {', '.join(given)} ({empty.sum()} of {len(empty)} rows); leave such rows out, or"
            " take impute, which leaves them missing"
        )
    targets = [choose(name, [*known], "modality") for name in wanted.to] or [
        name for name in known if name not in given
    ]
    if not targets:
        raise ValueError(
            f"name what to translate to: --to MODALITY; the modalities are {', '.join(known)}"
        )
    generator = torch.Generator().manual_seed(wanted.seed)
    output = method.translate(
        Batch.of(given, present, modalities=method.modalities),
        to=targets,
        n=wanted.n,
        prior=wanted.prior,
        rule=wanted.rule,
        refine=wanted.refine,
        covariates=_covariates(wanted.covariates, method),
        generator=generator,
    )
    flat = {
        name: values.transpose(0, 1).flatten(0, 1) for name, values in output.items()
    }  # the n answers to a row stand together
    if wanted.out is not None:
        print(write_values(*_seen(flat, method.modalities, autoencoder), wanted.out))
        return
    images = [name for name in targets if len(known[name].shape) == 3]
    if images:
        raise ValueError(
            f"{images[0]!r} is an image; say where to put it: --out F.png, or F.npz for its numbers"
        )
    print(
        json.dumps(
            {name: printed(values, known[name]) for name, values in flat.items()},
            ensure_ascii=False,
        )
    )


def annotate(words: Sequence[str]) -> None:
    """Latents and imputed layers in a copy of the file that a run was trained on."""
    from counterpoint.data.sources import mudata_files
    from counterpoint.omics.annotation import annotate as write_into

    wanted = called(AnnotateOptions, "annotate", words)
    if wanted.out.suffix != ".h5mu":
        raise ValueError(f"cannot write {wanted.out}: end its name in .h5mu")
    if not wanted.run.is_dir():
        raise FileNotFoundError(
            f"no run folder {wanted.run}; make one with counterpoint fit METHOD --data FILE.h5mu --out {wanted.run}"
        )
    options = run_groups(wanted.run).get("data", {})
    source = Path(str(options.get("source")))
    if source.suffix not in mudata_files.SUFFIXES:
        raise ValueError(
            f"{wanted.run} was trained on {source}, which is no {' or '.join(mudata_files.SUFFIXES)} file to annotate"
        )
    if wanted.out.exists() and source.exists() and wanted.out.samefile(source):
        raise ValueError(f"{wanted.out} is the data themselves; choose another --out")
    method, data = opened(wanted.run)
    mdata = mudata_files.read(source, [*(options.get("modalities") or ())])
    write_into(mdata, method, data, seed=wanted.seed)
    print(mudata_files.write(mdata, wanted.out))


def impute(words: Sequence[str]) -> None:
    """Fill what is missing, with an interval for each value."""
    from tqdm import tqdm

    wanted = called(ImputeOptions, "impute", gathered(words, ("given", "to", "covariates")))
    if wanted.out.suffix != ".npz":
        raise ValueError(f"cannot write {wanted.out}: end its name in .npz")
    if (wanted.split is None) == any("=" in entry for entry in wanted.given):
        method, batch, given, here = _to_impute(wanted)
    elif wanted.split is None:
        raise ValueError(
            "name the rows: --given MODALITY=FILE, or --split test for those of the run's own data"
        )
    else:
        raise ValueError(
            f"--split {wanted.split} reads the run's own data; leave out the files of --given"
        )
    known = [m.name for m in method.modalities]
    targets = [choose(name, known, "modality") for name in wanted.to] or known
    hidden = not sys.stderr.isatty()
    with tqdm(
        total=len(batch),
        desc="impute",
        unit="row",
        disable=hidden,
        dynamic_ncols=True,
        file=sys.stderr,
    ) as bar:
        found = method.impute(
            batch,
            given,
            to=targets,
            n=wanted.n,
            level=wanted.level,
            samples=wanted.samples,
            prior=wanted.prior,
            rule=wanted.rule,
            refine=wanted.refine,
            covariates=_covariates(wanted.covariates, method),
            generator=torch.Generator().manual_seed(wanted.seed),
            progress=bar.update,
        )
    found = found if here.all() else found.among(torch.from_numpy(here).to(method.device))
    counts = {name: int(found.filled(name).sum()) for name in targets}
    if not any(counts.values()):
        raise ValueError(
            f"nothing is missing of {', '.join(targets)}; name what to go by in --given, and the rest is filled"
        )
    filled = ", ".join(
        f"{count} of {len(here)} rows of {name}" for name, count in counts.items() if count
    )
    path = write_imputation(found, method.modalities, wanted.out)
    print(f"{path}: filled {filled}; {100 * wanted.level:g} % intervals by {wanted.n} draws")
    if found.left is not None:
        lack = ", ".join(given or [name for name in known if bool(batch.present[name].any())])
        print(
            f"{int(found.left.sum())} of {len(here)} rows have none of {lack} to go by, and stay missing (NaN; -1 for word ids)"
        )


def _to_impute(wanted: ImputeOptions) -> tuple[Method, Batch, list[str] | None, np.ndarray]:
    """The model, the rows that have anything, what to go by (None for all that is
    there), and which of all rows these are, (N,) bool."""
    if wanted.split is None:
        method = opened_model(wanted.run)
        x = _given(wanted.given, method, None)
        present = _present(x)
        here = np.logical_or.reduce([*present.values()])
        if not here.any():
            raise ValueError(f"every row of {', '.join(x)} is NaN, so there is nothing to go by")
        kept, there = (
            {name: values[here] for name, values in each.items()} for each in (x, present)
        )
        return method, Batch.of(kept, there, modalities=method.modalities), None, here
    method, data = opened(wanted.run)
    names = [choose(name, [m.name for m in method.modalities], "modality") for name in wanted.given]
    batch = data.splits()[wanted.split].batch(slice(None))
    return method, batch, names or None, np.ones(len(batch), bool)


# ----------------------------------------------------------------------------------------------- values


def _given(
    entries: Sequence[str], method: Method, autoencoder: datasets.Autoencoder | None
) -> dict[str, np.ndarray]:
    """Rows by modality from the files of --given."""
    known = {m.name: m for m in method.modalities}
    given = {}
    for entry in entries:
        name, equals, file = entry.partition("=")
        if not equals:
            raise ValueError(
                f"--given {entry} must be MODALITY=FILE, or MODALITY=TEXT of words; the modalities are {', '.join(known)}"
            )
        given[name] = _read(known[choose(name, [*known], "modality")], file, autoencoder)
    return given


def _present(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By modality which rows are there, (N,) bool: those that are not NaN throughout.

    Raises:
        ValueError: different numbers of rows.
    """
    rows = {name: len(values) for name, values in given.items()}
    if len({*rows.values()}) > 1:
        raise ValueError(
            f"the files of --given have different numbers of rows: {rows}; mark missing rows by NaN"
        )
    return {
        name: ~np.isnan(v).reshape(len(v), -1).all(1)
        if v.dtype.kind == "f"
        else np.ones(len(v), bool)
        for name, v in given.items()
    }


def _check_count(n: int) -> None:
    if n < 1:
        raise ValueError(f"--n {n} must be 1 or more")


def _covariates(entries: Sequence[str], method: Method) -> dict[str, float] | None:
    """Columns and what is in them; None where none is named.

    Raises:
        ValueError: what is neither a column nor a column and its number.
    """
    names = method.model.covariates
    found: dict[str, float] = {}
    for entry in entries:
        column, _, number = entry.rpartition("=")
        try:
            found |= (
                {entry: 1.0}
                if entry in names
                else {choose(column, [*names], "covariate"): float(number)}
            )
        except ValueError:
            raise ValueError(
                f"--covariates {entry} must be COLUMN or COLUMN=NUMBER; the columns are {', '.join(names) or 'none'}"
            ) from None
    return found or None


def _autoencoder(folder: Path | None, method: Method) -> datasets.Autoencoder | None:
    """The autoencoder whose latents some modality holds, if one is named.

    Raises:
        ValueError: it has nothing to decode.
    """
    if folder is None:
        return None
    if not any(m.unbounded for m in method.modalities):
        raise ValueError(
            f"--autoencoder {folder} has nothing to decode: the run knows no latents of images; leave it out"
        )
    return datasets.Autoencoder(folder)


def _image(modality: Modality, autoencoder: datasets.Autoencoder) -> Modality:
    """The images that latents stand for."""
    return replace(modality, shape=autoencoder.image_shape(modality.shape), unbounded=False)


def _read(modality: Modality, given: str, autoencoder: datasets.Autoencoder | None) -> np.ndarray:
    """Rows of a modality from a file or a text; with an autoencoder pictures become
    latents, and numbers are taken for them."""
    if autoencoder is None or not modality.unbounded or Path(given).suffix in NUMBERS:
        return read_values(modality, given)
    images = torch.from_numpy(read_values(_image(modality, autoencoder), given))
    return autoencoder.encode(to_unit(images)).numpy()


def _seen(
    values: Mapping[str, Tensor],
    modalities: Sequence[Modality],
    autoencoder: datasets.Autoencoder | None,
) -> tuple[dict[str, Tensor], list[Modality]]:
    """Values and what they look like; with an autoencoder, images in the place of
    latents."""
    if autoencoder is None:
        return {**values}, [*modalities]
    images = {
        m.name: autoencoder.decode(values[m.name])
        for m in modalities
        if m.unbounded and m.name in values
    }
    return {**values, **images}, [
        _image(m, autoencoder) if m.name in images else m for m in modalities
    ]
