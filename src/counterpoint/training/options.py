"""The options of a run, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from counterpoint.core import checks

MANAGED_KEYWORDS = {
    "gradient_clip_val": "use clip",
    "check_val_every_n_epoch": "use val_every",
    "val_check_interval": "use val_every",
    "enable_progress_bar": "use progress",
    "log_every_n_steps": "use log_every",
    "default_root_dir": "use out",
    "enable_checkpointing": "use out",
    "num_sanity_val_steps": "it is always 0",
    "use_distributed_sampler": "the loader shares the rows itself",
    "barebones": "it allows no checkpoints",
    "sync_batchnorm": "norms pass over processes that lack a modality, which would then wait for each other for ever; leave it out",
    "fast_dev_run": "use max_steps",
    "reload_dataloaders_every_n_epochs": "the loader reshuffles itself",
}
"""Trainer keywords that are set from the options or would break exact resumption, each
with what to use in its place."""

DEFAULT_EPOCHS = 20
"""Passes over the rows if no limit is given."""

_NO_LIMITS = {"max_epochs": None, "max_steps": -1, "max_time": None, "max_cpu_minutes": None}
_PLAIN_TYPES = (str, bytes, int, float, dict)
"""Types that a configuration file can hold where an object is expected."""

_LEAST_VALUES = {
    "batch_size": 2,
    "log_every": 1,
    "val_every": 1,
    "num_nodes": 1,
    "seed": 0,
    "weight_decay": 0,
    "cooldown": 0,
    "checkpoint_seconds": 0,
}

_RUN_OPTIONS = {
    "stages",
    "trainer",
    "seed",
    "devices",
    "accelerator",
    "strategy",
    "num_nodes",
    "progress",
    "loggers",
    "log_images",
}
"""Options that hold for the whole run, so that no stage can have its own."""

LoggerName = Literal["tensorboard", "wandb", "mlflow", "csv"]

_FREE = {"free": True}
"""Metadata of a field of :class:`FitOptions` whose value may change when a run resumes."""


@dataclass(frozen=True)
class FitOptions:
    """How to train.

    Args:
        max_epochs: passes over the rows; -1 for no limit. The default is 20 passes, or
            no limit if another limit is given.
        max_steps: optimiser steps; -1 for no limit. The first limit that is reached
            ends the run.
        max_time: longest training time, as ``"DD:HH:MM:SS"``. A resumed run counts all
            its parts.
        max_cpu_minutes: most processor time of the training, in minutes, summed over
            the threads of a process. Validation does not count. Runs that get equal
            processor time compare also on a machine that is shared. A method of several
            stages spends it in each.
        batch_size: rows per step and process.
        lr: learning rate of Adam.
        cooldown: number of last steps, before ``max_steps``, over which the learning
            rate falls linearly to zero. It may be added to a run that is resumed.
        weight_decay: decoupled weight decay. Above 0 the optimiser is AdamW.
        amsgrad: use the AMSGrad variant of Adam.
        clip: largest norm of the gradient; ``None`` does not clip.
        ema_decay: decay of an exponential moving average of the weights. The decay is
            smaller in the first steps, so that the average forgets the initial weights.
            The average is validated and returned in place of the last weights. Do not
            combine it with batch normalisation: results were worse
            (docs/notebook/idmvae).
        keep: the weights to keep at the end, ``"last"`` or ``"best"``. ``"last"`` is
            their average if ``ema_decay`` is set. ``"best"`` has the lowest loss on
            ``val``, with the final weight of every term. Validation rows come in one
            random order, the same for all runs, because some losses compare the rows of
            a batch.
        seed: seed of the order of the rows and of all noise. In Python, initial weights
            are drawn earlier, by the ``seed`` of ``for_data``. The command line uses
            this seed for both.
        precision: as in Lightning: ``"32-true"``, ``"bf16-mixed"``, ..., or ``"auto"``:
            ``"bf16-mixed"`` on a device that computes in bfloat16, else ``"32-true"``.
            A processor that only emulates bfloat16 is several times slower in it.
        channels_last: store convolution weights channels-last. This is faster on most
            processors in bf16.
        compile: use ``torch.compile``. It compiles the networks if the method defines
            ``compile_networks``, and its losses otherwise.
        activation_checkpointing: recompute decoders in the backward pass. It keeps only
            their outputs: more time and less memory if a step decodes many rows. On a
            GPU also set the method's ``decoder_batch_size``, so that decoding is done in
            parts.
        checkpoint_seconds: seconds between two checkpoints.
        log_every: steps between two lines of metrics.csv, each the average of its
            steps.
        val_every: epochs between two validations.
        devices: number of devices, as in Lightning.
        accelerator: kind of device, as in Lightning.
        strategy: how processes share the work, as in Lightning. ``"fsdp"``
            (:mod:`counterpoint.training.fsdp`) also runs on processors.
        num_nodes: number of machines, as in Lightning.
        loggers: what else the metrics go to, of ``"tensorboard"`` (if it is installed),
            ``"wandb"`` (offline), ``"mlflow"`` and ``"csv"``; empty for nothing but
            metrics.csv. All write into the run folder, and nothing without one.
        log_images: give the loggers pictures of recombinations at each validation.
        progress: show a progress bar (on a terminal) and the summary lines.
        stages: options of single stages, by the name of the stage, for a method that
            has several: ``{"flows": {"max_epochs": 50, "lr": 1e-3}}``.
        trainer: further keywords of Lightning's ``Trainer``.

    Raises:
        ValueError: a number out of its range, no limit at all, or a Trainer keyword
            that these options govern.

    >>> FitOptions(max_steps=200).epochs
    -1
    >>> FitOptions().epochs
    20
    """

    max_epochs: int | None = field(default=None, metadata=_FREE)
    max_steps: int = field(default=-1, metadata=_FREE)
    max_time: str | None = field(default=None, metadata=_FREE)
    max_cpu_minutes: float | None = field(default=None, metadata=_FREE)
    batch_size: int = 128
    lr: float = 5e-4
    cooldown: int = field(default=0, metadata=_FREE)
    weight_decay: float = 0.0
    amsgrad: bool = False
    clip: float | None = None
    ema_decay: float | None = None
    keep: Literal["last", "best"] = field(default="last", metadata=_FREE)
    seed: int = 0
    precision: str = "32-true"
    channels_last: bool = False
    compile: bool = False
    activation_checkpointing: bool = field(default=False, metadata=_FREE)
    checkpoint_seconds: float = field(default=60.0, metadata=_FREE)
    log_every: int = field(default=20, metadata=_FREE)
    val_every: int = field(default=1, metadata=_FREE)
    devices: int | str = 1
    accelerator: str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    loggers: tuple[LoggerName, ...] = field(default=("tensorboard",), metadata=_FREE)
    log_images: bool = field(default=False, metadata=_FREE)
    progress: bool = field(default=True, metadata=_FREE)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.record(self)
        self._check_ranges()
        self._check_limits()
        self._check_trainer()

    def _check_ranges(self) -> None:
        for name, least in _LEAST_VALUES.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} must be {least} or more")
        for name in ("lr", "clip", "max_cpu_minutes"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)} must be positive")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay {self.ema_decay} must lie between 0 and 1, e.g. 0.999")
        unknown = [name for name in self.loggers if name not in get_args(LoggerName)]
        if unknown:
            raise ValueError(
                f"unknown logger {unknown[0]!r}; choose from {', '.join(get_args(LoggerName))}"
            )
        if self.keep not in ("last", "best"):
            raise ValueError(f"keep {self.keep!r} must be 'last' or 'best'")

    def _check_limits(self) -> None:
        for name in ("max_epochs", "max_steps"):
            limit = getattr(self, name)
            if limit is not None and limit < 1 and limit != -1:
                raise ValueError(f"{name} {limit} must be 1 or more, or -1 for no limit")
        if self.cooldown and self.max_steps < self.cooldown:
            raise ValueError(
                f"cooldown {self.cooldown} counts the last steps before max_steps {self.max_steps}; set max_steps to as many or more"
            )
        if self.max_epochs == -1 and self._has_no_other_limit:
            raise ValueError(
                "the run would never end; set max_epochs, max_steps, max_time or max_cpu_minutes"
            )

    def _check_trainer(self) -> None:
        callbacks = self.trainer.get("callbacks")
        listed = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
        if any(isinstance(each, _PLAIN_TYPES) for each in listed):
            raise ValueError(
                f"trainer keyword 'callbacks' takes objects of Lightning's, got {checks.shown(callbacks)}; give them from Python"
            )
        own = {f.name for f in fields(self)}
        for name in self.trainer:
            if name in MANAGED_KEYWORDS or name in own:
                raise ValueError(
                    f"trainer keyword {name!r} is not passed on: {MANAGED_KEYWORDS.get(name, 'use the option of that name')}"
                )

    @property
    def epochs(self) -> int:
        """Most passes over the rows, -1 for no limit."""
        if self.max_epochs is not None:
            return self.max_epochs
        return DEFAULT_EPOCHS if self._has_no_other_limit else -1

    @property
    def _has_no_other_limit(self) -> bool:
        """Whether only ``max_epochs`` can end the run."""
        return self.max_steps == -1 and self.max_time is None and self.max_cpu_minutes is None


def for_stage(options: FitOptions, name: str) -> FitOptions:
    """The options of one stage of training.

    Raises:
        ValueError: an option that must be the same for all stages, or one out of its
            range.
    """
    changes = options.stages.get(name, {})
    shared = []
    for key in changes:
        if key not in {f.name for f in fields(FitOptions)} - _RUN_OPTIONS:
            shared.append(key)
    if shared:
        raise ValueError(
            f"stages.{name}: {shared[0]!r} is no option that a stage can have for itself"
        )
    return replace(options, **changes, stages={})


FREE_OPTIONS = {f.name for f in fields(FitOptions) if f.metadata.get("free")}
"""Options that may change when a run is resumed: its length and its output, not what
it computes."""


def lifted(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values that lift earlier limits on training, if later options set a limit: the
    limit that was given last decides.

    A cooldown is removed together with the ``max_steps`` from which it counts back.

    Args:
        given: the later fields of :class:`FitOptions`.

    Returns:
        Fields to reset; none if ``given`` sets no limit.

    >>> lifted({"max_steps": 100})
    {'max_epochs': None, 'max_time': None, 'max_cpu_minutes': None}
    """
    if all(given.get(name) in (None, -1) for name in _NO_LIMITS):
        return {}
    fallen = _NO_LIMITS if "max_steps" in given else {**_NO_LIMITS, "cooldown": 0}
    return {name: value for name, value in fallen.items() if name not in given}


def with_changes(options: FitOptions, changes: Mapping[str, Any]) -> FitOptions:
    """Change fields of ``options``. Other names become keywords of Lightning's
    ``Trainer``. Limits among the changes replace those of ``options``
    (:func:`lifted`).

    >>> with_changes(FitOptions(max_epochs=5), {"max_steps": 100}).max_epochs is None
    True
    """
    changes = {**lifted(changes), **changes}
    own = {f.name: getattr(options, f.name) for f in fields(options)}
    rest = {name: value for name, value in changes.items() if name not in own}
    chosen = own | {name: value for name, value in changes.items() if name in own}
    return FitOptions(**{**chosen, "trainer": {**chosen["trainer"], **rest}})


def plain(value: Any) -> Any:
    """Convert a value to what YAML can hold. Objects, such as callbacks, become the name
    of their class."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return f"{type(value).__module__}.{type(value).__qualname__}"


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a tree.

    >>> dict(leaves({"fit": {"lr": 0.1, "stages": {}}, "method": "mvae"}))
    {'fit.lr': 0.1, 'method': 'mvae'}
    """
    for key, value in tree.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def as_config(options: FitOptions) -> dict[str, Any]:
    """The options as a mapping for config.yaml."""
    shallow = {f.name: getattr(options, f.name) for f in fields(options)}
    return plain(shallow)
