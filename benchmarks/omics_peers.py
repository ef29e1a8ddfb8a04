"""Peers of omics.py, in an environment of their own: PCA, canonical correlations, MOFA+, totalVI; ridge and nearest neighbours for imputation.

    PEER/bin/python benchmarks/omics_peers.py FOLD.npz --dim 10 --out FOLD.json

``FOLD.npz`` holds, for each modality, ``train/NAME`` and ``test/NAME`` as omics.py wrote them (standardised, of counts log1p at a common total), counts
as ``counts/train/NAME``, and labels ``label/train/LABEL``. Everything is fitted to the rows of train without their labels; the rows of test are projected.
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


def pca(train: Views, test: Views, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the concatenation, each modality scaled to a total variance of 1."""
    from sklearn.decomposition import PCA

    weight = {name: 1 / np.sqrt(x.var(0).sum()) for name, x in train.items()}
    together = [np.concatenate([x * weight[name] for name, x in views.items()], 1) for views in (train, test)]
    model = PCA(min(dim, *together[0].shape), random_state=0).fit(together[0])
    return model.transform(together[0]), model.transform(together[1])


def cca(train: Views, test: Views, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Multiset canonical correlations, half of each covariance shrunk to the identity, on 50 principal components of each modality; the mean of the
    modalities' projections."""
    from cca_zoo.linear import MCCA
    from sklearn.decomposition import PCA

    reduced = {n: PCA(min(50, x.shape[1], len(x) - 1), random_state=0).fit(x) for n, x in train.items()}
    views = [[reduced[n].transform(x) for n, x in part.items()] for part in (train, test)]
    model = MCCA(min(dim, *(v.shape[1] for v in views[0])), shrinkage=0.5).fit(views[0])
    first, second = (np.mean(model.transform(v), 0) for v in views)
    return first, second


def mofa(train: Views, test: Views, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """MOFA+ (Argelaguet et al. 2020, https://doi.org/10.1186/s13059-020-02015-1) at its defaults; factors of new rows by its loadings and noise:
    (I + Σ_m W_mᵀ τ_m W_m)⁻¹ Σ_m W_mᵀ τ_m x_m, the mean of their posterior."""
    from mofapy2.run.entry_point import entry_point

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
    noise = [np.asarray(t).reshape(-1, x.shape[1])[0] for t, x in zip(nodes["Tau"].getExpectation(), train.values(), strict=True)]
    precision = np.eye(loadings[0].shape[1]) + sum(w.T @ (t[:, None] * w) for w, t in zip(loadings, noise, strict=True))

    def factors(views: Views) -> np.ndarray:
        scaled = [(x - train[n].mean(0)) / train[n].std() for n, x in views.items()]  # as scale_views does
        return np.linalg.solve(precision, sum((w.T * t) @ x.T for w, t, x in zip(loadings, noise, scaled, strict=True))).T

    return factors(train), factors(test)


def totalvi(counts: dict[str, Views], dim: int) -> tuple[np.ndarray, np.ndarray]:
    """totalVI (Gayoso et al. 2021, https://doi.org/10.1038/s41592-020-01050-x) at its defaults: RNA and surface proteins."""
    import anndata
    import scvi

    scvi.settings.seed = 0
    made = []
    for part in ("train", "test"):
        data = anndata.AnnData(counts[part]["rna"].astype(np.float32))
        data.obsm["protein"] = counts[part]["adt"].astype(np.float32)
        made.append(data)
    scvi.model.TOTALVI.setup_anndata(made[0], protein_expression_obsm_key="protein")
    model = scvi.model.TOTALVI(made[0], n_latent=dim)
    model.train(max_epochs=400, accelerator="cpu", enable_progress_bar=False)
    return model.get_latent_representation(made[0]), model.get_latent_representation(made[1])


def probe(train: np.ndarray, test: np.ndarray, labels: dict[str, np.ndarray]) -> float:
    """Balanced accuracy of a logistic regression on standardised features; rows of unknown class left out."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    here, there = labels["train"] >= 0, labels["test"] >= 0
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(train[here], labels["train"][here])
    return float(balanced_accuracy_score(labels["test"][there], model.predict(test[there])))


def imputation(train: Views, test: Views) -> dict[str, float]:
    """Root mean squared error of each modality from the others, over that of the mean, by ridge (strength by leave-one-out) and 10 nearest neighbours."""
    from sklearn.linear_model import RidgeCV
    from sklearn.neighbors import KNeighborsRegressor

    found = {}
    for name in train:
        x, y = (np.concatenate([v for n, v in views.items() if n != name], 1) for views in (train, test))
        baseline = np.sqrt(np.mean((test[name] - train[name].mean(0)) ** 2))
        for how, model in (("ridge", RidgeCV(np.logspace(0, 6, 13))), ("knn", KNeighborsRegressor(10))):
            error = np.sqrt(np.mean((model.fit(x, train[name]).predict(y) - test[name]) ** 2))
            found[f"{how}/{name}"] = float(error / baseline)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fold", type=Path)
    parser.add_argument("--dim", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with np.load(options.fold, allow_pickle=False) as file:
        flat = dict(file)
    views = {part: {k.split("/", 1)[1]: v for k, v in flat.items() if k.startswith(f"{part}/")} for part in ("train", "test")}
    counts = {part: {k.split("/", 2)[2]: v for k, v in flat.items() if k.startswith(f"counts/{part}/")} for part in ("train", "test")}
    names = sorted({k.split("/", 2)[2] for k in flat if k.startswith("label/")})
    labels = {name: {part: flat[f"label/{part}/{name}"] for part in ("train", "test")} for name in names}
    peers: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
        "pca": lambda: pca(views["train"], views["test"], options.dim),
        "cca": lambda: cca(views["train"], views["test"], options.dim),
        "mofa+": lambda: mofa(views["train"], views["test"], options.dim),
    }
    if {"rna", "adt"} <= counts["train"].keys():
        peers["totalvi"] = lambda: totalvi(counts, options.dim)
    found: dict[str, float] = {}
    for name, fit in peers.items():
        latents = fit()
        found |= {f"probe/{name}/{label}": probe(*latents, classes) for label, classes in labels.items()}
    found |= {f"nrmse/{name}": value for name, value in imputation(views["train"], views["test"]).items()}
    options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
