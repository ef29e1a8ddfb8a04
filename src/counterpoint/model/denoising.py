"""Diffusion decoders: p(x_m | z, w_m) learned by denoising instead of a density.

A surrogate of each row replaces −log p(x | u), with u = [z, w_m] (Diff-MVAE 2024,
https://arxiv.org/abs/2408.16883),

    λ E_{t, ε} ‖ε − ε_θ(x_t, t, u)‖²,    x_t = α_t x + σ_t ε,

estimated at one random time. A sample replaces the mean E[x | u]; a solver draws it
from noise in few steps. Nothing else in a method changes. How u reaches the network:

    embed     added to the embedding of time, as in diffusion autoencoders (Preechakul et al. 2022, https://arxiv.org/abs/2111.15640)
    film      in every block as scale and shift
    concat    a feed-forward decoder draws the mean, which is trained by its own likelihood and read beside x_t
              (DiffuseVAE, Pandey et al. 2022, https://arxiv.org/abs/2201.00308; there in two stages, here in one)

Values in [0, 1], those of images and binary vectors, are noised in [−1, 1], and
estimates of x stay there. Other vectors, and unbounded images such as an autoencoder's
latents, are noised unscaled; their variance should be about 1. With
``condition_dropout`` the network also learns without u, and guidance g > 1 amplifies u,
ε̂ = ε_θ(x_t, t) + g (ε_θ(x_t, t, u) − ε_θ(x_t, t)) (Ho & Salimans 2022,
https://arxiv.org/abs/2207.12598).

Our choices: ``embed`` and λ = 1, which the paper leaves open, and a network that
predicts v instead of ε. At the noisiest times an error of ε̂ is an error of x̂ a hundred
times as large. A thousand random steps average it out; twenty steps of a solver do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from counterpoint import diffusion
from counterpoint.core import checks, noise
from counterpoint.core.modality import Modality
from counterpoint.diffusion import (
    SOLVERS,
    Conditioning,
    DiT,
    GaussianDiffusion,
    Prediction,
    Schedule,
    TimeMLP,
    UNet,
    UNet2D,
    Weighting,
)
from counterpoint.model.likelihood import Likelihood
from counterpoint.model.likelihoods import likelihood

Condition = Literal["embed", "film", "concat"]

NetworkName = Literal["unet", "unet2d", "dit"]

SAMPLING_ROWS = 256
"""Most rows of one call of the network when sampling."""


@dataclass(frozen=True)
class DenoiserOptions:
    """Options of diffusion decoders, and the modalities that have one.

    Args:
        modalities: their names; none by default.
        condition: how latents reach the network, see the module.
        network: for images. ``"unet"`` is a small UNet, ``"unet2d"`` the larger one of
            diffusers, ``"dit"`` a transformer of its blocks
            (:mod:`counterpoint.diffusion.external`). Vectors have an MLP and keep the
            default.
        width: channels of a UNet at full size, a quarter of the width of the
            transformer, or a sixteenth of the width of the MLP for vectors.
        schedule: noise schedule.
        prediction_type: what the network predicts.
        weighting: of the loss over time.
        timesteps: T.
        loss_weight: λ.
        solver: one of :data:`~counterpoint.diffusion.solvers.SOLVERS`, from noise to
            values.
        solver_steps: steps of the solver.
        loss_solver_steps: steps of DPM-Solver++ where a loss differentiates through
            generated values, as IDMVAE's does. Few, since all are kept in memory.
        condition_dropout: share of the training rows that the network sees without
            latents.
        guidance: g; 1 for none.

    Raises:
        ValueError: an option out of its range, or guidance without condition dropout.

    >>> DenoiserOptions(("image",), solver_steps=10).solver
    'dpm++'
    """

    modalities: tuple[str, ...] = ()
    condition: Condition = "embed"
    network: NetworkName = "unet"
    width: int = 32
    schedule: Schedule = "linear"
    prediction_type: Prediction = "v"
    weighting: Weighting = "plain"
    timesteps: int = 1000
    loss_weight: float = 1.0
    solver: str = "dpm++"
    solver_steps: int = 20
    loss_solver_steps: int = 2
    condition_dropout: float = 0.0
    guidance: float = 1.0

    def __post_init__(self) -> None:
        checks.record(self)
        object.__setattr__(
            self,
            "modalities",
            (self.modalities,) if isinstance(self.modalities, str) else tuple(self.modalities),
        )
        checks.choices(self, "denoiser: ")
        SOLVERS.check(self.solver, "denoiser: solver")
        self._check_numbers()
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Refuse options that do not go together, by ValueError."""
        if self.network == "dit" and self.condition == "film":
            raise ValueError(
                "denoiser: the blocks of network='dit' are scaled and shifted anyhow; give condition='embed' or 'concat' with it"
            )
        if self.solver_steps < (least := SOLVERS[self.solver].min_steps):
            raise ValueError(
                f"denoiser: {self.solver!r} goes wrong in {self.solver_steps} steps; give it {least} or more, or take 'dpm++'"
            )
        if self.prediction_type == "eps" and self.weighting == "clamped":
            raise ValueError(
                "denoiser: weighting='clamped' goes wrong with prediction_type='eps'; predict 'v' or 'x0' with it"
            )
        if self.guidance != 1 and not self.condition_dropout:
            raise ValueError(
                f"denoiser: guidance={self.guidance} needs a network that has learned to do without latents; train with condition_dropout=0.1"
            )

    def _check_numbers(self) -> None:
        """Refuse numbers out of their range, by ValueError."""
        if self.width < 1 or self.timesteps < 1:
            raise ValueError(
                f"denoiser: width={self.width} and timesteps={self.timesteps} must be 1 or more"
            )
        if not (
            1 <= self.solver_steps <= self.timesteps
            and 1 <= self.loss_solver_steps <= self.timesteps
        ):
            raise ValueError(
                f"denoiser: solver_steps={self.solver_steps} and loss_solver_steps={self.loss_solver_steps} must lie between 1 and timesteps={self.timesteps}"
            )
        if not 0 <= self.condition_dropout < 1 or not self.loss_weight > 0:
            raise ValueError(
                f"denoiser: condition_dropout={self.condition_dropout} must lie in [0, 1) and loss_weight={self.loss_weight} be positive"
            )
        if not 0 <= self.guidance < math.inf:
            raise ValueError(f"denoiser: guidance={self.guidance} must be 0 or more")

    def drawing_by(
        self, guidance: float | None, solver: str | None, solver_steps: int | None
    ) -> DenoiserOptions:
        """A copy that draws by other options; None keeps an option."""
        return replace(
            self,
            guidance=self.guidance if guidance is None else guidance,
            solver=solver or self.solver,
            solver_steps=self.solver_steps if solver_steps is None else solver_steps,
        )

    def check(self, modalities: Sequence[Modality]) -> None:
        """Refuse unknown names, words, counts, and modalities with gaps, by
        ValueError."""
        known = {m.name: m for m in modalities}
        for name in self.modalities:
            if name not in known:
                raise ValueError(
                    f"denoiser: there is no modality {name!r}; the modalities are {', '.join(known)}"
                )
            if known[name].counts:
                raise ValueError(
                    f"denoiser: {name!r} holds counts, which diffusion can't draw; leave it to its feed-forward decoder"
                )
            if known[name].gaps:
                raise ValueError(
                    f"denoiser: {name!r} has gaps, and diffusion takes values that are all there; leave it to its feed-forward decoder"
                )
            if known[name].likelihood == "categorical":
                raise ValueError(
                    f"denoiser: {name!r} is a sequence of words, which diffusion can't draw; leave it to its feed-forward decoder"
                )


class Denoising(Likelihood):
    """A surrogate likelihood by denoising. Its raw outputs condition the network.

    >>> from counterpoint.core.modality import Modality
    >>> image = Modality("image", (1, 16, 16), "normal")
    >>> denoising = Denoising(image, 2, DenoiserOptions(width=8))
    >>> denoising.log_prob(torch.zeros(1, 5, 2), torch.zeros(5, 1, 16, 16)).shape
    torch.Size([1, 5])

    Args:
        modality: an image or a vector.
        latent_dim: size of u.
        options: of the decoder.

    Attributes:
        coarse: the likelihood of the feed-forward mean that ``concat`` reads, or None.
        draft_learns: whether the network of that mean is trained by its likelihood,
            beside the denoiser.

    Raises:
        ValueError: images of a size that the network can't take, or a vector with
            another network or condition than the default.
        ModuleNotFoundError: the network needs diffusers, which is not installed.
    """

    exact = False

    def __init__(self, modality: Modality, latent_dim: int, options: DenoiserOptions) -> None:
        super().__init__(modality)
        self.options = options
        self.unit = modality.unit
        self.process = GaussianDiffusion(
            timesteps=options.timesteps,
            schedule=options.schedule,
            prediction_type=options.prediction_type,
            weighting=options.weighting,
        )
        self.coarse = likelihood(modality) if options.condition == "concat" else None
        self.draft_learns = self.coarse is not None
        self.output_shape = (latent_dim,) if self.coarse is None else self.coarse.output_shape
        if len(modality.shape) == 3:
            context, extra = (latent_dim, 0) if self.coarse is None else (0, modality.shape[0])
            self.network = _network(modality.shape, options, context, extra)
        elif (
            options.condition == "embed" and options.network == "unet" and len(modality.shape) == 1
        ):
            self.network = TimeMLP(modality.shape[0], 16 * options.width, context=latent_dim)
        else:
            raise ValueError(
                f"denoiser: {modality.name!r} of shape {modality.shape} is no image; vectors take condition='embed' and network='unet',"
                " and have an MLP"
            )
        self.nothing = (
            nn.Parameter(torch.zeros(self.output_shape)) if options.condition_dropout else None
        )

    def log_prob(self, raw: Tensor, x: Tensor, there: Tensor | None = None) -> Tensor:
        """−λ times the denoising error of each row at a random time, (K, B): a random
        surrogate, not a density."""
        condition = raw.flatten(0, -1 - len(self.output_shape))
        values = (
            self._signed(x)
            .expand(*raw.shape[: -len(self.output_shape)], *self.shape)
            .flatten(0, -1 - len(self.shape))
        )
        if self.nothing is not None and self.training:
            rows = raw.new_empty(len(condition), *[1] * len(self.output_shape), dtype=torch.float32)
            dropped = noise.uniform_like(rows) < self.options.condition_dropout
            seen = torch.where(dropped, self.nothing.to(condition.dtype), condition)
        else:
            seen = condition
        size = math.prod(self.shape)
        surrogate = (
            -self.options.loss_weight
            * size
            * self.process.loss(partial(self._predicted, seen), values)
        )
        surrogate = surrogate.unflatten(0, raw.shape[: -len(self.output_shape)])
        return (
            surrogate + self.coarse.log_prob(raw, x)
            if self.coarse is not None and self.draft_learns
            else surrogate
        )

    def mean(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        """Sample x given raw outputs (..., *output_shape)."""
        return self._drawn(raw, self.options.solver, self.options.solver_steps)

    def sample(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
        return self.mean(raw)

    def draft(self, raw: Tensor) -> Tensor:
        """Sample x in few steps; gradients reach the raw outputs."""
        return self._drawn(raw, "dpm++", self.options.loss_solver_steps)

    def _drawn(self, raw: Tensor, solver: str, steps: int) -> Tensor:
        parts = raw.reshape(-1, *self.output_shape).split(SAMPLING_ROWS)
        x = torch.cat([self._sampled(part, solver, steps) for part in parts]).contiguous()
        return x.view(*raw.shape[: -len(self.output_shape)], *self.shape)

    def _sampled(self, condition: Tensor, solver: str, steps: int) -> Tensor:
        start = noise.normal_like(
            condition.new_empty(len(condition), *self.shape, dtype=torch.float32)
        )
        if len(self.shape) == 3:  # a fifth faster on a CPU
            start = start.contiguous(memory_format=torch.channels_last)
        x = diffusion.sample(
            self.process,
            partial(self._guided, condition),
            start,
            steps=steps,
            solver=solver,
            within=1.0 if self.unit else None,
        )
        return (0.5 * (x + 1)).clamp(0, 1) if self.unit else x

    def _guided(self, condition: Tensor, x: Tensor, t: Tensor) -> Tensor:
        told = self._predicted(condition, x, t)
        if self.options.guidance == 1:
            return told
        untold = self._predicted(cast(nn.Parameter, self.nothing).expand_as(condition), x, t)
        return untold + self.options.guidance * (told - untold)

    def _predicted(self, condition: Tensor, x: Tensor, t: Tensor) -> Tensor:
        if self.coarse is None:
            return self.network(x, t, condition).float()
        return self.network(
            torch.cat([x, self._signed(self.coarse.mean(condition.float()))], 1), t
        ).float()

    def _signed(self, x: Tensor) -> Tensor:
        return 2 * x - 1 if self.unit else x


def _network(
    shape: tuple[int, ...], options: DenoiserOptions, context: int, extra: int
) -> nn.Module:
    """A denoiser of images."""
    if options.network == "dit":
        return DiT(shape, options.width, context, extra)
    how: Conditioning = "film" if options.condition == "film" else "embed"
    return (UNet if options.network == "unet" else UNet2D)(
        shape, options.width, context, how, extra
    )
