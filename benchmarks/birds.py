"""What runs on birds and captions generate from each other, as one picture.

    python benchmarks/birds.py RUN [RUN ...] --root DATA --plot FILE.png [--rows 6] [--draws 4] [--guidance 1] [--seed 0]

Above, captions of test birds, the real image, and images that each run draws from the
caption. Below, images of test birds, the real caption, and the likeliest words of each
run, given the image.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import counterpoint as cp


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--plot", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument(
        "--guidance",
        type=float,
        help="of the runs whose diffusion decoders have learned to do without latents",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = cp.data.load(
        "cub", root=options.root, unpaired=True
    )  # the vocabulary that the runs were trained with
    caption = next(m for m in data.modalities if m.name == "caption")
    both = np.flatnonzero(data.test.present["image"] & data.test.present["caption"])
    batch = data.test.batch(
        np.sort(np.random.default_rng(options.seed).choice(both, options.rows, replace=False))
    )
    runs = {run.name: cp.load(run) for run in options.runs}
    for method in runs.values():
        if (
            by := method.model.denoisings.get("image")
        ) is not None and by.options.condition_dropout:
            method.draw_by(guidance=options.guidance)

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(options.seed)

    drawn = {
        k: m.translate(batch.only(["caption"]), ["image"], n=options.draws, generator=generator())[
            "image"
        ]
        for k, m in runs.items()
    }
    told = {
        k: m.translate(batch.only(["image"]), ["caption"], generator=generator())["caption"][
            0
        ].argmax(-1)
        for k, m in runs.items()
    }

    columns = 1 + options.draws * len(runs)
    figure, axes = plt.subplots(
        2 * options.rows, columns, figsize=(1.1 * columns, 3.1 * options.rows), dpi=110
    )
    for axis in axes.flat:
        axis.axis("off")
    for i in range(options.rows):
        row, below = axes[i], axes[options.rows + i]
        row[0].set_title(
            textwrap.shorten(caption.text(batch.x["caption"][i]), 110), fontsize=7, loc="left"
        )
        for axis in (row[0], below[0]):
            axis.imshow(batch.x["image"][i].permute(1, 2, 0))
        for j, images in enumerate(drawn.values()):
            for k in range(options.draws):
                row[1 + j * options.draws + k].imshow(images[k, i].permute(1, 2, 0).clamp(0, 1))
        lines = [
            f"real: {caption.text(batch.x['caption'][i])}",
            *(f"{name}: {caption.text(ids[i])}" for name, ids in told.items()),
        ]
        below[1].text(
            0,
            0.5,
            "\n".join(textwrap.shorten(line, 130) for line in lines),
            fontsize=7,
            va="center",
            transform=below[1].transAxes,
        )
    for j, name in enumerate(runs):
        axes[0][1 + j * options.draws].annotate(
            name, (0, 1.35), xycoords="axes fraction", fontsize=8, weight="bold"
        )
    figure.savefig(options.plot, bbox_inches="tight")


if __name__ == "__main__":
    main()
