"""Unimodal posteriors on circles and squares: what a flow covers and a Gaussian
over-generalises.

    python benchmarks/posteriors.py [--steps 3000] [--seeds 0 1] [--plot FILE.png] [--threads 1]

JNF with two latent dimensions, once with flows and once with Gaussian posteriors, on
the same joint VAE. The two images are both filled or both outlined, and their sizes are
independent, so the true posterior of one image is known: the mean of q(z | x, x') over
squares x' of every size.
Reported for each: KL(q(z | X) ‖ q(z | x)), as the evaluation does; KL(true ‖ q(z | x));
and how many draws of q(z | x) fall outside the true region, where its density is below
all but 1 % of its own draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import counterpoint as cp
from counterpoint.data.sets.shapes import draw

KINDS = ("maf", "none")
LABEL = {"maf": "flow", "none": "Gaussian"}


def trained(data: cp.data.Dataset, kind: str, steps: int, seed: int) -> cp.JNF:
    """Both kinds begin with the same joint encoder and decoders, so that with the same
    noise their first stages are the same."""
    first, method = (fresh(data, k, seed) for k in (KINDS[0], kind))
    method.model.posterior.rule.load_state_dict(first.model.posterior.rule.state_dict())
    method.model.decoders.load_state_dict(first.model.decoders.state_dict())
    method.fit(
        data.train,
        data.val,
        max_epochs=-1,
        max_steps=steps,
        batch_size=128,
        lr=2e-3,
        seed=seed,
        progress=False,
    )
    return method


def fresh(data: cp.data.Dataset, kind: str, seed: int) -> cp.JNF:
    """JNF with two latent dimensions."""
    torch.manual_seed(seed)
    networks = cp.NetworkOptions(kind="conv", width=8, hidden=(64,))
    return cp.JNF(
        data.modalities, shared_dim=2, networks=networks, flow=cp.FlowOptions(kind, hidden=(64, 64))
    )


def true_posterior(
    method: cp.JNF, circle: Tensor, filled: int, partners: int = 1000
) -> torch.distributions.MixtureSameFamily:
    """The true posterior of one circle (1, 1, S, S): a mixture over squares that are
    filled alike."""
    squares = draw(
        "square",
        np.random.default_rng(0).uniform(0.15, 0.45, partners),
        np.full(partners, filled),
        circle.shape[-1],
    )
    batch = cp.Batch.of(
        {"circle": circle.expand(partners, -1, -1, -1), "square": torch.from_numpy(squares)},
        modalities=method.modalities,
    )
    with torch.no_grad():
        q = method.model.encode(batch).joint
    parts = torch.distributions.Independent(torch.distributions.Normal(q.loc, q.scale), 1)
    return torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(partners)), parts
    )


def compare(
    method: cp.JNF, data: cp.data.Dataset, rows: int = 16, draws: int = 1000
) -> dict[str, float]:
    """The figures of the module's docstring, means over ``rows`` test circles."""
    found: dict[str, list[float]] = {"everything": [], "true": [], "outside": []}
    batch = data.test.batch(slice(0, rows))
    found["everything"] = method.divergence(
        batch, ["circle"], samples=draws, generator=torch.Generator().manual_seed(0)
    ).tolist()
    with torch.no_grad():
        for i in range(rows):
            true = true_posterior(
                method, batch.x["circle"][i : i + 1], int(data.test.shared_labels["filled"][i])
            )
            q = method.model.encode(batch[i : i + 1].only(["circle"])).shared["circle"]
            real, ours = true.sample((draws,)), q.rsample(torch.Size((draws,))).squeeze(1)
            found["true"].append(
                float((true.log_prob(real) - q.log_prob(real.unsqueeze(1)).squeeze(1)).mean())
            )
            found["outside"].append(
                float((true.log_prob(ours) < true.log_prob(real).quantile(0.01)).float().mean())
            )
    return {name: float(np.mean(values)) for name, values in found.items()}


def picture(methods: dict[str, cp.JNF], data: cp.data.Dataset, path: Path, rows: int = 4) -> None:
    """For some circles: draws of the true posterior, of the flow, and of the Gaussian,
    each over the aggregate of everything."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        rows,
        4,
        figsize=(8, 2 * rows),
        layout="constrained",
        gridspec_kw={"width_ratios": [1, 2, 2, 2]},
    )
    for i in range(rows):
        batch = data.test.batch(slice(i, i + 1))
        axes[i, 0].imshow(batch.x["circle"][0, 0], cmap="gray", vmin=0, vmax=1)
        for column, (kind, method) in enumerate([("true", methods["maf"]), *methods.items()], 1):
            with torch.no_grad():
                cloud = method.encode(data.test.batch(slice(0, 1000))).shared[0]
                if kind == "true":
                    z = true_posterior(
                        method, batch.x["circle"], int(data.test.shared_labels["filled"][i])
                    ).sample((1000,))
                else:
                    z = method.encode(batch, ["circle"], samples=1000).shared[:, 0]
            axes[i, column].scatter(*cloud.T, s=1, color="0.8", rasterized=True)
            axes[i, column].scatter(
                *z.T, s=1, color="C0" if kind == "true" else "C3", rasterized=True
            )
            axes[i, column].set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5))
            if i == 0:
                axes[i, column].set_title(LABEL.get(kind, kind))
        axes[i, 0].set_title("given") if i == 0 else None
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3000, help="of each stage")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--plot", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        "| seed | posterior | KL(q(z given X) ‖ q(z given x)) | KL(true ‖ q(z given x)) | outside the true region |\n|---|---|---|---|---|"
    )
    for seed in options.seeds:
        data = cp.data.load("circles-squares", seed=seed)
        methods = {kind: trained(data, kind, options.steps, seed) for kind in KINDS}
        for kind, method in methods.items():
            figures = compare(method, data)
            line = " | ".join(f"{figures[name]:.3f}" for name in ("everything", "true", "outside"))
            print(f"| {seed} | {LABEL[kind]} | {line} |", flush=True)
        if options.plot is not None and seed == options.seeds[0]:
            picture(methods, data, options.plot)


if __name__ == "__main__":
    main()
