"""The report: one HTML file that needs nothing but a browser, no network either.

Figures are inlined as SVG, whose pictures are PNG in base64; lines and letters take
their colour from the page, so that one file is at home on a light and on a dark screen.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint.core.files import write
from counterpoint.metrics.evaluation import FOOTNOTE, MARK
from counterpoint.report import figures
from counterpoint.report.features import predicted
from counterpoint.report.published import QUADRANT, Published

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from counterpoint.data import Dataset, Split
    from counterpoint.methods import Method
    from counterpoint.metrics import Evaluation

JSON = Any
KINDS = {
    "judge": "real data, by the same judges",
    "self": "from itself",
    "cross": "from one other modality",
    "given": "from {} modalities",
    "recombine": "recombined: z of one row, w of another",
    "private": "w kept, z from the prior",
    "joint": "unconditional: all judges agree",
}
QUALITY = {
    "fid": "Fréchet distance ↓",
    "kid": "kernel distance ↓",
    "precision": "precision ↑",
    "recall": "recall ↑",
    "density": "density ↑",
    "coverage": "coverage ↑",
    "sharpness": "sharpness → 1",
}

GIVEN = {
    "match": "match ↑",
    "judge/match": "match of real pairs",
    "retrieval": "retrieval of two ↑",
    "retrieval@1": "first of all ↑",
    "retrieval@10": "among ten ↑",
    "f1": "F1 ↑",
    "fid": "Fréchet distance ↓",
}

POSTERIOR = {
    "kl": "KL to everything ↓",
    "cosine": "cosine to everything ↑",
    "acceptance": "acceptance",
    "rhat": "R-hat ↓",
    "mixed": "share mixed ↑",
    "ess": "effective draws ↑",
    "improper": "share improper ↓",
}


@dataclass(frozen=True)
class Measured:
    """A figure of the evaluation, and whether it rests on few rows."""

    value: JSON
    few: bool


@dataclass(frozen=True)
class Bar:
    """A value on [0, 1] with its mark: ``tick`` is chance or a ceiling, ``tone`` the
    colour (``z``, ``w``, or ``leak``)."""

    value: float
    text: str
    tick: float | None = None
    tone: str = "leak"


@dataclass(frozen=True)
class Finding:
    """What one latent tells about one label. ``own``: it is meant to (z the shared, w
    the private label); otherwise it leaks."""

    latent: str
    label: str
    own: bool
    bar: Bar


@dataclass(frozen=True)
class Plate:
    """A figure of the page: inline SVG, its caption, what a screen reader says, and its
    width in CSS pixels."""

    svg: str
    caption: str
    width: int


def write_report(
    method: Method,
    data: Dataset,
    evaluation: Evaluation,
    history: str | Path | None,
    out: str | Path,
    *,
    config: Mapping[str, JSON] | None = None,
    commands: Sequence[str] = (),
    maps: Sequence[str] | None = None,
    seed: int = 0,
) -> Path:
    """Write what a trained method learned to one self-contained HTML file.

    Args:
        method: trained method.
        data: its data; pictures and maps are made from the test split.
        evaluation: its measured figures.
        history: the run's ``metrics.csv``; ``None`` leaves the curves out.
        out: the file to write; replaced in one step, so it is never half written.
        config: configuration of the run, shown whole; the method's own by default.
        commands: shell commands that reproduce the run.
        maps: projections of the latents, of ``pca``, ``tsne`` and ``umap``; by default
            all (the last where umap-learn is installed).
        seed: chooses the examples shown.

    Raises:
        ValueError: an unknown map, or modalities of method and data that differ.
            OSError: the file cannot be written.
    """
    mine, theirs = [m.name for m in method.modalities], [m.name for m in data.modalities]
    if {*mine} != {*theirs}:
        raise ValueError(
            f"the method knows the modalities {', '.join(mine)}, the data {', '.join(theirs)}; report on the data it was trained on"
        )
    data = data.read_as(method.modalities)
    few = {*evaluation.meta.get("few", ())}
    metrics = {name: Measured(value, name in few) for name, value in evaluation.metrics.items()}
    now = datetime.now(UTC)
    findings = _findings(metrics, data)
    published = QUADRANT if QUADRANT.covers(_labels(data)) else None
    page = {
        "method": method.name,
        "data": data,
        "rows": {
            name: f"{len(split):,}"
            for name, split in (
                ("train", data.train),
                ("validation", data.val),
                ("test", data.test),
            )
        },
        "modalities": [(m, _describe(m)) for m in data.modalities],
        "findings": findings,
        "summary": _summary(findings),
        "split": evaluation.meta.get("split", "test"),
        "published": published,
        "same_data": published is not None and published.data.lower() == data.name.lower(),
        "comparison": _comparison(method.name, metrics, published) if published else [],
        "losses": _losses(history),
        "pictures": _pictures(method, data, seed),
        "maps": _maps(method, data, maps, seed),
        "coherence": _coherence(evaluation, metrics, data),
        "published_coherence": _published_coherence(published),
        "quality": _quality(metrics, data),
        "given": _given(metrics, data),
        "features": predicted(method, data.test, seed=seed),
        "posteriors": _posteriors(metrics),
        "refinement": _refinement(metrics),
        "plane": _plane(method, data, seed),
        "metrics": {name: _text(value) for name, value in sorted(metrics.items())},
        "footnote": FOOTNOTE if few else "",
        "left_out": evaluation.left_out_for_rows(),
        "folds": evaluation.meta.get("folds"),
        "meta": _yaml(evaluation.meta),
        "config": _yaml(config or {"method": method.name, "model": method.config}),
        "commands": [*commands],
        "version": _version(),
        "date": f"{now.day} {now:%B %Y}",
    }
    path = Path(out)
    text = _template().render(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, text.encode())
    return path


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("counterpoint.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


# ---------------------------------------------------------------------------------------------- numbers


def _mean(value: JSON | Measured) -> float:
    value = value.value if isinstance(value, Measured) else value
    return float(value["mean"]) if isinstance(value, Mapping) else float(value)


def _text(value: JSON | Measured) -> str:
    """'.983', '12.4', '.983 ± .002' (over seeds); with a mark where the figure rests on
    few rows."""
    if isinstance(value, Measured):
        return _text(value.value) + MARK * value.few
    if isinstance(value, Mapping):
        return f"{_number(float(value['mean']))} ± {_number(float(value['std']))}"
    return _number(float(value))


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 10:
        return f"{value:,.1f}"
    text = f"{value:.3f}"
    return text.removeprefix("0") if 0 <= value < 1 else text


def _bar(value: JSON, tick: float | None = None, tone: str = "leak") -> Bar:
    mean = _mean(value)
    return Bar(min(1.0, max(0.0, mean if math.isfinite(mean) else 0.0)), _text(value), tick, tone)


def _labels(data: Dataset) -> set[str]:
    return {*data.test.shared_labels, *data.test.private_labels}


def _chance(metrics: Mapping[str, JSON], label: str) -> float | None:
    value = metrics.get(f"chance/{label}")
    return None if value is None else _mean(value)


def _findings(metrics: Mapping[str, JSON], data: Dataset) -> list[Finding]:
    """Every latent against every label: first what it is meant to know, then what
    leaks."""
    shared, private = [*data.test.shared_labels], [*data.test.private_labels]
    meant, leaks = (("z", shared), ("w", private)), (("z", private), ("w", shared))
    return [
        Finding(
            latent,
            label,
            own,
            _bar(metrics[name], _chance(metrics, label), latent if own else "leak"),
        )
        for own, pairs in ((True, meant), (False, leaks))
        for latent, labels in pairs
        for label in labels
        if (name := f"probe/{latent}/{label}") in metrics
    ]


def _summary(findings: Sequence[Finding]) -> str:
    """The result in a sentence or two of plain words."""

    def said(chosen: Iterable[Finding]) -> str:
        return ", and ".join(
            f"the {f.label} from {f.latent} {100 * f.bar.value:.0f} % of the time"
            + (f" (chance {100 * f.bar.tick:.0f} %)" if f.bar.tick else "")
            for f in chosen
        )

    meant, leaks = said(f for f in findings if f.own), said(f for f in findings if not f.own)
    if not meant:
        return ""
    return f"From one modality, a linear probe reads {meant}." + (
        f" Where it should find nothing, it reads {leaks}." if leaks else ""
    )


def _comparison(
    name: str, metrics: Mapping[str, JSON], published: Published
) -> list[tuple[str, bool, list[Bar | None]]]:
    """Rows of the comparison: (method, whether it is this run, a bar or nothing per
    column)."""
    wanted = [
        (latent, label, latent == "z" if label == published.columns[0][1] else latent == "w")
        for latent, label in published.columns
    ]

    def bars(values: Sequence[JSON]) -> list[Bar | None]:
        return [
            None
            if value is None
            else _bar(value, _chance(metrics, label), latent if own else "leak")
            for (latent, label, own), value in zip(wanted, values, strict=True)
        ]

    own_row = bars([metrics.get(f"probe/{latent}/{label}") for latent, label in published.columns])
    return [
        (name, True, own_row),
        *((other, False, bars(values)) for other, values in published.rows.items()),
    ]


def _coherence(
    evaluation: Evaluation, metrics: Mapping[str, Measured], data: Dataset
) -> list[tuple[str, str, Bar]]:
    """Rows (what is generated from what, label, bar); per-modality details stay in the
    list of all figures."""
    rows = []
    named_priors = any(name.startswith("coherence/joint/") and "@" in name for name in metrics)
    for name, value in metrics.items():
        parts = re.fullmatch(r"(?:coherence/)?(judge|(?<=/)[a-z]+)(\d*)/([^/@]+)(?:@(.+))?", name)
        if (
            not parts
            or parts[2] == "1"
            or name == "judge/match"
            or (parts[1] == "joint" and not parts[4] and named_priors)
        ):  # given1 is cross, matches have their own table, a bare joint is one of the named
            continue
        kind, count, label, prior = parts.groups()
        title = KINDS.get(kind, kind).format(count) + (f", {prior} prior" if prior else "")
        bar = _bar(value, evaluation.chance(name), _tone(kind, label, data))
        place = [*KINDS].index(kind) if kind in KINDS else len(KINDS)
        rows.append(
            ((label not in data.test.shared_labels, label, place, count), title, label, bar)
        )
    return [(title, label, bar) for _, title, label, bar in sorted(rows, key=lambda row: row[0])]


def _published_coherence(published: Published | None) -> list[tuple[str, list[str]]]:
    return (
        [(name, [_number(v) for v in values]) for name, values in published.coherence.items()]
        if published
        else []
    )


def _tone(kind: str, label: str, data: Dataset) -> str:
    return "leak" if kind == "judge" else "w" if label in data.test.private_labels else "z"


def _quality(metrics: Mapping[str, JSON], data: Dataset) -> dict[str, JSON]:
    """Column titles and rows (modality, what was generated, one text per column); no
    rows where nothing was measured."""
    rows = []
    for m in data.modalities:
        for suffix, title in (("", "unconditional"), ("_cross", "from another modality")):
            values = [metrics.get(f"{kind}{suffix}/{m.name}") for kind in QUALITY]
            if any(value is not None for value in values):
                rows.append(
                    (m.name, title, ["–" if value is None else _text(value) for value in values])
                )
    return {"columns": [*QUALITY.values()], "rows": rows}


def _given(metrics: Mapping[str, JSON], data: Dataset) -> dict[str, JSON]:
    """Column titles and rows (modality, what it was generated from, one text per
    column), as far as measured; nothing given comes first."""
    found: dict[str, dict[str, dict[str, JSON]]] = {}
    for name, value in metrics.items():
        parts = re.fullmatch(
            r"(match|judge/match|retrieval(?:@\d+)?|f1|fid)(?:[/_]given\d+)?/([^/>]+)>([^/>]+)",
            name,
        )
        if parts:
            kind, given, target = parts.groups()
            nothing = {
                "f1": metrics.get(f"chance/f1/{target}"),
                "fid": metrics.get(f"fid/{target}"),
            }
            found.setdefault(
                target, {"": {key: v for key, v in nothing.items() if v is not None}}
            ).setdefault(given, {})[kind] = value
    kinds = [
        kind
        for kind in GIVEN
        if any(kind in values for sets in found.values() for values in sets.values())
    ]
    rows = [
        (
            m.name,
            given.replace("+", ", ") or "nothing",
            [_text(values[kind]) if kind in values else "–" for kind in kinds],
        )
        for m in data.modalities
        for given, values in sorted(
            found.get(m.name, {}).items(), key=lambda row: row[0].count("+") + bool(row[0])
        )
    ]
    return {"columns": [GIVEN[kind] for kind in kinds], "rows": rows}


def _posteriors(metrics: Mapping[str, JSON]) -> dict[str, JSON]:
    """Column titles, and rows (what is given, one text per column): all in nats but
    where chains were run."""
    kinds = [
        kind
        for kind in POSTERIOR
        if any(name.startswith(f"posterior/{kind}/given") for name in metrics)
    ]
    counts = sorted(
        {
            int(found[1])
            for name in metrics
            if (found := re.fullmatch(r"posterior/\w+/given(\d+)", name))
        }
    )
    rows = []
    for count in counts:
        values = [metrics.get(f"posterior/{kind}/given{count}") for kind in kinds]
        title = f"{count} modalit{'y' if count == 1 else 'ies'}"
        rows.append((title, ["–" if value is None else _text(value) for value in values]))
    return {"columns": [POSTERIOR[kind] for kind in kinds], "rows": rows}


def _describe(modality: Any) -> str:
    if modality.likelihood == "categorical":
        what = f"sequence of {math.prod(modality.shape)} out of {modality.classes} symbols"
    elif len(modality.shape) == 3:
        channels, height, width = modality.shape
        what = f"image{' of unbounded values' * modality.unbounded}, {height} × {width}, {channels} channel{'s' * (channels > 1)}"
    else:
        names = (
            f" ({', '.join(modality.features[:3])}{', …' * (len(modality.features) > 3)})"
            if modality.features
            else ""
        )
        what = f"vector of {math.prod(modality.shape)}{' counts' * modality.counts}{names}"
    scale = "learned scale" if modality.scale is None else f"scale {modality.scale:g}"
    family = {"nb": "negative binomial", "zinb": "zero-inflated negative binomial"}.get(
        modality.likelihood, modality.likelihood
    )
    read = f"; its decoder reads covariates in {len(modality.covariates)} column{'s' * (len(modality.covariates) > 1)}"
    return (
        f"{what}; {family} likelihood"
        + (f", {scale}" if modality.likelihood in ("normal", "laplace") else "")
        + read * bool(modality.covariates)
    )


def _yaml(values: JSON) -> str:
    import yaml

    return yaml.safe_dump(
        json.loads(json.dumps(values, default=str)), sort_keys=False, allow_unicode=True, width=100
    ).strip()


def _version() -> str:
    try:
        return version("counterpoint")
    except PackageNotFoundError:
        return ""


# ---------------------------------------------------------------------------------------------- figures


def _plate(figure: Figure, title: str, caption: str) -> Plate:
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


def _losses(history: str | Path | None) -> Plate | None:
    if history is None:
        return None
    curves = figures.read_history(history)
    if not curves:
        return None
    return _plate(
        figures.losses(curves),
        "Loss curves",
        "One panel per term, already weighted, each on its own scale, against training steps.",
    )


def _pictures(method: Method, data: Dataset, seed: int) -> list[Plate]:
    plates = _comparisons(method, data.test, seed) if figures.has_complete_rows(data.test) else []
    for prior in method.priors:
        figure = figures.samples(method, prior=prior, seed=seed)
        caption = f"Unconditional samples, {prior} prior. A column is one draw of z; its modalities should agree on what is shared."
        plates.append(_plate(figure, f"Samples {prior} prior", caption))
    return plates


def _comparisons(method: Method, split: Split, seed: int) -> list[Plate]:
    """Pictures of rows that have every modality."""
    caption = "Reconstruction. Of each pair of rows, the upper is data from the test split, the lower what is decoded from its own posterior means."
    plates = [_plate(figures.reconstructions(method, split, seed=seed), "Reconstructions", caption)]
    private = method.model.private_dims
    if len(method.modalities) > 1:
        caption = "Cross generation. A row is given one modality, at its left; a column decodes one, so the diagonal is self-reconstruction."
        caption += (
            " Elsewhere w is drawn from the prior: what is shared should stay, what is private should change."
            if private
            else ""
        )
        plates.append(
            _plate(figures.translations(method, split, seed=seed), "Cross generation", caption)
        )
    for m in [m for m in method.modalities if m.name in private][:2]:
        figure = figures.recombinations(method, split, m.name, seed=seed)
        caption = f"Recombination in {m.name}. Each row takes z from the example at its left, each column w from the example above."
        plates.append(_plate(figure, f"Recombination {m.name}", caption))
    return plates


def _maps(method: Method, data: Dataset, kinds: Sequence[str] | None, seed: int) -> list[Plate]:
    if kinds is None:
        kinds = [kind for kind in figures.MAPS if kind != "umap" or find_spec("umap")]
    if not kinds:
        return []
    given = figures.chosen_modality(method, None).name
    points, labels = figures.latent_points(method, data.test, given, seed=seed)
    labels = {
        name: labels[name]
        for name in (
            _shown(data.test.shared_labels, labels),
            _shown(data.test.private_labels, labels),
        )
        if name
    }
    plates = []
    for kind in kinds:
        figure = figures.latent_map(points, labels, kind, seed)
        title = figures.MAP_TITLES[kind]
        rows = len(next(iter(points.values())))
        plates.append(
            _plate(
                figure,
                f"{title} of the latents",
                f"{title} of {rows} rows of the test split, given {given} alone.",
            )
        )
    return plates


def _refinement(metrics: Mapping[str, JSON]) -> Plate | None:
    bounds, ascent = {}, {}
    for label, title in (("all", "given everything"), ("given1", "given one modality")):
        steps = {
            int(found[1]): name
            for name in metrics
            if (found := re.fullmatch(rf"refinement/elbo/{label}/t(\d+)", name))
        }
        if steps:
            bounds[title] = [_mean(metrics[steps[t]]) for t in sorted(steps)]
            ascent[title] = _mean(metrics[f"refinement/elbo/{label}/ascent"])
    if not bounds:
        return None
    caption = (
        "Refinement. The bound in nats, mean over rows of the test split, against steps of the refiner; step 0 is what the encoders say. Dashed:"
        " where gradient ascent ends that starts there."
    )
    return _plate(figures.refinement(bounds, ascent), "Refinement", caption)


def _plane(method: Method, data: Dataset, seed: int) -> Plate | None:
    if (
        not figures.has_complete_rows(data.test)
        or len(method.modalities) < 2
        or not figures.in_the_plane(method)
    ):
        return None
    caption = (
        "Posteriors. A row is an example of the test split, a column what is given of it. Points are draws; the line encloses 95 % of the"
        " posterior that prior and decoders imply; other rows' posterior means in the background."
    )
    return _plate(figures.posteriors(method, data.test, seed=seed), "Posteriors", caption)


def _shown(among: Mapping[str, Any], labels: Mapping[str, Any]) -> str | None:
    return next((name for name in among if name in labels), None)
