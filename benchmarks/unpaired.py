"""What rows that lack a modality add: training on pairs alone, and on pairs and unpaired rows, measured on the same held-out pairs.

    python benchmarks/unpaired.py DATA --out DIR [--captions one] [--steps 3000 6000] [--select best] [--seeds 0 1]

CUB birds with captions: 837 training birds with captions, 2,024 images without captions and the captions of 647 birds without an image. Both arms have one
vocabulary, one validation set of complete rows, by whose loss the step is chosen unless the last is asked for, and one judge of matches, which
is trained on all pairs with all their captions. With ``--captions one`` models see one caption of each bird and a tenth of the captions without an image, with
``one-pair`` one caption of each pair and all those without an image, with ``all`` all of them. With ``--repeat`` a pair is there several times beside the
unpaired rows, so that more of a batch are pairs. The loss is taken at the end of the pass through the rows that ends a hundred steps, or of each pass.

Prints, of the test split, how often the judge finds what a generated caption or image belongs to, of two (chance .5), how often the cosine of posterior means
of z given either alone does ("retrieval"), and the means over seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import counterpoint as cp
from counterpoint.metrics import evaluate

ARMS = {"pairs": "pairs", "both": "pairs and unpaired rows"}
METRICS = ("match", "match/caption>image", "match/image>caption", "retrieval")


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


def measured(
    options: argparse.Namespace, data: cp.data.Dataset, rows: cp.data.Split, steps: int, batch: int, seed: int
) -> tuple[int, float, float, dict[str, float]]:
    """Train on the rows: the step whose weights are measured, their loss and match on validation pairs, and their metrics on the test split."""
    torch.manual_seed(seed)
    best = options.select == "best"
    method = cp.MoPoE.for_data(data, shared_dim=64, networks=cp.NetworkOptions(hidden=(256,)))
    result = method.fit(
        rows,
        data.val.take(data.val.complete),
        max_epochs=-1,
        max_steps=steps,
        cooldown=0 if best else steps // 3,
        batch_size=batch,
        lr=1e-3,
        ema=0.998,
        seed=seed,
        select=options.select,
        val_every=max(1, 100 * batch // len(rows)),
        precision="bf16-mixed",
        channels_last=True,
        progress=False,
    )
    losses = np.array(result.history["val/loss"])
    at = int(np.nanargmin(losses)) if best else int(np.flatnonzero(~np.isnan(losses))[-1])
    judged = {"only": ["match", "retrieval"], "rows": None, "samples": 2, "cache": options.out / "judges", "progress": False}
    test = {name: float(value) for name, value in evaluate(method, data, **judged).metrics.items() if name in METRICS}
    val = float(evaluate(method, data, split="val", **judged).metrics["match"])
    step = int(result.history["step"][at]) if best else result.steps
    return step, float(losses[at]), val, test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="where judges and numbers are kept")
    parser.add_argument("--captions", choices=("one", "one-pair", "all"), default="one")
    parser.add_argument("--steps", type=int, nargs=2, default=[3000, 6000], help="most of pairs alone, and with unpaired rows")
    parser.add_argument(
        "--select", choices=("best", "last"), default="best", help="weights: of the best validation loss, or the last, with a cooldown"
    )
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=[*ARMS])
    parser.add_argument("--batch", type=int, nargs=2, default=[128, 128], help="rows a step of pairs alone, and with unpaired rows")
    parser.add_argument("--repeat", type=int, default=1, help="how often a pair is there beside the unpaired rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = cp.data.load("cub", root=options.data, captions="all", unpaired=True, likelihood="laplace")
    train = data.train_split
    if options.captions != "all":
        train = one_of_each(train, texts=0.1 if options.captions == "one" else 1.0)
    balanced = train.take(np.concatenate([np.arange(len(train)), np.tile(train.complete, options.repeat - 1)]))
    rows = {"pairs": train.take(train.complete), "both": balanced}
    most, batch = (dict(zip(ARMS, each, strict=True)) for each in (options.steps, options.batch))
    print("| seed | trained on | rows | step | loss on validation pairs | match of these | " + " | ".join(METRICS) + " |")
    print("|---|---|---|---|---|---|" + "---|" * len(METRICS))
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in options.arms}
    for seed in options.seeds:
        for arm in options.arms:
            step, loss, val, metrics = measured(options, data, rows[arm], most[arm], batch[arm], seed)
            found[arm].append(metrics)
            name = [options.captions, f"{options.select}{most[arm]}", f"{batch[arm]}x{options.repeat}", arm, str(seed)]
            file = options.out / f"{'-'.join(name)}.json"
            file.write_text(json.dumps({"step": step, "loss": loss, "val/match": val, **metrics}))
            values = " | ".join(f"{metrics[name]:.3f}" for name in METRICS)
            print(f"| {seed} | {ARMS[arm]} | {len(rows[arm]):,} | {step} | {loss:.0f} | {val:.3f} | {values} |", flush=True)
    for arm, each in found.items():
        print(f"{ARMS[arm]}: " + ", ".join(f"{name} {np.mean([m[name] for m in each]):.3f}" for name in METRICS))


if __name__ == "__main__":
    main()
