"""Peers of omics.py, in an environment of their own: PCA, canonical correlations,
MOFA+, totalVI; ridge and nearest neighbours for imputation.

    PEER/bin/python benchmarks/omics_peers.py FOLD.npz --dim 10 --out FOLD.json

``FOLD.npz`` holds, for each modality, ``train/NAME``, ``val/NAME`` and ``test/NAME`` as
omics.py wrote them (standardised, of counts log1p at a common total), counts as
``counts/train/NAME``, and labels ``label/train/LABEL``. Everything is fitted to the
rows of train without their labels; those of val and test are projected. ``FOLD.json``
gets the figures of both.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

Views = dict[str, np.ndarray]
"""What there is of each modality."""

Parts = dict[str, Views]
"""The views of train, val and test."""

Latents = dict[str, np.ndarray]
"""(n, dim) of train, val and test each."""

PARTS = ("train", "val", "test")


def pca(parts: Parts, dim: int) -> Latents:
    """Principal components of the concatenation, each modality scaled to a total
    variance of 1; of each part."""
    from sklearn.decomposition import PCA

    weight = {name: 1 / np.sqrt(x.var(0).sum()) for name, x in parts["train"].items()}
    together = {
        part: np.concatenate([x * weight[name] for name, x in views.items()], 1)
        for part, views in parts.items()
    }
    model = PCA(min(dim, *together["train"].shape), random_state=0).fit(together["train"])
    return {part: model.transform(x) for part, x in together.items()}


def cca(parts: Parts, dim: int) -> Latents:
    """Multiset canonical correlations, half of each covariance shrunk to the identity,
    on 50 principal components of each modality; the mean of the modalities'
    projections."""
    from cca_zoo.linear import MCCA
    from sklearn.decomposition import PCA

    reduced = {
        name: PCA(min(50, x.shape[1], len(x) - 1), random_state=0).fit(x)
        for name, x in parts["train"].items()
    }
    views = {
        part: [reduced[name].transform(x) for name, x in of.items()] for part, of in parts.items()
    }
    model = MCCA(min(dim, *(v.shape[1] for v in views["train"])), shrinkage=0.5).fit(views["train"])
    return {part: np.mean(model.transform(v), 0) for part, v in views.items()}


def mofa(parts: Parts, dim: int) -> Latents:
    """MOFA+ (Argelaguet et al. 2020, https://doi.org/10.1186/s13059-020-02015-1) at its
    defaults; factors of new rows by its loadings and noise: (I + Σ_m W_mᵀ τ_m W_m)⁻¹
    Σ_m W_mᵀ τ_m x_m, the mean of their posterior."""
    from mofapy2.run.entry_point import entry_point

    train = parts["train"]
    with contextlib.redirect_stdout(io.StringIO()):
        entry = entry_point()
        entry.set_data_options(scale_views=True)
        entry.set_data_matrix([[x] for x in train.values()], likelihoods=["gaussian"] * len(train))
        entry.set_model_options(factors=min(dim, sum(x.shape[1] for x in train.values())))
        entry.set_train_options(seed=0, convergence_mode="medium")
        entry.build()
        entry.run()
    nodes = entry.model.nodes
    loadings = [np.asarray(w) for w in nodes["W"].getExpectation()]
    noise = [
        np.asarray(t).reshape(-1, x.shape[1])[0]
        for t, x in zip(nodes["Tau"].getExpectation(), train.values(), strict=True)
    ]
    precision = np.eye(loadings[0].shape[1]) + sum(
        w.T @ (t[:, None] * w) for w, t in zip(loadings, noise, strict=True)
    )

    def factors(views: Views) -> np.ndarray:
        scaled = [
            (x - train[n].mean(0)) / train[n].std() for n, x in views.items()
        ]  # as scale_views does
        return np.linalg.solve(
            precision, sum((w.T * t) @ x.T for w, t, x in zip(loadings, noise, scaled, strict=True))
        ).T

    return {part: factors(views) for part, views in parts.items()}


def totalvi(counts: Parts, dim: int) -> Latents:
    """totalVI (Gayoso et al. 2021, https://doi.org/10.1038/s41592-020-01050-x) at its
    defaults: RNA and surface proteins."""
    import anndata
    import scvi

    scvi.settings.seed = 0
    made = {}
    for part in PARTS:
        made[part] = anndata.AnnData(counts[part]["rna"].astype(np.float32))
        made[part].obsm["protein"] = counts[part]["adt"].astype(np.float32)
    scvi.model.TOTALVI.setup_anndata(made["train"], protein_expression_obsm_key="protein")
    model = scvi.model.TOTALVI(made["train"], n_latent=dim)
    model.train(max_epochs=400, accelerator="cpu", enable_progress_bar=False)
    return {part: model.get_latent_representation(data) for part, data in made.items()}


def probe(train: np.ndarray, test: np.ndarray, labels: dict[str, np.ndarray]) -> float:
    """Balanced accuracy of a logistic regression on standardised features; rows of
    unknown class left out."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    here, there = labels["train"] >= 0, labels["test"] >= 0
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(
        train[here], labels["train"][here]
    )
    return float(balanced_accuracy_score(labels["test"][there], model.predict(test[there])))


def imputation(train: Views, test: Views) -> dict[str, float]:
    """Root mean squared error of each modality from the others, over that of the mean,
    by ridge (strength by leave-one-out) and 10 nearest neighbours."""
    from sklearn.linear_model import RidgeCV
    from sklearn.neighbors import KNeighborsRegressor

    found = {}
    for name in train:
        x, y = (
            np.concatenate([v for n, v in views.items() if n != name], 1) for views in (train, test)
        )
        baseline = np.sqrt(np.mean((test[name] - train[name].mean(0)) ** 2))
        for how, model in (
            ("ridge", RidgeCV(np.logspace(0, 6, 13))),
            ("knn", KNeighborsRegressor(10)),
        ):
            error = np.sqrt(np.mean((model.fit(x, train[name]).predict(y) - test[name]) ** 2))
            found[f"{how}/{name}"] = float(error / baseline)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fold", type=Path)
    parser.add_argument("--dim", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with np.load(options.fold, allow_pickle=False) as file:
        flat = dict(file)
    views = {
        part: {k.split("/", 1)[1]: v for k, v in flat.items() if k.startswith(f"{part}/")}
        for part in PARTS
    }
    counts = {
        part: {k.split("/", 2)[2]: v for k, v in flat.items() if k.startswith(f"counts/{part}/")}
        for part in PARTS
    }
    names = sorted({k.split("/", 2)[2] for k in flat if k.startswith("label/")})
    peers: dict[str, Callable[[], Latents]] = {
        "pca": lambda: pca(views, options.dim),
        "cca": lambda: cca(views, options.dim),
        "mofa+": lambda: mofa(views, options.dim),
    }
    if {"rna", "adt"} <= counts["train"].keys():
        peers["totalvi"] = lambda: totalvi(counts, options.dim)
    latents = {peer: fit() for peer, fit in peers.items()}
    found = {}
    for held in ("val", "test"):
        found[held] = {
            f"nrmse/{name}": value
            for name, value in imputation(views["train"], views[held]).items()
        }
        for label in names:
            labels = {"train": flat[f"label/train/{label}"], "test": flat[f"label/{held}/{label}"]}
            found[held] |= {
                f"probe/{peer}/{label}": probe(of["train"], of[held], labels)
                for peer, of in latents.items()
            }
    options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
