"""Posterior means of a whole split and the labels that go with them: computed once,
used by every metric on latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.metrics.score import Array, chunks

if TYPE_CHECKING:
    from counterpoint.data import Split
    from counterpoint.methods import Method


@dataclass(frozen=True)
class Means:
    """Posterior means given each modality alone.

    Attributes:
        shared: by modality, (N, D): the mean of q(z | x_m); zeros where the modality is
            absent.
        private: by modality, (N, D_m): the mean of q(w_m | x_m); empty for methods
            without private latents.
        present: by modality, (N,) bool.
        labels: by modality and label, (N,) int: the shared labels and this modality's
            private ones; negative where unknown.
    """

    shared: dict[str, Array]
    private: dict[str, Array]
    present: dict[str, Array]
    labels: dict[str, dict[str, Array]]

    def latent(self, kind: str, modality: str) -> Array:
        """(N, d): ``"z"``, ``"w"`` or ``"zw"`` (both, concatenated) of a modality."""
        parts = {"z": self.shared, "w": self.private}
        return np.concatenate([parts[part][modality] for part in kind], 1)


def device_of(method: torch.nn.Module) -> torch.device:
    """Where a method's parameters live; the CPU when it has none."""
    parameter = next(method.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def labels_of(split: Split, modality: str) -> dict[str, Array]:
    """The shared labels and this modality's private labels, each (N,)."""
    private = {label: by[modality] for label, by in split.private_labels.items() if modality in by}
    return {
        label: np.asarray(values) for label, values in {**split.shared_labels, **private}.items()
    }


def classes_of(labels: Array, label: str, modality: str) -> Array:
    """The classes of a label, sorted; negative values mean unknown and are left out.

    Raises:
        ValueError: fewer than two classes.
    """
    classes = np.unique(labels[labels >= 0])
    if len(classes) < 2:
        raise ValueError(
            f"label {label!r} of modality {modality!r} has {len(classes)} class in the train split; a classifier needs two or more: leave the label out"
        )
    return classes


def posterior_means(
    method: Method, split: Split, *, batch_size: int = 512, refine: int | None = None
) -> Means:
    """Encode a split in batches, once for each modality on its own, refined by so many
    steps where ``refine`` is given.

    Raises:
        ValueError: a posterior mean is NaN or infinite.
    """
    device = device_of(method)
    shared: dict[str, Array] = {}
    private: dict[str, Array] = {}
    for name in (m.name for m in split.modalities):
        for rows in chunks(np.flatnonzero(split.present[name]), batch_size):
            latents = method.encode(split.batch(rows, device), given=[name], refine=refine)
            found = {
                "z": latents.shared[0],
                **({"w": latents.private[name][0]} if name in latents.private else {}),
            }
            for kind, into in (("z", shared), ("w", private)):
                if kind not in found:
                    continue
                values = found[kind].detach().float().cpu().numpy()
                if not np.isfinite(values).all():
                    raise ValueError(
                        f"the posterior mean of {kind} given {name!r} holds NaN or infinity; the method has diverged: train it again"
                    )
                into.setdefault(name, np.zeros((len(split), values.shape[1]), np.float32))[rows] = (
                    values
                )
    return Means(
        shared=shared,
        private=private,
        present={name: np.asarray(mask) for name, mask in split.present.items()},
        labels={name: labels_of(split, name) for name in shared},
    )


def joint_means(
    method: Method, split: Split, *, batch_size: int = 512, refine: int | None = None
) -> Array:
    """(N, D): the mean of q(z | x_S), S all that a row has, refined by so many steps
    where ``refine`` is given."""
    device, parts = device_of(method), chunks(np.arange(len(split)), batch_size)
    means = [method.encode(split.batch(rows, device), refine=refine).shared[0] for rows in parts]
    return np.concatenate([m.detach().float().cpu().numpy() for m in means])
