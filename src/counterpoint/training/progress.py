"""How long a run trains, and what it shows of that on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from counterpoint.core.precision import computes_bf16
from counterpoint.training.options import FitOptions


class Clock:
    """Seconds of training, without validation.

    Attributes:
        earlier: seconds of the processes that trained the run before this one.
        seconds: seconds of this process, at the last ``tick``.
        paused: seconds of this process that do not count.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.earlier = self.seconds = self.paused = 0.0
        self._now = now
        self._began: float | None = None
        self._pause = 0.0

    def start(self) -> None:
        """Begin to count."""
        self._began = self._now()
        self.paused = 0.0

    def pause(self) -> None:
        """Do not count what follows, until :meth:`go_on`."""
        self._pause = self._now()

    def go_on(self) -> None:
        """Count again."""
        self.paused += self._now() - self._pause

    def tick(self) -> None:
        """Bring ``seconds`` up to date; without ``start`` it does nothing."""
        if self._began is not None:
            self.seconds = self._now() - self._began - self.paused

    @property
    def total(self) -> float:
        """Seconds of the whole run so far."""
        self.tick()
        return self.earlier + self.seconds


class Clocks:
    """Two clocks of a run: on the wall, and the processor's, summed over threads."""

    def __init__(self) -> None:
        self.wall = Clock()
        self.cpu = Clock(time.process_time)

    def start(self) -> None:
        """Begin to count."""
        self.wall.start()
        self.cpu.start()

    def pause(self) -> None:
        """Do not count what follows."""
        self.wall.pause()
        self.cpu.pause()

    def go_on(self) -> None:
        """Count again."""
        self.wall.go_on()
        self.cpu.go_on()


class ProgressBar:
    """A summary line at the start, a bar on a terminal, and a summary line at the end.

    Args:
        title: name of the method and of its stage.
        step: first step of this process.
    """

    def __init__(
        self,
        title: str,
        options: FitOptions,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        step: int,
    ) -> None:
        self.shows = options.progress and bool(trainer.is_global_zero)
        if self.shows:
            print(f"{title}: {_summary(options, trainer, module, step)}", file=sys.stderr)
        on_terminal = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._bar: tqdm[Any] = tqdm(
            total=_last_step(options, trainer),
            initial=step,
            unit="step",
            disable=not (self.shows and on_terminal),
            dynamic_ncols=True,
            mininterval=0.5,
            file=sys.stderr,
        )

    def update(self, step: int, means: Mapping[str, float]) -> None:
        """Move to a step, and show its mean loss terms."""
        short = {name.removeprefix("train/"): f"{value:.4g}" for name, value in means.items()}
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix(short, refresh=False)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def end(self, step: int, rows: int, seconds: float) -> None:
        """Close the bar and print how fast this process trained."""
        self.close()
        if self.shows:
            speed = rows / seconds if seconds else 0.0
            print(
                f"{step} steps; trained {seconds:.1f} s here, {speed:.0f} samples/s",
                file=sys.stderr,
            )


def _summary(
    options: FitOptions, trainer: pl.Trainer, module: pl.LightningModule, step: int
) -> str:
    weights = sum(p.numel() for p in module.parameters() if p.requires_grad)
    batch = f"batches of {options.batch_size * trainer.world_size}, {int(trainer.num_training_batches)} a pass"
    device = module.device.type
    slow = "bf16" in str(trainer.precision) and not computes_bf16(device)
    precision = f"{trainer.precision}{' (emulated here: slow)' if slow else ''}"
    where = f"{device} × {trainer.world_size}, {precision}"
    goes_on = f", going on after step {step}" if step else ""
    return f"{weights:,} parameters; {batch}; {where}{goes_on}"


def _last_step(options: FitOptions, trainer: pl.Trainer) -> int | None:
    """The step at which the run ends; None if no limit on steps or passes is set."""
    steps_per_epoch = int(trainer.num_training_batches)
    limits = [
        options.max_steps,
        options.epochs * steps_per_epoch // trainer.accumulate_grad_batches,
    ]
    return min((limit for limit in limits if limit > 0), default=None)
