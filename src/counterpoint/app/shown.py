"""What the explorer's page shows, as JSON values: rows, maps, and panels of answers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from counterpoint.app.answers import Answer, Explored, most_moved, spread
from counterpoint.core.latents import SHARED_KEY, modality_of, private_key
from counterpoint.core.modality import Modality
from counterpoint.figures import project, sheet, tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_ROWS = 24
"""Rows of a gallery."""

MAP_ROWS = 600
"""Most rows of a map."""


def about(run: Explored) -> dict[str, Any]:
    """What the page needs to know of a run before anything is asked."""
    model = run.method.model
    return {
        "name": run.name,
        "method": run.method.name,
        "problem": run.problem,
        "rows": 0 if run.split is None else len(run.split),
        "modalities": [
            {"name": m.name, "text": bool(m.words), "vector": _is_vector(m)}
            for m in run.method.modalities
        ],
        "latents": {
            SHARED_KEY: model.latents[SHARED_KEY],
            **{private_key(name): size for name, size in model.private_dims.items()},
        },
        "priors": ["auto", *run.method.priors],
        "colours": [] if run.split is None else [*columns(run)],
        "guidance": bool(model.denoisings),
    }


@lru_cache(maxsize=8)
def columns(run: Explored) -> dict[str, np.ndarray]:
    """Labels and covariates of the rows, (N,) each; a label of a modality is
    MODALITY/LABEL."""
    split = run.rows
    found = {name: np.asarray(values) for name, values in split.shared_labels.items()}
    for label, by_modality in split.private_labels.items():
        found |= {f"{name}/{label}": np.asarray(values) for name, values in by_modality.items()}
    covariates = np.asarray(split.covariates)
    return found | {name: covariates[:, i] for i, name in enumerate(split.covariate_names)}


@lru_cache(maxsize=8)
def captions(run: Explored) -> tuple[str, ...]:
    """Labels and texts of each row on one line."""
    split = run.rows
    texts = [
        [m.text(row) for row in np.asarray(split.x[m.name])]
        for m in split.modalities
        if m.words and len(m.shape) == 1
    ]
    known = columns(run)
    lines = []
    for i in range(len(split)):
        parts = []
        for name, values in known.items():
            parts.append(f"{name}={values[i]:g}")
        for text in texts:
            parts.append(text[i])
        lines.append(", ".join(parts))
    return tuple(lines)


def gallery(run: Explored, query: str = "", start: int = 0) -> dict[str, Any]:
    """A page of the rows whose labels or texts have every word of the query.

    A word NAME=VALUE is a label, as a whole; another is part of a text.
    """
    words = query.lower().split()
    found = []
    for i, caption in enumerate(captions(run)):
        lowered = caption.lower()
        if all(_has(lowered, word) for word in words):
            found.append(i)
    here = found[max(0, start) : max(0, start) + PAGE_ROWS]
    return {"count": len(found), "rows": cards(run, here)}


def cards(run: Explored, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Number, caption and pictures of rows."""
    if not rows:
        return []
    batch = run.batch(*rows)
    drawn = {
        m.name: tiles(batch.x[m.name].cpu(), m)
        for m in run.method.modalities
        if len(m.shape) == 3 or m.words
    }
    said = captions(run)
    found = []
    for i, row in enumerate(rows):
        pictures = {}
        for name, of_rows in drawn.items():
            if bool(batch.present[name][i]):
                pictures[name] = _tile(of_rows[i])
        card = {
            "row": row,
            "caption": said[row],
            "tiles": pictures,
        }
        found.append(card)
    return found


@lru_cache(maxsize=32)
def places(run: Explored, latent: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n,), and where they are in a map of a latent (n, 2): the principal plane of
    posterior means given everything that is present.

    Raises:
        ValueError: an unknown latent.
    """
    known = about(run)["latents"]
    if latent not in known:
        raise ValueError(f"unknown latent {latent!r}; choose one of {', '.join(known)}")
    name = modality_of(latent)
    here = np.arange(len(run.rows)) if name is None else np.flatnonzero(run.rows.present[name])
    rows = np.sort(np.random.default_rng(0).permutation(here)[:MAP_ROWS])
    means = []
    for part in np.array_split(rows, max(1, len(rows) // 200)):
        values = run.method.encode(run.batch(*part)).by_key()[latent]
        means.append(values[0].float().cpu().numpy())
    return rows, project(np.concatenate(means), "pca")


def mapped(run: Explored, latent: str, colour: str = "") -> dict[str, Any]:
    """A map of a latent: rows, places in [0, 1]², and the colour's value of each row."""
    rows, plane = places(run, latent)
    low = plane.min(0)
    scaled = (plane - low) / np.maximum(np.ptp(plane, axis=0), 1e-9)
    values = columns(run).get(colour)
    return {
        "rows": rows.tolist(),
        "places": scaled.round(4).tolist(),
        "values": [] if values is None else values[rows].tolist(),
    }


def panels(run: Explored, answered: Answer) -> list[dict[str, Any]]:
    """A panel for each modality of an answer: pictures, texts, or the features that
    move most."""
    return [
        _panel(m, answered.values[m.name], answered.titles)
        for m in run.method.modalities
        if m.name in answered.values
    ]


def picture(run: Explored, answered: Answer) -> bytes:
    """An answer as a PNG sheet, a block for each modality."""
    buffer = io.BytesIO()
    figure = sheet(answered.values, run.method.modalities)
    figure.savefig(buffer, format="png", dpi=160, facecolor="white")
    return buffer.getvalue()


def violins(run: Explored, modality: str, groups: Mapping[str, Sequence[int]]) -> str:
    """Violins of the features of a vector whose means differ most between groups of
    rows, as a data URI.

    Raises:
        ValueError: no such vector, or fewer than two groups of two rows.
    """
    known = {m.name: m for m in run.method.modalities if _is_vector(m)}
    if modality not in known:
        raise ValueError(f"{modality!r} is no vector; violins show {', '.join(known) or 'none'}")
    present = run.rows.present[modality]
    values = {}
    for title, rows in groups.items():
        here = [row for row in rows if present[row]]
        if len(here) > 1:
            batch = run.batch(*here)
            values[title] = batch.x[modality].float().cpu().numpy()
    if len(values) < 2:
        raise ValueError("violins compare two groups of two rows or more; select more rows")
    means = np.stack([v.mean(0) for v in values.values()])
    chosen = np.argsort(-np.ptp(means, axis=0), kind="stable")[:6]
    return _png_of(_violin_figure(known[modality], values, chosen))


# ------------------------------------------------------------------------------ pieces


def _violin_figure(
    modality: Modality, values: Mapping[str, np.ndarray], chosen: np.ndarray
) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 * len(chosen), 2.4), layout="constrained")
    for axes, feature in zip(
        figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True
    ):
        axes.violinplot([v[:, feature] for v in values.values()], showmedians=True)
        axes.set_xticks(range(1, len(values) + 1), [*values], rotation=45, fontsize=7)
        axes.set_title(_feature(modality, int(feature)), fontsize=8)
    return figure


def _panel(modality: Modality, values: Tensor, titles: Sequence[str]) -> dict[str, Any]:
    panel: dict[str, Any] = {"modality": modality.name, "titles": [*titles]}
    if not _is_vector(modality):
        return panel | {"tiles": [_tile(tile) for tile in tiles(values, modality)]}
    mean, sd = spread(values)
    order = most_moved(values) if len(values) > 1 else np.argsort(-np.abs(mean))[:12]
    bars = []
    for i in order:
        change = values[-1, i] - values[0, i]
        bar = {
            "feature": _feature(modality, int(i)),
            "mean": float(mean[i]),
            "sd": float(sd[i]),
            "change": float(change),
        }
        bars.append(bar)
    return panel | {"bars": bars}


def _is_vector(modality: Modality) -> bool:
    return len(modality.shape) == 1 and modality.likelihood != "categorical"


def _feature(modality: Modality, i: int) -> str:
    return modality.features[i] if modality.features else f"{modality.name}[{i}]"


def _has(caption: str, word: str) -> bool:
    return word in caption.split(", ") if "=" in word else word in caption


def _tile(tile: np.ndarray | str) -> dict[str, str]:
    if isinstance(tile, str):
        return {"text": tile}
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, format="PNG")
    return {"image": _uri(buffer.getvalue())}


def _png_of(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    return _uri(buffer.getvalue())


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
