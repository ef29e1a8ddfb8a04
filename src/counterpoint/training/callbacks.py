"""What happens around the steps: noise, logs, validation, signals and checkpoints.

Exact resumption rests on three rules:

- a checkpoint is taken at two places only: after a step that does not end a pass over
  the rows, and at the end of a pass after its validation;
- validation draws from generators of its own, so that it does not move the training
  noise;
- limits on steps are kept here, because Lightning's own ``max_steps`` restores its
  loops differently at the end of a pass.

A validation that has begun is therefore finished before the run heeds a signal: a
checkpoint without it would resume to a run that never had it.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from torch import Tensor
from tqdm import tqdm

from counterpoint.training.checkpoint import save
from counterpoint.training.fsdp import gathered
from counterpoint.training.history import History
from counterpoint.training.options import FitOptions
from counterpoint.training.result import Watch
from counterpoint.training.run_folder import RunFolder
from counterpoint.training.signals import SAVE, STOP, Signals, Stopped
from counterpoint.training.step import Parcel, Step


class Validation(Callback):
    """Isolates the noise of validation, logs its means, and remembers the best weights."""

    def __init__(self, signals: Signals, history: History, watch: Watch | None = None) -> None:
        self.signals, self.history, self.watch = signals, history, watch
        self.best = math.inf
        self.weights: dict[str, Tensor] | None = None
        self.unsaved = False
        self.seconds = 0.0
        self._told = False

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._began = time.monotonic()
        self._noise = get_noise(module.device)
        torch.manual_seed(mix(trainer.global_rank, 1))

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.signals.caught and trainer.is_global_zero and not self._told:
            name = signal.Signals(self.signals.caught).name
            print(
                f"{name}: the run stops after this validation; a second one stops it at once, at its last checkpoint",
                file=sys.stderr,
            )
            self._told = True

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Step)
        set_noise(self._noise, module.device)
        self.seconds += time.monotonic() - self._began
        if trainer.world_size > 1:
            module.validated.reduce(trainer.strategy)
        means = module.validated.take("val")
        module.log_dict(
            means, logger=False, batch_size=1
        )  # for callbacks that watch it, such as EarlyStopping
        if not self.history.has(trainer.global_step, "val/loss"):  # it may be done again
            log(
                trainer,
                self.history,
                {"step": trainer.global_step, "epoch": trainer.current_epoch, **means},
            )
        if means["val/loss"] < self.best:
            self.best, self.unsaved = means["val/loss"], True
            self.weights = gathered(module)
        if self.watch is not None:
            self.watch(means)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = float(state["best"])


class Keeper(Checkpoint):
    """Seeds, logs, checks the time and the signals, and saves."""

    def __init__(
        self,
        title: str,
        options: FitOptions,
        folder: RunFolder | None,
        history: History,
        signals: Signals,
        validation: Validation,
    ) -> None:
        self._title = title
        self.options, self.folder, self.history, self.signals, self.validation = (
            options,
            folder,
            history,
            signals,
            validation,
        )
        self.started = self.resumed = False
        self.rows = 0
        self.seconds = 0.0  # of this process
        self._earlier = 0.0  # of those before it
        self._step = self._epoch = 0
        self._wish = 0
        self._saved: dict[str, Any] = {}
        self._bar: tqdm[Any] | None = None

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        assert isinstance(module, Step)
        self._module = module

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.started = True
        self._step = trainer.global_step
        if self.resumed:
            noise = self._saved["noise"]
            # cloned, because torch reads beyond a state that is a row of a larger tensor, and
            # crashes
            set_noise(
                {kind: states[trainer.global_rank].clone() for kind, states in noise.items()},
                module.device,
            )
        else:
            torch.manual_seed(mix(self.options.seed, trainer.global_rank, 0))
        if trainer.is_global_zero:
            self.history.rewind(self._step)
        self._bar = self._show(trainer, self._module)
        self._began = self._last_save = time.monotonic()
        self.validation.seconds = 0.0
        self.signals.listen()
        self._heed_limit(trainer)  # a run that is over already must not go on
        if trainer.should_stop and self._saved.get("stops"):
            self._validate(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Parcel,
        index: int,
    ) -> None:
        if self.rows == 0 and self.folder is not None and trainer.is_global_zero:
            self.folder.forget_additions()
        self.rows += len(batch.batch) * trainer.world_size
        step = trainer.global_step
        if step == self._step:  # gradients are still being accumulated, which no checkpoint holds
            return
        self._step, self._epoch = step, trainer.current_epoch
        if step % self.options.log_every == 0:
            self._log(trainer)
        self._heed_limit(trainer)
        self._wish = self._agree(trainer)
        if trainer.is_last_batch:
            return  # the end of the pass follows, and is the place to save
        if self._wish or trainer.should_stop:
            self._save(trainer)
        if self._wish == STOP:
            raise Stopped(self.signals.caught or signal.SIGTERM, step)

    def _heed_limit(self, trainer: pl.Trainer) -> None:
        if 0 <= self.options.max_steps <= trainer.global_step:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.is_last_batch:
            return  # stopped within the pass, where it was saved
        if self.signals.caught and trainer.world_size == 1:
            self._wish = STOP  # it came during validation
        if self._wish or trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs:
            self._save(trainer)
        if self._wish == STOP:
            raise Stopped(self.signals.caught or signal.SIGTERM, self._step)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.log_rest(trainer)
        if self.validation.unsaved:
            self._save_best(trainer)
        if self._bar is not None:
            self._bar.close()
        if self.options.progress and trainer.is_global_zero:
            speed = self.rows / self.seconds if self.seconds else 0.0
            print(
                f"{self._step} steps; trained {self.seconds:.1f} s here, {speed:.0f} samples/s",
                file=sys.stderr,
            )

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def state_dict(self) -> dict[str, Any]:
        strategy, module = self._module.trainer.strategy, self._module
        noise = {}
        for kind, state in get_noise(module.device).items():
            everyone = strategy.all_gather(state.to(strategy.root_device))
            noise[kind] = everyone.cpu().view(-1, state.numel())
        self._tick()
        window = {"total": module.window.total, "weight": module.window.weight}
        clock = {"seconds": self._earlier + self.seconds, "step": self._step, "epoch": self._epoch}
        stops = module.trainer.should_stop and not module.trainer.is_last_batch
        return {
            "noise": noise,
            **clock,
            "window": window,
            "before": self.history.before,
            "stops": stops,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.resumed = True
        self._saved = state
        self._earlier = float(state["seconds"])
        self._step, self._epoch = int(state["step"]), int(state["epoch"])
        self.history.before = int(state.get("before", 0))
        self._module.window.total, self._module.window.weight = (
            state["window"]["total"],
            state["window"]["weight"],
        )

    def _validate(self, trainer: pl.Trainer) -> None:
        """The validation of a run that stops within a pass comes after its checkpoint,
        which therefore knows nothing of it."""
        validation = trainer.fit_loop.epoch_loop.val_loop
        validation.restarting = False  # from its first batch
        trainer.validating = True
        validation.run()
        trainer.training = True

    def _agree(self, trainer: pl.Trainer) -> int:
        """Whether to save or stop after this step: the strongest wish of all processes,
        which must do it together."""
        due = (
            self.folder is not None
            and time.monotonic() - self._last_save >= self.options.checkpoint_seconds
        )
        wish = STOP if self.signals.caught else SAVE if due else 0
        if trainer.world_size == 1:
            return wish
        return int(
            trainer.strategy.reduce(
                torch.tensor(wish, device=trainer.strategy.root_device), reduce_op="max"
            )
        )

    def _save(self, trainer: pl.Trainer) -> None:
        self._module.settle()  # a checkpoint with NaN in it would be no use
        self._last_save = time.monotonic()
        if self.folder is None:
            return
        if self.validation.unsaved:
            self._save_best(trainer)
        trainer.save_checkpoint(self.folder.last)

    def _save_best(self, trainer: pl.Trainer) -> None:
        self.validation.unsaved = False
        if self.folder is not None and trainer.is_global_zero:
            save(
                {"state_dict": self.validation.weights, "val/loss": self.validation.best},
                self.folder.best,
            )

    def log_rest(self, trainer: pl.Trainer) -> None:
        """A row of the steps since the last one, unless a run that was killed after it
        has left it already."""
        self._module.settle()
        rest = bool(self._module.window.total) and not self.history.has(self._step, "train/loss")
        if rest and trainer.is_global_zero:
            self._log(trainer)

    def _log(self, trainer: pl.Trainer) -> None:
        self._module.settle()
        means = self._module.window.take("train")
        self._tick()
        clock = {"seconds": round(self._earlier + self.seconds, 3)}
        log(trainer, self.history, {"step": self._step, "epoch": self._epoch, **clock, **means})
        if self._bar is not None:
            self._bar.update(self._step - self._bar.n)
            self._bar.set_postfix(
                {name.removeprefix("train/"): f"{value:.4g}" for name, value in means.items()},
                refresh=False,
            )

    def _tick(self) -> None:
        if self.started:
            self.seconds = time.monotonic() - self._began - self.validation.seconds

    def _show(self, trainer: pl.Trainer, module: Step) -> tqdm[Any]:
        options, per_epoch = self.options, int(trainer.num_training_batches)
        limits = [options.max_steps, options.epochs * per_epoch // trainer.accumulate_grad_batches]
        total = min((limit for limit in limits if limit > 0), default=None)
        show = options.progress and trainer.is_global_zero
        if show:
            where = f"{module.device.type} × {trainer.world_size}, {options.precision}"
            weights = sum(p.numel() for p in module.parameters() if p.requires_grad)
            goes_on = f", going on after step {self._step}" if self._step else ""
            batch = f"batches of {options.batch_size * trainer.world_size}, {per_epoch} a pass"
            print(
                f"{self._title}: {weights:,} parameters; {batch}; {where}{goes_on}", file=sys.stderr
            )
        hidden = not show or not (sys.stderr.isatty() or "ipykernel" in sys.modules)
        return tqdm(
            total=total,
            initial=self._step,
            unit="step",
            disable=hidden,
            dynamic_ncols=True,
            mininterval=0.5,
            file=sys.stderr,
        )


def log(trainer: pl.Trainer, history: History, row: dict[str, float]) -> None:
    """One row to metrics.csv and to every logger."""
    if trainer.is_global_zero:
        history.add(row)
    for logger in trainer.loggers:
        logger.log_metrics(
            {name: value for name, value in row.items() if name != "step"}, step=int(row["step"])
        )


def mix(*numbers: int) -> int:
    """A seed that depends on all the numbers, such that neighbours are unrelated."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def get_noise(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators for a run on ``device``."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def set_noise(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
