"""The model card: a README.md beside the weights, which the Hugging Face Hub shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from counterpoint.core.modality import Modality
from counterpoint.training.trainable import TrainableModel

README = "README.md"

_TEXT = """---
{data}
---

# {name}{on}

A multimodal generative model, trained with Counterpoint.

- Method: `{name}`{paper}
- Data: {source}
- Latents: {latents}
- Parameters: {parameters:,}

## Modalities

| name | shape | likelihood |
|---|---|---|
{modalities}

## Load

```python
import counterpoint as cp

model = cp.load("{address}")
```

## Measurements

{measurements}

## Licence

{licence}
"""


class Measured(Protocol):
    """What a card shows of an evaluation; :class:`counterpoint.metrics.Evaluation` has
    it."""

    @property
    def meta(self) -> Mapping[str, Any]: ...

    def table(self) -> str: ...


@dataclass(frozen=True)
class Card:
    """What a model card says beside what the model knows of itself.

    Args:
        address: what ``cp.load`` takes.
        data: the name of the data; by default that of the evaluation.
        evaluation: the measurements to show.
        licence: as the Hub writes it, such as ``"apache-2.0"``; left open by default.
    """

    address: str
    data: str | None = None
    evaluation: Measured | None = None
    licence: str | None = None

    def text(self, method: TrainableModel, title: str) -> str:
        """The contents of README.md.

        Args:
            method: what is saved.
            title: its paper and address; may be empty.
        """
        from huggingface_hub import ModelCardData

        known = ModelCardData(
            license=self.licence,
            library_name="counterpoint",
            tags=["multimodal", "variational-autoencoder", method.name],
        )
        source = self.data or self._measured_data()
        sizes = method.model.latents.items()
        return _TEXT.format(
            data=known.to_yaml(),
            name=method.name,
            on=f" on {source}" if source else "",
            paper=f": {title}" if title else "",
            source=source or "not stated",
            latents=", ".join(f"{key} {size}" for key, size in sizes),
            parameters=sum(p.numel() for p in method.parameters()),
            modalities="\n".join(map(_row, method.modalities)),
            address=self.address,
            measurements=self._measurements(),
            licence=self.licence or "Not stated; the owner of this model chooses one.",
        )

    def _measured_data(self) -> str | None:
        return None if self.evaluation is None else self.evaluation.meta.get("data", {}).get("name")

    def _measurements(self) -> str:
        if self.evaluation is None:
            return "None are stated."
        split = self.evaluation.meta.get("split", "test")
        return f"On the {split} split:\n\n```text\n{self.evaluation.table().rstrip()}\n```"


def _row(modality: Modality) -> str:
    shape = " × ".join(map(str, modality.shape))
    return f"| {modality.name} | {shape} | {modality.likelihood} |"
