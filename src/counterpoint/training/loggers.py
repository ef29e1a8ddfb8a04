"""Loggers beside metrics.csv: TensorBoard, Weights & Biases, MLflow, and Lightning's
own CSV files. All write into the run folder, and nowhere else: Weights & Biases works
offline (``wandb sync RUN/wandb/offline-run-*`` uploads a run), MLflow in a local folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
from pytorch_lightning.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from counterpoint.core.optional import required
from counterpoint.training.run_folder import RunFolder

PROJECT = "counterpoint"
"""The project of Weights & Biases, and the experiment of MLflow."""


class Tool:
    """One logger of a stage of training.

    Attributes:
        lightning: Lightning's logger, which takes the numbers.
    """

    lightning: Logger

    def draw(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Log a picture, (H, W, 3) uint8. A tool that holds none leaves it out."""

    def close(self) -> None:
        """End the record, so that a later stage can begin its own."""


class Environment:
    """The environment variables of one tool, as they are now."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._before = self._now()

    def restore(self) -> None:
        """Set them as they were."""
        for name in self._now():
            del os.environ[name]
        os.environ.update(self._before)

    def _now(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if k.startswith(self.prefix)}


class TensorBoard(Tool):
    """Events in ``tensorboard/``."""

    def __init__(self, folder: RunFolder) -> None:
        place = folder.tensorboard
        self.lightning: TensorBoardLogger = TensorBoardLogger(
            place.parent,
            name="",
            version=place.name,
        )

    def draw(self, name: str, pixels: np.ndarray, step: int) -> None:
        self.lightning.experiment.add_image(name, pixels, step, dataformats="HWC")


class CSV(Tool):
    """A folder in ``csv/`` for each part of a run."""

    def __init__(self, folder: RunFolder) -> None:
        self.lightning = CSVLogger(folder.csv, name="")


class WandB(Tool):
    """An offline run in ``wandb/``."""

    FOLDERS: ClassVar = (
        "WANDB_DIR",
        "WANDB_CACHE_DIR",
        "WANDB_CONFIG_DIR",
        "WANDB_DATA_DIR",
        "WANDB_ARTIFACT_DIR",
    )
    """Environment variables that say where it writes."""

    def __init__(self, folder: RunFolder) -> None:
        wandb = required("wandb", "loggers")
        folder.wandb.mkdir(parents=True, exist_ok=True)
        self._environment = Environment("WANDB_")
        os.environ.update(dict.fromkeys(self.FOLDERS, str(folder.wandb)))
        self.lightning: WandbLogger = WandbLogger(
            save_dir=folder.path,
            offline=True,
            project=PROJECT,
            name=folder.path.name,
            settings=wandb.Settings(silent=True, console="off", save_code=False),
        )

    def draw(self, name: str, pixels: np.ndarray, step: int) -> None:
        self.lightning.log_image(name, [pixels], step=step)

    def close(self) -> None:
        self.lightning.experiment.finish()
        self._environment.restore()


class MLflow(Tool):
    """A run in ``mlflow/``."""

    def __init__(self, folder: RunFolder) -> None:
        required("mlflow", "loggers")
        self._environment = Environment("MLFLOW_")
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # a folder, and no database
        self.lightning: MLFlowLogger = MLFlowLogger(
            experiment_name=PROJECT,
            run_name=folder.path.name,
            tracking_uri=folder.mlflow.resolve().as_uri(),
        )

    def draw(self, name: str, pixels: np.ndarray, step: int) -> None:
        file = f"{name.replace('/', '-')}-{step:07}.png"
        self.lightning.experiment.log_image(self.lightning.run_id, pixels, file)

    def close(self) -> None:
        self._environment.restore()


TOOLS: dict[str, Callable[[RunFolder], Tool]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "csv": CSV,
}
"""By the names that ``FitOptions.loggers`` takes."""


def opened(names: Sequence[str], folder: RunFolder | None) -> list[Tool]:
    """Open loggers; none without a run folder. TensorBoard is left out where it is not
    installed.

    Raises:
        ModuleNotFoundError: another one that is not installed; says how to install it.
    """
    if folder is None:
        return []
    there = [name for name in names if name != "tensorboard" or find_spec("tensorboard")]
    return [TOOLS[name](folder) for name in there]
