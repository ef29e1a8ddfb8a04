"""``evaluate``: every metric of a method on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from counterpoint.core.modality import Modality
from counterpoint.inference import refiner_of
from counterpoint.metrics.clock import Clock, teller
from counterpoint.metrics.context import Context
from counterpoint.metrics.evaluation import Evaluation
from counterpoint.metrics.extractors import Extractor, settled
from counterpoint.metrics.groups import GROUPS, groups_for
from counterpoint.metrics.judge_fitting import JudgeOptions
from counterpoint.metrics.means import device_of
from counterpoint.metrics.options import EvaluationOptions, EvaluationSplit
from counterpoint.metrics.scores import Scores

if TYPE_CHECKING:
    from counterpoint.data import Dataset, Split
    from counterpoint.methods import Method


def evaluate(
    method: Method,
    data: Dataset,
    *,
    samples: int = 1000,
    rows: int | None = 1000,
    probe_rows: int | None = 10_000,
    likelihood_rows: int = 32,
    likelihood_samples: int = 100,
    batch_size: int = 256,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool | Callable[[str], None] = True,
    only: Sequence[str] | None = None,
    split: EvaluationSplit = "test",
    judge: JudgeOptions | None = None,
    feature_extractors: Mapping[str, Extractor] | None = None,
    refine: int | None = None,
    folds: int | None = None,
) -> Evaluation:
    """Measure a method on held-out rows of a data set.

    The groups of metrics are probe, dependence, judge, coherence, match, retrieval,
    quality, posterior, refinement, likelihood and imputation, and those that you
    register (:func:`counterpoint.metrics.register`).

    Everything is seeded, and the global random state is restored. Metrics that a method
    or data set cannot have (no labels, no private latents, no exact density) are left
    out, with the reason in ``meta["left_out"]``.

    Figures on fewer than 50 rows are marked, and so are those of labels with fewer than
    five rows of some class. HSIC, mutual information and Fréchet distances are left out
    below 50 rows.

    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.MVAE.for_data(data, shared_dim=2)
    >>> options = {"likelihood_rows": 4, "progress": False}
    >>> evaluation = cp.evaluate(method, data, only=["likelihood"], **options)
    >>> [*evaluation.metrics]
    ['loglik/joint']

    Args:
        method: a trained method.
        data: the data set, of the modalities that the method was made for.
        samples: the number of unconditional samples, and most rows on each side of
            precision and recall.
        rows: most held-out rows to generate from, drawn at random and the same for
            every metric; None takes all.
        probe_rows: most rows of the train split to fit probes on, and of the held-out
            split to score them on.
        likelihood_rows, likelihood_samples: rows and samples of likelihood, posteriors
            and their refinement, which are slow.
        cache: a folder that keeps trained judges.
        progress: True prints each stage to standard error; a function is called with it
            instead.
        only: the groups to measure. By default all, except that ``match`` and
            ``retrieval`` are measured only for data without shared labels. Images are
            imputed only if ``imputation`` is named here.
        split: the held-out split: "test" to report, "val" to choose between recipes.
        judge: how judges are built and trained.
        feature_extractors: by modality, a function or network from values (B, *shape),
            images in [0, 1], on the method's device, to features (B, F). They replace
            the judge's features in Fréchet distances and their kin. Networks run in
            evaluation mode.
        refine: refine posteriors by so many steps of the method's refiner before they
            are probed or sampled from; None for none. The group ``posterior`` does not
            refine.
        folds: cross-validate the probes in so many folds over the rows of train and of
            the held-out split, stratified by class, for few held-out rows. None fits
            them on train and scores them on the held-out rows.

    Raises:
        ValueError: an unknown group or split, no group, different modalities, a number
            below 1, a label with a single class, or features of a wrong shape.
        TypeError: a feature extractor that is no function, or returns no tensor.
    """
    if not hasattr(data, "splits"):
        raise TypeError(f"data is {type(data).__name__}; give a data set, as cp.data.load makes it")
    options = EvaluationOptions(
        samples=samples,
        rows=rows,
        probe_rows=probe_rows,
        likelihood_rows=likelihood_rows,
        likelihood_samples=likelihood_samples,
        batch_size=batch_size,
        seed=seed,
        cache=None if cache is None else Path(cache),
        split=split,
        judge=judge,
        feature_extractors=feature_extractors or {},
        refine=refine,
        folds=folds,
        asked=only is not None,
    )
    labels = {*data.test.shared_labels, *data.test.private_labels}
    options.check_names(method.modalities, labels)
    groups = groups_for(only, labelled=bool(data.test.shared_labels))
    if refine is not None:
        refiner_of(method.model)
    origin = _origin(method, data)
    data = complete(data, method.modalities)
    context = Context(method, data, options, groups, Clock(teller(progress)))
    scores = Scores()
    with _seeded(seed, device_of(method)), settled(options.feature_extractors.values()):
        for name in groups:
            with context.clock.stage(name):
                scores.extend(GROUPS[name].measure(context))
    return Evaluation(tuple(scores.records), origin | _asked(context) | _outcome(context, scores))


def complete(data: Dataset, modalities: Sequence[Modality]) -> Dataset:
    """Read the data as a method with these modalities reads them.

    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> [m.name for m in complete(data, data.modalities[::-1]).modalities]
    ['view1', 'view0']

    Raises:
        ValueError: other modalities, or values that cannot be read so.
    """
    known = [m.name for m in modalities]
    given = [m.name for m in data.modalities]
    if {*known} != {*given}:
        raise ValueError(
            f"the method knows modalities {', '.join(known)}, the data set has "
            f"{', '.join(given)}; evaluate it on the data it was made for"
        )
    return data.read_as(modalities)


def _origin(method: Method, data: Dataset) -> dict[str, Any]:
    """What was measured, on what, and by which versions."""
    about: dict[str, Any] = {"name": method.name, "config": method.config}
    denoisers = {
        name: asdict(by.options) | {"modalities": [name]}
        for name, by in method.model.denoisings.items()
    }
    if denoisers:
        about["denoisers"] = denoisers
    if method.additions:
        about["additions"] = [asdict(addition) for addition in method.additions]
    return {
        "method": about,
        "data": {"name": data.name, "notes": dict(data.notes), "checksum": data.checksum()},
        "versions": {
            name: _version(name) for name in ("counterpoint", "torch", "numpy", "scikit-learn")
        },
    }


def _asked(context: Context) -> dict[str, Any]:
    """What was asked for."""
    options = context.options
    rows_used = {
        "generated_from": len(context.sources),
        "samples": options.samples,
        "probe_train": _most(context.data.train_split, options.probe_rows),
        "probe_held_out": _most(context.held_out, options.probe_rows),
    }
    asked = {
        "split": options.split,
        "groups": [*context.groups],
        "seed": options.seed,
        "rows": rows_used,
        "refine": options.refine,
    }
    return asked if options.folds is None else asked | {"folds": options.folds}


def _outcome(context: Context, scores: Scores) -> dict[str, Any]:
    """What the measuring left beside the scores."""
    seconds = context.clock.seconds
    return {
        "left_out": scores.left_out,
        "too_few": scores.too_few,
        **scores.extra,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
    }


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global torch generator, for methods that use it, and restore it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _most(split: Split, most: int | None) -> int:
    return len(split) if most is None else min(len(split), most)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
