"""Judges: one small classifier for each modality, trained on the real training rows, that says what generated values show.

A judge has one trunk and a head for each label of its modality. Its penultimate layer is the feature space of Fréchet distances. A modality
without labels has no judge: its feature space is the principal components of its standardised values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..files import write
from ..nn import NetworkOptions, trunk
from ..types import Modality, to_unit
from .latents import classes_of, labels_of
from .scores import Array, Scores, chosen, chunks, seed_of

if TYPE_CHECKING:
    from ..data import Dataset, Split

_VERSION = 1  # raise it when a change makes cached judges stale


@dataclass(frozen=True)
class JudgeOptions:
    """How judges are built and trained.

    Args:
        width: channels of the first convolution.
        features: size of the penultimate layer.
        steps: most optimiser steps; training stops earlier when the validation loss has not improved for ``patience`` checks.
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
        detail: (n,) how much fine detail an image has; NaN for what is no image, or an unbounded one.
    """

    rows: Array
    labels: dict[str, Array]
    features: Array
    detail: Array

    @staticmethod
    def cat(parts: list[Seen]) -> Seen:
        labels = {label: np.concatenate([p.labels[label] for p in parts]) for label in parts[0].labels}
        return Seen(
            np.concatenate([p.rows for p in parts]),
            labels,
            np.concatenate([p.features for p in parts]),
            np.concatenate([p.detail for p in parts]),
        )

    def hits(self, label: str, truth: Array) -> Array:
        """(N,): 1 where the prediction of a row meets ``truth`` (N,), 0 where not, NaN for rows not seen or of unknown truth."""
        found = np.full(len(truth), np.nan)
        here = truth[self.rows]
        found[self.rows] = np.where(here >= 0, self.labels[label] == here, np.nan)
        return found


def detail(values: Tensor, modality: Modality) -> Tensor:
    """Energy of the highest frequencies of images (B, C, H, W), (B,): the mean square of what a blur over 3×3 pixels takes away, away from the
    border. NaN for what is no image, or one of unbounded values, whose detail nobody sees."""
    if not _is_image(modality) or modality.unbounded:
        return torch.full((len(values),), torch.nan, device=values.device)
    blurred = F.avg_pool2d(values, 3, stride=1)
    return (values[..., 1:-1, 1:-1] - blurred).square().flatten(1).mean(1)


class Judge(nn.Module):
    """A classifier of one modality: features shared by a head for each label."""

    mean: Tensor
    std: Tensor

    def __init__(self, modality: Modality, classes: Mapping[str, Array], options: JudgeOptions) -> None:
        super().__init__()
        self.modality = modality
        self.classes = {label: np.asarray(values) for label, values in classes.items()}
        statistics = (modality.shape[0], *[1] * (len(modality.shape) - 1)) if _is_image(modality) else modality.shape
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("std", torch.ones(statistics))
        self.trunk = trunk(modality, NetworkOptions(width=options.width, hidden=(2 * options.features,), norm="batch"))
        self.neck = nn.Sequential(nn.Linear(self.trunk.features, options.features), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(options.features, len(values)) for values in self.classes.values())

    def features(self, values: Tensor) -> Tensor:
        """(B, F) from values (B, *shape)."""
        if self.modality.likelihood != "categorical":
            values = (values - self.mean) / self.std
        return self.neck(self.trunk(values))

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        return {label: head(features) for label, head in zip(self.classes, self.heads, strict=True)}

    def standardise(self, values: Tensor) -> None:
        """Take the mean and deviation of each channel (of an image) or feature (of a vector) from some real values."""
        if self.modality.likelihood == "categorical":
            return
        axes = (0, 2, 3) if _is_image(self.modality) else 0
        self.mean.copy_(values.mean(axes).view_as(self.mean))
        deviation = values.std(axes, unbiased=False).view_as(self.std)
        self.std.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))


class Components(nn.Module):
    """Feature space of a modality without labels: the leading principal components of its standardised values."""

    def __init__(self, modality: Modality, values: Tensor, size: int) -> None:
        super().__init__()
        self.modality = modality
        flat = self._flat(values)
        self.mean = flat.mean(0)
        deviation = flat.std(0, unbiased=False)
        self.std = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
        self.axes = torch.pca_lowrank((flat - self.mean) / self.std, q=min(size, *flat.shape), center=False)[2]
        self.classes: dict[str, Array] = {}

    def features(self, values: Tensor) -> Tensor:
        return (self._flat(values) - self.mean) / self.std @ self.axes

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        return {}

    def _flat(self, values: Tensor) -> Tensor:
        if self.modality.likelihood == "categorical":
            values = F.one_hot(values, self.modality.classes or 0).float()
        return values.flatten(1)


@dataclass(frozen=True)
class Judges:
    """The judge (or feature space) of every modality."""

    by_modality: dict[str, Judge | Components]

    @torch.no_grad()
    def see(self, name: str, values: Tensor, rows: Array) -> Seen:
        """Look at real or generated values of a modality: (B, *shape), or probabilities (B, length, classes) for word ids."""
        judge = self.by_modality[name]
        if judge.modality.likelihood == "categorical" and values.dim() > 1 + len(judge.modality.shape):
            values = values.argmax(-1)
        features = judge.features(values)
        labels = {label: judge.classes[label][logits.argmax(-1).cpu().numpy()] for label, logits in judge.logits(features).items()}
        return Seen(rows, labels, features.float().cpu().numpy(), detail(values, judge.modality).cpu().numpy())

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
            if isinstance(judge, Judge):
                spaces[name] = f"penultimate layer ({judge.neck[0].out_features}) of a judge trained on {', '.join(judge.classes)}"
            else:
                spaces[name] = f"{judge.axes.shape[1]} principal components of standardised values (no labels to train a judge on)"
        return spaces


def values_of(split: Split, name: str, rows: Array, device: torch.device) -> Tensor:
    """The values of one modality alone, as a batch would hold them."""
    values = torch.from_numpy(np.ascontiguousarray(split.x[name][rows])).to(device)
    return values if not values.is_floating_point() and _modality(split, name).likelihood == "categorical" else to_unit(values)


def train_judges(
    data: Dataset, *, options: JudgeOptions | None = None, seed: int = 0, cache: Path | None = None, device: torch.device | None = None
) -> Judges:
    """Train a judge for each modality of the train split, stopped early on the validation split.

    Leaves the global random state as it was.

    Args:
        cache: a folder in which trained judges are kept, by the data's checksum, architecture and seed.

    Raises:
        ValueError: a label with one class.
    """
    options, device = options or JudgeOptions(), device or torch.device("cpu")
    judges: dict[str, Judge | Components] = {}
    checksum = "" if cache is None else data.checksum()
    for modality in data.modalities:
        labels = labels_of(data.train, modality.name)
        classes = {label: classes_of(values[data.train.present[modality.name]], label, modality.name) for label, values in labels.items()}
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(seed, f"judge/{modality.name}"))
            if not classes:
                sample = np.flatnonzero(data.train.present[modality.name])
                sample = sample[chosen(len(sample), 2000, seed)]
                judges[modality.name] = Components(modality, values_of(data.train, modality.name, sample, device), options.features)
                continue
            judge = Judge(modality, classes, options).to(device)
            path = None if cache is None else Path(cache) / f"judge-{_key(checksum, judge, options, seed)}.safetensors"
            if path is None or not _restored(judge, path):
                _fit(judge, data, options, seed)
                if path is not None:
                    _save(judge, path)
            judges[modality.name] = judge.eval().requires_grad_(False)
    return Judges(judges)


def score_judges(split: Split, real: Mapping[str, Seen]) -> Scores:
    """``judge/<label>``: accuracy on the real rows of a split, as ``Judges.look`` sees them, mean over modalities.

    Each modality's is under ``judge/<label>/<modality>``.
    """
    scores = Scores()
    for label in dict.fromkeys(label for seen in real.values() for label in seen.labels):
        scores.add_accuracy(f"judge/{label}", {n: s.hits(label, labels_of(split, n)[label]) for n, s in real.items() if label in s.labels})
    return scores


def _is_image(modality: Modality) -> bool:
    return len(modality.shape) == 3 and modality.likelihood != "categorical"


def _modality(split: Split, name: str) -> Modality:
    return next(m for m in split.modalities if m.name == name)


def _fit(judge: Judge, data: Dataset, options: JudgeOptions, seed: int) -> None:
    """AdamW on one-cycle learning rates; keeps the weights with the lowest validation loss."""
    name = judge.modality.name
    device = judge.mean.device
    rng = np.random.default_rng(seed_of(seed, f"rows/{name}"))
    rows = np.flatnonzero(data.train.present[name])
    targets = _targets(judge, data.train, device)
    judge.standardise(values_of(data.train, name, np.sort(rng.choice(rows, min(len(rows), 2000), replace=False)), device))
    held = np.flatnonzero(data.val.present[name])
    held = held[chosen(len(held), 1000, seed)]
    held_values, held_targets = values_of(data.val, name, held, device), _targets(judge, data.val, device)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=options.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.steps, pct_start=0.2)
    best, waited = float("inf"), 0
    weights = {key: value.clone() for key, value in judge.state_dict().items()}
    for step, part in zip(range(1, options.steps + 1), _shuffled(rows, options.batch_size, rng), strict=False):
        judge.train()
        optimizer.zero_grad(set_to_none=True)
        _loss(judge, values_of(data.train, name, part, device), targets, part).backward()
        optimizer.step()
        schedule.step()
        if step % options.check_every and step != options.steps:
            continue
        judge.eval()
        with torch.no_grad():
            loss = float(_loss(judge, held_values, held_targets, held)) if len(held) else -float(step)
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == 0:
            weights = {key: value.clone() for key, value in judge.state_dict().items()}
        elif waited >= options.patience:
            break
    judge.load_state_dict(weights)


def _targets(judge: Judge, split: Split, device: torch.device) -> dict[str, Tensor]:
    """By label, (N,) positions among the judge's classes; −100, which cross-entropy ignores, for unknown ones."""
    found = {}
    for label, values in labels_of(split, judge.modality.name).items():
        if label not in judge.classes:
            continue
        position = np.searchsorted(judge.classes[label], values).clip(max=len(judge.classes[label]) - 1)
        found[label] = torch.from_numpy(np.where(judge.classes[label][position] == values, position, -100)).to(device)
    return found


def _loss(judge: Judge, values: Tensor, targets: Mapping[str, Tensor], rows: Array) -> Tensor:
    """Sum over labels of the mean cross-entropy of rows whose label is known."""
    total = values.new_zeros((), dtype=torch.float32)
    index = torch.from_numpy(rows).to(values.device)
    for label, logits in judge.logits(judge.features(values)).items():
        if label not in targets:
            continue
        target = targets[label][index]
        total = total + F.cross_entropy(logits, target, ignore_index=-100, reduction="sum") / (target >= 0).sum().clamp(min=1)
    return total


def _shuffled(rows: Array, size: int, rng: np.random.Generator) -> Iterator[Array]:
    """Endless batches of exactly ``min(size, len(rows))`` sorted rows: batch normalisation never meets a short one."""
    size = min(size, len(rows))
    while True:
        order = rng.permutation(rows)
        yield from (np.sort(order[start : start + size]) for start in range(0, len(rows) - size + 1, size))


def _key(checksum: str, judge: Judge, options: JudgeOptions, seed: int) -> str:
    described = {
        "version": _VERSION,
        "data": checksum,
        "modality": judge.modality.identity(),
        "classes": {label: values.tolist() for label, values in judge.classes.items()},
        "options": asdict(options),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def _save(judge: Judge, path: Path) -> None:
    from safetensors.torch import save

    described: dict[str, Any] = {"modality": judge.modality.name, "classes": {k: v.tolist() for k, v in judge.classes.items()}}
    content = save({k: v.detach().cpu().contiguous() for k, v in judge.state_dict().items()}, {"judge": json.dumps(described)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, content)


def _restored(judge: Judge, path: Path) -> bool:
    """Load cached weights; False where there are none, or the file is damaged (it is written anew)."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        return False
    try:
        judge.load_state_dict(load(path.read_bytes()))
    except (SafetensorError, RuntimeError):
        return False
    return True
