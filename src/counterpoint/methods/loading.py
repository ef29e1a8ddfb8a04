"""``load``: open a method that ``save_pretrained`` wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterpoint.core import checks
from counterpoint.core.documents import read_json
from counterpoint.core.memory import Budget, TooLarge
from counterpoint.core.modality import Modality
from counterpoint.methods.additions import add
from counterpoint.methods.method import Method
from counterpoint.methods.registry import method_named
from counterpoint.model import format as files
from counterpoint.model.additions import Addition
from counterpoint.nn.modules import weights_from

SPARE_BYTES = 2**28
"""Memory that a model may take beyond four times that of its weights: masks, schedules
and temporary values."""


@checks.arguments
def load(folder: str | Path, *, revision: str | None = None) -> Method:
    """Open a method that ``save_pretrained`` or ``push_to_hub`` wrote.

    >>> import counterpoint as cp
    >>> from tempfile import TemporaryDirectory
    >>> method = cp.MVAE.from_config([cp.Modality("x", (3,))], {"shared_dim": 2})
    >>> with TemporaryDirectory() as folder:
    ...     opened = cp.load(method.save_pretrained(folder))
    >>> opened
    MVAE(x; z 2; 135,175 parameters)

    Args:
        folder: that of the model; a run folder, which has it in ``model/``; or
            ``"owner/name"`` of a model repository of the Hugging Face Hub, if there is
            no folder called ``owner``.
        revision: of such a repository: a branch, a tag or a commit.

    Returns:
        The method, in evaluation mode.

    Raises:
        FileNotFoundError: no model there.
        ValueError: files that are damaged or do not belong together.
    """
    if isinstance(folder, str) and _names_repository(folder):
        folder = _downloaded(folder, revision)
    folder = Path(folder)
    if (folder / "model").is_dir():
        folder = folder / "model"
    config = folder / files.CONFIG
    if not config.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {files.CONFIG}; give a run folder or one written by save_pretrained"
        )
    held = 0
    try:
        record = read_json(config)
        known = files.named(record)
        held = files.weights_file(folder, known).stat().st_size
        # Weights are replaced, but drawing them must leave torch's generator alone.
        with Budget(4 * held + SPARE_BYTES), weights_from(0):
            method = _composed(record)
    except TooLarge:
        raise ValueError(
            f"{config} asks for a model far larger than the {held:,} bytes of its weights; restore it or train again"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{config} is damaged ({error}); restore it or train again") from error
    try:
        method.load_state_dict(files.read_weights(folder, known))
    except RuntimeError as error:
        reason = str(error).partition(":")[2] or str(error)  # without the name of the class
        raise files.refused(folder / files.WEIGHTS, reason) from error
    return method.eval()


def _names_repository(text: str) -> bool:
    """Whether it has the form of "owner/name", and is no path from here."""
    owner, _, name = text.partition("/")
    plain = all(re.fullmatch(r"[\w][\w.-]*", part) for part in (owner, name))
    return plain and not Path(owner).exists()


def _downloaded(repository: str, revision: str | None) -> Path:
    """The folder of a model of the Hub, in the cache of huggingface_hub.

    Raises:
        FileNotFoundError: no such repository, or no connection.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    wanted = [files.CONFIG, "*.safetensors"]
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise FileNotFoundError(
            f"{repository} is no folder, and the Hugging Face Hub gives no such model ({reason})"
        ) from error


def _composed(record: Mapping[str, Any]) -> Method:
    """The method of a record, with what was fitted afterwards, before its weights."""
    modalities = [Modality(**m) for m in record["modalities"]]
    method = method_named(record["method"]).from_config(modalities, record["config"])
    unsaid = [option for option in method.config if option not in record["config"]]
    if unsaid:  # the weights may have been trained with another value than the default
        raise ValueError(f"it does not say {unsaid[0]!r}, so it is of another version")
    for addition in record["additions"]:
        add(method.model, Addition(**addition))
    return method
