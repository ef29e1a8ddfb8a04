"""Products of trained flows: what is divided out, and how long the chains are, against
how they mix and how coherent what follows is.

    python benchmarks/mixing.py RUN [--divide marginal prior] [--hmc 100,50,20 200,100,30] [--rows 400] [--threads 1]

RUN is a run of JNF or JNF-Shared, as ``counterpoint fit`` leaves it; ``--hmc`` are
warm-up, steps and most leapfrogs. Measured on validation rows, by number of
given modalities: median R-hat and effective draws of the worst dimension, share of
improper rows, KL(q(z | X) ‖ q(z | x_S)) in nats, and the coherence of what is generated
of the others (mean over labels).
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path
from statistics import mean
from time import perf_counter

import torch

from counterpoint.cli.runs import opened
from counterpoint.metrics import evaluate
from counterpoint.probability.mcmc import HMC
from counterpoint.probability.products import ImproperProduct

SCORES = ("rhat", "ess", "improper", "kl")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--divide", nargs="+", choices=("marginal", "prior"), default=["marginal", "prior"]
    )
    parser.add_argument("--hmc", nargs="+", default=["100,50,20"], help="warm-up,steps,leapfrogs")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    warnings.simplefilter("ignore", ImproperProduct)  # their share is reported
    method, data = opened(wanted.run)
    rule = method.model.posterior.rule.subsets
    encoders = method.model.posterior.encoders.values()
    statistics = [encoder.statistics for encoder in encoders]
    print(
        "divided by  warm-up,steps,leapfrogs  given  "
        + "  ".join(f"{name:>8}" for name in (*SCORES, "coherence", "seconds"))
    )
    for divisor in wanted.divide:
        for encoder, kept in zip(encoders, statistics, strict=True):
            encoder.statistics = kept if divisor == "marginal" else None
        for lengths in wanted.hmc:
            warmup, steps, leapfrogs = map(int, lengths.split(","))
            rule.hmc = replace(HMC(), warmup=warmup, steps=steps, leapfrogs=leapfrogs)
            began = perf_counter()
            only = ("coherence", "posterior")
            found = evaluate(
                method,
                data,
                rows=wanted.rows,
                only=only,
                split="val",
                cache=wanted.run / "judges",
                progress=False,
            ).metrics
            seconds = perf_counter() - began
            for given in range(2, len(method.modalities)):
                coherence = mean(
                    v
                    for k, v in found.items()
                    if k.startswith(f"coherence/given{given}/") and k.count("/") == 2
                )
                values = [
                    *(found[f"posterior/{name}/given{given}"] for name in SCORES),
                    coherence,
                    seconds,
                ]
                print(
                    f"{divisor:>10}  {lengths:>23}  {given:>5}  "
                    + "  ".join(f"{v:8.3f}" for v in values),
                    flush=True,
                )


if __name__ == "__main__":
    main()
