"""The batches of one process, as Lightning asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch

from counterpoint.data.loader import Loader, Shuffle
from counterpoint.data.rows import Rows
from counterpoint.training.options import FitOptions
from counterpoint.training.step import Parcel


class LazyLoader:
    """A loader that starts a pass only when its first batch is asked for. Lightning also
    calls ``iter`` without reading."""

    def __init__(self, loader: Loader[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Parcel]:
        for batch in self.loader:
            yield Parcel(batch)


class Loaders(pl.LightningDataModule):
    """The loaders of this process, and their position in the order of the rows."""

    def __init__(self, train: Rows, val: Rows | None, options: FitOptions) -> None:
        super().__init__()
        self.train = train
        self.val = val
        self.options = options

    def setup(self, stage: str) -> None:
        self.loader = self._loader(self.train, shuffle=True)
        # Rows that stand beside each other are often alike (sorted by class, captions of one
        # image), and poor negatives of each other.
        self.val_loader = None if self.val is None else self._loader(self.val, shuffle="once")

    def train_dataloader(self) -> LazyLoader:
        return LazyLoader(self.loader)

    def val_dataloader(self) -> LazyLoader | list[Any]:
        return [] if self.val_loader is None else LazyLoader(self.val_loader)

    def transfer_batch_to_device(
        self, batch: Parcel, device: torch.device, dataloader_idx: int
    ) -> Parcel:
        return batch  # the loader made it there

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state)

    def _loader(self, rows: Rows, shuffle: Shuffle) -> Loader[Any]:
        trainer = self.trainer
        assert trainer is not None  # Lightning attaches it before setup
        part = "val" if shuffle == "once" else "train"
        _check_rows(part, len(rows), trainer.world_size)
        try:
            return rows.loader(
                self.options.batch_size,
                seed=0 if shuffle == "once" else self.options.seed,  # runs validate alike
                shuffle=shuffle,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                device=trainer.strategy.root_device,
            )
        except ValueError as error:
            raise ValueError(f"{part}: {error}") from None


def _check_rows(part: str, rows: int, processes: int) -> None:
    """Refuse a split that does not give every process two rows."""
    if rows >= 2 * processes:
        return
    remedy = "give it more, or leave it out" if part == "val" else "give it more"
    raise ValueError(
        f"{part} has {rows} row{'s' * (rows > 1)}, too few for {processes} process{'es' * (processes > 1)}: each needs at least 2"
        f" (contrast compares rows); {remedy}"
    )
