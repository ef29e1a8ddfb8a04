"""Judges: one small classifier for each modality, which labels generated values.

A judge is trained on the real training rows. It has one trunk and a head for each label
of its modality. Its penultimate layer is the feature space of Fréchet distances. A
modality without labels has no judge: its feature space is the principal components of
its standardised values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.core.modality import Modality
from counterpoint.metrics.extractors import Extractor, extracted, name_of
from counterpoint.metrics.intervals import Array
from counterpoint.metrics.judge_fitting import JudgeOptions, cached_weights, optimise, shuffled
from counterpoint.metrics.means import classes_of, labels_of
from counterpoint.metrics.sampling import chosen, chunks, seed_of
from counterpoint.metrics.seen import Seen, decided, detail, is_image
from counterpoint.nn.build import trunk
from counterpoint.nn.modules import readable
from counterpoint.nn.options import NetworkOptions

if TYPE_CHECKING:
    from counterpoint.data import Dataset, Split


class Judge(nn.Module):
    """A classifier of one modality, with a head for each label.

    >>> from counterpoint import Modality
    >>> from counterpoint.metrics import Judge, JudgeOptions
    >>> judge = Judge(Modality("x", (3,)), {"digit": np.arange(10)}, JudgeOptions())
    >>> judge.logits(judge.features(torch.zeros(5, 3)))["digit"].shape
    torch.Size([5, 10])

    Args:
        modality: the modality.
        classes: by label, its classes.
        options: the sizes.
    """

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
            if is_image(modality)
            else modality.shape
        )
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("std", torch.ones(statistics))
        # By then they are standardised.
        read = replace(modality, likelihood="normal") if modality.counts else modality
        self.trunk = trunk(
            read, NetworkOptions(width=options.width, hidden=(2 * options.features,), norm="batch")
        )
        self.neck = nn.Sequential(nn.Linear(self.trunk.features, options.features), nn.ReLU())
        self.heads = nn.ModuleList(
            nn.Linear(options.features, len(values)) for values in self.classes.values()
        )

    def features(self, values: Tensor) -> Tensor:
        """Compute features (B, F) of values (B, *shape)."""
        if self.modality.likelihood != "categorical":
            values = (readable(self.modality, values) - self.mean) / self.std
        return self.neck(self.trunk(values))

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        """Compute logits (B, classes) by label, from features (B, F)."""
        return {label: head(features) for label, head in zip(self.classes, self.heads, strict=True)}

    def standardise(self, values: Tensor) -> None:
        """Set the mean and deviation of each channel of an image, or each feature of a
        vector, to those of real values."""
        if self.modality.likelihood == "categorical":
            return
        values = readable(self.modality, values)
        axes = (0, 2, 3) if is_image(self.modality) else 0
        self.mean.copy_(values.mean(axes).view_as(self.mean))
        deviation = values.std(axes, unbiased=False).view_as(self.std)
        self.std.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))


class Components(nn.Module):
    """The feature space of a modality without labels: principal components of its
    standardised values.

    Args:
        modality: the modality.
        values: real values, which are fitted.
        size: the most components.
    """

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
        """Compute features (B, F) of values (B, *shape)."""
        return (self._flat(values) - self.mean) / self.std @ self.axes

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        """None, because there are no labels."""
        return {}

    def _flat(self, values: Tensor) -> Tensor:
        if self.modality.likelihood == "categorical":
            values = F.one_hot(values, self.modality.classes or 0).float()
        return readable(self.modality, values).flatten(1)


@dataclass(frozen=True)
class Judges:
    """The judge or feature space of every modality.

    >>> from counterpoint import Modality
    >>> from counterpoint.metrics import Judge, JudgeOptions, Judges
    >>> judge = Judge(Modality("x", (3,)), {"digit": np.arange(10)}, JudgeOptions())
    >>> seen = Judges({"x": judge}).see("x", torch.zeros(5, 3), np.arange(5))
    >>> seen.labels["digit"].shape
    (5,)

    Args:
        by_modality: the judges.
        extractors: by modality, a function that replaces the judge's features.
    """

    by_modality: dict[str, Judge | Components]
    extractors: Mapping[str, Extractor] = field(default_factory=dict)

    @torch.no_grad()
    def see(self, name: str, values: Tensor, rows: Array) -> Seen:
        """Judge real or generated values of a modality.

        Args:
            name: the modality.
            values: (B, *shape), or probabilities (B, length, classes) of words.
            rows: (B,) the held-out rows that they belong to.
        """
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
        """Judge the real values of a split, by modality."""
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
        """Describe the feature space of each modality."""
        spaces = {}
        for name, judge in self.by_modality.items():
            if name in self.extractors:
                spaces[name] = f"{name_of(self.extractors[name])}, given by the user"
            elif isinstance(judge, Judge):
                spaces[name] = (
                    f"penultimate layer ({judge.neck[0].out_features}) of a judge trained on "
                    f"{', '.join(judge.classes)}"
                )
            else:
                spaces[name] = (
                    f"{judge.axes.shape[1]} principal components of standardised values (no "
                    "labels to train a judge on)"
                )
        return spaces


def values_of(split: Split, name: str, rows: Array, device: torch.device) -> Tensor:
    """Read the values of one modality as a batch holds them."""
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
    """Train a judge for each modality on the train split, with early stopping on the
    validation split.

    The global random state is restored.

    >>> import counterpoint as cp
    >>> from counterpoint.metrics import JudgeOptions, train_judges
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> judges = train_judges(data, options=JudgeOptions(steps=1))
    >>> [*judges.by_modality]
    ['view0', 'view1']

    Args:
        data: the data set.
        options: sizes and training.
        seed: of initial weights and batches.
        cache: a folder that keeps trained judges, by the data's checksum, architecture
            and seed.
        device: where to train.

    Raises:
        ValueError: a label with one class.
    """
    options = options or JudgeOptions()
    device = device or torch.device("cpu")
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
            with cached_weights(
                judge,
                cache,
                "judge",
                {**described, "data": checksum, "options": asdict(options), "seed": seed},
            ) as known:
                if not known:
                    _fit(judge, data, options, seed)
            judges[modality.name] = judge
    return Judges(judges)


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
    held_values = values_of(data.val, name, held, device)
    held_targets = _targets(judge, data.val, device)
    optimise(
        judge,
        (
            _loss(judge, values_of(data.train_split, name, part, device), targets, part)
            for part in shuffled(rows, options.batch_size, rng)
        ),
        (lambda: _loss(judge, held_values, held_targets, held)) if len(held) else None,
        options,
    )


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
