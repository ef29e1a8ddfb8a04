"""Terms, gradients and answers of every method on fixed weights and noise: what a
change of the code alone must not change.

    python benchmarks/terms.py --write before.json        # at one commit
    python benchmarks/terms.py --compare before.json      # at another; exit code 1 where something differs by more than 1e-6

Every method is made from the same seed, with several sets of options, for images, words
and vectors and for omics, complete and with missing modalities. Recorded are the loss
terms of each stage (early in training and at final weights), the gradient, and the
answers: latents, translations, imputations, samples, likelihoods. A record is two
numbers, its mean and a projection on a fixed vector of cosines; their difference is
relative, to 1 or the value, whichever is larger.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import counterpoint as cp
from counterpoint.methods import METHODS, Method

ROWS, TOLERANCE = 12, 1e-6
COVARIATES = ("batch=a", "batch=b", "age")
MODALITIES = {
    "mixed": (
        cp.Modality("image", (1, 8, 8), "laplace"),
        cp.Modality("words", (4,), "categorical", classes=6, weight=2.0),
        cp.Modality("vector", (5,), "normal", scale=None, gaps=True),
    ),
    "omics": (
        cp.Modality("rna", (6,), "nb", covariates=COVARIATES),
        cp.Modality("protein", (5,), "zinb", weight=2.0, covariates=COVARIATES),
        cp.Modality("methylation", (4,), "beta"),
    ),
}
HMC = cp.HMC(warmup=6, steps=3, leapfrogs=3)
PRIVATE = ("idmvae", "mmvae+", "dmvae", "diff-mvae")

# By method, sets of options beside the defaults.
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "idmvae": (
        {"estimator": "dreg", "samples": 3, "partner": "prior", "match": "l2"},
        {"cross_targets": 1, "towers": "shared", "partner": "diffusion", "detach_diffusion": True},
        {"contrast_first": 4, "augment_after": 4, "augment_warmup": 10, "prior_std": 1.0},
    ),
    "mmvae": (
        {"estimator": "iwae", "samples": 3, "posterior": "normal"},
        {"estimator": "elbo", "samples": 1},
    ),
    "mmvae+": ({"estimator": "dreg", "samples": 2, "posterior": "laplace", "prior_scale": True},),
    "jnf": ({"rescale": True, "beta": 2.0},),
    "jnf-shared": ({"align": "correlation", "top": 2},),
    "iterative": ({"refiner": cp.RefinerOptions(steps=2, signal="error")},),
}


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Names of the case and of the method, and the method's options."""
    for name in METHODS:
        private = {"private_dim": 3} if name in PRIVATE else {}
        chains = {"hmc": HMC} if name.startswith("jnf") else {}
        for i, options in enumerate(({}, *VARIANTS.get(name, ()))):
            yield f"{name} {i}", name, {"shared_dim": 4, **private, **chains, **options}


def batch(kind: str, missing: bool) -> cp.Batch:
    rng = np.random.default_rng(1)
    here = np.ones((ROWS, 3), bool)
    if missing:
        here = rng.random((ROWS, 3)) > 0.3
        here[~here.any(1), 0] = True
    modalities = MODALITIES[kind]
    present = dict(zip((m.name for m in modalities), here.T, strict=True))
    covariates = None
    values: dict[str, Any]
    if kind == "omics":
        depth = rng.integers(1, 50, (ROWS, 1))
        values = {
            "rna": rng.poisson(depth * rng.random((ROWS, 6))),
            "protein": rng.poisson(rng.random((ROWS, 5))),
            "methylation": rng.random((ROWS, 4)).round(1).astype(np.float32),
        }
        lot = rng.random((ROWS, 1)) < 0.5
        covariates = torch.as_tensor(
            np.concatenate([lot, ~lot, rng.normal(size=(ROWS, 1))], 1), dtype=torch.float32
        )
    else:
        vector = rng.normal(size=(ROWS, 5)).astype(np.float32)
        vector[::3, 1] = np.nan
        values = {
            "image": rng.random((ROWS, 1, 8, 8), dtype=np.float32),
            "words": rng.integers(0, 6, (ROWS, 4)),
            "vector": vector,
        }
    return cp.Batch.of(values, present, modalities=modalities, covariates=covariates)


def record(value: Tensor) -> list[float]:
    flat = value.detach().double().flatten()
    cosines = torch.cos(torch.arange(len(flat), dtype=torch.float64))
    return [float(f"{x:.9g}") for x in (flat.mean(), flat @ cosines / math.sqrt(len(flat)))]


def measured(
    name: str, kind: str, missing: bool, options: Mapping[str, Any]
) -> dict[str, list[float]]:
    """By stage and term, and by answer, two numbers."""
    networks = cp.NetworkOptions(width=4, hidden=(16,))
    method: Method = METHODS[name].from_config(
        MODALITIES[kind], {"networks": networks, **options}, seed=0
    )
    rows, found = batch(kind, missing), {}
    for stage in method.stages:
        for step in (2, 12, None):
            method.begin(stage)
            torch.manual_seed(7)
            terms = method.losses(rows, step)
            for term, value in terms.items():
                found[f"{stage.name}@{step}/{term}"] = record(value)
            torch.stack([value.mean() for value in terms.values()]).sum().backward()
            gradients = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
            found[f"{stage.name}@{step}/gradient"] = record(torch.cat(gradients))
    method.begin(None)
    for answer, value in answers(method.eval(), rows, missing).items():
        found[answer] = record(value)
    return found


def answers(method: Method, rows: cp.Batch, missing: bool) -> dict[str, Tensor]:
    torch.manual_seed(3)
    names = method.model.names
    found = {"z": method.encode(rows).shared, "z drawn": method.encode(rows, samples=2).shared}
    found |= {f"w {k}": v for k, v in method.encode(rows).private.items()}
    found |= {f"from all, {k}": v for k, v in method.translate(rows, n=2).items()}
    if not missing:
        found |= {f"from one, {k}": v for k, v in method.translate(rows.only(names[:1])).items()}
        found |= {f"from two, {k}": v for k, v in method.translate(rows.only(names[1:])).items()}
        found |= {
            f"by products, {k}": v
            for k, v in method.translate(rows.only(names[1:]), rule="product").items()
        }
        found["divergence"] = method.divergence(rows, [names[0]], samples=3)
    found |= {f"sampled {k}": v for k, v in method.sample(3).items()}
    if not method.model.surrogates:
        found["log p(x)"] = method.log_likelihood(rows, 3)
        found |= {f"imputed {k}": v for k, v in method.impute(rows, n=19).mean.items()}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="file to make")
    parser.add_argument("--compare", type=Path, help="file to compare with")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter(
        "ignore"
    )  # of products and chains, which untrained encoders give reason to
    found = {}
    for case, name, options in cases():
        for kind in MODALITIES:
            for missing in (False, True):
                key = f"{case}, {kind}{', missing' * missing}"
                found[key] = measured(name, kind, missing, options)
    if asked.write:
        lines = (f"{json.dumps(case)}: {json.dumps(records)}" for case, records in found.items())
        asked.write.write_text("{\n" + ",\n".join(lines) + "\n}\n")  # a line for each case
    return compared(json.loads(asked.compare.read_text()), found) if asked.compare else 0


def compared(
    before: dict[str, dict[str, list[float]]], after: dict[str, dict[str, list[float]]]
) -> int:
    worst, where, count, lost = 0.0, "", 0, []
    for case, records in before.items():
        for key, value in records.items():
            if key not in after.get(case, {}):
                lost.append(f"{case}: {key}")
                continue
            after_value, scale = after[case][key], max(1.0, *map(abs, value))
            difference = max(abs(a - b) for a, b in zip(value, after_value, strict=True)) / scale
            count += 1
            if difference > TOLERANCE:
                print(f"{case}: {key} {value} -> {after_value}")
            if not difference <= worst:
                worst, where = difference, f"{case}: {key}"
    print(
        f"{count} records of {len(before)} cases; largest difference {worst:.2e}{f' ({where})' * bool(where)}; {len(lost)} not found"
    )
    print(*lost[:20], sep="\n")
    return int(worst > TOLERANCE or bool(lost))


if __name__ == "__main__":
    sys.exit(main())
