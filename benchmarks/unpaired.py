"""What rows that lack a modality add: training on pairs alone, and on pairs and
unpaired rows, measured on the same held-out pairs.

    python benchmarks/unpaired.py DATA --out DIR [--method mopoe] [--captions one] [--steps 3000 6000] [--select best] [--seeds 0 1]
    python benchmarks/unpaired.py DATA --out DIR --method idmvae --captions all --temperature 0.5 --steps 1500 1500 --select retrieval --seeds 0 1

CUB birds with captions: 837 training birds with captions, 2,024 images without captions
and the captions of 647 birds without an image. All arms have one vocabulary, one
validation set of complete rows, by whose loss or retrieval the step is chosen unless
the last is asked for, and one judge of matches, which is trained on all pairs with all
their captions. With ``--captions one`` models see one caption of each bird and a tenth
of the captions without an image, with ``one-pair`` one caption of each pair and all
those without an image, with ``all`` all of them. With ``--repeat`` a pair is there
several times beside the unpaired rows, so that more of a batch are pairs. The loss is
taken at the end of the pass through the rows that ends a hundred steps, or of each
pass; retrieval every hundred steps.

The arm ``every`` has, beside the unpaired rows of the training split, those of the
validation split and of the published test split (no pair of these).

Prints, of the test split, how often the judge finds what a generated caption or image
belongs to, of two (chance .5), how often the cosine of posterior means of z given
either alone does ("retrieval", on 2,000 of the pairs, the same for all), and the means
over seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer

import counterpoint as cp
from counterpoint.metrics import evaluate

ARMS = {
    "pairs": "pairs",
    "both": "pairs and unpaired rows",
    "every": "pairs and unpaired rows of all splits",
}
METRICS = (
    "match",
    "match/caption>image",
    "match/image>caption",
    "retrieval",
    "retrieval/caption>image",
    "retrieval/image>caption",
)
EVERY = 100  # steps between two looks at validation pairs


def one_of_each(split: cp.data.Split, texts: float, seed: int = 0) -> cp.data.Split:
    """A random row of each image, and a share of the captions that have none."""
    rng = np.random.default_rng(seed)
    order, images = rng.permutation(len(split)), split.present["image"]
    seen: set[bytes] = set()
    kept = []
    for row in order.tolist():
        if not images[row]:
            continue
        key = split.x["image"][row].tobytes()
        if key not in seen:
            seen.add(key)
            kept.append(row)
    alone = [row for row in order.tolist() if not images[row]]
    return split.take(np.sort(np.array(kept + alone[: int(texts * len(alone))])))


def without_pairs(split: cp.data.Split) -> cp.data.Split:
    """The rows that lack a modality."""
    return split.take(np.setdiff1d(np.arange(len(split)), split.complete))


def joined(*splits: cp.data.Split) -> cp.data.Split:
    """The rows of all of them, without labels."""
    x, present = (
        {name: np.concatenate([getattr(s, kind)[name] for s in splits]) for name in splits[0].x}
        for kind in ("x", "present")
    )
    return cp.data.Split(x, splits[0].modalities, present)


class Retrieving(Callback):
    """Keeps the weights by which z retrieves best on validation pairs."""

    def __init__(self, method: cp.Method, data: cp.data.Dataset) -> None:
        self.method, self.data = method, data
        self.best, self.step = -np.inf, 0
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % EVERY:
            return
        self.method.eval()
        found = float(
            evaluate(
                self.method, self.data, split="val", only=["retrieval"], rows=None, progress=False
            ).metrics["retrieval"]
        )
        self.method.train()
        if found > self.best:
            self.best, self.step = found, trainer.global_step
            self.weights = {
                name: value.detach().clone() for name, value in self.method.state_dict().items()
            }


def method_of(options: argparse.Namespace, data: cp.data.Dataset, seed: int) -> cp.Method:
    if options.method == "mopoe":
        return cp.MoPoE.for_data(
            data, seed=seed, shared_dim=64, networks=cp.NetworkOptions(hidden=(256,))
        )
    return cp.IDMVAE.for_data(
        data,
        seed=seed,
        shared_dim=32,
        private_dim=32,
        beta=1.0,
        cross_mi=1000.0,
        genaug=0.0,
        prior_std=1.0,
        diffusion=0.0,
        temperature=options.temperature,
        networks=cp.NetworkOptions(width=16, hidden=(256,), norm="batch"),
    )


def trained(
    options: argparse.Namespace,
    method: cp.Method,
    data: cp.data.Dataset,
    rows: cp.data.Split,
    steps: int,
    batch: int,
    seed: int,
) -> tuple[int, float]:
    """Train on the rows: the step whose weights are kept, and by what on validation
    pairs, their loss or retrieval."""
    usual: dict[str, Any] = {
        "max_epochs": -1,
        "max_steps": steps,
        "batch_size": batch,
        "lr": 1e-3,
        "seed": seed,
        "progress": False,
    }
    usual |= {
        "precision": "bf16-mixed",
        "channels_last": True,
        "ema_decay": None if options.method == "idmvae" or options.select == "retrieval" else 0.998,
    }
    if options.select == "retrieval":
        looks = Retrieving(method, data)
        method.fit(rows, **usual, callbacks=[looks])
        method.load_state_dict(looks.weights)
        return looks.step, looks.best
    best = options.select == "best"
    pairs, often = data.val.take(data.val.complete), max(1, EVERY * batch // len(rows))
    result = method.fit(
        rows,
        pairs,
        **usual,
        cooldown=0 if best else steps // 3,
        keep=options.select,
        val_every=often,
    )
    losses = np.array(result.history["val/loss"])
    at = int(np.nanargmin(losses)) if best else int(np.flatnonzero(~np.isnan(losses))[-1])
    return (int(result.history["step"][at]) if best else result.steps), float(losses[at])


def measured(
    options: argparse.Namespace,
    data: cp.data.Dataset,
    rows: cp.data.Split,
    steps: int,
    batch: int,
    seed: int,
) -> tuple[int, float, float, dict[str, float]]:
    """Train on the rows: the step whose weights are measured, by what it was chosen,
    their match on validation pairs, and their metrics on the test split."""
    method = method_of(options, data, seed)
    step, by = trained(options, method, data, rows, steps, batch, seed)
    judged: dict[str, Any] = {
        "only": ["match", "retrieval"],
        "rows": None,
        "samples": 2,
        "cache": options.out / "judges",
        "progress": False,
    }
    test = {
        name: float(value)
        for name, value in evaluate(method, data, **judged).metrics.items()
        if name in METRICS
    }
    val = float(evaluate(method, data, split="val", **judged).metrics["match"])
    return step, by, val, test


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="where judges and numbers are kept")
    parser.add_argument("--method", choices=("mopoe", "idmvae"), default="mopoe")
    parser.add_argument("--temperature", type=float, default=0.5, help="of IDMVAE's contrast")
    parser.add_argument("--captions", choices=("one", "one-pair", "all"), default="one")
    parser.add_argument(
        "--steps",
        type=int,
        nargs=2,
        default=[3000, 6000],
        help="most of pairs alone, and of the other arms",
    )
    parser.add_argument(
        "--select",
        choices=("best", "last", "retrieval"),
        default="best",
        help="weights: of the best validation loss, the last, with a cooldown, or of the best retrieval on validation pairs",
    )
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=["pairs", "both"])
    parser.add_argument(
        "--batch",
        type=int,
        nargs=2,
        default=[128, 128],
        help="rows a step of pairs alone, and of the other arms",
    )
    parser.add_argument(
        "--repeat", type=int, default=1, help="how often a pair is there beside the unpaired rows"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    if options.select == "retrieval" and min(options.steps) < EVERY:
        parser.error(f"--steps {min(options.steps)} end before the first look at step {EVERY}")
    options.out.mkdir(parents=True, exist_ok=True)
    data = cp.data.load(
        "cub", root=options.data, captions="all", unpaired=True, likelihood="laplace"
    )
    train = data.train_split
    if options.captions != "all":
        train = one_of_each(train, texts=0.1 if options.captions == "one" else 1.0)
    balanced = train.take(
        np.concatenate([np.arange(len(train)), np.tile(train.complete, options.repeat - 1)])
    )
    rows = {"pairs": train.take(train.complete), "both": balanced}
    if "every" in options.arms:
        rows["every"] = joined(balanced, without_pairs(data.val), without_pairs(data.test))
    most, batch = (
        dict(zip(ARMS, [*each, each[1]], strict=True)) for each in (options.steps, options.batch)
    )
    print(
        "| seed | trained on | rows | step | loss or retrieval of validation pairs | match of these | "
        + " | ".join(METRICS)
        + " |"
    )
    print("|---|---|---|---|---|---|" + "---|" * len(METRICS))
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in options.arms}
    for seed in options.seeds:
        for arm in options.arms:
            step, by, val, metrics = measured(options, data, rows[arm], most[arm], batch[arm], seed)
            found[arm].append(metrics)
            method = (
                f"idmvae{options.temperature:g}" if options.method == "idmvae" else options.method
            )
            how = [
                options.captions,
                f"{options.select}{most[arm]}",
                f"{batch[arm]}x{options.repeat}",
                arm,
                str(seed),
            ]
            file = options.out / f"{'-'.join([method, *how])}.json"
            file.write_text(
                json.dumps(
                    {
                        "step": step,
                        "val/retrieval" if options.select == "retrieval" else "val/loss": by,
                        "val/match": val,
                        **metrics,
                    }
                )
            )
            values = " | ".join(f"{metrics[name]:.3f}" for name in METRICS)
            print(
                f"| {seed} | {ARMS[arm]} | {len(rows[arm]):,} | {step} | {by:.4g} | {val:.3f} | {values} |",
                flush=True,
            )
    for arm, each in found.items():
        print(
            f"{ARMS[arm]}: "
            + ", ".join(f"{name} {np.mean([m[name] for m in each]):.3f}" for name in METRICS)
        )


if __name__ == "__main__":
    main()
