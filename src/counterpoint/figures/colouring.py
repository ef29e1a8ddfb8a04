"""What colours the points of a map: a label, or a covariate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.figures.style import CLASSES, FAINT, GRADIENT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from counterpoint.data import Split


_KEY_LETTERS = 24
"""Most letters of the names of classes that fit above a panel."""


@dataclass(frozen=True)
class Colouring:
    """One value for each point of a map.

    Args:
        name: of the label or covariate.
        values: ``(n,)`` class numbers, −1 where unknown, or floats of a covariate.
        classes: names of the classes; empty where numbers are their names.
    """

    name: str
    values: np.ndarray
    classes: tuple[str, ...] = ()

    @property
    def known(self) -> np.ndarray:
        """The distinct known values, in order."""
        there = self.values if self.values.dtype.kind == "f" else self.values[self.values >= 0]
        return np.unique(there)

    @property
    def coloured_singly(self) -> bool:
        """Whether each value has a colour of its own, and not a place on a gradient."""
        return self.values.dtype.kind != "f" and len(self.known) <= len(CLASSES)

    def colours(self) -> np.ndarray | list[str]:
        """One colour for each point; unknown ones are faint."""
        from matplotlib import colormaps
        from matplotlib.colors import to_rgba

        numbers = self.values.dtype.kind == "f"
        scale = self.values if numbers else np.searchsorted(self.known, self.values)
        unknown = np.zeros(len(scale), bool) if numbers else self.values < 0
        if self.coloured_singly:
            chosen = [CLASSES[place] for place in scale]
            return [
                FAINT if hidden else colour for colour, hidden in zip(chosen, unknown, strict=True)
            ]
        low = scale.min()
        width = max(scale.max() - low, 1e-12)
        result: np.ndarray = colormaps[GRADIENT]((scale - low) / width)
        result[unknown] = to_rgba(FAINT)
        return result

    def draw_key(self, axes: Axes) -> None:
        """Write the name above a panel, and what the colours mean, if it fits."""
        write = partial(axes.text, y=1.035, transform=axes.transAxes, va="bottom")
        write(x=0, s=self.name, ha="left", color=INK, fontsize=9.5)
        labels = [self._label(value) for value in self.known]
        letters = sum(len(label) + 1 for label in labels)
        if not self.coloured_singly or letters > _KEY_LETTERS:
            write(x=1, s=self._range(), ha="right", color=INK, fontsize=8.5)
            return
        right = 1.0
        pairs = [*zip(labels, CLASSES, strict=False)]
        for label, colour in reversed(pairs):
            write(x=right, s=label, ha="right", color=colour, fontsize=9.5, weight="bold")
            right -= 0.03 * (len(label) + 1)

    def _label(self, value: float) -> str:
        return self.classes[int(value)] if self.classes else f"{value:g}"

    def _range(self) -> str:
        if self.values.dtype.kind == "f":
            return f"{self.known[0]:.3g} to {self.known[-1]:.3g}"
        return f"{len(self.known)} classes"


def default_colours(split: Split, modality: str | None = None) -> tuple[str, ...]:
    """The first shared label, and the first private one (of a modality)."""
    private = [
        name for name, by in split.private_labels.items() if modality is None or modality in by
    ]
    return (*[*split.shared_labels][:1], *private[:1])


def colouring(split: Split, name: str, rows: np.ndarray, modality: str | None) -> Colouring:
    """The values of a label or covariate.

    A covariate of several columns ``NAME=VALUE`` is one of classes. A private label
    colours the latent of its own modality, and z by its first modality.

    Args:
        split: has the label or covariate.
        name: of it.
        rows: the points, (n,).
        modality: whose private latent is drawn; None for z.

    Raises:
        ValueError: the split has neither.
    """
    if name in split.shared_labels:
        return Colouring(name, np.asarray(split.shared_labels[name])[rows])
    if name in split.private_labels:
        by = split.private_labels[name]
        of = next(iter(by)) if modality is None else modality
        values = np.asarray(by[of])[rows] if of in by else np.full(len(rows), -1)
        return Colouring(f"{name} of {of}" if modality is None else name, values)
    if name in split.covariate_names:
        column = split.covariates[rows, split.covariate_names.index(name)]
        return Colouring(name, np.asarray(column, np.float64))
    heads = [column.partition("=") for column in split.covariate_names]
    here = [i for i, (head, mark, _) in enumerate(heads) if mark and head == name]
    if not here:
        raise ValueError(
            f"no label and no covariate is called {name!r}; choose from {_choices(split, heads)}"
        )
    columns = np.asarray(split.covariates)[rows][:, here]
    classes = np.where(columns.any(1), columns.argmax(1), -1)
    return Colouring(name, classes, tuple(heads[i][2] for i in here))


def _choices(split: Split, heads: Sequence[tuple[str, str, str]]) -> str:
    names = dict.fromkeys((*split.shared_labels, *split.private_labels, *(h[0] for h in heads)))
    return ", ".join(names) or "none: the data have no labels and no covariates"
