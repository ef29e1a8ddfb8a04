"""``evaluate``: every metric of a method on a data set, with what is needed to read and
repeat the numbers."""

from __future__ import annotations

import io
import json
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from counterpoint.core.documents import read_json
from counterpoint.core.files import write
from counterpoint.core.modality import Modality
from counterpoint.inference import refiner_of
from counterpoint.metrics.agreement import score_f1
from counterpoint.metrics.coherence import score_coherence
from counterpoint.metrics.dependence import score_dependence
from counterpoint.metrics.extractors import Extractor, settled
from counterpoint.metrics.generations import Generations
from counterpoint.metrics.imputation import score_imputation
from counterpoint.metrics.judges import JudgeOptions, score_judges, train_judges
from counterpoint.metrics.likelihood import score_likelihood
from counterpoint.metrics.matchers import Matchers, train_matchers
from counterpoint.metrics.matching import score_matches
from counterpoint.metrics.means import device_of, posterior_means
from counterpoint.metrics.posteriors import score_posteriors
from counterpoint.metrics.probes import (
    score_chance,
    score_joint_probes,
    score_probes,
    smallest_classes,
)
from counterpoint.metrics.quality import score_quality
from counterpoint.metrics.refinement import score_refinement
from counterpoint.metrics.retrieval import score_retrieval
from counterpoint.metrics.score import FEW_PER_CLASS, FEW_ROWS, Scores, chosen, seed_of

if TYPE_CHECKING:
    from counterpoint.data import Dataset, Split
    from counterpoint.methods import Method

Group = Literal[
    "probe",
    "coherence",
    "match",
    "retrieval",
    "quality",
    "dependence",
    "posterior",
    "refinement",
    "likelihood",
    "imputation",
]
GROUPS: tuple[Group, ...] = get_args(Group)
UNLABELLED = ("match", "retrieval")
"""Groups that say of data without shared labels what coherence says of others; where
there are labels they have to be asked for."""

JOINT_ROWS = 2000
"""Most rows on either side of the probes of z given everything, which chains may have
to draw."""

MARK = "*"
FOOTNOTE = f"{MARK} on fewer than {FEW_ROWS} rows, or on fewer than {FEW_PER_CLASS} of some class"

_SECTIONS = (
    ("probe",),
    ("mi", "hsic"),
    ("judge", "coherence", "match", "retrieval", "f1"),
    ("fid", "kid", "precision", "recall", "density", "coverage", "sharpness"),
    ("posterior",),
    ("refinement",),
    ("loglik",),
    ("impute",),
)
_KINDS: dict[Group, tuple[str, ...]] = {
    "probe": ("probe", "mi"),
    "coherence": ("coherence", "f1"),
    "match": ("match",),
    "retrieval": ("retrieval",),
    "quality": ("fid", "kid", "precision", "recall", "density", "coverage", "sharpness"),
    "dependence": ("hsic",),
    "posterior": ("posterior",),
    "refinement": ("refinement",),
    "likelihood": ("loglik",),
    "imputation": ("impute",),
}
"""What the names of each group's metrics begin with."""


def group_of(metric: str) -> Group:
    """The group that measures a metric.

    Raises:
        ValueError: no group's metrics begin so.
    """
    kind = re.split("[/_@]", metric)[0]
    found = [group for group, kinds in _KINDS.items() if kind in kinds]
    if not found:
        kinds = [k for group in _KINDS.values() for k in group]
        close = get_close_matches(kind, kinds, 1)
        hint = (
            f"did you mean {close[0] + metric.removeprefix(kind)!r}?"
            if close
            else f"metrics begin with {', '.join(kinds)}"
        )
        raise ValueError(f"unknown metric {metric!r}; {hint}")
    return "dependence" if metric.startswith("mi/z_i") else found[0]


@dataclass
class Evaluation:
    """Metrics by flat name and what they rest on.

    Attributes:
        metrics: a number each, or ``{"mean", "std", "n"}`` over seeds.
        meta: JSON-able: method, data, split, groups, seed, rows, seconds,
            feature_space, intervals (95 %), left_out (name: reason), few (names of
            figures that rest on few rows), versions.
    """

    metrics: dict[str, Any]
    meta: dict[str, Any] = field(default_factory=dict)

    def to_json(self, path: str | Path) -> Path:
        """Write ``{"metrics", "meta"}``; the file appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(
            path,
            (
                json.dumps({"metrics": self.metrics, "meta": self.meta}, indent=2, allow_nan=False)
                + "\n"
            ).encode(),
        )
        return path

    @classmethod
    def from_json(cls, path: str | Path) -> Evaluation:
        """Read what ``to_json`` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not an evaluation.
        """
        try:
            content = read_json(Path(path))
        except ValueError as error:
            raise ValueError(
                f"{path} is not an evaluation: {error}; expected the JSON that Evaluation.to_json writes"
            ) from None
        if (
            not isinstance(content, dict)
            or not isinstance(content.get("metrics"), dict)
            or not isinstance(content.get("meta", {}), dict)
        ):
            raise ValueError(
                f"{path} is not an evaluation; expected an object with 'metrics' and 'meta'"
            )
        return cls(content["metrics"], content.get("meta", {}))

    def chance(self, name: str) -> float | None:
        """What guessing would score on a metric, where that is known."""
        kind, _, rest = name.partition("/")
        if kind in ("hsic", "impute"):
            return _mean(self.metrics.get(f"chance/{name}"))
        if kind.startswith("match"):
            return _mean(self.metrics.get("chance/match"))
        if kind.startswith("retrieval"):
            return _mean(self.metrics.get(f"chance/{name}"))
        if kind == "f1":
            target = rest.partition("/")[2].rpartition(">")[2]
            return _mean(self.metrics.get(f"chance/f1/{target}" if target else "chance/f1"))
        if kind == "mi" or (label := _label(name)) is None:
            return None
        if kind == "coherence" and rest.startswith("joint/"):
            return _mean(self.metrics.get(f"chance/joint/{label}"))
        own = self.metrics.get(f"chance/probe/{label}") if kind == "probe" else None
        return _mean(self.metrics.get(f"chance/{label}") if own is None else own)

    def table(self, *, detail: bool = False, width: int = 100) -> str:
        """The metrics as a table: value, chance and 95 % interval (or deviation over
        seeds); ``detail`` adds each modality's. Below it stand what the mark of figures
        on few rows means, and what was left out for that."""
        few = {*self.meta.get("few", ())}
        rows = [
            (
                name,
                _shown(self.metrics[name]) + MARK * (name in few),
                _shown(self.chance(name)),
                self._spread(name),
            )
            for name in sorted(
                self.metrics, key=_section
            )  # stable: the order within a section is the order of measuring
            if not name.startswith("chance/") and (detail or not _is_detail(name, self.metrics))
        ]
        folds = self.meta.get("folds")
        notes = [
            *([FOOTNOTE] if any(name in few for name, *_ in rows) else []),
            *(
                [
                    f"probes are cross-validated in {folds} folds of the train rows and the held-out ones together"
                ]
                if folds
                else []
            ),
            *(
                f"left out, {reason}: {', '.join(names)}"
                for reason, names in self.left_out_for_rows().items()
            ),
            *(["measured on the validation split"] if self.meta.get("split") == "val" else []),
        ]
        return _rendered(rows, width) + "".join(
            f"{line}\n" for note in notes for line in textwrap.wrap(note, width)
        )

    def left_out_for_rows(self) -> dict[str, list[str]]:
        """Why metrics were left out for want of rows, and which, in order."""
        found: dict[str, list[str]] = {}
        for name, reason in self.meta.get("left_out", {}).items():
            if "needed" in reason:
                found.setdefault(reason, []).append(name)
        return found

    @property
    def complete(self) -> bool:
        """Whether it has every group of metrics that is measured unasked of every
        method, on the test split, of posteriors as they are."""
        return (
            self.meta.get("split") == "test"
            and set(self.meta.get("groups", ()))
            >= set(GROUPS) - {*UNLABELLED, "imputation", "refinement"}
            and not self.meta.get("refine")
        )

    def _spread(self, name: str) -> str:
        value = self.metrics[name]
        if isinstance(value, dict):
            return f"± {value['std']:.3f} (n={value['n']})"
        interval = self.meta.get("intervals", {}).get(name)
        return "" if interval is None else f"[{_number(interval[0])}, {_number(interval[1])}]"


def _label(metric: str) -> str | None:
    """The label that a metric is about, if it is about one."""
    kind, _, rest = metric.partition("/")
    parts = rest.split("@")[0].split("/")
    if kind == "judge":
        return parts[0]
    return (
        parts[1]
        if kind in ("probe", "mi", "coherence") and len(parts) > 1 and parts[0] != "z_i,z_j"
        else None
    )


def merge(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Mean, sample standard deviation (0 for one) and number of values of every metric
    over evaluations (seeds).

    Raises:
        ValueError: no evaluation, one that is merged already, or different splits.
    """
    if not evaluations:
        raise ValueError("no evaluation to merge; give at least one")
    if any(isinstance(v, dict) for e in evaluations for v in e.metrics.values()):
        raise ValueError(
            "an evaluation is already merged over seeds; merge the evaluations of single runs"
        )
    splits = sorted({e.meta.get("split", "test") for e in evaluations})
    if len(splits) > 1:
        raise ValueError(f"evaluations of different splits ({', '.join(splits)}) do not merge")
    metrics: dict[str, Any] = {}
    for name in dict.fromkeys(name for e in evaluations for name in e.metrics):
        values = [e.metrics[name] for e in evaluations if name in e.metrics]
        metrics[name] = {
            "mean": float(np.mean(values)),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            "n": len(values),
        }
    few = sorted({name for e in evaluations for name in e.meta.get("few", ())})
    return Evaluation(
        metrics, {"split": splits[0], "few": few, "merged": [e.meta for e in evaluations]}
    )


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
    split: Literal["test", "val"] = "test",
    judge: JudgeOptions | None = None,
    feature_extractors: Mapping[str, Extractor] | None = None,
    refine: int | None = None,
    folds: int | None = None,
) -> Evaluation:
    """Measure a method on held-out rows of a data set: probes, coherence, matches,
    retrieval, quality, dependence, posteriors, their refinement, likelihood,
    imputation.

    Seeded throughout; the global random state stays as it was. What a method or data
    set cannot give (no labels, no private latents, no exact density) is left out, with
    the reason in ``meta["left_out"]``.

    Args:
        samples: unconditional samples, and most rows on each side of precision and
            recall.
        rows: most held-out rows to generate from (random, the same for every metric);
            None takes all.
        probe_rows: most rows of the train split to fit probes on, and of the held-out
            split to score them on.
        likelihood_rows, likelihood_samples: rows and samples of likelihood, posteriors
            and their refinement, which are the dearest metrics.
        cache: a folder in which judges are kept.
        progress: True tells each stage on standard error; a function is called with it
            instead.
        only: some of "probe", "coherence", "match", "retrieval", "quality",
            "dependence", "posterior", "refinement", "likelihood", "imputation"; without
            it all, but "match", which trains a judge for each pair of modalities, and
            "retrieval" only where the data have no shared labels. Images are imputed
            only where that is asked for here.
        split: the held-out split: "test" to report, "val" to choose between recipes.
        judge: how judges are built and trained.
        feature_extractors: by modality, a function (a network, too) from values (B,
            *shape), images in [0, 1], on the method's device, to features (B, F) that
            take the place of the judge's in Fréchet distances and their kin. Networks
            are asked in evaluation mode.
        refine: steps by which the method's refiner improves posteriors before they are
            probed or drawn from; None for none. The group "posterior", which compares
            what some modalities say with what all do, takes them as they are.
        folds: cross-validate the probes over the rows of train and of the held-out
            split together, alike in every class, where few rows are held out; None fits
            them on train and scores them on the held-out rows.

    Figures on fewer than 50 rows, or about labels with fewer than five rows of some
    class, are marked; HSIC, mutual information and Fréchet distances are left out below
    50 rows.

    Raises:
        ValueError: an unknown group or split, no group, different modalities, a number
            below 1, a label with a single class, or features that are none. TypeError:
            a feature extractor that is no function, or gives no tensor.
    """
    if not hasattr(data, "splits"):
        raise TypeError(f"data is {type(data).__name__}; give a data set, as cp.data.load makes it")
    origin, data = _origin(method, data), complete(data, method.modalities)
    groups = _checked(
        method,
        data,
        only,
        split,
        feature_extractors or {},
        samples=samples,
        rows=rows,
        probe_rows=probe_rows,
        batch_size=batch_size,
        likelihood_rows=likelihood_rows,
        likelihood_samples=likelihood_samples,
        refine=refine,
    )
    if folds is not None and folds < 2:
        raise ValueError(f"folds = {folds} must be 2 or more")
    if refine is not None:
        refiner_of(method.model)
    tell = progress if callable(progress) else _tell if progress else _silent
    device = device_of(method)
    clock: dict[str, float] = {}
    scores = Scores()
    held_out = data.test if split == "test" else data.val
    sources = held_out.take(
        chosen(len(held_out), rows, seed_of(seed, "test rows"))
    )  # the name keeps old figures repeatable
    rarest = {("coherence", label): count for label, count in smallest_classes(sources).items()}
    if {"probe", "coherence"} & groups:
        scores.update(score_chance(held_out))
    with _seeded(seed, device), settled((feature_extractors or {}).values()):
        if {"probe", "dependence"} & groups:
            with _stage("encode", clock, tell):
                probed = [
                    part.take(chosen(len(part), probe_rows, seed_of(seed, "probe rows")))
                    for part in (data.train_split, held_out)
                ]
                train_means, held_out_means = (
                    posterior_means(method, part, batch_size=batch_size, refine=refine)
                    for part in probed
                )
        if "probe" in groups:
            with _stage("probes", clock, tell):
                dealing: dict[str, Any] = {"folds": folds, "seed": seed_of(seed, "folds")}
                scores.update(score_probes(train_means, held_out_means, **dealing))
                few = (
                    part.take(chosen(len(part), JOINT_ROWS, seed_of(seed, "joint rows")))
                    for part in (data.train_split, held_out)
                )
                scores.update(
                    score_joint_probes(
                        method, *few, batch_size=batch_size, refine=refine, **dealing
                    )
                )
                rarest |= {
                    ("probe", label): count
                    for label, count in smallest_classes(
                        *(probed[1:] if folds is None else probed)
                    ).items()
                }
                if folds is not None:
                    scores.update(score_chance(*probed, name="chance/probe"))
        if {"coherence", "match", "quality"} & groups:
            folder = None if cache is None else Path(cache)
            with _stage("judges", clock, tell):
                judges = train_judges(data, options=judge, seed=0, cache=folder, device=device)
                judges = replace(judges, extractors=feature_extractors or {})
                real = judges.look(held_out)
                scores.update(score_judges(held_out, real))
            matchers = Matchers({}, {})
            if "match" in groups:
                with _stage("matching judges", clock, tell):
                    matchers = train_matchers(
                        data, options=judge, seed=0, cache=folder, device=device
                    )
            generations = Generations(
                method,
                sources,
                judges,
                matchers,
                samples=samples,
                seed=seed,
                batch_size=batch_size,
                refine=refine,
            )
        if "coherence" in groups:
            with _stage("coherence", clock, tell):
                scores.update(score_coherence(generations))
                scores.update(score_f1(generations))
        if "match" in groups:
            with _stage("match", clock, tell):
                scores.update(score_matches(generations))
        if "retrieval" in groups:
            with _stage("retrieval", clock, tell):
                scores.update(
                    score_retrieval(
                        posterior_means(method, sources, batch_size=batch_size, refine=refine),
                        sources,
                        seed=seed,
                    )
                )
        if "quality" in groups:
            with _stage("quality", clock, tell):
                scores.update(score_quality(generations, real))
            scores.extra["feature_space"] = judges.spaces()
        if "dependence" in groups:
            with _stage("dependence", clock, tell):
                scores.update(score_dependence(train_means, held_out_means, seed=seed))
        if "posterior" in groups:
            with _stage("posterior", clock, tell):
                scores.update(
                    score_posteriors(
                        method,
                        held_out,
                        rows=likelihood_rows,
                        samples=likelihood_samples,
                        seed=seed,
                    )
                )
        if "refinement" in groups:
            with _stage("refinement", clock, tell):
                scores.update(
                    score_refinement(
                        method,
                        held_out,
                        rows=likelihood_rows,
                        samples=likelihood_samples,
                        seed=seed,
                    )
                )
        if "likelihood" in groups:
            with _stage("likelihood", clock, tell):
                scores.update(
                    score_likelihood(
                        method,
                        held_out,
                        rows=likelihood_rows,
                        samples=likelihood_samples,
                        seed=seed,
                        refine=refine,
                    )
                )
        if "imputation" in groups:
            with _stage("imputation", clock, tell):
                images = only is not None
                scores.update(
                    score_imputation(
                        method,
                        data.train_split,
                        held_out,
                        images=images,
                        rows=rows,
                        seed=seed,
                        refine=refine,
                    )
                )
    rows_used = {
        "generated_from": len(sources),
        "samples": samples,
        "probe_train": _most(data.train_split, probe_rows),
        "probe_test": _most(held_out, probe_rows),
    }
    asked = {
        "split": split,
        "groups": [group for group in GROUPS if group in groups],
        "seed": seed,
        "rows": rows_used,
        "refine": refine,
    }
    asked |= {"folds": folds} if folds is not None else {}
    return Evaluation(
        scores.metrics, origin | asked | _outcome(scores, clock) | {"few": _few(scores, rarest)}
    )


def _few(scores: Scores, rarest: Mapping[tuple[str, str], int]) -> list[str]:
    """The metrics that rest on few rows, or on few of some class.

    Args:
        rarest: by "probe" or "coherence" and by label, the rows of the smallest class
            among those that probes or generations are scored on.
    """

    def is_few(name: str) -> bool:
        rows, label, kind = scores.rows.get(name), _label(name), name.partition("/")[0]
        which = "probe" if kind in ("probe", "mi") else "coherence"
        known = label is not None and not name.startswith("coherence/joint/")
        count = rarest.get((which, str(label))) if known else None
        return (rows is not None and rows < FEW_ROWS) or (
            count is not None and count < FEW_PER_CLASS
        )

    return [name for name in scores.metrics if is_few(name)]


def complete(data: Dataset, modalities: Sequence[Modality]) -> Dataset:
    """The data as a method of these modalities reads them, all of which they have.

    Raises:
        ValueError: other modalities, or values that can't be read so.
    """
    known, given = [m.name for m in modalities], [m.name for m in data.modalities]
    if {*known} != {*given}:
        raise ValueError(
            f"the method knows modalities {', '.join(known)}, the data set has {', '.join(given)}; evaluate it on the data it was made for"
        )
    return data.read_as(modalities)


def _origin(method: Method, data: Dataset) -> dict[str, Any]:
    """What was measured, on what, and by which versions."""
    drawn = {
        name: asdict(by.options) | {"modalities": [name]}
        for name, by in method.model.denoisings.items()
    }
    additions = [asdict(addition) for addition in method.additions]
    return {
        "method": {"name": method.name, "config": method.config}
        | ({"additions": additions} if additions else {})
        | ({"denoisers": drawn} if drawn else {}),
        "data": {"name": data.name, "notes": dict(data.notes), "checksum": data.checksum()},
        "versions": {
            name: _version(name) for name in ("counterpoint", "torch", "numpy", "scikit-learn")
        },
    }


def _outcome(scores: Scores, clock: dict[str, float]) -> dict[str, Any]:
    """What the measuring left beside the numbers."""
    return {
        "intervals": {name: list(interval) for name, interval in scores.intervals.items()},
        "left_out": scores.left_out,
        **scores.extra,
        "seconds": {**clock, "total": round(sum(clock.values()), 2)},
    }


def _checked(
    method: Method,
    data: Dataset,
    only: Sequence[str] | None,
    split: str,
    extractors: Mapping[str, Extractor],
    **numbers: int | None,
) -> set[str]:
    """The groups asked for, after a check of everything a user may get wrong."""
    if only is not None and not only:
        raise ValueError(f"only is empty; choose from {', '.join(GROUPS)}, or leave it out")
    unknown = [group for group in only or () if group not in GROUPS]
    if unknown:
        raise ValueError(
            f"unknown group of metrics {unknown[0]!r}; choose from {', '.join(GROUPS)}"
        )
    if split not in ("test", "val"):
        raise ValueError(f"split={split!r} is unknown; choose 'test' or 'val'")
    wrong = [name for name, value in numbers.items() if value is not None and value < 1]
    if wrong:
        raise ValueError(f"{wrong[0]} = {numbers[wrong[0]]} must be 1 or more")
    known = [m.name for m in method.modalities]
    stray = [name for name in extractors if name not in known]
    if stray:
        raise ValueError(
            f"feature_extractors names {stray[0]!r}; the modalities are {', '.join(known)}"
        )
    uncalled = [name for name, extractor in extractors.items() if not callable(extractor)]
    if uncalled:
        kind = type(extractors[uncalled[0]]).__name__
        raise TypeError(
            f"the feature extractor of {uncalled[0]!r} is {kind}; expected a function from values (B, *shape) to features (B, F)"
        )
    return set(
        only
        or (group for group in GROUPS if group not in UNLABELLED or not data.test.shared_labels)
    )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """A seeded global torch generator, for methods that draw from it, and the old one
    back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _stage(name: str, clock: dict[str, float], tell: Callable[[str], None]) -> Iterator[None]:
    tell(name)
    start = time.perf_counter()
    yield
    clock[name] = round(time.perf_counter() - start, 2)


def _tell(stage: str) -> None:
    print(f"evaluate: {stage}", file=sys.stderr, flush=True)


def _silent(stage: str) -> None:
    pass


def _most(split: Split, most: int | None) -> int:
    return len(split) if most is None else min(len(split), most)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _section(name: str) -> int:
    """Where a metric stands in the table."""
    kind = re.split("[/_@]", name)[0]
    return next((i for i, section in enumerate(_SECTIONS) if kind in section), len(_SECTIONS))


def _is_detail(name: str, metrics: dict[str, Any]) -> bool:
    """Whether a metric is one modality's share of another one."""
    return name.rpartition("/")[0] in metrics


def _mean(value: Any) -> float | None:
    return value["mean"] if isinstance(value, dict) else value


def _number(value: float) -> str:
    return (
        f"{round(value, 3) + 0.0:.3f}" if abs(value) < 1000 else f"{value:.4g}"
    )  # + 0.0: no minus before a zero


def _shown(value: Any) -> str:
    return "" if value is None else _number(_mean(value) or 0.0)


def _rendered(rows: list[tuple[str, str, str, str]], width: int) -> str:
    """A rich table where rich is installed, plain columns otherwise; a gap between
    groups."""
    head = ("metric", "value", "chance", "95 % interval")
    try:
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(4)]
        lines = [head, *rows]
        return (
            "\n".join(
                "  ".join(
                    (c.ljust if i == 0 else c.rjust)(widths[i]) for i, c in enumerate(line)
                ).rstrip()
                for line in lines
            )
            + "\n"
        )
    table = Table(box=SIMPLE)
    for i, title in enumerate(head):
        table.add_column(title, justify="left" if i == 0 else "right", no_wrap=True)
    for i, row in enumerate(rows):
        last = i + 1 == len(rows) or _section(rows[i + 1][0]) != _section(row[0])
        table.add_row(*row, end_section=last)
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table)
    return out.getvalue()
