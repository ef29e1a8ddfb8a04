"""Refiner: the network that moves a posterior, and its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from counterpoint.core import checks
from counterpoint.core.modality import Modality
from counterpoint.model.model import Model
from counterpoint.nn.build import trunk
from counterpoint.nn.mlp import mlp
from counterpoint.nn.modules import ByName
from counterpoint.nn.options import NetworkOptions
from counterpoint.probability.distributions import Diagonal

Signal = Literal["gradient", "error"]

LOG_SCALES = (-7.5, 2.5)
"""Bounds of ln σ."""

WORD_FEATURES = 32
"""Features into which the error of a word's probabilities is read."""


@dataclass(frozen=True)
class RefinerOptions:
    """How posteriors are refined.

    >>> import counterpoint as cp
    >>> cp.RefinerOptions(steps=3).signal
    'gradient'

    Args:
        steps: T, the number of refinements of a posterior.
        signal: input of the network: the ``"gradient"`` of the bound, or the
            ``"error"`` of the decoded values.
        draws: number of draws that a gradient averages. Two are an antithetic pair.
        rounds: number of the T refinements, drawn at random for each row, that a
            training step learns from; None for all. Any number estimates the mean over
            all without bias.
        width: of the network's two hidden layers.
        unroll: in training, let the gradient through the refinements and their signals
            instead of cutting it between them. This takes more time and memory, and
            does not compile.

    Raises:
        ValueError: an option out of its range.
    """

    steps: int = 5
    signal: Signal = "gradient"
    draws: int = 2
    rounds: int | None = None
    width: int = 256
    unroll: bool = False

    def __post_init__(self) -> None:
        checks.record(self)
        if self.signal not in get_args(Signal):
            raise ValueError(
                f"refiner: signal={self.signal!r} is unknown; choose one of {', '.join(get_args(Signal))}"
            )
        if self.steps < 1:
            raise ValueError(
                f"refiner: steps={self.steps} must be 1 or more; without refinement, use jmvae"
            )
        if self.draws < 1 or self.width < 1:
            raise ValueError(
                f"refiner: draws={self.draws} and width={self.width} must be 1 or more"
            )
        if self.rounds is not None and not 1 <= self.rounds <= self.steps + 1:
            raise ValueError(
                f"refiner: rounds={self.rounds} must lie in 1..{self.steps + 1}, the steps and the start, or be None for all"
            )


# ------------------------------------------------------------------------------------------------ refinement
class Refiner(nn.Module):
    """f: from λ_t, signals and λ_0 to λ_{t+1}.

    >>> from counterpoint import Modality
    >>> refiner = Refiner([Modality("x", (3,))], {"z": 4}, RefinerOptions(steps=3, width=8))
    >>> refiner.options.steps
    3

    Args:
        modalities: of the model.
        latents: sizes by latent, as ``Model.latents`` has them.
        options: T, signals and sizes.
        beta: β of the bound.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latents: dict[str, int],
        options: RefinerOptions = RefinerOptions(),
        *,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        if beta < 0:
            raise ValueError(f"beta={beta} must not be negative")
        self.latents = dict(latents)
        self.options = options
        self.beta = beta
        by_error = options.signal == "error"
        self.errors = ByName(
            {m.name: _error_reader(m, options.width) for m in modalities} if by_error else {}
        )
        width = options.width
        seen = len(self.errors) * options.width
        self.networks = nn.ModuleDict(
            {key: mlp((6 * dim + seen, width, width)) for key, dim in latents.items()}
        )
        self.heads = nn.ModuleDict(
            {key: _still(nn.Linear(width, 4 * dim)) for key, dim in latents.items()}
        )

    def check(self, model: Model) -> None:
        """Refuse, by ValueError, a model that this refiner was not made for."""
        if self.latents != model.latents:
            raise ValueError(
                f"this refiner is for latents {self.latents}, and the model has {model.latents}; fit one to it by fit_refiner"
            )
        if self.errors and set(self.errors) != set(model.names):
            raise ValueError(
                f"this refiner reads errors of {', '.join(self.errors)}, and the model has {', '.join(model.names)}"
            )

    def forward(self, key: str, q: Diagonal, start: Diagonal, signal: Tensor) -> Diagonal:
        """The next q of one latent, parameters (S, B, D).

        Args:
            signal: (S, B, 2 D), and the features of the errors.
        """
        now = torch.cat([q.loc, q.scale.log()], -1)
        seen = torch.cat([now, start.loc, start.scale.log(), signal], -1)
        features = self.networks[key](seen)
        move, gate = self.heads[key](features).float().chunk(2, -1)
        a, b = ((1 - gate.sigmoid()) * move).chunk(2, -1)
        log_scale = (q.scale.log() + b).clamp(*LOG_SCALES)
        return type(q)(q.loc + q.scale * a, log_scale.exp())


def refiner_of(model: Model) -> Refiner:
    """The model's refiner.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.IterativeMVAE.from_config(modalities, {"shared_dim": 4}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> refiner_of(model) is model.refiner
    True

    Raises:
        ValueError: it has none, or one that was made for other latents.
    """
    if not isinstance(model.refiner, Refiner):
        raise ValueError(
            "this model has no refiner; fit one by fit_refiner, or train the method iterative"
        )
    model.refiner.check(model)
    return model.refiner


def _still(head: nn.Linear) -> nn.Linear:
    """A map to next to nothing: hardly a displacement, and a gate that is half open."""
    nn.init.normal_(head.weight, std=1e-3)
    nn.init.zeros_(head.bias)
    return head


def _error_reader(modality: Modality, width: int) -> nn.Module:
    """A network from errors to features (N, width)."""
    if modality.likelihood == "categorical":
        words = (
            nn.Linear(modality.classes or 0, WORD_FEATURES),
            nn.Flatten(),
            mlp((modality.shape[0] * WORD_FEATURES, width)),
        )
        return nn.Sequential(*words)
    values = Modality(modality.name, modality.shape, "normal", unbounded=len(modality.shape) == 3)
    network = trunk(values, NetworkOptions(width=max(4, width // 16), hidden=(width,)))
    return nn.Sequential(network, mlp((network.features, width)))
