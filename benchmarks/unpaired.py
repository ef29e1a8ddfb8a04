"""What rows that lack a modality add: training on pairs alone, and on pairs and unpaired rows, measured on the same held-out pairs.

    python benchmarks/unpaired.py DATA --out DIR [--captions one] [--steps 3000] [--seeds 0 1]

CUB birds with captions: 837 training birds with captions, 2,024 images without captions and the captions of 647 birds without an image. Both arms have one
vocabulary, one validation set of complete rows, by whose loss the step is chosen (every hundred), and one judge of matches, which is trained on all pairs
with all their captions. With ``--captions one`` models see one caption of each bird, with ``all`` all ten.

Prints how often the judge finds what a generated caption or image belongs to, of two, on the test split (chance .5), and the mean over seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import counterpoint as cp
from counterpoint.metrics import evaluate

METRICS = ("match", "match/caption>image", "match/image>caption")


def one_of_each(split: cp.data.Split, seed: int = 0) -> cp.data.Split:
    """A random row of each image, and of the captions without one a tenth."""
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
    texts = [row for row in order.tolist() if not images[row]]
    return split.take(np.sort(np.array(kept + texts[: len(texts) // 10])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--captions", choices=("one", "all"), default="one")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = cp.data.load("cub", root=options.data, captions="all", unpaired=True, likelihood="laplace")
    train = one_of_each(data.train_split) if options.captions == "one" else data.train_split
    arms = {"pairs": train.take(train.complete), "pairs and unpaired rows": train}
    val = data.val.take(data.val.complete)
    print("| seed | trained on | rows | best step | loss on validation pairs | " + " | ".join(METRICS) + " |")
    print("|---|---|---|---|---|" + "---|" * len(METRICS))
    found: dict[str, list[list[float]]] = {}
    for seed in options.seeds:
        for arm, rows in arms.items():
            torch.manual_seed(seed)
            method = cp.MoPoE.for_data(data, shared_dim=64, networks=cp.NetworkOptions(hidden=(256,)))
            result = method.fit(
                rows,
                val,
                max_epochs=-1,
                max_steps=options.steps,
                batch_size=options.batch,
                lr=1e-3,
                ema=0.998,
                seed=seed,
                select="best",
                val_every=max(1, 100 * options.batch // len(rows)),
                precision="bf16-mixed",
                channels_last=True,
                progress=False,
            )
            losses = np.array(result.history["val/loss"])
            best = int(result.history["step"][int(np.nanargmin(losses))])
            metrics = evaluate(method, data, only=["match"], rows=None, seed=0, cache=options.out / "judges", progress=False).metrics
            values = [float(metrics[name]) for name in METRICS]
            found.setdefault(arm, []).append(values)
            name = f"{options.captions}-{arm.replace(' ', '-')}-{seed}"
            (options.out / f"{name}.json").write_text(json.dumps({"best": best, "loss": float(np.nanmin(losses)), **metrics}))
            print(
                f"| {seed} | {arm} | {len(rows):,} | {best} | {np.nanmin(losses):.0f} | " + " | ".join(f"{v:.3f}" for v in values) + " |",
                flush=True,
            )
    for arm, each in found.items():
        print(f"{arm}: " + ", ".join(f"{name} {np.mean([v[i] for v in each]):.3f}" for i, name in enumerate(METRICS)))


if __name__ == "__main__":
    main()
