"""One stage of training on PyTorch Lightning. Import it only when a run starts:
Lightning takes seconds to import."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.warnings import PossibleUserWarning
from pytorch_lightning.callbacks.weight_averaging import WeightAveraging
from pytorch_lightning.plugins import LayerSync
from pytorch_lightning.profilers import PassThroughProfiler
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from counterpoint.core.precision import computes_bf16
from counterpoint.data.rows import Rows
from counterpoint.training.callbacks import Checkpointing, Validation
from counterpoint.training.checkpoint import CheckpointFile, read
from counterpoint.training.fsdp import FullySharded, ShardedStep, is_sharded, whole_weights
from counterpoint.training.history import History
from counterpoint.training.loaders import Loaders
from counterpoint.training.loggers import opened
from counterpoint.training.options import MANAGED_KEYWORDS, FitOptions
from counterpoint.training.pictures import Pictures
from counterpoint.training.progress import Clocks
from counterpoint.training.result import FitResult, Watch
from counterpoint.training.run_folder import RunFolder
from counterpoint.training.signals import Signals
from counterpoint.training.step import Step, set_memory_format

if TYPE_CHECKING:
    from counterpoint.training.trainable import Trainable


class Run:
    """One stage of training: Lightning's Trainer, its callbacks, and the result.

    Args:
        title: name in the summary line.
        hands_over: another stage follows, which starts from the best weights by
            ``val`` if there are any.
        watch: called with the means of every validation.
    """

    def __init__(
        self,
        method: Trainable,
        train: Rows,
        val: Rows | None,
        options: FitOptions,
        folder: RunFolder | None,
        history: History,
        *,
        title: str,
        hands_over: bool = False,
        watch: Watch | None = None,
    ) -> None:
        _check_keywords(options)
        self.method = method
        self.options = options
        self.folder = folder
        self.history = history
        self.sharded = is_sharded(options)
        self.signals = Signals()
        self.clocks = Clocks()
        self.validation = Validation(self.signals, history, self.clocks, watch)
        self.average = (
            None
            if options.ema_decay is None
            else WeightAveraging(multi_avg_fn=moving_average(options.ema_decay))
        )
        self.checkpointing = Checkpointing(
            title, options, folder, history, self.signals, self.validation, self.clocks
        )
        self.tools = opened(options.loggers, folder)
        self.pictures = [Pictures(method, val, self.tools, history)] if options.log_images else []
        self.hands_over = hands_over
        self.loaders = Loaders(train, val, options)
        try:
            with quiet_lightning():
                self.trainer = self._trainer(has_val=val is not None)
        except MisconfigurationException as error:
            raise ValueError(
                f"Lightning's Trainer refuses these options: {' '.join(str(error).split())}"
            ) from error

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return bool(self.trainer.is_global_zero)

    def go(self) -> None:
        """Train, and leave the chosen weights in the method.

        Raises:
            Stopped: on SIGTERM or Ctrl-C.
        """
        home = next((p.device for p in self.method.parameters()), torch.device("cpu"))
        resumed = (
            self.folder.last if self.folder is not None and self.folder.last.exists() else None
        )
        self.method.train()
        step = (ShardedStep if self.sharded else Step)(self.method, self.options)
        with (
            quiet_lightning(),
            self.signals,
            torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        ):
            try:
                self.trainer.fit(
                    step, datamodule=self.loaders, ckpt_path=resumed, weights_only=True
                )
            except SystemExit as end:
                if isinstance(
                    end.__context__, KeyboardInterrupt
                ):  # Lightning makes it exit code 1, without a word
                    raise KeyboardInterrupt from None
                raise
            finally:
                for tool in self.tools:
                    tool.close()
                self.method.to(home)
                self.method.eval()
                if self.options.channels_last:
                    set_memory_format(self.method, torch.contiguous_format)
        if self.checkpointing.resumed and not self.checkpointing.started:
            self._finish_again(step)
        if self.sharded:
            self.method.load_state_dict(whole_weights(step))
        if self.options.keep == "best" or (self.hands_over and math.isfinite(self.validation.best)):
            self.method.load_state_dict(self._best_weights())

    def _finish_again(self, step: Step) -> None:
        """Log and average once more after a run that was over already: Lightning only
        read its last state."""
        self.history.rewind(self.trainer.global_step)
        self.checkpointing.log_rest(self.trainer)
        if self.average is not None:
            self.average.on_train_end(self.trainer, step)

    def result(self) -> FitResult:
        """The result of the run."""
        seconds = self.clocks.wall.seconds
        best = self.validation.best
        return FitResult(
            metrics=self.history.latest(),
            history=self.history.columns(),
            steps=self.history.before + self.trainer.global_step,
            best=None if math.isinf(best) else best,
            seconds=seconds,
            samples_per_second=self.checkpointing.rows / seconds if seconds else 0.0,
            folder=None if self.folder is None else self.folder.path,
        )

    def _best_weights(self) -> dict[str, Tensor]:
        if self.validation.weights is not None:
            return self.validation.weights
        if not any(
            "val/loss" in row and row["step"] > self.history.before for row in self.history.rows
        ):
            every = self.options.val_every
            warnings.warn(
                f"no validation ran in {self.trainer.global_step} steps (val_every={every}), so the last weights are kept",
                stacklevel=2,
            )
            return self.method.state_dict()
        if self.folder is None or not self.folder.best.exists():
            raise ValueError(
                "no validation gave a finite loss, so there are no best weights; use keep='last'"
            )
        return read(self.folder.best)["state_dict"]

    def _trainer(self, has_val: bool) -> pl.Trainer:
        options = self.options
        extra = dict(self.options.trainer)
        parts = {
            "logger": [
                *_as_list(extra.pop("logger", None)),
                *(tool.lightning for tool in self.tools),
            ],
            "callbacks": self._callbacks(_as_list(extra.pop("callbacks", None))),
            "plugins": _plugins(_as_list(extra.pop("plugins", None))),
        }
        defaults = {
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "enable_progress_bar": False,
            "profiler": NoProfiler(),
            "inference_mode": False,  # a validation may need gradients to refine latents
            **({} if has_val else {"limit_val_batches": 0}),
        }
        return pl.Trainer(
            **{**defaults, **extra},
            default_root_dir=None if self.folder is None else self.folder.path,
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=self._strategy(),
            precision=_precision(options),  # type: ignore[arg-type]  # a literal there; Lightning names the choices in its error
            max_epochs=options.epochs,
            max_time=options.max_time,
            gradient_clip_val=options.clip,
            check_val_every_n_epoch=options.val_every,
            num_sanity_val_steps=0,
            **parts,  # type: ignore[arg-type]
        )

    def _callbacks(self, given: list[Any]) -> list[Any]:
        """Ours and the user's, in order: validation must see the averaged weights, so
        it comes before the average is swapped out again."""
        average = [] if self.average is None else [self.average]
        return [self.validation, *self.pictures, *average, *given, self.checkpointing]

    def _strategy(self) -> str | FullySharded:
        """The strategy of several processes must allow weights without a gradient: a
        step may skip decoders, or terms whose weight is still 0."""
        options = self.options
        if self.sharded:
            return FullySharded()
        several = options.num_nodes > 1 or options.devices not in (1, "1", "auto")
        return (
            "ddp_find_unused_parameters_true"
            if options.strategy == "auto" and several
            else options.strategy
        )


def _precision(options: FitOptions) -> str:
    """The precision by Lightning's name: ``"auto"`` depends on the device, which
    Lightning chooses only later."""
    if options.precision != "auto":
        return options.precision
    on_gpu = options.accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if computes_bf16("cuda" if on_gpu else "cpu") else "32-true"


def _check_keywords(options: FitOptions) -> None:
    known = signature(pl.Trainer.__init__).parameters
    unknown = [name for name in options.trainer if name not in known]
    if unknown:
        raise TypeError(
            f"unknown option {unknown[0]!r}; it is neither a field of FitOptions nor a keyword of Lightning's Trainer"
        )


def _as_list(value: Any) -> list[Any]:
    """Lightning takes one object, several or none."""
    return [*value] if isinstance(value, list | tuple) else [value] if value else []


def _plugins(given: list[Any]) -> list[Any]:
    if any(isinstance(plugin, LayerSync) for plugin in given):
        raise ValueError(
            f"trainer keyword 'plugins' holds a LayerSync: {MANAGED_KEYWORDS['sync_batchnorm']}"
        )
    return [*given, CheckpointFile()]


class NoProfiler(PassThroughProfiler):
    """Measure nothing. Lightning opens some sixty profiled sections a step, which takes
    time even without a profiler."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> nullcontext[None]:  # type: ignore[override]  # Lightning only enters it
        return self._nothing


def moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """Update of an exponential moving average of weights.

    The decay of the n-th update is min(decay, (1 + n) / (10 + n)), so that the average
    soon forgets the random initial weights. With ``decay`` alone, 5 % of them would
    remain after 3 / (1 − decay) steps.
    """

    def update(average: list[Tensor], weights: list[Tensor], n: Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(n)) / (10 + int(n))))(average, weights, n)

    return update


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's tips, hardware lines and hints about loaders."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        for own_use_of_torch in (".*LeafSpec", ".*all_gather is deprecated"):
            warnings.filterwarnings("ignore", own_use_of_torch, FutureWarning)
        # A run may go on without its max_time.
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`", UserWarning)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
