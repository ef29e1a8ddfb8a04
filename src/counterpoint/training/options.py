"""The options of a run, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from counterpoint.core import checks

MANAGED = {  # Trainer keywords that are set from the options or would break exact resumption
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

EPOCHS = 20
"""Passes over the rows where no limit is given."""

_NO_LIMITS = {"max_epochs": None, "max_steps": -1, "max_time": None}
_PLAIN = (str, bytes, int, float, dict)
"""What a configuration can hold in the place of an object."""

_OF_THE_RUN = {
    "stages",
    "trainer",
    "seed",
    "devices",
    "accelerator",
    "strategy",
    "num_nodes",
    "progress",
    "tensorboard",
}


@dataclass(frozen=True)
class FitOptions:
    """How to train.

    Args:
        max_epochs: stop after so many passes over the rows; -1 for no limit. By default
            20 passes where no limit is given, and no limit where ``max_steps`` or
            ``max_time`` is.
        max_steps: stop after so many optimiser steps; -1 for no limit. Of limits that
            are given, the first to be reached ends the run.
        max_time: stop after this time, as ``"DD:HH:MM:SS"``, counted over all parts of
            a resumed run.
        batch_size: rows per step and process.
        lr: learning rate of Adam.
        cooldown: the last steps before ``max_steps``, over which the learning rate
            falls linearly to zero. May be added to a run that goes on.
        weight_decay: decoupled weight decay; above 0 the optimiser is AdamW.
        amsgrad: the AMSGrad variant.
        clip: largest norm of the gradient; ``None`` leaves it as it is.
        ema: decay of an exponential moving average of the weights, smaller in the first
            steps, so that these are forgotten; it is validated and returned instead of
            the last weights. Leave it off with batch normalisation, with which it did
            harm (docs/results/idmvae).
        select: the weights to keep at the end: ``"last"`` (their average with ``ema``),
            or ``"best"`` by the loss on ``val``, with the final weight of every term.
            Its rows come in one random order, the same for all runs: losses that
            compare the rows of a batch depend on it.
        seed: fixes the order of the rows and all noise. Initial weights are drawn
            before, when the method is made, by the ``seed`` of ``for_data``; at the
            command line both are this one.
        precision: as in Lightning: ``"32-true"``, ``"bf16-mixed"``, ...
        channels_last: keep the weights of convolutions channels-last, which is faster
            on most processors in bf16.
        compile: use ``torch.compile``: on the networks where the method says how
            (``compile_networks``), on its losses otherwise.
        recompute: keep only the decoders' outputs, and decode and compare again in the
            backward pass: more time and less memory where a step decodes many rows. On
            a GPU give the method's ``decoder_batch_size`` too, so that it is done in parts.
        checkpoint_seconds: time between two checkpoints.
        log_every: steps between two lines of metrics.csv; each averages the steps since
            the last.
        val_every: epochs between two validations.
        devices, accelerator, strategy, num_nodes: as in Lightning; ``"fsdp"``
            (:mod:`counterpoint.training.fsdp`) runs on processors, too.
        tensorboard: write TensorBoard events too, where it is installed and there is a
            run folder.
        progress: show a progress bar (on a terminal) and the summary lines.
        stages: by the name of a stage of a method that has several, options that differ
            in it: ``{"flows": {"max_epochs": 50, "lr": 1e-3}}``.
        trainer: further keywords of Lightning's ``Trainer``.

    Raises:
        ValueError: a number out of its range, no limit at all, or a Trainer keyword
            that the options govern.
    """

    max_epochs: int | None = field(default=None, metadata={"free": True})
    max_steps: int = field(default=-1, metadata={"free": True})
    max_time: str | None = field(default=None, metadata={"free": True})
    batch_size: int = 128
    lr: float = 5e-4
    cooldown: int = field(default=0, metadata={"free": True})
    weight_decay: float = 0.0
    amsgrad: bool = False
    clip: float | None = None
    ema: float | None = None
    select: Literal["last", "best"] = field(default="last", metadata={"free": True})
    seed: int = 0
    precision: str = "32-true"
    channels_last: bool = False
    compile: bool = False
    recompute: bool = field(default=False, metadata={"free": True})
    checkpoint_seconds: float = field(default=60.0, metadata={"free": True})
    log_every: int = field(default=20, metadata={"free": True})
    val_every: int = field(default=1, metadata={"free": True})
    devices: int | str = 1
    accelerator: str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    tensorboard: bool = field(default=True, metadata={"free": True})
    progress: bool = field(default=True, metadata={"free": True})
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.record(self)
        least_of = {
            "batch_size": 2,
            "log_every": 1,
            "val_every": 1,
            "num_nodes": 1,
            "seed": 0,
            "weight_decay": 0,
            "cooldown": 0,
        }
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} must be {least} or more")
        for name in ("max_epochs", "max_steps"):
            if (limit := getattr(self, name)) is not None and limit < 1 and limit != -1:
                raise ValueError(
                    f"{name} {getattr(self, name)} must be 1 or more, or -1 for no limit"
                )
        if self.cooldown and self.max_steps < self.cooldown:
            raise ValueError(
                f"cooldown {self.cooldown} counts the last steps before max_steps {self.max_steps}; set max_steps to as many or more"
            )
        if self.max_epochs == -1 and self.max_steps == -1 and self.max_time is None:
            raise ValueError("the run would never end; set max_epochs, max_steps or max_time")
        for name in ("lr", "clip"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)} must be positive")
        if self.checkpoint_seconds < 0:
            raise ValueError(f"checkpoint_seconds {self.checkpoint_seconds} must be 0 or more")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema {self.ema} must lie between 0 and 1, e.g. 0.999")
        if self.select not in ("last", "best"):
            raise ValueError(f"select {self.select!r} must be 'last' or 'best'")
        callbacks = self.trainer.get("callbacks")
        if any(
            isinstance(each, _PLAIN)
            for each in (callbacks if isinstance(callbacks, list | tuple) else [callbacks])
        ):
            raise ValueError(
                f"trainer keyword 'callbacks' takes objects of Lightning's, got {checks.shown(callbacks)}; give them from Python"
            )
        own = {f.name for f in fields(self)}
        for name in self.trainer:
            if name in MANAGED or name in own:
                raise ValueError(
                    f"trainer keyword {name!r} is not passed on: {MANAGED.get(name, 'use the option of that name')}"
                )

    @property
    def epochs(self) -> int:
        """Most passes over the rows, -1 for no limit."""
        if self.max_epochs is not None:
            return self.max_epochs
        return EPOCHS if self.max_steps == -1 and self.max_time is None else -1


def for_stage(options: FitOptions, name: str) -> FitOptions:
    """The options of one stage of training.

    Raises:
        ValueError: an option that no stage can have for itself, or one out of its
            range.
    """
    changes = options.stages.get(name, {})
    shared = [
        key for key in changes if key not in {f.name for f in fields(FitOptions)} - _OF_THE_RUN
    ]
    if shared:
        raise ValueError(
            f"stages.{name}: {shared[0]!r} is no option that a stage can have for itself"
        )
    return replace(options, **changes, stages={})


FREE = {f.name for f in fields(FitOptions) if f.metadata.get("free")}
"""Options that may change when a run is resumed: how long it lasts and what it shows,
not what it computes."""


def lifted(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that limits given later put back to no limit: the limits that they do not
    name, so that a run is as long as was asked for last.

    A cooldown goes with a ``max_steps`` that is replaced, because it counts back from
    it.

    Args:
        given: fields of :class:`FitOptions` that come later, and no others.

    Returns:
        Values by name; none where ``given`` holds no limit.
    """
    if all(given.get(name) in (None, -1) for name in _NO_LIMITS):
        return {}
    fallen = _NO_LIMITS if "max_steps" in given else {**_NO_LIMITS, "cooldown": 0}
    return {name: value for name, value in fallen.items() if name not in given}


def with_changes(options: FitOptions, changes: Mapping[str, Any]) -> FitOptions:
    """``options`` with the given fields changed; other names are taken as keywords of
    Lightning's ``Trainer``. Limits among the changes replace those of ``options``
    (:func:`lifted`)."""
    changes = {**lifted(changes), **changes}
    own = {f.name: getattr(options, f.name) for f in fields(options)}
    rest = {name: value for name, value in changes.items() if name not in own}
    chosen = own | {name: value for name, value in changes.items() if name in own}
    return FitOptions(**{**chosen, "trainer": {**chosen["trainer"], **rest}})


def plain(value: Any) -> Any:
    """``value`` as YAML can hold it; objects (callbacks, loggers) by the name of their
    class."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return f"{type(value).__module__}.{type(value).__qualname__}"


def as_config(options: FitOptions) -> dict[str, Any]:
    """The options as a mapping for config.yaml."""
    shallow = {f.name: getattr(options, f.name) for f in fields(options)}
    return plain(shallow)
