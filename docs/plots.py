"""Draw the pictures of ``docs/plots.md`` into ``docs/figures``, within minutes.

It trains IDMVAE on digits (seed 0, 700 steps) and DMVAE on simulated omics (seed 0,
600 steps), and draws what ``model.plot`` and ``evaluation.plot`` return.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import counterpoint as cp

FOLDER = Path(__file__).resolve().parent / "figures"


def digits() -> None:
    """The recipe of ``counterpoint demo`` at a quarter of its steps."""
    data = cp.data.load("digits-quadrant", pairings=16)
    networks = cp.NetworkOptions(kind="conv", width=16, hidden=(128,), norm="batch")
    model = cp.IDMVAE.for_data(
        data,
        shared_dim=10,
        private_dim=16,
        beta=1.0,
        cross_mi=400.0,
        genaug=200.0,
        diffusion=0.1,
        diffusion_width=128,
        contrast_first=200,
        networks=networks,
    )
    model.fit(data.train, max_steps=700, lr=0.003, progress=False)
    scores = cp.evaluate(model, data, only=("probe", "coherence"), rows=600, progress=False)
    moved = most_used(model.encode(data.test.batch(slice(None)), given=["view0"]).private["view0"])
    figures = {
        "latents": model.plot.latents(data, how="pca", given=["view0"]),
        "recombination": model.plot.recombination(data, "view1", n=6),
        "traversal": model.plot.traversal(data, latent="w_view0", coordinate=moved, steps=11),
        "evaluation": scores.plot(),
    }
    for name, figure in figures.items():
        save(figure, f"plots-{name}")


def omics(
    cells: int = 1500, genes: int = 60, proteins: int = 12, types: int = 5
) -> cp.data.Dataset:
    """Counts of genes and amounts of proteins of cells whose type both show."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, types, cells)
    profiles = rng.gamma(0.6, 1.0, (types, genes)) + 0.05
    markers = rng.normal(0, 2, (types, proteins))
    arrays = {
        "rna": rng.poisson(4 * profiles[kind]),
        "protein": markers[kind] + rng.normal(0, 0.6, (cells, proteins)),
        "label/type": kind,
    }
    names = tuple(f"gene {i}" for i in range(genes)), tuple(f"CD{i}" for i in range(proteins))
    modalities = [
        cp.Modality("rna", (genes,), "nb", features=names[0]),
        cp.Modality("protein", (proteins,), "normal", features=names[1]),
    ]
    return cp.data.load(arrays, modalities=modalities)


def cells() -> None:
    """The same functions where every modality is a vector."""
    data = omics()
    model = cp.DMVAE.for_data(data, shared_dim=6, private_dim=2)
    model.fit(data.train, max_steps=600, lr=0.002, progress=False)
    moved = most_used(model.encode(data.test.batch(slice(None))).shared)
    save(model.plot.traversal(data, coordinate=moved, steps=21), "plots-vectors")
    save(model.plot.translations(data, given="protein", n=5), "plots-translations")


def most_used(means: torch.Tensor) -> int:
    """The coordinate of posterior means (1, B, D) that differs most between rows."""
    return int(means[0].var(0).argmax())


def save(figure: object, name: str) -> None:
    figure.savefig(FOLDER / f"{name}.png", dpi=100, bbox_inches="tight", facecolor="white")  # type: ignore[attr-defined]


if __name__ == "__main__":
    cells()
    digits()
