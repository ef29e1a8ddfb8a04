"""The report: one HTML file that needs nothing but a browser, and no network.

Figures are inlined as SVG with pictures as PNG in base64. Lines and letters take their
colour from the page, so one file suits light and dark screens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint.core.files import write
from counterpoint.metrics.score import FEW_NOTE
from counterpoint.report import findings, plates, tables
from counterpoint.report.bars import short, text_of
from counterpoint.report.description import as_yaml, describe
from counterpoint.report.features import predicted
from counterpoint.report.published import QUADRANT

if TYPE_CHECKING:
    from counterpoint.data import Dataset
    from counterpoint.methods import Method
    from counterpoint.metrics import Evaluation


def write_report(
    method: Method,
    data: Dataset,
    evaluation: Evaluation,
    history: str | Path | None,
    out: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    commands: Sequence[str] = (),
    maps: Sequence[str] | None = None,
    seed: int = 0,
) -> Path:
    """Write what a trained method learned to one self-contained HTML file.

    >>> from tempfile import TemporaryDirectory
    >>> import counterpoint as cp
    >>> import numpy
    >>> from counterpoint.metrics import Evaluation
    >>> modalities = cp.Modality("x", (2,), "normal"), cp.Modality("y", (1,), "normal")
    >>> split = cp.data.Split({"x": numpy.ones((8, 2)), "y": numpy.ones((8, 1))}, modalities)
    >>> data = cp.data.Dataset("ones", modalities, split, split, split)
    >>> with TemporaryDirectory() as out:
    ...     method = cp.MVAE.for_data(data, shared_dim=2)
    ...     page = cp.write_report(method, data, Evaluation(()), None, f"{out}/report.html")
    ...     page.name
    'report.html'

    Args:
        method: trained method.
        data: its data; pictures and maps are made from the test split.
        evaluation: its scores.
        history: the run's ``metrics.csv``; ``None`` leaves the curves out.
        out: the file to write; replaced in one step, so it is never half written.
        config: configuration of the run, shown whole; the method's own by default.
        commands: shell commands that reproduce the run.
        maps: projections of the latents, of ``pca``, ``tsne`` and ``umap``; by default
            all (the last if umap-learn is installed).
        seed: chooses the examples shown.

    Raises:
        ValueError: an unknown map, or modalities of method and data that differ.
        OSError: the file cannot be written.
    """
    mine = [m.name for m in method.modalities]
    theirs = [m.name for m in data.modalities]
    if {*mine} != {*theirs}:
        raise ValueError(
            f"the method knows the modalities {', '.join(mine)}, the data {', '.join(theirs)}; "
            "report on the data it was trained on"
        )
    data = data.read_as(method.modalities)
    page = {
        **_about(method, data),
        **_latents(method, data, evaluation),
        **_figures(method, data, history, maps, seed),
        **_tables(data, evaluation),
        "features": predicted(method, data.test, seed=seed),
        "scores": plates.scores(evaluation),
        "refinement": plates.refinement(evaluation.scores),
        "meta": as_yaml(evaluation.meta),
        "config": as_yaml(config or {"method": method.name, "model": method.config}),
        "commands": [*commands],
    }
    path = Path(out)
    write_page("report.html", page, path)
    return path


def write_page(template: str, page: Mapping[str, Any], path: Path) -> None:
    """Write a page of one of this package's templates.

    Args:
        template: the name of the template.
        page: what it shows, by name; the version and the date are there already.
        path: the file, replaced in one step.
    """
    now = datetime.now(UTC)
    about = {"version": _version(), "date": f"{now.day} {now:%B %Y}"}
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, _template(template).render({**about, **page}).encode())


def _about(method: Method, data: Dataset) -> dict[str, Any]:
    """Names and sizes."""
    splits = {"train": data.train, "validation": data.val, "test": data.test}
    return {
        "method": method.name,
        "data": data,
        "rows": {name: f"{len(split):,}" for name, split in splits.items()},
        "modalities": [(m, describe(m)) for m in data.modalities],
    }


def _latents(method: Method, data: Dataset, evaluation: Evaluation) -> dict[str, Any]:
    """What each latent tells, beside published figures."""
    known = findings.findings_of(evaluation.scores, data)
    labels = {*data.test.shared_labels, *data.test.private_labels}
    published = QUADRANT if QUADRANT.covers(labels) else None
    comparison = []
    coherence = []
    if published is not None:
        comparison = findings.comparison_of(method.name, evaluation.scores, published)
        coherence = [(name, [*map(short, v)]) for name, v in published.coherence.items()]
    return {
        "findings": known,
        "summary": findings.summary_of(known),
        "published": published,
        "same_data": published is not None and published.data.lower() == data.name.lower(),
        "comparison": comparison,
        "published_coherence": coherence,
    }


def _figures(
    method: Method,
    data: Dataset,
    history: str | Path | None,
    maps: Sequence[str] | None,
    seed: int,
) -> dict[str, Any]:
    return {
        "losses": plates.loss_curves(history),
        "pictures": plates.pictures(method, data, seed),
        "maps": plates.maps(method, data, maps, seed),
        "plane": plates.plane(method, data, seed),
    }


def _tables(data: Dataset, evaluation: Evaluation) -> dict[str, Any]:
    scores = evaluation.scores
    return {
        "split": evaluation.meta.get("split", "test"),
        "folds": evaluation.meta.get("folds"),
        "coherence": tables.coherence_rows(scores, data),
        "quality": tables.quality_table(scores, data),
        "given": tables.given_table(scores, data),
        "posteriors": tables.posterior_table(scores),
        "metrics": {s.name: text_of(s) for s in sorted(scores, key=lambda s: s.name)},
        "footnote": FEW_NOTE if evaluation.few else "",
        "left_out": evaluation.left_out_for_rows,
    }


def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("counterpoint.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _version() -> str:
    try:
        return version("counterpoint")
    except PackageNotFoundError:
        return ""
