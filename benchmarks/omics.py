"""Omics by five-fold cross-validation: what a linear probe reads off the latents, and
how well modalities are imputed, beside peers.

    python benchmarks/omics.py DATA --peer PEER/bin/python --out DIR [--sets tcga-brca ...] [--methods idmvae ...] [--folds 0 1 2 3 4]

DATA holds ``omics/``. Each method is trained as ``recipes/omics.yaml`` says but for its
own options and for the networks, of which there are four: those of the recipe, linear
ones, linear ones with weight decay, and the same with more latents, in larger batches.
It keeps the weights of the best validation loss. Everything is fitted to the train rows
of a fold without their labels; a logistic regression on standardised latents (posterior
means given all modalities) is scored by balanced accuracy on the test rows. Imputation:
each modality from the others, root mean squared error over that of the train mean,
standardised features, of counts log1p at a common total. Networks are chosen in every
fold by its validation rows: for probes those whose probe of the same latents and label
is best there, for imputation, and for the dependence of z and w, those whose error is
least. Peers see train rows only, too, and their number of dimensions (16, 32 or 64) is
chosen in the same way. A second table of each set has the method and the latents (z or
z and w) chosen so, too, of ours and of the peers. What is done already in DIR is not
done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import yaml
from omics_peers import PARTS, probe

import counterpoint as cp
from counterpoint import NetworkOptions
from counterpoint.core.batch import Batch
from counterpoint.core.modality import COUNTS
from counterpoint.data import Dataset, Split
from counterpoint.metrics.dependence import hsic

RECIPE = Path(cp.__file__).parent / "recipes" / "omics.yaml"
SETS = ("tcga-brca", "scgem", "snareseq", "citeseq")
SIZES = (16, 32, 64)
OPTIONS = {
    "idmvae": ("private_dim", "beta", "cross_mi", "genaug", "prior_std", "diffusion"),
    "mmvae+": ("private_dim", "beta"),
    "mvtcae": (),
    "mopoe": ("beta",),
    "jmvae": (),
}
"""What each method takes from the recipe, beside ``shared_dim`` and ``networks``."""

Figures = dict[str, dict[str, float]]
"""What was measured on rows of val and of test."""

LINEAR = NetworkOptions(hidden=())
CANDIDATES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "recipe": ({}, {}),
    "linear": ({"shared_dim": 64, "networks": LINEAR}, {}),
    "decay": ({"shared_dim": 64, "networks": LINEAR}, {"weight_decay": 3.0}),
    "wide": ({"shared_dim": 128, "networks": LINEAR}, {"weight_decay": 10.0, "batch_size": 256}),
}
"""What differs from the recipe, in the model and in its training."""


class Scale:
    """Values of a modality as errors are measured on: standardised by the train rows,
    of counts log1p at the median total first. What is constant in the train rows is
    only centred."""

    def __init__(self, data: Dataset, name: str) -> None:
        self.counts = next(m for m in data.modalities if m.name == name).likelihood in COUNTS
        values = np.asarray(data.train.x[name], np.float64)
        self.total = float(np.median(values.sum(-1)))
        self.mean, self.std = 0.0, 1.0
        plain = self(values)
        self.mean, self.std = plain.mean(0), np.where(np.ptp(plain, 0) > 0, plain.std(0), 1.0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, np.float64)
        if self.counts:
            values = np.log1p(values * self.total / values.sum(-1, keepdims=True))
        return (values - self.mean) / self.std


def exported(data: Dataset, path: Path) -> None:
    """A fold as omics_peers.py reads it."""
    arrays = {}
    for part in PARTS:
        split: Split = getattr(data, part)
        for m in data.modalities:
            arrays[f"{part}/{m.name}"] = Scale(data, m.name)(split.x[m.name])
            if m.likelihood in COUNTS:
                arrays[f"counts/{part}/{m.name}"] = split.x[m.name]
        arrays |= {f"label/{part}/{label}": values for label, values in split.shared_labels.items()}
    np.savez(path, **arrays)


def embedded(method: cp.Method, split: Split) -> tuple[np.ndarray, np.ndarray | None]:
    """Means of z given everything, and of all w_m side by side."""
    latents = method.encode(split.batch(slice(None)))
    z, w = latents.shared[0].numpy(), [latents.private[name][0].numpy() for name in latents.private]
    return z, np.concatenate(w, 1) if w else None


def measured(method: cp.Method, data: Dataset, held: Split) -> dict[str, float]:
    """Probes, imputation and the dependence of z and w on held-out rows."""
    (z, w), (z_held, w_held) = embedded(method, data.train), embedded(method, held)
    found = {}
    latents = {"z": (z, z_held)}
    if w is not None and w_held is not None:
        latents |= {
            "w": (w, w_held),
            "zw": (np.concatenate([z, w], 1), np.concatenate([z_held, w_held], 1)),
        }
        dependence = hsic(z_held, w_held)
        found = {"hsic": dependence.value, "hsic/null": dependence.null}
    for label, values in data.train.shared_labels.items():
        labels = {"train": values, "test": held.shared_labels[label]}
        found |= {f"probe/{kind}/{label}": probe(*pair, labels) for kind, pair in latents.items()}
    names = [m.name for m in data.modalities]
    whole: Batch = held.batch(slice(None))
    for name in names:
        scale = Scale(data, name)
        given = whole.only([other for other in names if other != name])
        guess, truth = predicted(method, given, name, scale), scale(held.x[name])
        found[f"nrmse/{name}"] = float(
            np.sqrt(np.mean((guess - truth) ** 2)) / np.sqrt(np.mean(truth**2))
        )
    return found


def predicted(method: cp.Method, given: Batch, name: str, scale: Scale) -> np.ndarray:
    """The mean of a modality on the scale of its errors: of counts that of the scaled
    draws, since the mean of a logarithm is not that of the counts."""
    generator = torch.Generator().manual_seed(0)
    if scale.counts:
        draws = method.impute(given, to=[name], n=200, samples=True, generator=generator).samples[
            name
        ]
        return scale(draws.numpy()).mean(0)
    return scale(
        method.translate(given, to=[name], n=50, generator=generator)[name].mean(0).numpy()
    )


def trained(name: str, data: Dataset, seed: int, candidate: str) -> cp.Method:
    """A method fitted to the train rows."""
    recipe = yaml.safe_load(RECIPE.read_text())
    model, fit = CANDIDATES[candidate]
    options = {key: recipe["model"][key] for key in ("shared_dim", "networks", *OPTIONS[name])}
    method = cp.METHODS[name].for_data(data, seed=seed, **{**options, **model})
    method.fit(data.train, val=data.val, seed=seed, progress=False, **{**recipe["fit"], **fit})
    return method


def chosen(candidates: Mapping[str, Figures]) -> dict[str, float]:
    """The test figures of one fold: of each kind, those of the candidate that is best
    on validation rows."""

    def error(candidate: str, key: str) -> float:
        on_val = candidates[candidate]["val"]
        if key.startswith("probe"):
            return -on_val[key]
        return mean(value for name, value in on_val.items() if name.startswith("nrmse"))

    keys = next(iter(candidates.values()))["test"]
    return {
        key: candidates[min(candidates, key=lambda c: error(c, key))]["test"][key] for key in keys
    }


def table(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Means and deviations over the folds, a table for each set."""
    text = []
    for name, by_method in results.items():
        keys = list(
            dict.fromkeys(key for folds in by_method.values() for fold in folds for key in fold)
        )
        text += [f"\n{name}\n", "| | " + " | ".join(keys) + " |", "|---|" + "---|" * len(keys)]
        for method, folds in by_method.items():
            values = {key: [fold[key] for fold in folds if key in fold] for key in keys}
            cells = [
                f"{mean(v):.3f} ± {stdev(v):.3f}" if len(v) > 1 else f"{v[0]:.3f}" if v else ""
                for v in values.values()
            ]
            text.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def ours(method: str, data: Dataset, fold: int, out: Path) -> dict[str, Figures]:
    """The figures of a method with each of the networks."""
    candidates = {}
    for candidate in CANDIDATES:
        path = out / f"{data.name}-{fold}-{method}-{candidate}.json"
        if not path.exists():
            fitted = trained(method, data, fold, candidate)
            both = {
                "val": measured(fitted, data, data.val),
                "test": measured(fitted, data, data.test),
            }
            path.write_text(json.dumps(both, indent=2) + "\n")
        candidates[candidate] = json.loads(path.read_text())
    return candidates


def peers(python: str, data: Dataset, fold: int, out: Path) -> dict[str, dict[str, Figures]]:
    """By peer, its figures in each number of dimensions, named as those of ours are."""
    arrays = out / f"{data.name}-{fold}.npz"
    found: dict[str, dict[str, Figures]] = {}
    for size in SIZES:
        path = out / f"{data.name}-{fold}-peers-{size}.json"
        if not path.exists():
            exported(data, arrays)
            command = [
                python,
                str(Path(__file__).with_name("omics_peers.py")),
                str(arrays),
                "--dim",
                str(size),
                "--out",
                str(path),
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for held, figures in json.loads(path.read_text()).items():
            for key, value in figures.items():
                kind, peer, what = key.split("/")
                name = f"probe/z/{what}" if kind == "probe" else f"nrmse/{what}"
                found.setdefault(peer, {}).setdefault(str(size), {}).setdefault(held, {})[name] = (
                    value
                )
    return found


def overall(candidates: Iterable[Figures]) -> dict[str, float]:
    """The test figures of one fold where everything, the method and the latents too, is
    chosen by validation rows: probes of z or of z and w, errors."""
    tried: dict[str, list[tuple[float, float]]] = {}
    for figures in candidates:
        for key, value in figures["val"].items():
            kind, *what = key.split("/")
            if kind == "nrmse" or (kind == "probe" and what[0] in ("z", "zw")):
                tried.setdefault(f"{kind}/{what[-1]}", []).append(
                    (value if kind == "probe" else -value, figures["test"][key])
                )
    return {task: max(values)[1] for task, values in tried.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--peer", help="python of an environment with mofapy2, cca-zoo and scvi-tools"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS, metavar="NAME")
    parser.add_argument("--methods", nargs="*", default=[*OPTIONS], choices=OPTIONS, metavar="NAME")
    parser.add_argument("--folds", nargs="+", type=int, default=range(5))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name in options.sets:
        by_method: dict[str, list[dict[str, float]]] = {}
        by_side: dict[str, list[dict[str, float]]] = {}
        for fold in options.folds:
            data = cp.data.load(name, root=options.data, fold=fold)
            sides = {
                "ours": {
                    method: ours(method, data, fold, options.out) for method in options.methods
                }
            }
            if options.peer:
                sides["peers"] = peers(options.peer, data, fold, options.out)
            for side, found in sides.items():
                by_side.setdefault(side, []).append(
                    overall(
                        figures
                        for by_candidate in found.values()
                        for figures in by_candidate.values()
                    )
                )
                for method, by_candidate in found.items():
                    by_method.setdefault(method, []).append(chosen(by_candidate))
        results |= {name: by_method, f"{name}, the method chosen too": by_side}
    print(table(results))


if __name__ == "__main__":
    main()
