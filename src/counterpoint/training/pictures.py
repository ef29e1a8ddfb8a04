"""Pictures of what a method has learned so far, for the loggers of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from counterpoint.core.batch import Batch
from counterpoint.data.rows import Rows
from counterpoint.figures.drawable import Drawable
from counterpoint.figures.pictures import cross_generation, recombinations
from counterpoint.figures.rows import complete_batch
from counterpoint.training.history import History
from counterpoint.training.loggers import Tool
from counterpoint.training.trainable import Trainable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS = 6
_DPI = 100


class Pictures(Callback):
    """Draw recombinations of the same validation rows at each validation; of a method
    without private latents, cross generations. Training noise stays as it is.

    Args:
        method: what is trained.
        val: rows, of which complete ones are drawn.
        tools: take the pictures.
        history: says at which step of the run this stage began.

    Raises:
        ValueError: no validation rows, none that is complete, or a method that can't
            be drawn.
    """

    def __init__(
        self,
        method: Trainable,
        val: Rows | None,
        tools: Sequence[Tool],
        history: History,
    ) -> None:
        if val is None or not isinstance(method, Drawable):
            lacking = "val rows" if val is None else "a method that decodes, such as cp.IDMVAE"
            raise ValueError(f"log_images needs {lacking}; give it, or leave log_images out")
        self.method = method
        self.tools = tools
        self.history = history
        self.rows: Batch = complete_batch(method, val.in_memory(), _ROWS)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        step = self.history.before + trainer.global_step
        for name, figure in self._figures().items():
            pixels = rendered(figure)
            for tool in self.tools:
                tool.draw(name, pixels, step)

    def _figures(self) -> dict[str, Figure]:
        rows = self.rows.to(self.method.device)
        private = self.method.model.private_dims
        if not private:
            return {"val/cross-generation": cross_generation(self.method, rows)}
        return {
            f"val/recombination/{name}": recombinations(self.method, rows, name) for name in private
        }


def rendered(figure: Figure) -> np.ndarray:
    """The figure on white paper, (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(_DPI)
    figure.set_facecolor("white")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels: np.ndarray = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels
