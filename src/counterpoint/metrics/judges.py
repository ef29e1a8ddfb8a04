"""Judges: one small classifier for each modality, trained on the real training rows,
that says what generated values show.

A judge has one trunk and a head for each label of its modality. Its penultimate layer
is the feature space of Fréchet distances. A modality
without labels has no judge: its feature space is the principal components of its
standardised values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.core.files import write
from counterpoint.core.modality import Modality
from counterpoint.metrics.extractors import Extractor, extracted, name_of
from counterpoint.metrics.means import classes_of, labels_of
from counterpoint.metrics.score import Array, Scores, chosen, chunks, seed_of
from counterpoint.nn.build import trunk
from counterpoint.nn.modules import readable
from counterpoint.nn.options import NetworkOptions

if TYPE_CHECKING:
    from counterpoint.data import Dataset, Split

_VERSION = 1  # raise it when a change makes cached judges stale


@dataclass(frozen=True)
class JudgeOptions:
    """How judges are built and trained.

    Args:
        width: channels of the first convolution.
        features: size of the penultimate layer.
        steps: most optimiser steps; training stops earlier when the validation loss has
            not improved for ``patience`` checks.
        check_every: steps between two checks.
        batch_size: rows of a step.
        lr: peak learning rate of a one-cycle schedule.
    """

    width: int = 16
    features: int = 64
    steps: int = 800
    check_every: int = 100
    patience: int = 3
    batch_size: int = 128
    lr: float = 4e-3


@dataclass(frozen=True)
class Seen:
    """What a judge makes of some values.

    Attributes:
        rows: (n,) the held-out rows they belong to.
        labels: by label, (n,) the predicted class.
        features: (n, F).
        detail: (n,) how much fine detail an image has; NaN for what is no image, or an
            unbounded one.
        f1: (n,) F1 against the values that the rows really have; NaN where those are
            absent or not binary, or were not compared.
        points: by another modality, (n, F) where the judge that matches the two places
            the values, as far as one was asked.
    """

    rows: Array
    labels: dict[str, Array]
    features: Array
    detail: Array
    f1: Array
    points: dict[str, Array]

    @staticmethod
    def cat(parts: list[Seen]) -> Seen:
        arrays = {
            key: np.concatenate([getattr(p, key) for p in parts])
            for key in ("rows", "features", "detail", "f1")
        }
        labels, points = (
            {
                name: np.concatenate([getattr(p, key)[name] for p in parts])
                for name in getattr(parts[0], key)
            }
            for key in ("labels", "points")
        )
        return Seen(labels=labels, points=points, **arrays)

    def hits(self, label: str, truth: Array) -> Array:
        """(N,): 1 where the prediction of a row meets ``truth`` (N,), 0 where not, NaN
        for rows not seen or of unknown truth."""
        found = np.full(len(truth), np.nan)
        here = truth[self.rows]
        found[self.rows] = np.where(here >= 0, self.labels[label] == here, np.nan)
        return found


def detail(values: Tensor, modality: Modality) -> Tensor:
    """Energy of the highest frequencies of images (B, C, H, W), (B,): the mean square
    of what a blur over 3×3 pixels takes away, away from the border. NaN for what is no
    image, or one of unbounded values, whose detail nobody sees."""
    if not _is_image(modality) or modality.unbounded:
        return torch.full((len(values),), torch.nan, device=values.device)
    blurred = F.avg_pool2d(values, 3, stride=1)
    return (values[..., 1:-1, 1:-1] - blurred).square().flatten(1).mean(1)


def decided(values: Tensor, modality: Modality) -> Tensor:
    """Word ids in place of probabilities (B, length, classes); other values as they
    are."""
    return (
        values.argmax(-1)
        if modality.likelihood == "categorical" and values.dim() > 1 + len(modality.shape)
        else values
    )


class Judge(nn.Module):
    """A classifier of one modality: features shared by a head for each label."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, modality: Modality, classes: Mapping[str, Array], options: JudgeOptions
    ) -> None:
        super().__init__()
        self.modality = modality
        self.classes = {label: np.asarray(values) for label, values in classes.items()}
        statistics = (
            (modality.shape[0], *[1] * (len(modality.shape) - 1))
            if _is_image(modality)
            else modality.shape
        )
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("std", torch.ones(statistics))
        read = (
            replace(modality, likelihood="normal") if modality.counts else modality
        )  # by then they are standardised
        self.trunk = trunk(
            read, NetworkOptions(width=options.width, hidden=(2 * options.features,), norm="batch")
        )
        self.neck = nn.Sequential(nn.Linear(self.trunk.features, options.features), nn.ReLU())
        self.heads = nn.ModuleList(
            nn.Linear(options.features, len(values)) for values in self.classes.values()
        )

    def features(self, values: Tensor) -> Tensor:
        """(B, F) from values (B, *shape)."""
        if self.modality.likelihood != "categorical":
            values = (readable(self.modality, values) - self.mean) / self.std
        return self.neck(self.trunk(values))

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        return {label: head(features) for label, head in zip(self.classes, self.heads, strict=True)}

    def standardise(self, values: Tensor) -> None:
        """Take the mean and deviation of each channel (of an image) or feature (of a
        vector) from some real values."""
        if self.modality.likelihood == "categorical":
            return
        values, axes = readable(self.modality, values), (0, 2, 3) if _is_image(self.modality) else 0
        self.mean.copy_(values.mean(axes).view_as(self.mean))
        deviation = values.std(axes, unbiased=False).view_as(self.std)
        self.std.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))


class Components(nn.Module):
    """Feature space of a modality without labels: the leading principal components of
    its standardised values."""

    def __init__(self, modality: Modality, values: Tensor, size: int) -> None:
        super().__init__()
        self.modality = modality
        flat = self._flat(values)
        self.mean = flat.mean(0)
        deviation = flat.std(0, unbiased=False)
        self.std = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
        self.axes = torch.pca_lowrank(
            (flat - self.mean) / self.std, q=min(size, *flat.shape), center=False
        )[2]
        self.classes: dict[str, Array] = {}

    def features(self, values: Tensor) -> Tensor:
        return (self._flat(values) - self.mean) / self.std @ self.axes

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        return {}

    def _flat(self, values: Tensor) -> Tensor:
        if self.modality.likelihood == "categorical":
            values = F.one_hot(values, self.modality.classes or 0).float()
        return readable(self.modality, values).flatten(1)


@dataclass(frozen=True)
class Judges:
    """The judge (or feature space) of every modality, and what takes the place of its
    features."""

    by_modality: dict[str, Judge | Components]
    extractors: Mapping[str, Extractor] = field(default_factory=dict)

    @torch.no_grad()
    def see(self, name: str, values: Tensor, rows: Array) -> Seen:
        """Look at real or generated values of a modality: (B, *shape), or probabilities
        (B, length, classes) for word ids."""
        judge = self.by_modality[name]
        values = decided(values, judge.modality)
        features = judge.features(values)
        labels = {
            label: judge.classes[label][logits.argmax(-1).cpu().numpy()]
            for label, logits in judge.logits(features).items()
        }
        if name in self.extractors:
            features = extracted(name, self.extractors[name], values)
        unknown = np.full(len(rows), np.nan)
        return Seen(
            rows,
            labels,
            features.float().cpu().numpy(),
            detail(values, judge.modality).cpu().numpy(),
            unknown,
            {},
        )

    def look(self, split: Split, *, batch_size: int = 512) -> dict[str, Seen]:
        """Look at the real values of a split, of every modality that is there."""
        found = {}
        for name, judge in self.by_modality.items():
            parts = [
                self.see(name, values_of(split, name, rows, judge.mean.device), rows)
                for rows in chunks(np.flatnonzero(split.present[name]), batch_size)
            ]
            if parts:
                found[name] = Seen.cat(parts)
        return found

    def spaces(self) -> dict[str, str]:
        """By modality, the feature space in words."""
        spaces = {}
        for name, judge in self.by_modality.items():
            if name in self.extractors:
                spaces[name] = f"{name_of(self.extractors[name])}, given by the user"
            elif isinstance(judge, Judge):
                spaces[name] = (
                    f"penultimate layer ({judge.neck[0].out_features}) of a judge trained on {', '.join(judge.classes)}"
                )
            else:
                spaces[name] = (
                    f"{judge.axes.shape[1]} principal components of standardised values (no labels to train a judge on)"
                )
        return spaces


def values_of(split: Split, name: str, rows: Array, device: torch.device) -> Tensor:
    """The values of one modality alone, as a batch would hold them."""
    values = torch.from_numpy(np.ascontiguousarray(split.x[name][rows])).to(device)
    return _modality(split, name).read(values)


def train_judges(
    data: Dataset,
    *,
    options: JudgeOptions | None = None,
    seed: int = 0,
    cache: Path | None = None,
    device: torch.device | None = None,
) -> Judges:
    """Train a judge for each modality of the train split, stopped early on the
    validation split.

    Leaves the global random state as it was.

    Args:
        cache: a folder in which trained judges are kept, by the data's checksum,
            architecture and seed.

    Raises:
        ValueError: a label with one class.
    """
    options, device = options or JudgeOptions(), device or torch.device("cpu")
    judges: dict[str, Judge | Components] = {}
    checksum = "" if cache is None else data.checksum()
    for modality in data.modalities:
        labels = labels_of(data.train_split, modality.name)
        classes = {
            label: classes_of(values[data.train_split.present[modality.name]], label, modality.name)
            for label, values in labels.items()
        }
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(seed, f"judge/{modality.name}"))
            if not classes:
                sample = np.flatnonzero(data.train_split.present[modality.name])
                sample = sample[chosen(len(sample), 2000, seed)]
                judges[modality.name] = Components(
                    modality,
                    values_of(data.train_split, modality.name, sample, device),
                    options.features,
                )
                continue
            judge = Judge(modality, classes, options).to(device)
            described = {
                "modality": modality.identity(),
                "classes": {label: values.tolist() for label, values in classes.items()},
            }
            with kept(
                judge,
                cache,
                "judge",
                {**described, "data": checksum, "options": asdict(options), "seed": seed},
            ) as known:
                if not known:
                    _fit(judge, data, options, seed)
            judges[modality.name] = judge
    return Judges(judges)


def score_judges(split: Split, real: Mapping[str, Seen]) -> Scores:
    """``judge/<label>``: accuracy on the real rows of a split, as ``Judges.look`` sees
    them, mean over modalities.

    Each modality's is under ``judge/<label>/<modality>``.
    """
    scores = Scores()
    for label in dict.fromkeys(label for seen in real.values() for label in seen.labels):
        scores.add_accuracy(
            f"judge/{label}",
            {
                n: s.hits(label, labels_of(split, n)[label])
                for n, s in real.items()
                if label in s.labels
            },
        )
    return scores


def _is_image(modality: Modality) -> bool:
    return len(modality.shape) == 3 and modality.likelihood != "categorical"


def _modality(split: Split, name: str) -> Modality:
    return next(m for m in split.modalities if m.name == name)


def _fit(judge: Judge, data: Dataset, options: JudgeOptions, seed: int) -> None:
    name = judge.modality.name
    device = judge.mean.device
    rng = np.random.default_rng(seed_of(seed, f"rows/{name}"))
    rows = np.flatnonzero(data.train_split.present[name])
    targets = _targets(judge, data.train_split, device)
    judge.standardise(
        values_of(
            data.train_split,
            name,
            np.sort(rng.choice(rows, min(len(rows), 2000), replace=False)),
            device,
        )
    )
    held = np.flatnonzero(data.val.present[name])
    held = held[chosen(len(held), 1000, seed)]
    held_values, held_targets = (
        values_of(data.val, name, held, device),
        _targets(judge, data.val, device),
    )
    optimise(
        judge,
        (
            _loss(judge, values_of(data.train_split, name, part, device), targets, part)
            for part in shuffled(rows, options.batch_size, rng)
        ),
        (lambda: _loss(judge, held_values, held_targets, held)) if len(held) else None,
        options,
    )


def optimise(
    judge: nn.Module,
    losses: Iterator[Tensor],
    held_loss: Callable[[], Tensor] | None,
    options: JudgeOptions,
) -> None:
    """AdamW on one-cycle learning rates, on each of the losses in turn; keeps the
    weights with the lowest held-out loss, or the last ones where there is none."""
    optimizer = torch.optim.AdamW(judge.parameters(), lr=options.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, total_steps=options.steps, pct_start=0.2
    )
    best, waited = float("inf"), 0
    weights = {key: value.clone() for key, value in judge.state_dict().items()}
    for step in range(1, options.steps + 1):
        judge.train()
        optimizer.zero_grad(set_to_none=True)
        next(losses).backward()
        optimizer.step()
        schedule.step()
        if step % options.check_every and step != options.steps:
            continue
        judge.eval()
        with torch.no_grad():
            loss = -float(step) if held_loss is None else float(held_loss())
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == 0:
            weights = {key: value.clone() for key, value in judge.state_dict().items()}
        elif waited >= options.patience:
            break
    judge.load_state_dict(weights)


def _targets(judge: Judge, split: Split, device: torch.device) -> dict[str, Tensor]:
    """By label, (N,) positions among the judge's classes; −100, which cross-entropy
    ignores, for unknown ones."""
    found = {}
    for label, values in labels_of(split, judge.modality.name).items():
        if label not in judge.classes:
            continue
        position = np.searchsorted(judge.classes[label], values).clip(
            max=len(judge.classes[label]) - 1
        )
        found[label] = torch.from_numpy(
            np.where(judge.classes[label][position] == values, position, -100)
        ).to(device)
    return found


def _loss(judge: Judge, values: Tensor, targets: Mapping[str, Tensor], rows: Array) -> Tensor:
    """Sum over labels of the mean cross-entropy of rows whose label is known."""
    total = values.new_zeros((), dtype=torch.float32)
    index = torch.from_numpy(rows).to(values.device)
    for label, logits in judge.logits(judge.features(values)).items():
        if label not in targets:
            continue
        target = targets[label][index]
        total = total + F.cross_entropy(logits, target, ignore_index=-100, reduction="sum") / (
            target >= 0
        ).sum().clamp(min=1)
    return total


def shuffled(rows: Array, size: int, rng: np.random.Generator) -> Iterator[Array]:
    """Endless batches of exactly ``min(size, len(rows))`` sorted rows: batch
    normalisation never meets a short one."""
    size = min(size, len(rows))
    while True:
        order = rng.permutation(rows)
        yield from (
            np.sort(order[start : start + size]) for start in range(0, len(rows) - size + 1, size)
        )


@contextmanager
def kept(
    judge: nn.Module, cache: Path | None, kind: str, described: Mapping[str, Any]
) -> Iterator[bool]:
    """Whether a judge's weights were in the cache; where they were not, or the file is
    damaged, they are kept there when the block ends. The judge is frozen afterwards.

    Args:
        described: all that the weights depend on, JSON-able.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    key = hashlib.sha256(
        json.dumps({"version": _VERSION, **described}, sort_keys=True).encode()
    ).hexdigest()[:32]
    path = None if cache is None else Path(cache) / f"{kind}-{key}.safetensors"
    known = False
    if path is not None and path.is_file():
        with suppress(SafetensorError, RuntimeError):
            judge.load_state_dict(load(path.read_bytes()))
            known = True
    yield known
    if path is not None and not known:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = save(
            {k: v.detach().cpu().contiguous() for k, v in judge.state_dict().items()},
            {kind: json.dumps(described)},
        )
        write(path, content)
    judge.eval().requires_grad_(False)
