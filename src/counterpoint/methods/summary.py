"""``method.summary()``: the parts of a method, and what a step of training decodes.

>>> from counterpoint import DMVAE, Modality, NetworkOptions
>>> networks = NetworkOptions(hidden=(8,))
>>> method = DMVAE([Modality("x", (3,))], shared_dim=2, private_dim=1, networks=networks)
>>> method.summary()
dmvae: 177 parameters
part          input  output  parameters
encoder of x  3      2; 1           118
decoder of x  3      3               59
prior of z           2                0
prior of w_x         1                0
rows decoded in a step of training, for each row of a batch: x 2
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from counterpoint.core import noise
from counterpoint.core.batch import Batch
from counterpoint.core.latents import SHARED_KEY, private_key
from counterpoint.core.modality import Modality
from counterpoint.model.denoising import Denoising
from counterpoint.model.encoders import FlowEncoder
from counterpoint.model.model import Model
from counterpoint.model.rules import JointRule
from counterpoint.nn.evaluation import evaluating
from counterpoint.objectives.stages import Stage
from counterpoint.training.trainable import TrainableModel

Shape = tuple[int, ...]

_BATCH_ROWS = 4
_COLUMNS = ("part", "input", "output", "parameters")


@dataclass(frozen=True)
class Part:
    """One network or density of a method.

    Args:
        name: what it is, and of which modality or latent.
        inputs: shapes of what it reads, for one row.
        outputs: shapes of what it gives, for one row; of an encoder, the sizes of the
            latents.
        parameters: the number of its parameters, without those of the parts before it.
    """

    name: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    parameters: int


@dataclass(frozen=True, repr=False)
class Summary:
    """The parts of a method, and what a step of training decodes. Its text is a table.

    Args:
        method: the name of the method.
        parts: encoders, flows, decoders, denoisers, priors, and what else learns.
        decoded: by stage of training (``""`` for the only one), by modality: rows that
            its decoder or denoiser reads for each row of a batch, once all terms count;
            for one draw of the subsets, where a method draws subsets of modalities.
    """

    method: str
    parts: tuple[Part, ...]
    decoded: Mapping[str, Mapping[str, float]]

    @property
    def parameters(self) -> int:
        """The number of all parameters."""
        return sum(part.parameters for part in self.parts)

    def __repr__(self) -> str:
        lines = [_COLUMNS]
        for part in self.parts:
            shapes = _shapes(part.inputs), _shapes(part.outputs)
            lines.append((part.name, *shapes, f"{part.parameters:,}"))
        *left, last = (max(map(len, column)) for column in zip(*lines, strict=True))
        text = [f"{self.method}: {self.parameters:,} parameters"]
        for *cells, number in lines:
            padded = [cell.ljust(width) for cell, width in zip(cells, left, strict=True)]
            text.append("  ".join([*padded, number.rjust(last)]))
        for stage, counts in self.decoded.items():
            where = f"of the stage {stage!r}, " if stage else ""
            rows = ", ".join(f"{name} {count:g}" for name, count in counts.items())
            text.append(
                f"rows decoded in a step of training, {where}for each row of a batch: {rows}"
            )
        return "\n".join(text)


def summarised(method: TrainableModel, name: str) -> Summary:
    """The summary of a method.

    The rows that are decoded are counted on a batch of blank rows that have every
    modality. Weights and random generators stay as they are.
    """
    stages = {stage.name: _decoded_rows(method, stage) for stage in method.stages}
    return Summary(name, (*_parts(method),), stages)


def _parts(method: TrainableModel) -> Iterator[Part]:
    counted: set[int] = set()
    for name, module, inputs, outputs in _modules(method.model):
        new = {id(p): p.numel() for p in module.parameters() if id(p) not in counted}
        counted |= {*new}
        yield Part(name, tuple(inputs), tuple(outputs), sum(new.values()))
    rest = sum(p.numel() for p in method.parameters() if id(p) not in counted)
    if rest:
        yield Part("losses", (), (), rest)


def _modules(
    model: Model,
) -> Iterator[tuple[str, nn.Module, Sequence[Shape], Sequence[Shape]]]:
    """Names, modules and shapes, inner parts before those that hold them."""
    z = (model.shared_dim,)
    for name, encoder in model.posterior.encoders.items():
        if isinstance(encoder, FlowEncoder) and encoder.flow is not None:
            context = (encoder.flow.context,) if encoder.flow.context else ()
            yield f"flow of {name}", encoder.flow, [z, *([context] if context else [])], [z]
        private = [(model.private_dims[name],)] if name in model.private_dims else []
        yield f"encoder of {name}", encoder, [model.modalities[name].shape], [z, *private]
    shapes = [modality.shape for modality in model.modalities.values()]
    if isinstance(model.posterior.rule, JointRule):
        yield "joint encoder", model.posterior.rule.encoder, shapes, [z]
    for name, modality in model.modalities.items():
        read = (z[0] + model.private_dims.get(name, 0) + len(modality.covariates),)
        likelihood = model.likelihood(name)
        if isinstance(likelihood, Denoising):
            seen = [modality.shape, likelihood.output_shape]
            yield f"denoiser of {name}", likelihood.network, seen, [modality.shape]
        yield f"decoder of {name}", model.decoder(name), [read], [likelihood.output_shape]
    yield from _latent_parts(model)


def _latent_parts(
    model: Model,
) -> Iterator[tuple[str, nn.Module, Sequence[Shape], Sequence[Shape]]]:
    """Priors and the refiner."""
    sizes = {key: (size,) for key, size in model.latents.items()}
    yield f"prior of {SHARED_KEY}", model.prior, [], [sizes[SHARED_KEY]]
    for title, priors in (("", model.private_priors), ("auxiliary ", model.auxiliary_priors)):
        for name, prior in priors.items():
            yield f"{title}prior of w_{name}", prior, [], [sizes[private_key(name)]]
    for kind in model.fitted_priors:
        for key, size in sizes.items():
            yield f"{kind} prior of {key}", model.fitted_prior(kind, key), [], [size]
    if model.refiner is not None:
        yield "refiner", model.refiner, [*sizes.values()], [*sizes.values()]


def _decoded_rows(method: TrainableModel, stage: Stage) -> dict[str, float]:
    """By modality, the rows that its decoder reads for each row of a batch."""
    model = method.model
    counts = dict.fromkeys(model.names, 0)
    batch = _blank([*model.modalities.values()], method.device)
    with ExitStack() as watching:
        for name in model.names:
            likelihood = model.likelihood(name)
            network = (
                likelihood.network if isinstance(likelihood, Denoising) else model.decoder(name)
            )

            def count(module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                counts[name] += len(inputs[0])

            watching.callback(network.register_forward_pre_hook(count).remove)
        with evaluating(method), noise.seeded(torch.Generator().manual_seed(0)):
            stage.terms(model, model.encode(batch))
    return {name: rows / _BATCH_ROWS for name, rows in counts.items()}


def _blank(modalities: Sequence[Modality], device: torch.device) -> Batch:
    """Rows of zeros that have every modality."""
    x = {}
    for m in modalities:
        kind = torch.long if m.likelihood == "categorical" else torch.float
        x[m.name] = torch.zeros(_BATCH_ROWS, *m.shape, dtype=kind, device=device)
    present = {m.name: torch.ones(_BATCH_ROWS, dtype=torch.bool, device=device) for m in modalities}
    return Batch(x, present, modalities=tuple(modalities))


def _shapes(shapes: Sequence[Shape]) -> str:
    return "; ".join("×".join(map(str, shape)) for shape in shapes)
