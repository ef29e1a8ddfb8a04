"""Posterior means of a whole split, with its labels: computed once and used by every
metric on latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from counterpoint.metrics.intervals import Array
from counterpoint.metrics.sampling import chunks

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

    >>> from counterpoint.metrics import Means
    >>> z, w, there = np.zeros((4, 2)), np.ones((4, 1)), np.ones(4, bool)
    >>> Means({"x": z}, {"x": w}, {"x": there}, {"x": {}}).latent("zw", "x").shape
    (4, 3)
    """

    shared: dict[str, Array]
    private: dict[str, Array]
    present: dict[str, Array]
    labels: dict[str, dict[str, Array]]

    def latent(self, kind: str, modality: str) -> Array:
        """The means (N, d) of one modality's latent: ``"z"``, ``"w"`` or both, ``"zw"``."""
        parts = {"z": self.shared, "w": self.private}
        return np.concatenate([parts[part][modality] for part in kind], 1)


def device_of(method: torch.nn.Module) -> torch.device:
    """The device of a method's parameters; the CPU if it has none."""
    parameter = next(method.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def labels_of(split: Split, modality: str) -> dict[str, Array]:
    """The shared labels and this modality's private labels, each (N,)."""
    private = {label: by[modality] for label, by in split.private_labels.items() if modality in by}
    return {
        label: np.asarray(values) for label, values in {**split.shared_labels, **private}.items()
    }


def classes_of(labels: Array, label: str, modality: str) -> Array:
    """The classes of a label, sorted, without negative values, which mean unknown.

    Raises:
        ValueError: fewer than two classes.
    """
    classes = np.unique(labels[labels >= 0])
    if len(classes) < 2:
        raise ValueError(
            f"label {label!r} of modality {modality!r} has {len(classes)} class in the train "
            "split; "
            "a classifier needs two or more: leave the label out"
        )
    return classes


def posterior_means(
    method: Method, split: Split, *, batch_size: int = 512, refine: int | None = None
) -> Means:
    """Encode a split in batches, once for each modality alone.

    >>> from counterpoint.metrics import posterior_means
    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split = data.test.take(range(8))
    >>> posterior_means(method, split).latent("z", "view1").shape
    (8, 2)

    Args:
        method: the method.
        split: the rows.
        batch_size: rows at a time.
        refine: refine posteriors by so many steps.

    Raises:
        ValueError: a posterior mean is NaN or infinite.
    """
    shared: dict[str, Array] = {}
    private: dict[str, Array] = {}
    for name in (m.name for m in split.modalities):
        for rows in chunks(np.flatnonzero(split.present[name]), batch_size):
            batch = split.batch(rows, device_of(method))
            latents = method.encode(batch, given=[name], refine=refine)
            _place(shared, name, rows, len(split), latents.shared[0], "z")
            if name in latents.private:
                _place(private, name, rows, len(split), latents.private[name][0], "w")
    return Means(
        shared=shared,
        private=private,
        present={name: np.asarray(mask) for name, mask in split.present.items()},
        labels={name: labels_of(split, name) for name in shared},
    )


def _place(
    into: dict[str, Array], name: str, rows: Array, size: int, means: Tensor, latent: str
) -> None:
    """Write the means of some rows into the array (size, D) of a modality."""
    values = means.detach().float().cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError(
            f"the posterior mean of {latent} given {name!r} holds NaN or infinity; "
            "the method has diverged: train it again"
        )
    into.setdefault(name, np.zeros((size, values.shape[1]), np.float32))[rows] = values


def means_given_all(
    method: Method, split: Split, *, batch_size: int = 512, refine: int | None = None
) -> Array:
    """Compute the mean of q(z | x_S), (N, D), where S is all that a row has.

    >>> from counterpoint.metrics import means_given_all
    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split = data.test.take(range(8))
    >>> means_given_all(method, split).shape
    (8, 2)

    Args:
        method: the method.
        split: the rows.
        batch_size: rows at a time.
        refine: refine posteriors by so many steps.
    """
    device = device_of(method)
    parts = chunks(np.arange(len(split)), batch_size)
    means = [method.encode(split.batch(rows, device), refine=refine).shared[0] for rows in parts]
    return np.concatenate([m.detach().float().cpu().numpy() for m in means])
