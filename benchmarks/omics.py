"""Omics by five-fold cross-validation: what a linear probe reads off the latents, and how well modalities are imputed, beside peers.

    python benchmarks/omics.py DATA --peer PEER/bin/python --out DIR [--sets tcga-brca ...] [--methods idmvae ...] [--folds 0 1 2 3 4]

DATA holds ``omics/``. Each method is trained as ``experiments/omics.yaml`` says but for its own options, and keeps the weights of the best validation
loss. Everything is fitted to the train rows of a fold without their labels; a logistic regression on standardised latents (posterior means given all
modalities) is scored by balanced accuracy on the test rows. Peers see train rows only, too, and are tried at the size of z and at twice that; the
better one, by the mean over the folds, is shown. Imputation: each modality from the others, root mean squared error over that of the
train mean, standardised features, of counts log1p at a common total. What is done already in DIR is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
import yaml
from omics_peers import probe

import counterpoint as cp
from counterpoint.data import Dataset, Split
from counterpoint.metrics.dependence import hsic
from counterpoint.types import COUNTS, Batch

RECIPE = Path(cp.__file__).parent / "experiments" / "omics.yaml"
SETS = ("tcga-brca", "scgem", "snareseq", "citeseq")
SIZES = (16, 32)
OPTIONS = {
    "idmvae": ("shared_dim", "private_dim", "beta", "cross_mi", "genaug", "diffusion", "networks"),
    "mmvae+": ("shared_dim", "private_dim", "beta", "networks"),
    "mvtcae": ("shared_dim", "networks"),
    "mopoe": ("shared_dim", "beta", "networks"),
    "jmvae": ("shared_dim", "networks"),
}
"""What each method takes from the recipe."""


class Scale:
    """Values of a modality as errors are measured on: standardised by the train rows, of counts log1p at the median total first."""

    def __init__(self, data: Dataset, name: str) -> None:
        self.counts = next(m for m in data.modalities if m.name == name).likelihood in COUNTS
        values = np.asarray(data.train.x[name], np.float64)
        self.total = float(np.median(values.sum(1)))
        self.mean, self.std = 0.0, 1.0
        plain = self(values)
        self.mean, self.std = plain.mean(0), plain.std(0) + 1e-9

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, np.float64)
        if self.counts:
            values = np.log1p(values * self.total / values.sum(1, keepdims=True))
        return (values - self.mean) / self.std


def exported(data: Dataset, path: Path) -> None:
    """A fold as omics_peers.py reads it."""
    arrays = {}
    for part in ("train", "test"):
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


def measured(method: cp.Method, data: Dataset) -> dict[str, float]:
    """Probes, imputation and the dependence of z and w."""
    (z, w), (z_test, w_test) = embedded(method, data.train), embedded(method, data.test)
    found = {}
    latents = {"z": (z, z_test)}
    if w is not None and w_test is not None:
        latents |= {"w": (w, w_test), "zw": (np.concatenate([z, w], 1), np.concatenate([z_test, w_test], 1))}
        dependence = hsic(z_test, w_test)
        found["hsic"] = dependence.value
        found["hsic/null"] = dependence.null
    for label, values in data.train.shared_labels.items():
        labels = {"train": values, "test": data.test.shared_labels[label]}
        found |= {f"probe/{kind}/{label}": probe(*pair, labels) for kind, pair in latents.items()}
    names = [m.name for m in data.modalities]
    whole: Batch = data.test.batch(slice(None))
    for name in names:
        scale = Scale(data, name)
        given = whole.only([other for other in names if other != name])
        means = method.translate(given, to=[name], n=50, generator=torch.Generator().manual_seed(0))[name].mean(0).numpy()
        truth = scale(data.test.x[name])
        found[f"nrmse/{name}"] = float(np.sqrt(np.mean((scale(means) - truth) ** 2)) / np.sqrt(np.mean(truth**2)))
    return found


def trained(name: str, data: Dataset, seed: int) -> cp.Method:
    """A method fitted to the train rows."""
    recipe = yaml.safe_load(RECIPE.read_text())
    options = {key: recipe["model"][key] for key in OPTIONS[name]}
    torch.manual_seed(seed)
    method = cp.METHODS[name].for_data(data, **options)
    method.fit(data.train, val=data.val, seed=seed, progress=False, **recipe["fit"])
    return method


def table(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Means and deviations over the folds, a table for each set."""
    text = []
    for name, by_method in results.items():
        keys = list(dict.fromkeys(key for folds in by_method.values() for fold in folds for key in fold))
        text += [f"\n{name}\n", "| | " + " | ".join(keys) + " |", "|---|" + "---|" * len(keys)]
        for method, folds in by_method.items():
            values = {key: [fold[key] for fold in folds if key in fold] for key in keys}
            cells = [f"{mean(v):.3f} ± {stdev(v):.3f}" if len(v) > 1 else f"{v[0]:.3f}" if v else "" for v in values.values()]
            text.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def best(by_size: dict[int, list[dict[str, float]]]) -> dict[str, list[dict[str, float]]]:
    """Peers' figures by peer, each probe at the size that is better over the folds."""
    found: dict[str, list[dict[str, float]]] = {}
    for folds in by_size.values():
        for key in folds[0]:
            kind, peer, what = key.split("/")
            better = max(by_size.values(), key=lambda other: mean(fold[key] for fold in other) * (1 if kind == "probe" else -1))
            rows = found.setdefault(peer, [{} for _ in folds])
            for row, fold in zip(rows, better, strict=True):
                row[f"probe/z/{what}" if kind == "probe" else f"nrmse/{what}"] = fold[key]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", help="python of an environment with mofapy2, cca-zoo and scvi-tools")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS, metavar="NAME")
    parser.add_argument("--methods", nargs="*", default=[*OPTIONS], choices=OPTIONS, metavar="NAME")
    parser.add_argument("--folds", nargs="+", type=int, default=range(5))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name in options.sets:
        results[name] = {method: [] for method in options.methods}
        by_size: dict[int, list[dict[str, float]]] = {size: [] for size in SIZES} if options.peer else {}
        for fold in options.folds:
            data = cp.data.load(name, root=options.data, fold=fold)
            for method in options.methods:
                path = options.out / f"{name}-{fold}-{method}.json"
                if not path.exists():
                    path.write_text(json.dumps(measured(trained(method, data, fold), data), indent=2) + "\n")
                results[name][method].append(json.loads(path.read_text()))
            for size, folds in by_size.items():
                path, arrays = options.out / f"{name}-{fold}-peers-{size}.json", options.out / f"{name}-{fold}.npz"
                if not path.exists():
                    exported(data, arrays)
                    script = str(Path(__file__).with_name("omics_peers.py"))
                    subprocess.run([options.peer, script, arrays, "--dim", str(size), "--out", path], check=True, stdout=subprocess.DEVNULL)
                folds.append(json.loads(path.read_text()))
        results[name] |= best(by_size)
    print(table(results))


if __name__ == "__main__":
    main()
