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
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

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

    >>> Part("decoder of x", ((2,),), ((3,),), parameters=27).parameters
    27
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

    >>> Summary("toy", (Part("prior of z", (), ((2,),), 4),), {}).parameters
    4
    """

    method: str
    parts: tuple[Part, ...]
    decoded: Mapping[str, Mapping[str, float]]

    @property
    def parameters(self) -> int:
        """The number of all parameters."""
        return sum(part.parameters for part in self.parts)

    def __repr__(self) -> str:
        title = f"{self.method}: {self.parameters:,} parameters"
        return "\n".join([title, *self._table(), *self._costs()])

    def _table(self) -> Iterator[str]:
        """A line for each part, under a head."""
        lines = [_COLUMNS]
        for part in self.parts:
            line = (
                part.name,
                _shapes(part.inputs),
                _shapes(part.outputs),
                f"{part.parameters:,}",
            )
            lines.append(line)
        columns = zip(*lines, strict=True)
        *widths, last = (max(map(len, column)) for column in columns)
        for *cells, number in lines:
            padded = map(str.ljust, cells, widths)
            yield "  ".join([*padded, number.rjust(last)])

    def _costs(self) -> Iterator[str]:
        """A line for each stage: what a step decodes."""
        for stage, counts in self.decoded.items():
            where = f"of the stage {stage!r}, " if stage else ""
            rows = ", ".join(f"{name} {count:g}" for name, count in counts.items())
            yield f"rows decoded in a step of training, {where}for each row of a batch: {rows}"


def summarised(method: TrainableModel, name: str) -> Summary:
    """The summary of a method.

    The rows that are decoded are counted on a batch of blank rows that have every
    modality. Weights and random generators stay as they are.

    >>> from counterpoint import MVAE, Modality
    >>> method = MVAE([Modality("x", (3,)), Modality("y", (2,))], shared_dim=2)
    >>> summarised(method, "mvae").decoded
    {'': {'x': 2.0, 'y': 2.0}}
    """
    stages = {stage.name: _decoded_rows(method, stage) for stage in method.stages}
    return Summary(name, (*_parts(method),), stages)


@dataclass(frozen=True)
class _Found:
    """A module of a method, with the shapes of one row."""

    name: str
    module: nn.Module
    outputs: Sequence[Shape]
    inputs: Sequence[Shape] = ()


def _parts(method: TrainableModel) -> Iterator[Part]:
    """The parts; a parameter counts for the first that has it."""
    counted: set[int] = set()
    for found in (*_networks(method.model), *_latent_parts(method.model)):
        new = {id(p): p.numel() for p in found.module.parameters() if id(p) not in counted}
        counted |= {*new}
        yield Part(
            name=found.name,
            inputs=tuple(found.inputs),
            outputs=tuple(found.outputs),
            parameters=sum(new.values()),
        )
    rest = sum(p.numel() for p in method.parameters() if id(p) not in counted)
    if rest:
        yield Part("losses", (), (), rest)


def _networks(model: Model) -> Iterator[_Found]:
    """Encoders and decoders, inner parts before those that hold them."""
    z = (model.shared_dim,)
    for modality in model.modalities.values():
        yield from _of_encoder(model, modality)
    if isinstance(model.posterior.rule, JointRule):
        yield _Found(
            name="joint encoder",
            module=model.posterior.rule.encoder,
            inputs=[modality.shape for modality in model.modalities.values()],
            outputs=[z],
        )
    for modality in model.modalities.values():
        yield from _of_decoder(model, modality)


def _of_encoder(model: Model, modality: Modality) -> Iterator[_Found]:
    name = modality.name
    encoder = model.posterior.encoders[name]
    z = (model.shared_dim,)
    latents = [z]
    if name in model.private_dims:
        latents.append((model.private_dims[name],))
    if isinstance(encoder, FlowEncoder) and encoder.flow is not None:
        read = [z]
        if encoder.flow.context:
            read.append((encoder.flow.context,))
        yield _Found(
            name=f"flow of {name}",
            module=encoder.flow,
            inputs=read,
            outputs=[z],
        )
    yield _Found(
        name=f"encoder of {name}",
        module=encoder,
        inputs=[modality.shape],
        outputs=latents,
    )


def _of_decoder(model: Model, modality: Modality) -> Iterator[_Found]:
    name = modality.name
    likelihood = model.likelihood(name)
    size = model.shared_dim
    size += model.private_dims.get(name, 0)
    size += len(modality.covariates)
    if isinstance(likelihood, Denoising):
        yield _Found(
            name=f"denoiser of {name}",
            module=likelihood.network,
            inputs=[modality.shape, likelihood.output_shape],
            outputs=[modality.shape],
        )
    yield _Found(
        name=f"decoder of {name}",
        module=model.decoder(name),
        inputs=[(size,)],
        outputs=[likelihood.output_shape],
    )


def _latent_parts(model: Model) -> Iterator[_Found]:
    """Priors and the refiner."""
    sizes = {key: (size,) for key, size in model.latents.items()}
    yield _Found(
        name=f"prior of {SHARED_KEY}",
        module=model.prior,
        outputs=[sizes[SHARED_KEY]],
    )
    for title, priors in (
        ("prior", model.private_priors),
        ("auxiliary prior", model.auxiliary_priors),
    ):
        for name, prior in priors.items():
            key = private_key(name)
            yield _Found(
                name=f"{title} of {key}",
                module=prior,
                outputs=[sizes[key]],
            )
    for kind in model.fitted_priors:
        for key, size in sizes.items():
            yield _Found(
                name=f"{kind} prior of {key}",
                module=model.fitted_prior(kind, key),
                outputs=[size],
            )
    if model.refiner is not None:
        yield _Found(
            name="refiner",
            module=model.refiner,
            inputs=[*sizes.values()],
            outputs=[*sizes.values()],
        )


def _decoded_rows(method: TrainableModel, stage: Stage) -> dict[str, float]:
    """By modality, the rows that its decoder reads for each row of a batch."""
    model = method.model
    counter = _Counter()
    for name in model.names:
        likelihood = model.likelihood(name)
        if isinstance(likelihood, Denoising):
            counter.watch(name, likelihood.network)
        else:
            counter.watch(name, model.decoder(name))
    batch = _blank([*model.modalities.values()], method.device)
    generator = torch.Generator().manual_seed(0)
    try:
        with evaluating(method), noise.seeded(generator):
            stage.terms(model, model.encode(batch))
    finally:
        counter.stop()
    return {name: rows / _BATCH_ROWS for name, rows in counter.rows.items()}


class _Counter:
    """Counts the rows that modules read, by name."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self._hooks: list[RemovableHandle] = []

    def watch(self, name: str, module: nn.Module) -> None:
        self.rows[name] = 0

        def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.rows[name] += len(inputs[0])

        self._hooks.append(module.register_forward_pre_hook(count))

    def stop(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _blank(modalities: Sequence[Modality], device: torch.device) -> Batch:
    """Rows of zeros that have every modality."""
    x = {}
    present = {}
    for m in modalities:
        kind = torch.long if m.likelihood == "categorical" else torch.float
        x[m.name] = torch.zeros(_BATCH_ROWS, *m.shape, dtype=kind, device=device)
        present[m.name] = torch.ones(_BATCH_ROWS, dtype=torch.bool, device=device)
    return Batch(x, present, modalities=tuple(modalities))


def _shapes(shapes: Sequence[Shape]) -> str:
    return "; ".join("×".join(map(str, shape)) for shape in shapes)
