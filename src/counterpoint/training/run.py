"""The run itself, on PyTorch Lightning. Imported only when a run begins, because
Lightning takes seconds to import."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
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

from counterpoint.data.loader import Loader, Shuffle
from counterpoint.data.rows import Rows
from counterpoint.training.callbacks import Keeper, Validation
from counterpoint.training.checkpoint import CheckpointFile, read
from counterpoint.training.fsdp import Sharded, SharedStep, gathered, is_sharded
from counterpoint.training.history import History
from counterpoint.training.options import MANAGED, FitOptions
from counterpoint.training.result import FitResult, Watch
from counterpoint.training.run_folder import RunFolder
from counterpoint.training.signals import Signals
from counterpoint.training.step import Parcel, Step, lay_out

if TYPE_CHECKING:
    from counterpoint.training.trainable import Trainable


class Run:
    """One stage of training: the Trainer, its parts, and what comes of it.

    Args:
        title: what the summary line calls it.
        hands_over: another stage follows, so that the best weights by ``val`` are taken
            where there are any.
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
        unknown = [
            name
            for name in options.trainer
            if name not in signature(pl.Trainer.__init__).parameters
        ]
        if unknown:
            raise TypeError(
                f"unknown option {unknown[0]!r}; it is neither a field of FitOptions nor a keyword of Lightning's Trainer"
            )
        self.method, self.options, self.folder, self.history = method, options, folder, history
        self.sharded = is_sharded(options)
        self.signals = Signals()
        self.validation = Validation(self.signals, history, watch)
        self.average = (
            None
            if options.ema is None
            else WeightAveraging(multi_avg_fn=moving_average(options.ema))
        )
        self.keeper = Keeper(title, options, folder, history, self.signals, self.validation)
        self.hands_over = hands_over
        self.data = Data(train, val, options)
        try:
            with quiet():
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
        step = (SharedStep if self.sharded else Step)(self.method, self.options)
        with quiet(), self.signals, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            try:
                self.trainer.fit(step, datamodule=self.data, ckpt_path=resumed, weights_only=True)
            except SystemExit as end:
                if isinstance(
                    end.__context__, KeyboardInterrupt
                ):  # Lightning makes it exit code 1, without a word
                    raise KeyboardInterrupt from None
                raise
            finally:
                self.method.to(home)
                self.method.eval()
                if self.options.channels_last:
                    lay_out(self.method, torch.contiguous_format)
        if (
            self.keeper.resumed and not self.keeper.started
        ):  # the run was over already, and Lightning only read its last state
            self.history.rewind(self.trainer.global_step)
            self.keeper.log_rest(self.trainer)
            if self.average is not None:
                self.average.on_train_end(self.trainer, step)
        if self.sharded:
            self.method.load_state_dict(gathered(step))
        if self.options.select == "best" or (
            self.hands_over and math.isfinite(self.validation.best)
        ):
            self.method.load_state_dict(self._best_weights())

    def result(self) -> FitResult:
        """What the run came to."""
        seconds = self.keeper.seconds
        best = self.validation.best
        return FitResult(
            metrics=self.history.latest(),
            history=self.history.columns(),
            steps=self.history.before + self.trainer.global_step,
            best=None if math.isinf(best) else best,
            seconds=seconds,
            samples_per_second=self.keeper.rows / seconds if seconds else 0.0,
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
                "no validation gave a finite loss, so there are no best weights; use select='last'"
            )
        return read(self.folder.best)["state_dict"]

    def _trainer(self, has_val: bool) -> pl.Trainer:
        options, extra = self.options, dict(self.options.trainer)
        loggers = extra.pop("logger", None) or []
        loggers = [*loggers] if isinstance(loggers, list | tuple) else [loggers]
        if self.folder is not None and options.tensorboard and find_spec("tensorboard"):
            from pytorch_lightning.loggers import TensorBoardLogger

            loggers.append(TensorBoardLogger(self.folder.path, name="", version="tensorboard"))
        given = extra.pop("callbacks", None) or []
        given = [*given] if isinstance(given, list | tuple) else [given]
        plugins = extra.pop("plugins", None) or []
        plugins = [*plugins] if isinstance(plugins, list | tuple) else [plugins]
        if any(isinstance(plugin, LayerSync) for plugin in plugins):
            raise ValueError(
                f"trainer keyword 'plugins' holds a LayerSync: {MANAGED['sync_batchnorm']}"
            )
        # The validation must see the averaged weights, so that it comes before the average is
        # swapped out again.
        callbacks = [
            self.validation,
            *([] if self.average is None else [self.average]),
            *given,
            self.keeper,
        ]
        limits = {} if has_val else {"limit_val_batches": 0}
        defaults = {
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "enable_progress_bar": False,
            "profiler": Unprofiled(),
        }
        defaults["inference_mode"] = (
            False  # a validation may need gradients by latents, to refine them
        )
        return pl.Trainer(
            **{**defaults, **limits, **extra},
            default_root_dir=None if self.folder is None else self.folder.path,
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=self._strategy(),
            precision=options.precision,  # type: ignore[arg-type]  # a literal there; Lightning names the choices in its error
            max_epochs=options.epochs,
            max_time=options.max_time,
            gradient_clip_val=options.clip,
            check_val_every_n_epoch=options.val_every,
            num_sanity_val_steps=0,
            logger=loggers,
            callbacks=callbacks,
            plugins=[*plugins, CheckpointFile()],
        )

    def _strategy(self) -> str | Sharded:
        """Several processes expect weights without a gradient: a method may leave out
        decoders, or terms whose weight is still 0."""
        options = self.options
        if self.sharded:
            return Sharded()
        several = options.num_nodes > 1 or options.devices not in (1, "1", "auto")
        return (
            "ddp_find_unused_parameters_true"
            if options.strategy == "auto" and several
            else options.strategy
        )


class Unprofiled(PassThroughProfiler):
    """Measures nothing, in less time: Lightning opens some sixty profiled sections a
    step."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> nullcontext[None]:  # type: ignore[override]  # Lightning only enters it
        return self._nothing


class Feed:
    """A loader that begins a pass only when its first batch is asked for: Lightning
    also calls ``iter`` just to look."""

    def __init__(self, loader: Loader[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Parcel]:
        for batch in self.loader:
            yield Parcel(batch)


class Data(pl.LightningDataModule):
    """The loaders of this process, and the place in the order of the rows."""

    def __init__(self, train: Rows, val: Rows | None, options: FitOptions) -> None:
        super().__init__()
        self.train, self.val, self.options = train, val, options

    def setup(self, stage: str) -> None:
        self.loader = self._loader(self.train, shuffle=True)
        # Rows that stand beside each other are often alike (sorted by class, captions of one
        # image), and poor negatives of each other.
        self.val_loader = None if self.val is None else self._loader(self.val, shuffle="once")

    def train_dataloader(self) -> Feed:
        return Feed(self.loader)

    def val_dataloader(self) -> Feed | list[Any]:
        return [] if self.val_loader is None else Feed(self.val_loader)

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
        world = trainer.world_size
        part = "val" if shuffle == "once" else "train"
        if len(rows) < 2 * world:
            remedy = "give it more, or leave it out" if part == "val" else "give it more"
            raise ValueError(
                f"{part} has {len(rows)} row{'s' * (len(rows) > 1)}, too few for {world} process{'es' * (world > 1)}: each needs at least 2"
                f" (contrast compares rows); {remedy}"
            )
        try:
            return rows.loader(
                self.options.batch_size,
                seed=0 if shuffle == "once" else self.options.seed,  # runs validate alike
                shuffle=shuffle,
                rank=trainer.global_rank,
                world_size=world,
                device=trainer.strategy.root_device,
            )
        except ValueError as error:
            raise ValueError(f"{part}: {error}") from None


def moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """Exponential moving average in place of a list of weights, by the n-th list of new
    ones: with min(decay, (1 + n) / (10 + n)), so that the first weights, which are
    random, are forgotten soon. With ``decay`` alone, 5 % of them would be left in the
    average after 3 / (1 − decay) steps."""

    def update(average: list[Tensor], weights: list[Tensor], n: Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(n)) / (10 + int(n))))(average, weights, n)

    return update


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning without its tips, hardware lines and hints about loaders, which do not
    concern a user of ``fit``."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        for own_use_of_torch in (".*LeafSpec", ".*all_gather is deprecated"):
            warnings.filterwarnings("ignore", own_use_of_torch, FutureWarning)
        warnings.filterwarnings(
            "ignore", "Be aware that when using `ckpt_path`", UserWarning
        )  # a run may go on without its max_time
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
