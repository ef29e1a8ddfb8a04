"""Saving a method to a folder or to the Hugging Face Hub.

The format of the files is in :mod:`counterpoint.model.format`;
:func:`counterpoint.methods.loading.load` reads them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from torch import Tensor

from counterpoint.core.files import write
from counterpoint.methods.additions import additions_of
from counterpoint.methods.card import README, Card, Measured
from counterpoint.model import format as files
from counterpoint.model.additions import Addition
from counterpoint.training.trainable import TrainableModel


class Saving(TrainableModel):
    """How a method is saved; a mixin of :class:`~counterpoint.methods.method.Method`.

    >>> from tempfile import TemporaryDirectory
    >>> import counterpoint as cp
    >>> method = cp.MVAE.from_config([cp.Modality("x", (3,))], {"shared_dim": 2})
    >>> with TemporaryDirectory() as folder:
    ...     sorted(path.name for path in method.save_pretrained(folder).iterdir())
    ['README.md', 'config.json', 'model.safetensors']
    >>> method.additions
    ()
    """

    title: ClassVar[str]

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        data: str | None = None,
        evaluation: Measured | None = None,
        licence: str | None = None,
    ) -> Path:
        """Write ``config.json``, ``model.safetensors`` and a model card, ``README.md``.

        Whatever interrupts it, the folder holds the former model or the new one.

        Args:
            folder: where to write.
            data: the name of the data, for the card; by default that of the evaluation.
            evaluation: measurements, for the card.
            licence: of the model, for the card, such as ``"apache-2.0"``.

        Returns:
            The folder.

        Raises:
            OSError: the disk is full or the folder cannot be written. The folder keeps
                the model that it held.
        """
        folder = Path(folder)
        self._save(folder, Card("path/to/this/folder", data, evaluation, licence))
        return folder

    def _save(self, folder: Path, card: Card) -> None:
        record = {
            "method": self.name,
            "modalities": [dataclasses.asdict(m) for m in self.modalities],
            "config": self.config,
            "additions": [dataclasses.asdict(addition) for addition in self.additions],
        }
        files.keep(folder, record, self._weights())
        text = card.text(self, getattr(self, "title", ""))
        write(folder / README, text.encode())

    @property
    def additions(self) -> tuple[Addition, ...]:
        """What was fitted to the model beside its objective: priors, decoders, a
        refiner."""
        return additions_of(self.model)

    @property
    def checksum(self) -> str:
        """SHA-256 of the weights as ``save_pretrained`` writes them."""
        return files.checksum(self._weights())

    def push_to_hub(
        self,
        repository: str,
        *,
        token: str | None = None,
        private: bool = False,
        data: str | None = None,
        evaluation: Measured | None = None,
        licence: str | None = None,
    ) -> str:
        """Upload what ``save_pretrained`` writes to a model repository of the Hugging
        Face Hub, and create the repository if needed.

        Args:
            repository: "owner/name".
            token: of an account that may write there; None for the one that this
                computer is logged in with.
            private: of a new repository.
            data: as in ``save_pretrained``.
            evaluation: as in ``save_pretrained``.
            licence: as in ``save_pretrained``.

        Returns:
            The address of the commit.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with TemporaryDirectory() as folder:
            self._save(Path(folder), Card(repository, data, evaluation, licence))
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=folder))

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
