"""Batches in an order that a seed fixes, that several processes can share, and that can
be resumed anywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sized
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
import torch

from counterpoint.core.batch import Batch

Source = TypeVar("Source", bound=Sized)

Shuffle = bool | Literal["once"]
"""Whether each pass has an order of its own, none, or all have that of the first."""


class Indexed(Sized, Protocol):
    """Rows that can be asked for by number."""

    def batch(self, index: np.ndarray | slice, device: torch.device | str | None = None) -> Batch:
        """Return the chosen rows as tensors on ``device``."""
        ...


class Loader(ABC, Generic[Source]):
    """Iterate over :class:`~counterpoint.core.batch.Batch`. Each ``iter`` is one pass
    over the rows, which is an epoch of its own.

    The order of a pass is fixed by ``(seed, epoch)``, or by the seed alone with
    ``shuffle="once"``. Its state is two integers: ``position`` batches of ``epoch``
    have been handed out.

    Args:
        rows: what to pass over.
        batch_size: rows per batch and per process.
        seed: fixes the order together with the epoch.
        shuffle: ``False`` keeps the order of the rows, ``"once"`` has the random order
            of the first pass in all of them.
        drop_last: leave out a last batch that is not full.
        rank, world_size: which of how many processes this is.
        device: where the tensors are made.

    Raises:
        ValueError: sizes below 1, a rank outside ``[0, world_size)``, another
            ``shuffle``, or options that leave no batch.
    """

    def __init__(
        self,
        rows: Source,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: Shuffle = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str | None = None,
    ) -> None:
        if batch_size < 1 or world_size < 1:
            raise ValueError(
                f"batch_size {batch_size} and world_size {world_size} must be 1 or more"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} must lie in [0, {world_size})")
        if seed < 0:
            raise ValueError(f"seed {seed} must be 0 or more")
        if shuffle not in (True, False, "once"):
            raise ValueError(f"shuffle {shuffle!r} must be True, False or 'once'")
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self.device = device
        self.epoch = 0
        self.position = 0
        # whether the next pass continues at (epoch, position): nothing was handed out since it was
        # set
        self._go_on = True
        if len(self) == 0:
            together = f"batch_size {batch_size} × world_size {world_size}"
            raise ValueError(
                f"{len(rows)} rows give no batch with {together} and drop_last={drop_last}; lower batch_size or keep the last batch"
            )

    @abstractmethod
    def __len__(self) -> int:
        """Batches of a pass, the same for every process."""

    @abstractmethod
    def _batches(self, epoch: int, position: int) -> Iterator[Batch]:
        """The batches of this process in the order of ``epoch``, from batch
        ``position`` on."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """What fixes the order of a pass."""

    def __iter__(self) -> Iterator[Batch]:
        # a generator: where the pass begins is settled when its first batch is asked for, since
        # Lightning calls iter before set_epoch
        if not self._go_on or self.position >= len(self):
            self.epoch = self.epoch + 1
            self.position = 0
        epoch = self.epoch
        for r, batch in enumerate(
            self._batches(0 if self.shuffle == "once" else epoch, self.position), self.position
        ):
            if (
                self.epoch == epoch
            ):  # a pass that was left open must not move a newer one's position
                self.position = r + 1
                self._go_on = False
            yield batch

    @property
    def sampler(self) -> Self:
        """The loader itself: Lightning calls ``loader.sampler.set_epoch`` before each
        epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass the given epoch: from its start, or from where
        :meth:`load_state_dict` has just put it within that epoch."""
        if epoch != self.epoch or not self._go_on:
            self.epoch = epoch
            self.position = 0
            self._go_on = True

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is: ``position`` batches of ``epoch`` have been
        handed out."""
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass continue exactly where ``state`` was taken.

        Raises:
            ValueError: the state belongs to another order: of other rows, another seed,
                or another number of rows a step.
        """
        for key, mine in self._identity().items():
            if state.get(key) != mine:
                raise ValueError(
                    f"cannot resume the data order: {key} was {state.get(key)} and is now {mine}; use the same value or start anew"
                )
        self.epoch = int(state["epoch"])
        self.position = int(state["position"])
        self._go_on = True


class BatchLoader(Loader[Indexed]):
    """Load batches of a split; see :class:`Loader` for the arguments.

    The order of a pass is a permutation. With several processes, batch ``r`` of all
    ranks together is batch ``r`` of one process with ``world_size * batch_size`` rows.
    There are no worker processes: indexing is faster than talking to them.

    The last batch of a pass may be short. Where one row is not a batch (contrastive
    terms, batch norm), or where ranks must weigh exactly alike, use ``drop_last=True``.
    A rest too small to give each rank a row is always dropped, or the ranks would wait
    for each other.

    >>> import counterpoint as cp
    >>> split = cp.data.Split({"x": np.ones((5, 1))}, (cp.Modality("x", (1,), "normal"),))
    >>> [len(batch) for batch in BatchLoader(split, 2)]
    [2, 2, 1]
    """

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self.batch_size * self.world_size)
        return full + (not self.drop_last and rest >= self.world_size)

    def _batches(self, epoch: int, position: int) -> Iterator[Batch]:
        rows = len(self.rows)
        step = self.batch_size * self.world_size
        order = (
            np.random.default_rng((self.seed, epoch)).permutation(rows)
            if self.shuffle
            else np.arange(rows)
        )
        for r in range(position, len(self)):
            yield self.rows.batch(
                order[r * step : (r + 1) * step][self.rank :: self.world_size], self.device
            )

    def _identity(self) -> dict[str, Any]:
        return {
            "rows": len(self.rows),
            "seed": self.seed,
            "shuffle": self.shuffle,
            "step_rows": self.batch_size * self.world_size,
        }
