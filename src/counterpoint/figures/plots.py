"""``method.plot``: the figures of a trained method.

Each function returns a :class:`matplotlib.figure.Figure` and shows nothing. A notebook
draws a figure that a cell ends with; ``figure.savefig("x.png")`` keeps it.

>>> import torch
>>> from counterpoint import DMVAE, Modality
>>> method = DMVAE([Modality("x", (3,)), Modality("y", (2,))], shared_dim=4, private_dim=1)
>>> rows = {"x": torch.randn(5, 3), "y": torch.randn(5, 2)}
>>> [axes.get_title("left") for axes in method.plot.traversal(rows, coordinate=2).axes]
['x', 'y']
>>> [text.get_text() for text in method.plot.translations(rows, given="y").axes[0].texts]
['y', 'x', '→ x']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from counterpoint.core import conversion
from counterpoint.core.batch import Batch
from counterpoint.data.dataset import Dataset
from counterpoint.data.rows import Rows
from counterpoint.data.split import Split
from counterpoint.figures import latents, pictures, traversal
from counterpoint.figures.colouring import default_colours
from counterpoint.figures.drawable import Drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Shown = Dataset | Rows | Batch | Mapping[str, Tensor]
"""Rows to draw: a data set stands for its test split."""


@dataclass(frozen=True)
class Plots:
    """The figures of a method.

    Args:
        method: what is drawn.

    >>> from counterpoint import MVAE, Modality
    >>> method = MVAE([Modality("x", (3,)), Modality("y", (2,))], shared_dim=4)
    >>> [text.get_text() for text in method.plot.samples(n=3).axes[0].texts]
    ['x', 'y']
    """

    method: Drawable

    def latents(
        self,
        data: Dataset | Rows,
        *,
        how: Literal["pca", "tsne", "umap"] = "pca",
        colours: Sequence[str] | None = None,
        given: Sequence[str] | None = None,
        n: int = 600,
        seed: int = 0,
    ) -> Figure:
        """Draw maps of z and of every private latent, in two dimensions.

        A point is the posterior mean of one row. A row of panels is a latent, a column
        a colour.

        Args:
            data: a data set (its test split) or a split.
            how: the projection; ``"umap"`` needs umap-learn.
            colours: names of labels and covariates; the first shared and the first
                private label by default.
            given: modalities to condition on; all that a row has by default.
            n: the most rows.
            seed: chooses the rows.

        Raises:
            ValueError: an unknown projection, or a name that is no label and no
                covariate.
            ModuleNotFoundError: ``"umap"`` without umap-learn.
        """
        split = self._split(data)
        named = default_colours(split) if colours is None else colours
        points = latents.latent_points(self.method, split, given, n, seed)
        return latents.latent_map(split, points, named, how, seed)

    def reconstructions(
        self,
        data: Shown,
        *,
        n: int = 10,
        seed: int = 0,
    ) -> Figure:
        """Draw for every modality a row of data, and below it its reconstruction."""
        return pictures.reconstructions(self.method, self._rows(data), n, seed)

    def translations(
        self,
        data: Shown,
        given: str | None = None,
        *,
        n: int = 6,
        seed: int = 0,
    ) -> Figure:
        """Draw the other modalities given one, beside the truth. A row is an example.

        Args:
            data: rows, of which complete ones are drawn.
            given: the modality to condition on; the first image by default, or else the
                first modality.
            n: the most examples.
            seed: chooses the rows of a split, and the private latents.

        Raises:
            ValueError: no complete row, a single modality, or an unknown one.
        """
        return pictures.translations(self.method, self._rows(data), given, n, seed)

    def cross_generation(
        self,
        data: Shown,
        *,
        n: int = 4,
        seed: int = 0,
    ) -> Figure:
        """Draw every modality given every other: a row gives one, a column decodes
        one."""
        return pictures.cross_generation(self.method, self._rows(data), n, seed)

    def recombination(
        self,
        data: Shown,
        modality: str | None = None,
        *,
        n: int = 7,
        seed: int = 0,
    ) -> Figure:
        """Draw recombinations: z of the rows down, w of the rows across.

        Args:
            data: rows, of which complete ones are drawn: of a batch the first ones, of
                a split random ones of all classes.
            modality: what is decoded; the first image by default, or else the first
                modality.
            n: the most rows.
            seed: chooses the rows of a split.

        Raises:
            ValueError: no complete row, or a modality without a private latent.
        """
        return pictures.recombinations(self.method, self._rows(data), modality, n, seed)

    def samples(
        self,
        *,
        n: int = 10,
        prior: str = "auto",
        seed: int = 0,
    ) -> Figure:
        """Draw unconditional samples: a row is a modality, a column one draw of z."""
        return pictures.samples(self.method, n, prior, seed)

    def traversal(
        self,
        data: Shown,
        *,
        latent: str = "z",
        coordinate: int = 0,
        span: tuple[float, float] = (-3.0, 3.0),
        steps: int = 9,
        row: int = 0,
        features: int = 6,
        seed: int = 0,
    ) -> Figure:
        """Draw the modalities while one coordinate of a latent moves over a range
        (:func:`counterpoint.figures.traversal`).

        Args:
            data: has the example at which the other coordinates stay.
            latent: ``"z"``, or the key of a private latent, such as ``"w_photo"``.
            coordinate: counts from 0.
            span: first and last value of the coordinate.
            steps: number of values.
            row: the example.
            features: number of lines of a vector: those that move most.
            seed: of what diffusion decoders draw.

        Raises:
            ValueError: an unknown latent, a coordinate, row or range that there is
                not, or an example without the latent's modality.
        """
        rows = self._rows(data)
        if not 0 <= row < len(rows):
            raise ValueError(f"row {row} is outside 0 to {len(rows) - 1}")
        here = slice(row, row + 1)
        example = rows[here] if isinstance(rows, Batch) else rows.batch(here)
        return traversal.traversal(
            self.method,
            example.to(self.method.device),
            latent=latent,
            coordinate=coordinate,
            span=span,
            steps=steps,
            features=features,
            seed=seed,
        )

    def _rows(self, data: Shown) -> Split | Batch:
        if isinstance(data, Batch):
            return conversion.read_as(data, self.method.modalities)
        if isinstance(data, Mapping):
            return Batch.of(data, modalities=self.method.modalities)
        return self._split(data)

    def _split(self, data: Dataset | Rows) -> Split:
        rows = data.test if isinstance(data, Dataset) else data
        if not isinstance(rows, Rows):
            raise TypeError(f"got {type(data).__name__}; give a data set, a split or a batch")
        return rows.in_memory().read_as(self.method.modalities)
