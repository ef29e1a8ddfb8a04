"""What happens around the steps: random states, logs, validation, signals, checkpoints.

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

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from torch import Tensor

from counterpoint.training.checkpoint import save
from counterpoint.training.fsdp import whole_weights
from counterpoint.training.history import History
from counterpoint.training.options import FitOptions
from counterpoint.training.progress import Clocks, ProgressBar
from counterpoint.training.random_state import mixed_seed, random_states, restore_random_states
from counterpoint.training.result import Watch
from counterpoint.training.run_folder import RunFolder
from counterpoint.training.signals import SAVE, STOP, Signals, Stopped
from counterpoint.training.step import Parcel, Step


class Validation(Callback):
    """Give validation its own noise, log its means, and remember the best weights.

    Attributes:
        best: lowest ``val/loss`` of the run.
        weights: the weights of that validation, if this process has seen it.
        unsaved: whether these weights are not in ``best.ckpt`` yet.
    """

    def __init__(
        self, signals: Signals, history: History, clocks: Clocks, watch: Watch | None = None
    ) -> None:
        self.signals = signals
        self.history = history
        self.clocks = clocks
        self.watch = watch
        self.best = math.inf
        self.weights: dict[str, Tensor] | None = None
        self.unsaved = False
        self._announced = False

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.clocks.pause()
        self._states = random_states(module.device)
        torch.manual_seed(mixed_seed(trainer.global_rank, 1))

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.signals.caught and trainer.is_global_zero and not self._announced:
            name = signal.Signals(self.signals.caught).name
            print(
                f"{name}: the run stops after this validation; a second one stops it at once, at its last checkpoint",
                file=sys.stderr,
            )
            self._announced = True

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Step)
        restore_random_states(self._states, module.device)
        self.clocks.go_on()
        if trainer.world_size > 1:
            module.validated.reduce(trainer.strategy)
        means = module.validated.take("val")
        # for callbacks that watch it, such as EarlyStopping
        module.log_dict(means, logger=False, batch_size=1)
        if not self.history.has(trainer.global_step, "val/loss"):  # it may be done again
            row = {"step": trainer.global_step, "epoch": trainer.current_epoch, **means}
            log(trainer, self.history, row)
        if means["val/loss"] < self.best:
            self.best = means["val/loss"]
            self.unsaved = True
            self.weights = whole_weights(module)
        if self.watch is not None:
            self.watch(means)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = float(state["best"])


class Checkpointing(Checkpoint):
    """Seed the run, log its steps, and decide after each whether to save, stop or go on.

    Attributes:
        started: whether the run has begun to train in this process.
        resumed: whether it goes on from a checkpoint.
        rows: rows that this call has trained on, all processes together.
    """

    def __init__(
        self,
        title: str,
        options: FitOptions,
        folder: RunFolder | None,
        history: History,
        signals: Signals,
        validation: Validation,
        clocks: Clocks,
    ) -> None:
        self.title = title
        self.options = options
        self.folder = folder
        self.history = history
        self.signals = signals
        self.validation = validation
        self.clocks = clocks
        self.started = self.resumed = False
        self.rows = 0
        self._step = self._epoch = 0
        self._wish = 0
        self._saved: dict[str, Any] = {}
        self._bar: ProgressBar | None = None

    # ------------------------------------------------------------------------- hooks

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        assert isinstance(module, Step)
        self._module = module

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.started = True
        self._step = trainer.global_step
        if self.resumed:
            restore_random_states(self._states_of(trainer.global_rank), module.device)
        else:
            torch.manual_seed(mixed_seed(self.options.seed, trainer.global_rank, 0))
        if trainer.is_global_zero:
            self.history.rewind(self._step)
        self._bar = ProgressBar(self.title, self.options, trainer, self._module, self._step)
        self._last_save = time.monotonic()
        self.clocks.start()
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
        self._step = step
        self._epoch = trainer.current_epoch
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
            self._bar.end(self._step, self.rows, self.clocks.wall.seconds)

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    # ------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        module = self._module
        return {
            "noise": self._states_of_all(),
            "seconds": self.clocks.wall.total,
            "cpu_seconds": self.clocks.cpu.total,
            "step": self._step,
            "epoch": self._epoch,
            "window": {"total": module.window.total, "weight": module.window.weight},
            "before": self.history.before,
            "stops": module.trainer.should_stop and not module.trainer.is_last_batch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.resumed = True
        self._saved = state
        self.clocks.wall.earlier = float(state["seconds"])
        self.clocks.cpu.earlier = float(state["cpu_seconds"])
        self._step = int(state["step"])
        self._epoch = int(state["epoch"])
        self.history.before = int(state.get("before", 0))
        window = self._module.window
        window.total = state["window"]["total"]
        window.weight = state["window"]["weight"]

    def _states_of_all(self) -> dict[str, Tensor]:
        """The random states of all processes, one in each row."""
        strategy = self._module.trainer.strategy
        rows = {}
        for kind, state in random_states(self._module.device).items():
            of_all = strategy.all_gather(state.to(strategy.root_device))
            rows[kind] = of_all.cpu().view(-1, state.numel())
        return rows

    def _states_of(self, rank: int) -> dict[str, Tensor]:
        """The saved random states of one process. They are cloned: torch reads beyond a
        state that is a row of a larger tensor, and crashes."""
        return {kind: rows[rank].clone() for kind, rows in self._saved["noise"].items()}

    # --------------------------------------------------------------------- decisions

    def _heed_limit(self, trainer: pl.Trainer) -> None:
        if 0 <= self.options.max_steps <= trainer.global_step:
            trainer.should_stop = True
        minutes = self.options.max_cpu_minutes
        if minutes is not None:
            over = self.clocks.cpu.total >= 60 * minutes
            trainer.should_stop |= trainer.strategy.reduce_boolean_decision(over, all=False)

    def _agree(self, trainer: pl.Trainer) -> int:
        """Whether to save or stop after this step: the strongest wish of all processes,
        which must do it together."""
        waited = time.monotonic() - self._last_save
        due = self.folder is not None and waited >= self.options.checkpoint_seconds
        wish = STOP if self.signals.caught else SAVE if due else 0
        if trainer.world_size == 1:
            return wish
        shared = torch.tensor(wish, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(shared, reduce_op="max"))

    def _validate(self, trainer: pl.Trainer) -> None:
        """Validate at the start of a run that stopped within a pass: its checkpoint is
        older than its last validation."""
        validation = trainer.fit_loop.epoch_loop.val_loop
        validation.restarting = False  # from its first batch
        trainer.validating = True
        validation.run()
        trainer.training = True

    # ---------------------------------------------------------------- files and logs

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
            best = {"state_dict": self.validation.weights, "val/loss": self.validation.best}
            save(best, self.folder.best)

    def log_rest(self, trainer: pl.Trainer) -> None:
        """Log the steps since the last row, unless a run that was killed after it has
        written that row already."""
        self._module.settle()
        rest = bool(self._module.window.total) and not self.history.has(self._step, "train/loss")
        if rest and trainer.is_global_zero:
            self._log(trainer)

    def _log(self, trainer: pl.Trainer) -> None:
        self._module.settle()
        means = self._module.window.take("train")
        at = {"step": self._step, "epoch": self._epoch, "seconds": round(self.clocks.wall.total, 3)}
        log(trainer, self.history, {**at, **means})
        if self._bar is not None:
            self._bar.update(self._step, means)


def log(trainer: pl.Trainer, history: History, row: dict[str, float]) -> None:
    """Write one row to metrics.csv and to every logger."""
    if trainer.is_global_zero:
        history.add(row)
    step = history.before + int(row["step"])
    values = {name: value for name, value in row.items() if name != "step"}
    for logger in trainer.loggers:
        logger.log_metrics(values, step=step)
