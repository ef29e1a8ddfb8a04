"""The run itself, on PyTorch Lightning. Imported only when a run begins, because Lightning takes seconds to import.

Exact resumption rests on three rules:

- a checkpoint is taken at two places only: after a step that does not end a pass over the rows, and at the end of a pass after its validation;
- validation draws from generators of its own, so that it does not move the training noise;
- limits on steps are kept here, because Lightning's own ``max_steps`` restores its loops differently at the end of a pass.
"""

from __future__ import annotations

import io
import logging
import math
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities.warnings import PossibleUserWarning
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.callbacks.weight_averaging import WeightAveraging
from pytorch_lightning.profilers import PassThroughProfiler
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from ..data import BatchLoader, Split
from ..types import Batch, Terms
from .folder import History, RunFolder, write
from .options import FitOptions
from .run import FitResult, NonFiniteLoss

if TYPE_CHECKING:
    from ..methods import Method


class Stopped(BaseException):
    """A signal asked the run to end, and what there was to save is saved."""

    def __init__(self, signum: int, step: int) -> None:
        self.signum, self.step = signum, step
        super().__init__(signum, step)


class Run:
    """One call of ``fit``: the Trainer, its parts, and what comes of it."""

    def __init__(self, method: Method, train: Split, val: Split | None, options: FitOptions, folder: RunFolder | None, history: History):
        unknown = [name for name in options.trainer if name not in signature(pl.Trainer.__init__).parameters]
        if unknown:
            raise TypeError(f"unknown option {unknown[0]!r}; it is neither a field of FitOptions nor a keyword of Lightning's Trainer")
        self.method, self.options, self.folder, self.history = method, options, folder, history
        self.signals = Signals()
        self.validation = Validation(self.signals, history)
        self.average = None if options.ema is None else WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(options.ema))
        self.keeper = Keeper(self)
        self.data = Data(train, val, options)
        with quiet():
            self.trainer = self._trainer(has_val=val is not None)

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
        resumed = self.folder.last if self.folder is not None and self.folder.last.exists() else None
        self.method.train()
        step = Step(self.method, self.options)
        with quiet(), self.signals, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            try:
                self.trainer.fit(step, datamodule=self.data, ckpt_path=resumed, weights_only=True)
            finally:
                self.method.to(home)
                self.method.eval()
                if self.options.channels_last:
                    _lay_out(self.method, torch.contiguous_format)
        if self.keeper.resumed and not self.keeper.started:  # the run was over already, and Lightning only read its last state
            self.history.rewind(self.trainer.global_step)
            if self.average is not None:
                self.average.on_train_end(self.trainer, step)
        if self.options.select == "best":
            self.method.load_state_dict(self._best_weights())

    def result(self) -> FitResult:
        """What the run came to."""
        seconds = self.keeper.seconds
        best = self.validation.best
        return FitResult(
            metrics=self.history.latest(),
            history=self.history.columns(),
            steps=self.trainer.global_step,
            best=None if math.isinf(best) else best,
            seconds=seconds,
            samples_per_second=self.keeper.rows / seconds if seconds else 0.0,
            folder=None if self.folder is None else self.folder.path,
        )

    def _best_weights(self) -> dict[str, Tensor]:
        if self.validation.weights is not None:
            return self.validation.weights
        if self.folder is None or not self.folder.best.exists():
            raise ValueError("no validation gave a finite loss, so there are no best weights; use select='last'")
        return _load(self.folder.best)["state_dict"]

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
        # The validation must see the averaged weights, so that it comes before the average is swapped out again.
        callbacks = [self.validation, *([] if self.average is None else [self.average]), *given, self.keeper]
        limits = {} if has_val else {"limit_val_batches": 0}
        defaults = {"enable_model_summary": False, "use_distributed_sampler": False, "enable_progress_bar": False, "profiler": Unprofiled()}
        return pl.Trainer(
            **{**defaults, **limits, **extra},
            default_root_dir=None if self.folder is None else self.folder.path,
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=self._strategy(),
            precision=options.precision,  # type: ignore[arg-type]  # a literal there; Lightning names the choices in its error
            max_epochs=options.max_epochs,
            max_time=options.max_time,
            gradient_clip_val=options.clip,
            check_val_every_n_epoch=options.val_every,
            num_sanity_val_steps=0,
            logger=loggers,
            callbacks=callbacks,
            plugins=[*plugins, CheckpointFile()],
        )

    def _strategy(self) -> str:
        """Several processes expect weights without a gradient: a method may leave out decoders, or terms whose weight is still 0."""
        options = self.options
        several = options.num_nodes > 1 or options.devices not in (1, "1", "auto")
        return "ddp_find_unused_parameters_true" if options.strategy == "auto" and several else options.strategy


class Unprofiled(PassThroughProfiler):
    """Measures nothing, in less time: Lightning opens some sixty profiled sections a step."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> nullcontext[None]:  # type: ignore[override]  # Lightning only enters it
        return self._nothing


class Parcel:
    """A batch that Lightning carries unopened: it would take a dataclass apart to look for tensors."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class Feed:
    """A loader that begins a pass only when its first batch is asked for: Lightning also calls ``iter`` just to look."""

    def __init__(self, loader: BatchLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Parcel]:
        for batch in self.loader:
            yield Parcel(batch)


class Data(pl.LightningDataModule):
    """The loaders of this process, and the place in the order of the rows."""

    def __init__(self, train: Split, val: Split | None, options: FitOptions) -> None:
        super().__init__()
        self.train, self.val, self.options = train, val, options

    def setup(self, stage: str) -> None:
        self.loader = self._loader(self.train, shuffle=True)
        self.val_loader = None if self.val is None else self._loader(self.val, shuffle=False)

    def train_dataloader(self) -> Feed:
        return Feed(self.loader)

    def val_dataloader(self) -> Feed | list[Any]:
        return [] if self.val_loader is None else Feed(self.val_loader)

    def transfer_batch_to_device(self, batch: Parcel, device: torch.device, dataloader_idx: int) -> Parcel:
        return batch  # the loader made it there

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state)

    def _loader(self, split: Split, shuffle: bool) -> BatchLoader:
        trainer, size = self.trainer, self.options.batch_size
        assert trainer is not None  # Lightning attaches it before setup
        world = trainer.world_size
        if len(split) < 2 * world:
            raise ValueError(f"{len(split)} rows are too few for {world} processes; each needs at least 2 (contrast compares rows)")
        full, rest = divmod(len(split), size * world)
        return BatchLoader(
            split,
            size,
            seed=self.options.seed,
            shuffle=shuffle,
            drop_last=full > 0 and rest < 2 * world,
            rank=trainer.global_rank,
            world_size=world,
            device=trainer.strategy.root_device,
        )


class Step(pl.LightningModule):
    """A method's terms as one loss. Holds weights and sums only: weight averaging copies it as a whole."""

    def __init__(self, method: Method, options: FitOptions) -> None:
        super().__init__()
        if options.channels_last:
            _lay_out(method, torch.channels_last)
        self.method = method
        self.options = options
        self.window = Sums()
        self.validated = Sums()
        self._terms = _losses(method, options.compile)
        self._seen: list[tuple[int, tuple[str, ...], Tensor]] = []

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":  # Lightning notes every hook here, forty times a step; torch's own look at parameters is slow
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def training_step(self, parcel: Parcel, index: int) -> Tensor:
        step = self.trainer.global_step
        names, means = _means(self._terms(parcel.batch, step))
        self._seen.append((step, names, means.detach()))
        # A look at a value waits for the device. A CPU has it anyway, and stops before the weights are spoilt.
        if means.device.type == "cpu" or len(self._seen) >= self.options.log_every:
            self.settle()
        return means.sum()

    def settle(self) -> None:
        """Add the terms seen since the last call to the window.

        Raises:
            NonFiniteLoss: naming the first that is NaN or infinite, and its step.
        """
        if not self._seen:
            return
        values = iter(torch.cat([means for _, _, means in self._seen]).tolist())
        seen, self._seen = self._seen, []
        for step, names, _ in seen:
            for name, value in zip(names, values, strict=False):
                if not math.isfinite(value):
                    raise NonFiniteLoss(name, step, value)
                self.window.add(name, value)

    def validation_step(self, parcel: Parcel, index: int) -> None:
        names, means = _means(self._terms(parcel.batch, self.trainer.global_step))
        for name, value in zip(names, means.tolist(), strict=True):
            self.validated.add(name, value, len(parcel.batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        options = self.options
        weights = [p for p in self.parameters() if p.requires_grad]
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in weights)
        if options.weight_decay:
            return torch.optim.AdamW(weights, options.lr, weight_decay=options.weight_decay, amsgrad=options.amsgrad, fused=fused)
        return torch.optim.Adam(weights, options.lr, amsgrad=options.amsgrad, fused=fused)


class Sums:
    """Weighted means by name."""

    def __init__(self) -> None:
        self.total: dict[str, float] = {}
        self.weight: dict[str, float] = {}

    def add(self, name: str, value: float, weight: float = 1.0) -> None:
        self.total[name] = self.total.get(name, 0.0) + value * weight
        self.weight[name] = self.weight.get(name, 0.0) + weight

    def take(self, prefix: str) -> dict[str, float]:
        """The means as ``prefix/name``, with their sum as ``prefix/loss``; the sums begin anew."""
        means = {name: self.total[name] / self.weight[name] for name in self.total}
        self.total, self.weight = {}, {}
        return {f"{prefix}/loss": sum(means.values()), **{f"{prefix}/{name}": value for name, value in means.items() if name != "loss"}}

    def reduce(self, strategy: pl.strategies.Strategy) -> None:
        """Sum over all processes."""
        names = sorted(self.total)
        both = torch.tensor([[self.total[n], self.weight[n]] for n in names], device=strategy.root_device)
        for name, (total, weight) in zip(names, strategy.reduce(both, reduce_op="sum").tolist(), strict=True):
            self.total[name], self.weight[name] = total, weight


class Signals:
    """SIGTERM and Ctrl-C as a wish to stop, heeded after the step; a second one acts at once.

    Entering remembers the handlers, leaving puts them back. ``listen`` is called when Lightning has set its own, which would broadcast
    from within the handler.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def listen(self) -> None:
        for number in self._before:
            signal.signal(number, self._catch)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        for other in self._before:
            signal.signal(other, signal.default_int_handler if other == signal.SIGINT else signal.SIG_DFL)


class Validation(Callback):
    """Isolates the noise of validation, logs its means, and remembers the best weights."""

    def __init__(self, signals: Signals, history: History) -> None:
        self.signals, self.history = signals, history
        self.best = math.inf
        self.weights: dict[str, Tensor] | None = None
        self.unsaved = False
        self.seconds = 0.0

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._began = time.monotonic()
        self._noise = get_noise(module.device)
        torch.manual_seed(mix(trainer.global_rank, 1))

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.signals.caught and trainer.world_size == 1:
            raise StopIteration  # Lightning ends the validation here

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Step)
        set_noise(self._noise, module.device)
        self.seconds += time.monotonic() - self._began
        if self.signals.caught and trainer.world_size == 1:
            module.validated = Sums()
            return
        if trainer.world_size > 1:
            module.validated.reduce(trainer.strategy)
        means = module.validated.take("val")
        module.log_dict(means, logger=False, batch_size=1)  # for callbacks that watch it, such as EarlyStopping
        log(trainer, self.history, {"step": trainer.global_step, "epoch": trainer.current_epoch, **means})
        if means["val/loss"] < self.best:
            self.best, self.unsaved = means["val/loss"], True
            self.weights = {name: value.detach().cpu().clone() for name, value in module.method.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = float(state["best"])


class Keeper(Checkpoint):
    """Seeds, logs, checks the time and the signals, and saves."""

    def __init__(self, run: Run) -> None:
        self.options, self.folder, self.history = run.options, run.folder, run.history
        self.signals, self.validation = run.signals, run.validation
        self.started = self.resumed = False
        self.rows = 0
        self.seconds = 0.0  # of this process
        self._earlier = 0.0  # of those before it
        self._step = self._epoch = 0
        self._wish = 0
        self._saved: dict[str, Any] = {}

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        assert isinstance(module, Step)
        self._module = module

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.started = True
        self._step = trainer.global_step
        if self.resumed:
            noise = self._saved["noise"]
            set_noise({kind: states[trainer.global_rank] for kind, states in noise.items()}, module.device)
        else:
            torch.manual_seed(mix(self.options.seed, trainer.global_rank, 0))
        if trainer.is_global_zero:
            self.history.rewind(self._step)
        self._bar = self._show(trainer, self._module)
        self._began = self._last_save = time.monotonic()
        self.validation.seconds = 0.0
        self.signals.listen()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Parcel, index: int) -> None:
        self.rows += len(batch.batch) * trainer.world_size
        step = trainer.global_step
        if step == self._step:  # gradients are still being accumulated, which no checkpoint holds
            return
        self._step, self._epoch = step, trainer.current_epoch
        if step % self.options.log_every == 0:
            self._log(trainer)
        if step == self.options.max_steps:
            trainer.should_stop = True
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
        self._tick()
        if self._step % self.options.log_every:
            self._log(trainer)
        if self.validation.unsaved:
            self._save_best(trainer)
        self._bar.close()
        if self.options.progress and trainer.is_global_zero:
            speed = self.rows / self.seconds if self.seconds else 0.0
            print(f"{self._step} steps; trained {self.seconds:.1f} s here, {speed:.0f} samples/s", file=sys.stderr)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        if self.started:
            self._bar.close()

    def state_dict(self) -> dict[str, Any]:
        strategy, module = self._module.trainer.strategy, self._module
        noise = {}
        for kind, state in get_noise(module.device).items():
            everyone = strategy.all_gather(state.to(strategy.root_device))
            noise[kind] = everyone.cpu().view(-1, state.numel())
        self._tick()
        window = {"total": module.window.total, "weight": module.window.weight}
        return {"noise": noise, "seconds": self._earlier + self.seconds, "window": window}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.resumed = True
        self._saved = state
        self._earlier = float(state["seconds"])
        self._module.window.total, self._module.window.weight = state["window"]["total"], state["window"]["weight"]

    def _agree(self, trainer: pl.Trainer) -> int:
        """Whether to save or stop after this step: the strongest wish of all processes, which must do it together."""
        due = self.folder is not None and time.monotonic() - self._last_save >= self.options.checkpoint_seconds
        wish = STOP if self.signals.caught else SAVE if due else 0
        if trainer.world_size == 1:
            return wish
        return int(trainer.strategy.reduce(torch.tensor(wish, device=trainer.strategy.root_device), reduce_op="max"))

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
            content = io.BytesIO()
            torch.save({"state_dict": self.validation.weights, "val/loss": self.validation.best}, content)
            write(self.folder.best, content.getbuffer())

    def _log(self, trainer: pl.Trainer) -> None:
        self._module.settle()
        means = self._module.window.take("train")
        self._tick()
        clock = {"seconds": round(self._earlier + self.seconds, 3)}
        log(trainer, self.history, {"step": self._step, "epoch": self._epoch, **clock, **means})
        self._bar.update(self._step - self._bar.n)
        self._bar.set_postfix({name.removeprefix("train/"): f"{value:.4g}" for name, value in means.items()}, refresh=False)

    def _tick(self) -> None:
        self.seconds = time.monotonic() - self._began - self.validation.seconds

    def _show(self, trainer: pl.Trainer, module: Step) -> tqdm[Any]:
        options, per_epoch = self.options, int(trainer.num_training_batches)
        limits = [options.max_steps, options.max_epochs * per_epoch // trainer.accumulate_grad_batches]
        total = min((limit for limit in limits if limit > 0), default=None)
        show = options.progress and trainer.is_global_zero
        if show:
            where = f"{module.device.type} × {trainer.world_size}, {options.precision}"
            weights = sum(p.numel() for p in module.parameters())
            goes_on = f", going on after step {self._step}" if self._step else ""
            batch = f"batches of {options.batch_size * trainer.world_size}, {per_epoch} a pass"
            print(f"{module.method.name}: {weights:,} parameters; {batch}; {where}{goes_on}", file=sys.stderr)
        hidden = not show or not (sys.stderr.isatty() or "ipykernel" in sys.modules)
        return tqdm(total=total, initial=self._step, unit="step", disable=hidden, dynamic_ncols=True, mininterval=0.5, file=sys.stderr)


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and reads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write(Path(path), content.getbuffer())

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        return _load(Path(path))


SAVE, STOP = 1, 2


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning without its tips, hardware lines and hints about loaders, which do not concern a user of ``fit``."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # Lightning's own use of torch
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def log(trainer: pl.Trainer, history: History, row: dict[str, float]) -> None:
    """One row to metrics.csv and to every logger."""
    if trainer.is_global_zero:
        history.add(row)
    for logger in trainer.loggers:
        logger.log_metrics({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))


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


def _means(terms: Terms) -> tuple[tuple[str, ...], Tensor]:
    """Names and, stacked, the means over the batch; in at least float32."""
    wide = (t.mean(dtype=torch.promote_types(t.dtype, torch.float32)) for t in terms.values())
    return tuple(terms), torch.stack(list(wide))


def _losses(method: Method, compiled: bool) -> Callable[[Batch, int], Terms]:
    if compiled and not hasattr(method, "compile_networks"):
        return torch.compile(method.losses)
    if compiled:
        method.compile_networks()
    return method.losses


def _lay_out(method: Method, layout: torch.memory_format) -> None:
    for weight in method.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=layout)


def _load(path: Path) -> dict[str, Any]:
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(read, dict) and "state_dict" in read:
            return read
        reason = "it holds no weights"
    except (FileNotFoundError, PermissionError):
        raise
    except (RuntimeError, EOFError, KeyError, ValueError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(
        f"{path} is not a readable checkpoint ({reason}); restore it, or delete it to begin anew; weights of the best validation are in best.ckpt"
    )
