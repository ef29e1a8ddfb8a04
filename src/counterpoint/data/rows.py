"""Rows that a model trains on, wherever they are.

A :class:`~counterpoint.data.Split` holds them in memory or as memory maps, a
:class:`~counterpoint.data.Stream` reads them from shards block by block. Training asks
for nothing that is not in this protocol, so that a third kind needs no change there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self, runtime_checkable

import torch

from counterpoint.core.modality import Modality
from counterpoint.data.loader import Loader, Shuffle
from counterpoint.data.split import Split


@runtime_checkable
class Rows(Protocol):
    """Rows of some modalities, each with presence and covariates.

    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> rows: cp.data.Rows = data.train
    >>> len(rows), [m.name for m in rows.modalities]
    (1100, ['view0', 'view1'])
    """

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What the values look like; fixes the order."""
        ...

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """Names of the columns of covariates."""
        ...

    @property
    def digest(self) -> str | None:
        """Checksum of what fixes which rows these are, where it is known beforehand."""
        ...

    def __len__(self) -> int: ...

    def read_as(self, modalities: Sequence[Modality]) -> Self:
        """Return the rows as a model of these modalities reads them.

        Raises:
            ValueError: they differ, and can't be converted.
        """
        ...

    def with_modalities(self, modalities: Sequence[Modality]) -> Self:
        """Return the same stored values, declared as other modalities."""
        ...

    def having(self, names: Sequence[str]) -> Self:
        """Return the rows that have any of the modalities, as far as that is known.

        Raises:
            ValueError: no row has.
        """
        ...

    def loader(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: Shuffle = True,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str | None = None,
    ) -> Loader[Any]:
        """Return the batches of one process in training.

        All processes get as many batches, and each batch has two rows or more, because
        contrastive terms compare rows. A last batch that is too small is left out.

        Raises:
            ValueError: the rows give no such batch.
        """
        ...

    def in_memory(self) -> Split:
        """Return rows in memory: all of a split, a sample of a stream."""
        ...

    def whole(self) -> Split:
        """Return all rows in memory.

        Raises:
            ValueError: they are a stream, which may not fit.
        """
        ...
