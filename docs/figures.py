"""Draw the figures of the documentation into ``docs/figures``.

python docs/figures.py                drawings of methods, posteriors and routes (SVG)
python docs/figures.py --run RUN      the strip of the README, from a trained run of the demo
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

FOLDER = Path(__file__).resolve().parent / "figures"
SHARED, PRIVATE, DATA, INK = "#c8553d", "#2f6690", "#d9d9d9", "#222222"

matplotlib.use("svg")
plt.rcParams.update({"svg.hashsalt": "counterpoint", "font.size": 10, "mathtext.fontset": "cm"})


@dataclass(frozen=True)
class Drawing:
    """What the drawing of a method shows.

    Attributes:
        rule: how unimodal posteriors become q(z | x).
        private: whether there are private latents.
        encoder: what stands between a modality and the rule.
        decoder: how the first modality is decoded.
        after: a box between the rule and z.
        given: what the right panel supposes to be given.
    """

    rule: str
    private: bool = False
    encoder: str = ""
    decoder: str = ""
    after: str = ""
    given: str = ""


METHODS = {
    "idmvae": Drawing("mixture", private=True),
    "mmvae-plus": Drawing("mixture", private=True),
    "mmvae": Drawing("mixture"),
    "mvae": Drawing("product with p(z)"),
    "mopoe": Drawing("mixture of products"),
    "mvtcae": Drawing("product"),
    "jmvae": Drawing("joint encoder"),
    "dmvae": Drawing("product", private=True),
    "jnf": Drawing("product", encoder="flow", given=", some modalities given"),
    "jnf-shared": Drawing("product", encoder="projector, flow", given=", some modalities given"),
    "iterative": Drawing("joint encoder", after="refiner"),
    "diff-mvae": Drawing("mixture of products", decoder="diffusion"),
}


def node(axes: Axes, x: float, y: float, label: str, colour: str) -> None:
    """A variable of a graphical model; grey ones are observed."""
    axes.add_patch(Circle((x, y), 0.34, facecolor=colour, edgecolor=INK, alpha=0.9, zorder=2))
    ink = INK if colour == DATA else "white"
    axes.text(x, y, label, ha="center", va="center", color=ink, zorder=3)


def box(axes: Axes, x: float, y: float, label: str) -> None:
    """A part that computes."""
    width = 0.3 + 0.155 * len(label)
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - 0.2),
            width,
            0.4,
            boxstyle="round,pad=0.04",
            facecolor="white",
            edgecolor=INK,
            zorder=2,
        )
    )
    axes.text(x, y, label, ha="center", va="center", color=INK, fontsize=9, zorder=3)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], gap: float = 11
) -> None:
    """An arrow that keeps ``gap`` points away from both ends."""
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=9, shrinkA=gap, shrinkB=gap, color=INK
        )
    )


def frame(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlim(-1.2, 5.2)
    axes.set_ylim(-0.6, 3.1)
    axes.set_aspect("equal")
    axes.axis("off")


def generation(axes: Axes, drawing: Drawing) -> None:
    """p(z) ∏ p(w_m) p(x_m | z, w_m) of two modalities."""
    frame(axes, "generation")
    node(axes, 2, 2.6, "$z$", SHARED)
    for m, x in ((1, 1.0), (2, 3.0)):
        node(axes, x, 0, f"$x_{m}$", DATA)
        arrow(axes, (2, 2.6), (x, 0), 16)
        if drawing.private:
            node(axes, 0 if m == 1 else 4, 1.3, f"$w_{m}$", PRIVATE)
            arrow(axes, (0 if m == 1 else 4, 1.3), (x, 0), 16)
    if drawing.decoder:
        box(axes, 1.45, 1.2, drawing.decoder)


def inference(axes: Axes, drawing: Drawing) -> None:
    """q(z | x_1, x_2) and q(w_m | x_m)."""
    frame(axes, f"inference{drawing.given}")
    rule = 1.25 if drawing.after else 1.5
    node(axes, 2, 2.75, "$z$", SHARED)
    for m, x in ((1, 1.0), (2, 3.0)):
        node(axes, x, 0, f"$x_{m}$", DATA)
        arrow(axes, (x, 0), (2, rule), 15)
        if drawing.private:
            node(axes, 0 if m == 1 else 4, 1.3, f"$w_{m}$", PRIVATE)
            arrow(axes, (x, 0), (0 if m == 1 else 4, 1.3), 16)
        if drawing.encoder:
            inward = 0.5 - 0.08 * (len(drawing.encoder) - 4)
            box(axes, x + inward if m == 1 else x - inward, 0.75, drawing.encoder)
    arrow(axes, (2, rule), (2, 2.75), 14)
    box(axes, 2, rule, drawing.rule)
    if drawing.after:
        box(axes, 2, 1.98, drawing.after)


def method(drawing: Drawing) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.5))
    generation(left, drawing)
    inference(right, drawing)
    return figure


def normal(x: np.ndarray, mean: float, scale: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - mean) / scale) ** 2) / (scale * np.sqrt(2 * np.pi))


def posteriors() -> Figure:
    """Two experts and a prior in one dimension, and what three rules make of them."""
    x = np.linspace(-4, 4, 400)
    first, second, prior = normal(x, -0.6, 0.7), normal(x, 1.2, 0.9), normal(x, 0, 1)
    width = x[1] - x[0]
    product = first * second * prior
    product /= product.sum() * width
    rules = {
        "mixture": (first + second) / 2,
        "product with the prior": product,
        "mixture of products": (first + second + product) / 3,
    }
    figure, panels = plt.subplots(1, 3, figsize=(8.4, 2.1), sharey=True)
    for axes, (name, density) in zip(panels, rules.items(), strict=True):
        axes.plot(x, first, color=PRIVATE, lw=1, ls="--", label="$q(z | x_1)$")
        axes.plot(x, second, color=PRIVATE, lw=1, ls=":", label="$q(z | x_2)$")
        axes.fill_between(x, density, color=SHARED, alpha=0.6, lw=0, label="$q(z | x_1, x_2)$")
        axes.set_title(name, fontsize=10)
        axes.set_yticks([])
        axes.set_xlabel("z")
        for side in ("top", "left", "right"):
            axes.spines[side].set_visible(False)
    panels[0].legend(frameon=False, fontsize=7, loc="upper left")
    return figure


ROUTES = {
    "everything → everything\nMVTCAE, JMVAE, JNF": ("111", "111"),
    "single → everything\nMMVAE, MMVAE+, IDMVAE": ("100", "111", "010", "111", "001", "111"),
    "all, each single, random subsets\n→ themselves (MVAE)": (
        "111",
        "111",
        "100",
        "100",
        "010",
        "010",
        "001",
        "001",
        "011",
        "011",
    ),
    "everything and single → everything\nDMVAE": (
        "111",
        "111",
        "100",
        "111",
        "010",
        "111",
        "001",
        "111",
    ),
}
"""Pairs of masks over three modalities: what is given, what is decoded."""


def routes() -> Figure:
    """Which modalities condition z (left squares) and which are decoded (right squares)."""
    figure, panels = plt.subplots(1, len(ROUTES), figsize=(12.4, 2.3))
    for axes, (title, masks) in zip(panels, ROUTES.items(), strict=True):
        axes.set_title(title, fontsize=8)
        for row, (given, targets) in enumerate(zip(masks[::2], masks[1::2], strict=True)):
            squares(axes, 0, row, given, PRIVATE)
            squares(axes, 4.4, row, targets, SHARED)
            arrow(axes, (2.9, -row * 1.3 + 0.4), (4.5, -row * 1.3 + 0.4), 3)
        axes.set_xlim(-0.3, 7.7)
        axes.set_ylim(-5.5, 1.2)
        axes.axis("off")
    return figure


def squares(axes: Axes, x: float, row: int, mask: str, colour: str) -> None:
    for i, bit in enumerate(mask):
        axes.add_patch(
            Rectangle(
                (x + i, -row * 1.3),
                0.8,
                0.8,
                facecolor=colour if bit == "1" else "white",
                edgecolor=INK,
                lw=0.7,
            )
        )


def recombination(run: Path) -> Figure:
    """Digits of the demo: rows keep z, columns keep w."""
    import counterpoint as cp
    from counterpoint.figures.pictures import recombinations

    data = cp.data.load("digits-quadrant")
    return recombinations(cp.load(run), data.test, modality="view0", n=6, seed=3)


def save(figure: Figure, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    options = {"metadata": {"Date": None}} if name.endswith(".svg") else {"dpi": 110}
    figure.savefig(FOLDER / name, bbox_inches="tight", **options)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="a trained run of the demo")
    run = parser.parse_args(arguments).run
    if run is not None:
        save(recombination(run), "recombination.png")
        return
    save(posteriors(), "posteriors.svg")
    save(routes(), "routes.svg")
    for name, drawing in METHODS.items():
        save(method(drawing), f"{name}.svg")


if __name__ == "__main__":
    main()
