"""Batches in an order that a seed fixes, that several processes can share, and that can be resumed anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..types import Batch
from .records import Split


class BatchLoader:
    """An iterable of :class:`~counterpoint.types.Batch`, one pass over a split per ``iter``; each pass is an epoch of its own.

    The order of a pass is a permutation fixed by ``(seed, epoch)``. With several processes, batch ``r`` of all ranks together is batch
    ``r`` of one process with ``world_size * batch_size`` rows. There are no worker processes: indexing is faster than talking to them.

    The last batch of a pass may be short. Where one row is not a batch (contrastive terms, batch norm), or where ranks must weigh
    exactly alike, use ``drop_last=True``. A rest too small to give each rank a row is always dropped, or the ranks would wait for each other.

    Args:
        split: the rows.
        batch_size: rows per batch and per process.
        seed: fixes the order together with the epoch.
        shuffle: ``False`` keeps the order of the split.
        drop_last: leave out a last batch that is not full.
        rank, world_size: which of how many processes this is.
        device: where the tensors are made.

    Raises:
        ValueError: sizes below 1, a rank outside ``[0, world_size)``, or options that leave no batch.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str | None = None,
    ) -> None:
        if batch_size < 1 or world_size < 1:
            raise ValueError(f"batch_size {batch_size} and world_size {world_size} must be 1 or more")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} must lie in [0, {world_size})")
        if seed < 0:
            raise ValueError(f"seed {seed} must be 0 or more")
        self.split, self.batch_size, self.seed, self.shuffle, self.drop_last = split, batch_size, seed, shuffle, drop_last
        self.rank, self.world_size, self.device = rank, world_size, device
        if len(self) == 0:
            together = f"batch_size {batch_size} × world_size {world_size}"
            raise ValueError(
                f"{len(split)} rows give no batch with {together} and drop_last={drop_last}; lower batch_size or keep the last batch"
            )
        self.epoch = 0
        self.position = 0
        self._go_on = True  # whether the next pass continues at (epoch, position): nothing was handed out since it was set

    def __len__(self) -> int:
        full, rest = divmod(len(self.split), self.batch_size * self.world_size)
        return full + (not self.drop_last and rest >= self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        # a generator: where the pass begins is settled when its first batch is asked for, since Lightning calls iter before set_epoch
        if not self._go_on or self.position >= len(self):
            self.epoch, self.position = self.epoch + 1, 0
        epoch, order, step = self.epoch, self._order(self.epoch), self.batch_size * self.world_size
        for r in range(self.position, len(self)):
            batch = self.split.batch(order[r * step : (r + 1) * step][self.rank :: self.world_size], self.device)
            if self.epoch == epoch:  # a pass that was left open must not move a newer one's position
                self.position, self._go_on = r + 1, False
            yield batch

    @property
    def sampler(self) -> BatchLoader:
        """The loader itself: Lightning calls ``loader.sampler.set_epoch`` before each epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass the given epoch: from its start, or from where :meth:`load_state_dict` has just put it within that epoch."""
        if epoch != self.epoch or not self._go_on:
            self.epoch, self.position, self._go_on = epoch, 0, True

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: ``position`` batches of ``epoch`` have been handed out."""
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass continue exactly where ``state`` was taken.

        Raises:
            ValueError: the state belongs to another order (other rows, seed, shuffle, or rows per step of all processes together).
        """
        for key, mine in self._identity().items():
            if state.get(key) != mine:
                raise ValueError(
                    f"cannot resume the data order: {key} was {state.get(key)} and is now {mine}; use the same value or start anew"
                )
        self.epoch, self.position, self._go_on = int(state["epoch"]), int(state["position"]), True

    def _identity(self) -> dict[str, Any]:
        return {"rows": len(self.split), "seed": self.seed, "shuffle": self.shuffle, "step_rows": self.batch_size * self.world_size}

    def _order(self, epoch: int) -> np.ndarray:
        rows = len(self.split)
        return np.random.default_rng((self.seed, epoch)).permutation(rows) if self.shuffle else np.arange(rows)
