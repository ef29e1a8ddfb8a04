"""One training step: the loss of a method's terms, on PyTorch Lightning."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from counterpoint.core.batch import Batch
from counterpoint.objectives.loss import Terms
from counterpoint.training.options import FitOptions
from counterpoint.training.result import NonFiniteLoss
from counterpoint.training.trainable import Trainable, TrainableModel


class Parcel:
    """A batch that Lightning does not open. It would search a dataclass for tensors."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class Step(pl.LightningModule):
    """The mean over the batch of the sum of a method's terms, and its optimiser.

    It holds only weights and running means, because weight averaging copies it whole.

    Attributes:
        window: means of the training terms since the last row of metrics.csv.
        validated: means of the terms of a validation.
    """

    def __init__(self, method: Trainable, options: FitOptions) -> None:
        super().__init__()
        if options.channels_last:
            set_memory_format(method, torch.channels_last)
        if isinstance(method, TrainableModel):
            method.model.activation_checkpointing = options.activation_checkpointing
        elif options.activation_checkpointing:
            raise ValueError(
                f"activation_checkpointing is for methods with a Model, and {method.name} has none; leave it out"
            )
        self.method = method
        self.options = options
        self.window = RunningMeans()
        self.validated = RunningMeans()
        self._terms = method.compiled_losses() if options.compile else method.losses
        self._seen: list[tuple[int, tuple[str, ...], Tensor]] = []

    def __setattr__(self, name: str, value: Any) -> None:
        if (
            name == "_current_fx_name"
        ):  # Lightning notes every hook here, forty times a step; torch's own look at parameters is slow
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def on_train_batch_start(self, parcel: Parcel, index: int) -> None:
        """Set the learning rate from the step alone. A resumed run, whose optimiser
        may hold a lower rate, needs no other state."""
        cooldown = self.options.cooldown
        share = (
            min(1.0, (self.options.max_steps - self.trainer.global_step) / cooldown)
            if cooldown
            else 1.0
        )
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * self.options.lr

    def training_step(self, parcel: Parcel, index: int) -> Tensor:
        step = self.trainer.global_step
        names, means = _means(self._terms(parcel.batch, step))
        self._seen.append((step, names, means.detach()))
        # A look at a value waits for the device. A CPU has it anyway, and stops before the weights
        # are spoilt.
        if means.device.type == "cpu" or len(self._seen) >= self.options.log_every:
            self.settle()
        return means.sum()

    def settle(self) -> None:
        """Add the terms since the last call to the window.

        Raises:
            NonFiniteLoss: naming the first that is NaN or infinite, and its step.
        """
        if not self._seen:
            return
        values = iter(torch.cat([means for _, _, means in self._seen]).tolist())
        seen = self._seen
        self._seen = []
        for step, names, _ in seen:
            for name, value in zip(names, values, strict=False):
                if not math.isfinite(value):
                    raise NonFiniteLoss(name, step, value)
                self.window.add(name, value)

    def validation_step(self, parcel: Parcel, index: int) -> None:
        # The same function of the weights at every step.
        names, means = _means(self._terms(parcel.batch, None))
        for name, value in zip(names, means.tolist(), strict=True):
            self.validated.add(name, value, len(parcel.batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        options = self.options
        weights = [p for p in self.parameters() if p.requires_grad]
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in weights)
        if options.weight_decay:
            return torch.optim.AdamW(
                weights,
                options.lr,
                weight_decay=options.weight_decay,
                amsgrad=options.amsgrad,
                fused=fused,
            )
        return torch.optim.Adam(weights, options.lr, amsgrad=options.amsgrad, fused=fused)


class RunningMeans:
    """Weighted means by name.

    >>> means = RunningMeans()
    >>> means.add("a", 1.0), means.add("a", 3.0)
    (None, None)
    >>> means.take("val")
    {'val/loss': 2.0, 'val/a': 2.0}
    """

    def __init__(self) -> None:
        self.total: dict[str, float] = {}
        self.weight: dict[str, float] = {}

    def add(self, name: str, value: float, weight: float = 1.0) -> None:
        self.total[name] = self.total.get(name, 0.0) + value * weight
        self.weight[name] = self.weight.get(name, 0.0) + weight

    def take(self, prefix: str) -> dict[str, float]:
        """Return the means as ``prefix/name`` and their sum as ``prefix/loss``, and
        start again from zero."""
        means = {name: self.total[name] / self.weight[name] for name in self.total}
        self.total = {}
        self.weight = {}
        return {
            f"{prefix}/loss": sum(means.values()),
            **{f"{prefix}/{name}": value for name, value in means.items() if name != "loss"},
        }

    def reduce(self, strategy: pl.strategies.Strategy) -> None:
        """Sum over all processes."""
        names = sorted(self.total)
        both = torch.tensor(
            [[self.total[n], self.weight[n]] for n in names], device=strategy.root_device
        )
        for name, (total, weight) in zip(
            names, strategy.reduce(both, reduce_op="sum").tolist(), strict=True
        ):
            self.total[name], self.weight[name] = total, weight


def _means(terms: Terms) -> tuple[tuple[str, ...], Tensor]:
    """Names and, stacked, the means over the batch; in at least float32."""
    wide = (t.mean(dtype=torch.promote_types(t.dtype, torch.float32)) for t in terms.values())
    return tuple(terms), torch.stack(list(wide))


def set_memory_format(method: Trainable, layout: torch.memory_format) -> None:
    """Store the convolution weights of a method in a memory format, in place."""
    for weight in method.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=layout)
