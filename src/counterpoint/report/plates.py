"""The figures of a report: matplotlib figures as inline SVG, with captions."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from counterpoint import figures
from counterpoint.metrics.score import Score, Setting, Way

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from counterpoint.data import Dataset, Split
    from counterpoint.methods import Method
    from counterpoint.metrics import Evaluation


@dataclass(frozen=True)
class Plate:
    """A figure of the page.

    Args:
        svg: inline SVG, with a title for screen readers.
        caption: the caption.
        width: in CSS pixels.
    """

    svg: str
    caption: str
    width: int


def inline(figure: Figure, title: str, caption: str) -> Plate:
    """The figure as inline SVG: letters stay letters, ink becomes the page's ink, ids
    differ between the plates of a page."""
    import matplotlib
    from markupsafe import Markup, escape

    salt = re.sub(r"\W+", "-", title)
    buffer = io.StringIO()
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": salt, "image.composite_image": False}
    ):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            dpi=200,
            metadata={"Date": None, "Creator": None},
        )
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', opening)
    rest = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{salt}-", rest)
    rest = rest.replace(figures.INK, "currentColor").replace(figures.FAINT, "var(--faint)")
    svg = f'<svg role="img" aria-label="{escape(title)}" {view[0] if view else ""}>{rest}'
    return Plate(Markup(svg), caption, round(figure.get_size_inches()[0] * 110))


def loss_curves(history: str | Path | None) -> Plate | None:
    """The loss curves of a ``metrics.csv``, if it has any."""
    if history is None:
        return None
    curves = figures.read_history(history)
    if not curves:
        return None
    return inline(
        figures.losses(curves),
        "Loss curves",
        "One panel per term, already weighted, each on its own scale, against training steps.",
    )


def pictures(method: Method, data: Dataset, seed: int) -> list[Plate]:
    """Pictures of reconstructions, translations, recombinations and samples."""
    plates = _comparisons(method, data.test, seed) if figures.has_complete_rows(data.test) else []
    for prior in method.priors:
        figure = figures.samples(method, prior=prior, seed=seed)
        caption = (
            f"Unconditional samples, {prior} prior. A column is one draw of z; its modalities "
            "should agree on what is shared."
        )
        plates.append(inline(figure, f"Samples {prior} prior", caption))
    return plates


def _comparisons(method: Method, split: Split, seed: int) -> list[Plate]:
    """Pictures of rows that have every modality."""
    caption = (
        "Reconstruction. Of each pair of rows, the upper is data from the test split, the lower "
        "what is decoded from its own posterior means."
    )
    plates = [inline(figures.reconstructions(method, split, seed=seed), "Reconstructions", caption)]
    private = method.model.private_dims
    if len(method.modalities) > 1:
        caption = (
            "Cross generation. A row is given one modality, at its left; a column decodes one, "
            "so the diagonal is self-reconstruction."
        )
        caption += (
            " Elsewhere w is drawn from the prior: what is shared should stay, what is private "
            "should change."
            if private
            else ""
        )
        plates.append(
            inline(figures.cross_generation(method, split, seed=seed), "Cross generation", caption)
        )
        given = figures.chosen_modality(method, None).name
        caption = (
            f"Translation. A row is an example of the test split, given {given} alone: the value "
            "of every other modality, and beside it its translation."
        )
        plates.append(
            inline(figures.translations(method, split, given, seed=seed), "Translation", caption)
        )
    for m in [m for m in method.modalities if m.name in private][:2]:
        figure = figures.recombinations(method, split, m.name, seed=seed)
        caption = (
            f"Recombination in {m.name}. Each row takes z from the example at its left, each "
            "column w from the example above."
        )
        plates.append(inline(figure, f"Recombination {m.name}", caption))
    return plates


def maps(method: Method, data: Dataset, kinds: Sequence[str] | None, seed: int) -> list[Plate]:
    """Maps of the latents, one for each projection."""
    if kinds is None:
        kinds = [kind for kind in figures.MAPS if kind != "umap" or find_spec("umap")]
    if not kinds:
        return []
    given = figures.chosen_modality(method, None).name
    points = figures.latent_points(method, data.test, [given], seed=seed)
    colours = figures.default_colours(data.test, given)
    plates = []
    for kind in kinds:
        figure = figures.latent_map(data.test, points, colours, kind, seed)
        title = figures.MAP_TITLES[kind]
        rows = len(points["z"].rows)
        plates.append(
            inline(
                figure,
                f"{title} of the latents",
                f"{title} of {rows} rows of the test split, given {given} alone.",
            )
        )
    return plates


def scores(evaluation: Evaluation) -> Plate | None:
    """The scores of the whole method, if there are any."""
    if not evaluation.scores:
        return None
    caption = (
        "Scores, a panel for each kind. Lines are 95 % intervals or deviations over seeds, "
        "ticks are chance."
    )
    return inline(evaluation.plot(), "Scores", caption)


def refinement(scores: Iterable[Score]) -> Plate | None:
    """The bound against the steps of the refiner, and after gradient ascent."""
    titles: dict[Setting | None, str] = {"all": "given everything", "given": "given one modality"}
    bounds: dict[str, dict[int, float]] = {}
    ascent: dict[str, float] = {}
    for score in scores:
        title = titles.get(score.setting) if score.way == Way() else None
        if title and score.kind == "refinement/elbo" and score.step is not None:
            bounds.setdefault(title, {})[score.step] = score.value
        elif title and score.kind == "refinement/ascent":
            ascent[title] = score.value
    if not bounds:
        return None
    curves = {title: [by_step[t] for t in sorted(by_step)] for title, by_step in bounds.items()}
    caption = (
        "Refinement. The bound in nats, mean over rows of the test split, against steps of the"
        " refiner; step 0 is what the encoders say. Dashed: where gradient ascent ends that"
        " starts there."
    )
    return inline(figures.refinement(curves, ascent), "Refinement", caption)


def plane(method: Method, data: Dataset, seed: int) -> Plate | None:
    """Posteriors in the plane, if z has two dimensions."""
    if (
        not figures.has_complete_rows(data.test)
        or len(method.modalities) < 2
        or not figures.in_the_plane(method)
    ):
        return None
    caption = (
        "Posteriors. A row is an example of the test split, a column what is given of it. Points "
        "are draws; the line encloses 95 % of the"
        " posterior that prior and decoders imply; other rows' posterior means in the background."
    )
    return inline(figures.posteriors(method, data.test, seed=seed), "Posteriors", caption)
