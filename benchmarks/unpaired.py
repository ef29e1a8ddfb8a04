"""What rows that lack a modality add: training on pairs alone, and on pairs and unpaired rows, measured on the same held-out pairs.

    python benchmarks/unpaired.py DATA --out DIR [--captions one] [--steps 3000 6000] [--seeds 0 1]

CUB birds with captions: 837 training birds with captions, 2,024 images without captions and the captions of 647 birds without an image. Both arms have one
vocabulary, one validation set of complete rows, by whose loss the step is chosen (every hundred), and one judge of matches, which is trained on all pairs
with all their captions. With ``--captions one`` models see one caption of each bird, with ``all`` all ten.

Prints, of the test split, how often the judge finds what a generated caption or image belongs to, of two (chance .5), how often the cosine of posterior means
of z given either alone does ("retrieval"), and the means over seeds. The two numbers of --steps are the most steps of pairs alone and of both: the same
choice of the best step ends them where they overfit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import counterpoint as cp
from counterpoint.metrics import evaluate
from counterpoint.metrics.matching import different, forced_choice

ARMS = {"pairs": "pairs", "both": "pairs and unpaired rows"}
NAMES = ("image", "caption")
METRICS = ("match", "match/caption>image", "match/image>caption", "retrieval")


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


def retrieval(method: cp.Method, split: cp.data.Split) -> float:
    """How often z of a caption is nearer to z of its image than of another, and the reverse."""
    z = [torch.nn.functional.normalize(method.encode(split.batch(slice(None)).only([name])).shared[0], dim=1).numpy() for name in NAMES]
    others = different(split, NAMES, np.arange(len(split)))
    return float(np.nanmean([forced_choice(z[0], z[1], others), forced_choice(z[1], z[0], others)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--captions", choices=("one", "all"), default="one")
    parser.add_argument("--steps", type=int, nargs=2, default=[3000, 6000])
    parser.add_argument(
        "--select", choices=("best", "last"), default="best", help="weights: of the best validation loss, or the last, with a cooldown"
    )
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=[*ARMS])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = cp.data.load("cub", root=options.data, captions="all", unpaired=True, likelihood="laplace")
    train = one_of_each(data.train_split) if options.captions == "one" else data.train_split
    arms = {ARMS["pairs"]: train.take(train.complete), ARMS["both"]: train}
    arms = {name: arms[name] for name in (ARMS[key] for key in options.arms)}
    most = dict(zip(ARMS.values(), options.steps, strict=True))
    val = data.val.take(data.val.complete)
    print("| seed | trained on | rows | step | loss on validation pairs | match of these | " + " | ".join(METRICS) + " |")
    print("|---|---|---|---|---|---|" + "---|" * len(METRICS))
    found: dict[str, list[list[float]]] = {}
    for seed in options.seeds:
        for arm, rows in arms.items():
            torch.manual_seed(seed)
            method = cp.MoPoE.for_data(data, shared_dim=64, networks=cp.NetworkOptions(hidden=(256,)))
            result = method.fit(
                rows,
                val,
                max_epochs=-1,
                max_steps=most[arm],
                cooldown=most[arm] // 3 if options.select == "last" else 0,
                batch_size=options.batch,
                lr=1e-3,
                ema=0.998,
                seed=seed,
                select=options.select,
                val_every=max(1, 100 * options.batch // len(rows)),
                precision="bf16-mixed",
                channels_last=True,
                progress=False,
            )
            losses = np.array(result.history["val/loss"])
            step = int(result.history["step"][int(np.nanargmin(losses))]) if options.select == "best" else result.steps
            loss = float(np.nanmin(losses)) if options.select == "best" else float(losses[~np.isnan(losses)][-1])
            judged = {"only": ["match"], "rows": None, "cache": options.out / "judges", "progress": False}
            metrics = evaluate(method, data, **judged).metrics
            chosen_by = float(evaluate(method, data, split="val", **judged).metrics["match"])
            metrics |= {"retrieval": retrieval(method, data.test.take(data.test.complete))}
            values = [float(metrics[name]) for name in METRICS]
            found.setdefault(arm, []).append(values)
            name = f"{options.captions}-{options.select}{most[arm]}-{arm.replace(' ', '-')}-{seed}"
            (options.out / f"{name}.json").write_text(json.dumps({"step": step, "loss": loss, "val/match": chosen_by, **metrics}))
            print(
                f"| {seed} | {arm} | {len(rows):,} | {step} | {loss:.0f} | {chosen_by:.3f} | "
                + " | ".join(f"{v:.3f}" for v in values)
                + " |",
                flush=True,
            )
    for arm, each in found.items():
        print(f"{arm}: " + ", ".join(f"{name} {np.mean([v[i] for v in each]):.3f}" for i, name in enumerate(METRICS)))


if __name__ == "__main__":
    main()
