"""The commands. Each takes the words after its name, and raises ValueError, TypeError or OSError for what a user can mend."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import data as datasets
from ..methods import METHODS, Method, load
from ..training.folder import STALE, leads
from ..types import Batch, Modality, to_unit
from . import choose
from .arguments import (
    EVALUATE_SKIPS,
    LOAD_SKIPS,
    Settings,
    called,
    check_source,
    expanded,
    gathered,
    option_names,
    parsed,
    parser_for,
    run_groups,
    settings,
)
from .options import AnnotateOptions, FitRefinerOptions, ImputeOptions, PriorOptions, ReportOptions, SampleOptions, TranslateOptions
from .studies import sweep, tune
from .values import NUMBERS, printed, read_values, write_imputation, write_values

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from ..data import Dataset, Split
    from ..metrics import Evaluation
    from ..training import FitResult

__all__ = ["data", "demo", "evaluate", "fit", "fit_prior", "fit_refiner", "impute", "report", "sample", "sweep", "translate", "tune"]

RUN_PARTS = (
    "config.yaml",
    "metrics.csv",
    "evaluation.json",
    "evaluation-partial.json",
    "report.html",
    "model",
    "checkpoints",
    "judges",
    "tensorboard",
)
"""What a run folder may hold, and all that --overwrite removes."""

GAIN_ROWS = 256
"""Validation rows on which fit-refiner measures what was gained."""

RECIPE = Path(__file__).parent.parent / "experiments" / "demo.yaml"


# ---------------------------------------------------------------------------------------------- commands


def demo(words: Sequence[str]) -> None:
    """Train, evaluate and report."""
    wanted = settings([*words] if _names_folder(words) else ["--out=runs/demo", *words], verb="demo", recipe=RECIPE)
    run = _out(wanted)
    data = _loaded(wanted.data)
    method, _ = _trained(wanted, data)
    if not leads():
        return
    evaluation = _evaluated(method, data, run, wanted.evaluate)
    path = _reported(method, data, evaluation, run)
    print(evaluation.table())
    print(f"report: {path}")


def data(words: Sequence[str]) -> None:
    """List data sets, prepare one, index one of shards, write one as arrays, or encode one's images."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: counterpoint data list\n       counterpoint data prepare NAME --root DIR [options]")
        print("       counterpoint data index FOLDER [--out FILE] [options]")
        print("       counterpoint data pack SOURCE --out FOLDER [options]")
        print("       counterpoint data latents SOURCE --autoencoder DIR --out FOLDER [options]")
        return
    verb = choose(words[0], ["list", "prepare", "index", "pack", "latents"], "command")
    if verb == "list":
        parsed(parser_for("data list", "Known data sets."), words[1:])
        width = max(map(len, datasets.names()))
        print("\n".join(f"{name:<{width}}  {about}" for name, about in datasets.names().items()))
        return
    if verb == "prepare":
        print(called(datasets.prepare, "data prepare", words[1:]))
    else:
        print({"index": _index, "pack": _pack, "latents": _latents}[verb](words[1:]))


def _index(words: Sequence[str]) -> str:
    """What an index that is made now says."""
    path = called(datasets.index, "data index", gathered(words, ("columns",)))
    return datasets.Index.load(path).about(path)


def _pack(words: Sequence[str]) -> Path:
    """A data set as memory maps."""
    parser = _source_parser("data pack", "Write a data set as a folder of arrays, images decoded once and for all.")
    values = parsed(parser, expanded(words, option_names(parser)))
    out = values.pop("out")
    return datasets.pack(_loaded(values), out)


def _latents(words: Sequence[str]) -> Path:
    """Images of a data set as latents."""
    parser = _source_parser("data latents", "Write a data set again, the images of one modality as latents of a frozen autoencoder.")
    parser.add_argument("--autoencoder", type=Path, required=True, help="folder of diffusers' AutoencoderKL: config.json and safetensors")
    parser.add_argument("--modality", type=str, default=None, help="the images; by default the only modality of images")
    values = parsed(parser, expanded(words, option_names(parser)))
    autoencoder, out, modality = (values.pop(key) for key in ("autoencoder", "out", "modality"))
    return datasets.latents(_loaded(values), autoencoder, out, modality=modality)


def _source_parser(verb: str, about: str) -> ArgumentParser:
    """A parser of a data set, the options of loading it, and the folder that is made of it."""
    parser = parser_for(verb, about)
    parser.add_argument("source", type=str, help="name of a data set, a folder, or an .npz file")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make; --data takes it")
    parser.add_function_arguments(datasets.load, skip=LOAD_SKIPS)
    return parser


def fit(words: Sequence[str]) -> None:
    """Train a method; leave a run folder."""
    wanted = settings(words)
    check_source(wanted.data)
    run = _out(wanted)
    _, result = _trained(wanted, _loaded(wanted.data))
    if not leads():
        return
    print(f"{run}: {result.steps} steps, loss {result.metrics.get('train/loss', float('nan')):.4g}")
    print(f"next: counterpoint evaluate {shlex.quote(str(run))}; counterpoint report {shlex.quote(str(run))}")


def fit_prior(words: Sequence[str]) -> None:
    """Fit samplers to the latents of a trained run; generation draws from them."""
    wanted = called(PriorOptions, "fit-prior", words)
    method, data = _opened(wanted.run)
    options = {key: value for key, value in vars(wanted).items() if key != "run"}
    history = method.fit_prior(data.train, **options)
    _saved(method, wanted.run)
    print(
        f"{wanted.run}: {wanted.kind} samplers of {', '.join(method.model.latents)}, loss {history[-1]:.4g}; generation draws from them now"
    )
    print(f"next: counterpoint evaluate {shlex.quote(str(wanted.run))}")


def fit_refiner(words: Sequence[str]) -> None:
    """Fit a refiner to the posteriors of a trained run; translate --refine draws from what it makes of them."""
    wanted = called(FitRefinerOptions, "fit-refiner", words)
    method, data = _opened(wanted.run)
    options = {key: value for key, value in vars(wanted).items() if key != "run"}
    method.fit_refiner(data.train, **options)
    _saved(method, wanted.run)
    print(f"{wanted.run}: {_gain(method, data.val, wanted.seed)}")
    print(f"next: counterpoint evaluate {shlex.quote(str(wanted.run))}")


def _gain(method: Method, val: Split, seed: int) -> str:
    """What refinement does to the bound of complete validation rows, in words."""
    rows = np.random.default_rng(seed).permutation(val.complete)[:GAIN_ROWS]
    bound = method.refine(val.batch(rows, method.device), generator=torch.Generator().manual_seed(seed)).elbo if len(rows) else None
    if bound is None:
        return "a refiner is fitted; no validation row has every modality to measure it on"
    return f"a bound of {bound[0].mean():.4g} nats before and {bound[-1].mean():.4g} after {len(bound) - 1} steps on {len(rows)} validation rows"


def evaluate(words: Sequence[str]) -> None:
    """Measure a run: one table on the screen, the same numbers in RUN/evaluation.json, or in RUN/evaluation-partial.json."""
    from ..metrics import evaluate as measure
    from ..metrics import read_extractor

    parser = parser_for("evaluate", evaluate.__doc__ or "")
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here, too")
    parser.add_argument("--detail", action="store_true", help="a line for every modality, too")
    parser.add_argument(
        "--feature_extractors",
        type=list[str],
        default=[],
        help="MODALITY=FILE.py, repeated for more: a Python file, which is run, whose features(values) takes the place of the judge's features",
    )
    parser.add_function_arguments(measure, skip=EVALUATE_SKIPS)
    values = parsed(parser, expanded(gathered(words, ("only", "feature_extractors")), option_names(parser)))
    run, copy, detail = (values.pop(key) for key in ("run", "json", "detail"))
    extractors = {}
    for entry in values.pop("feature_extractors"):
        name, equals, file = entry.partition("=")
        if not equals:
            raise ValueError(f"--feature_extractors {entry} must be MODALITY=FILE.py")
        extractors[name] = read_extractor(Path(file))
    method, data = _opened(run)
    evaluation = _evaluated(method, data, run, {**values, "feature_extractors": extractors})
    if copy is not None:
        evaluation.to_json(copy)
    print(evaluation.table(detail=detail))


def sample(words: Sequence[str]) -> None:
    """New examples of all modalities."""
    wanted = called(SampleOptions, "sample", gathered(words, ("covariates",)))
    method = _model(wanted.run)
    _check_count(wanted.n)
    autoencoder = _autoencoder(wanted.autoencoder, method)
    covariates, generator = _covariates(wanted.covariates, method), torch.Generator().manual_seed(wanted.seed)
    values = method.sample(wanted.n, prior=wanted.prior, covariates=covariates, generator=generator)
    print(write_values(*_seen(values, method.modalities, autoencoder), wanted.out))


def translate(words: Sequence[str]) -> None:
    """Some modalities from others."""
    wanted = called(TranslateOptions, "translate", gathered(words, ("given", "to", "covariates")))
    method = _model(wanted.run)
    _check_count(wanted.n)
    known = {m.name: m for m in method.modalities}
    autoencoder = _autoencoder(wanted.autoencoder, method)
    given = _given(wanted.given, method, autoencoder)
    if not given:
        raise ValueError(f"name what to translate from: --given MODALITY=FILE; the modalities are {', '.join(known)}")
    targets = [choose(name, [*known], "modality") for name in wanted.to] or [name for name in known if name not in given]
    if not targets:
        raise ValueError(f"name what to translate to: --to MODALITY; the modalities are {', '.join(known)}")
    generator = torch.Generator().manual_seed(wanted.seed)
    output = method.translate(
        given,
        to=targets,
        n=wanted.n,
        prior=wanted.prior,
        rule=wanted.rule,
        refine=wanted.refine,
        covariates=_covariates(wanted.covariates, method),
        generator=generator,
    )
    flat = {name: values.transpose(0, 1).flatten(0, 1) for name, values in output.items()}  # the n answers to a row stand together
    if wanted.out is not None:
        print(write_values(*_seen(flat, method.modalities, autoencoder), wanted.out))
        return
    images = [name for name in targets if len(known[name].shape) == 3]
    if images:
        raise ValueError(f"{images[0]!r} is an image; say where to put it: --out F.png, or F.npz for its numbers")
    print(json.dumps({name: printed(values, known[name]) for name, values in flat.items()}, ensure_ascii=False))


def annotate(words: Sequence[str]) -> None:
    """Latents and imputed layers in a copy of the file that a run was trained on."""
    from ..annotation import annotate as write_into
    from ..data import omics

    wanted = called(AnnotateOptions, "annotate", words)
    if wanted.out.suffix != ".h5mu":
        raise ValueError(f"cannot write {wanted.out}: end its name in .h5mu")
    if not wanted.run.is_dir():
        raise FileNotFoundError(f"no run folder {wanted.run}; make one with counterpoint fit METHOD --data FILE.h5mu --out {wanted.run}")
    options = run_groups(wanted.run).get("data", {})
    source = Path(str(options.get("source")))
    if source.suffix not in omics.SUFFIXES:
        raise ValueError(f"{wanted.run} was trained on {source}, which is no {' or '.join(omics.SUFFIXES)} file to annotate")
    if wanted.out.exists() and source.exists() and wanted.out.samefile(source):
        raise ValueError(f"{wanted.out} is the data themselves; choose another --out")
    method, data = _opened(wanted.run)
    mdata = omics.read(source, [*(options.get("modalities") or ())])
    write_into(mdata, method, data, seed=wanted.seed)
    print(omics.write(mdata, wanted.out))


def impute(words: Sequence[str]) -> None:
    """Fill what is missing, with an interval for each value."""
    from tqdm import tqdm

    wanted = called(ImputeOptions, "impute", gathered(words, ("given", "to", "covariates")))
    if wanted.out.suffix != ".npz":
        raise ValueError(f"cannot write {wanted.out}: end its name in .npz")
    if (wanted.split is None) == any("=" in entry for entry in wanted.given):
        method, batch, given = _to_impute(wanted)
    elif wanted.split is None:
        raise ValueError("name the rows: --given MODALITY=FILE, or --split test for those of the run's own data")
    else:
        raise ValueError(f"--split {wanted.split} reads the run's own data; leave out the files of --given")
    known = [m.name for m in method.modalities]
    targets = [choose(name, known, "modality") for name in wanted.to] or known
    hidden = not sys.stderr.isatty()
    with tqdm(total=len(batch), desc="impute", unit="row", disable=hidden, dynamic_ncols=True, file=sys.stderr) as bar:
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
    counts = {name: int(found.filled(name).sum()) for name in targets}
    if not any(counts.values()):
        raise ValueError(f"nothing is missing of {', '.join(targets)}; name what to go by in --given, and the rest is filled")
    filled = ", ".join(f"{count} of {len(batch)} rows of {name}" for name, count in counts.items() if count)
    print(
        f"{write_imputation(found, method.modalities, wanted.out)}: filled {filled}; {100 * wanted.level:g} % intervals by {wanted.n} draws"
    )


def _to_impute(wanted: ImputeOptions) -> tuple[Method, Batch, list[str] | None]:
    """The model, the rows, and what to go by: None for all that is there."""
    if wanted.split is None:
        method = _model(wanted.run)
        x = _given(wanted.given, method, None)
        present = {name: ~np.isnan(v).reshape(len(v), -1).all(1) for name, v in x.items() if v.dtype.kind == "f"}
        return method, Batch.of(x, present, modalities=method.modalities), None
    method, data = _opened(wanted.run)
    names = [choose(name, [m.name for m in method.modalities], "modality") for name in wanted.given]
    return method, data.splits()[wanted.split].batch(slice(None)), names or None


def report(words: Sequence[str]) -> None:
    """One HTML file about a run."""
    wanted = called(ReportOptions, "report", gathered(words, ("maps",)))
    from ..report.figures import MAPS

    for kind in wanted.maps or ():
        choose(kind, MAPS, "map")
    method, data = _opened(wanted.run)
    print(_reported(method, data, _measured(method, data, wanted.run), wanted.run, wanted.out, wanted.maps, wanted.seed))


# ----------------------------------------------------------------------------------------------- values


def _given(entries: Sequence[str], method: Method, autoencoder: datasets.Autoencoder | None) -> dict[str, np.ndarray]:
    """Rows by modality from the files of --given."""
    known = {m.name: m for m in method.modalities}
    given = {}
    for entry in entries:
        name, equals, file = entry.partition("=")
        if not equals:
            raise ValueError(f"--given {entry} must be MODALITY=FILE, or MODALITY=TEXT of words; the modalities are {', '.join(known)}")
        given[name] = _read(known[choose(name, [*known], "modality")], file, autoencoder)
    return given


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
            found |= {entry: 1.0} if entry in names else {choose(column, [*names], "covariate"): float(number)}
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
        raise ValueError(f"--autoencoder {folder} has nothing to decode: the run knows no latents of images; leave it out")
    return datasets.Autoencoder(folder)


def _image(modality: Modality, autoencoder: datasets.Autoencoder) -> Modality:
    """The images that latents stand for."""
    return replace(modality, shape=autoencoder.image_shape(modality.shape), unbounded=False)


def _read(modality: Modality, given: str, autoencoder: datasets.Autoencoder | None) -> np.ndarray:
    """Rows of a modality from a file or a text; with an autoencoder pictures become latents, and numbers are taken for them."""
    if autoencoder is None or not modality.unbounded or Path(given).suffix in NUMBERS:
        return read_values(modality, given)
    images = torch.from_numpy(read_values(_image(modality, autoencoder), given))
    return autoencoder.encode(to_unit(images)).numpy()


def _seen(
    values: Mapping[str, Tensor], modalities: Sequence[Modality], autoencoder: datasets.Autoencoder | None
) -> tuple[dict[str, Tensor], list[Modality]]:
    """Values and what they look like; with an autoencoder, images in the place of latents."""
    if autoencoder is None:
        return {**values}, [*modalities]
    images = {m.name: autoencoder.decode(values[m.name]) for m in modalities if m.unbounded and m.name in values}
    return {**values, **images}, [_image(m, autoencoder) if m.name in images else m for m in modalities]


def _names_folder(words: Sequence[str]) -> bool:
    return any(word.partition("=")[0] in ("--out", "--resume") for word in words)


# ---------------------------------------------------------------------------------------------- run folder


def _out(wanted: Settings) -> Path:
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
    if not wanted.resume and not wanted.overwrite and wanted.out.is_dir() and any(wanted.out.iterdir()):
        raise ValueError(
            f"{wanted.out} is not empty; go on with it by --resume {wanted.out}, replace it by --overwrite, or choose another --out"
        )
    return wanted.out


def _trained(wanted: Settings, data: Dataset) -> tuple[Method, FitResult]:
    from ..training import FitOptions
    from ..training import fit as train

    options = FitOptions(**wanted.fit)
    torch.manual_seed(options.seed)  # the weights that training starts from
    method = METHODS[wanted.method].from_config(data.modalities, wanted.model)
    run = _out(wanted)
    if wanted.overwrite and leads():
        _cleared(run)
    described = {key: value for key, value in wanted.data.items() if value is not None}
    return method, train(method, data.train, data.val, out=run, resume=wanted.resume, describe=described, options=options)


def _cleared(run: Path) -> None:
    """Remove a run, and nothing else that its folder may hold."""
    if run.is_dir() and any(run.iterdir()) and not (run / "config.yaml").is_file():
        raise ValueError(f"{run} holds no run (no config.yaml), so --overwrite leaves it alone; choose another --out")
    for part in (run / name for name in RUN_PARTS):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _loaded(options: Mapping[str, Any]) -> Dataset:
    check_source(options)
    return datasets.load(**options)


def _model(run: Path) -> Method:
    if not run.is_dir():
        raise FileNotFoundError(f"no run folder {run}; make one with counterpoint fit METHOD --data NAME --out {run}")
    return load(run).to("cuda" if torch.cuda.is_available() else "cpu")


def _saved(method: Method, run: Path) -> None:
    """Keep the model in its run, and nothing that was measured on what it was before."""
    method.save_pretrained(run / "model")
    for name in STALE:
        (run / name).unlink(missing_ok=True)


def _opened(run: Path) -> tuple[Method, Dataset]:
    method = _model(run)
    groups = run_groups(run)
    if not groups.get("data", {}).get("source"):
        raise ValueError(f"{run / 'config.yaml'} does not say what data the run was trained on; add 'data: {{source: NAME}}'")
    return method, _loaded(groups["data"])


def _evaluated(method: Method, data: Dataset, run: Path, options: Mapping[str, Any]) -> Evaluation:
    from ..metrics import evaluate as measure

    evaluation = measure(method, data, cache=run / "judges", **options)
    evaluation.to_json(run / ("evaluation.json" if evaluation.complete else "evaluation-partial.json"))
    return evaluation


def _measured(method: Method, data: Dataset, run: Path) -> Evaluation:
    from ..metrics import Evaluation

    path = run / "evaluation.json"
    return Evaluation.from_json(path) if path.is_file() else _evaluated(method, data, run, {})


def _reported(
    method: Method,
    data: Dataset,
    evaluation: Evaluation,
    run: Path,
    out: Path | None = None,
    maps: Sequence[str] | None = None,
    seed: int = 0,
) -> Path:
    from ..report import write_report as write

    history, name, again = run / "metrics.csv", shlex.quote(str(run)), shlex.quote(f"{run}-again")
    commands = [
        f"counterpoint fit --config {name}/config.yaml --out {again}",
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
