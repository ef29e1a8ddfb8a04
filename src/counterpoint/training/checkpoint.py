"""Checkpoint files: written whole or not at all, read without executing code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from counterpoint.core.files import write


class CheckpointFile(TorchCheckpointIO):
    """Write checkpoints whole or not at all; read only tensors and plain values."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        save(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read(Path(path))


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint in torch's format.

    Raises:
        OSError: it cannot be written; what was at ``path`` is intact.
    """
    content = io.BytesIO()
    torch.save(checkpoint, content)
    write(path, content.getbuffer())


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint, without executing anything in it.

    Raises:
        ValueError: it is damaged, or something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(content, dict) and "state_dict" in content:
            return content
        reason = "it holds no weights"
    except (FileNotFoundError, PermissionError):
        raise
    except (RuntimeError, EOFError, KeyError, ValueError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(
        f"{path} is not a readable checkpoint ({reason}); restore it, or delete it to begin anew; weights of the best validation are in best.ckpt"
    )
