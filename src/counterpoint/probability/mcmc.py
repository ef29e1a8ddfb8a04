"""Hamiltonian Monte Carlo for many chains at once.

A chain explores a density π known up to a constant, by the motion of a particle of
position z and momentum p under

    H(z, p) = −log π(z) + ½ Σ_d v_d p_d²,        p ~ N(0, diag(1/v)),

where v estimates the variances of π. One step draws p, follows the motion by L
leapfrogs of size ε,

    p ← p + ½ε ∇log π(z),    z ← z + ε v p,    p ← p + ½ε ∇log π(z),

and accepts the end point with probability min(1, exp(H − H')), for each chain
separately. A chain whose end point is not finite stays in place.

The density is a function from positions (C, B, D) to log densities (C, B), which is
differentiated: B targets, each explored by C chains. All chains move together as one
tensor program, which can be compiled. Warm-up adapts ε for each chain by stochastic
approximation, and v for each target from the positions of its chains. L is drawn anew
at each step, so that no orbit closes on itself.

    Duane et al. 1987, https://doi.org/10.1016/0370-2693(87)91197-X
    Andrieu & Thoms 2008 (coerced acceptance), https://doi.org/10.1007/s11222-008-9110-y
    Hoffman & Gelman 2014 (dual averaging), https://arxiv.org/abs/1111.4246

Acceptance varies from step to step with L. Dual averaging, as in NUTS, makes step sizes
swing by factors of four here and settles on the mean of log ε, which accepts .79 to .88
for a target of .65. The steps of stochastic approximation shrink, and the result
accepts within .05 of the target (docs/decisions/0029).
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from threading import Lock

import torch
from torch import Tensor

from counterpoint.core import checks, noise
from counterpoint.core.precision import full_precision

_compiling = Lock()  # torch's stance on compiling is that of all threads

LogDensity = Callable[[Tensor], Tensor]
"""Positions (C, B, D) to log densities (C, B), up to a constant for each b."""

Target = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions (C, B, D) to log densities (C, B) and their gradients (C, B, D)."""

DIVERGENT_ENERGY = 1000.0
"""A step whose energy rises by more, or is not finite, diverged."""


@dataclass(frozen=True)
class State:
    """Where the chains are.

    Attributes:
        position: (C, B, D).
        log_density: (C, B).
        gradient: of the log density, (C, B, D).

    >>> State(torch.zeros(4, 1, 2), torch.zeros(4, 1), torch.zeros(4, 1, 2)).position.shape
    torch.Size([4, 1, 2])
    """

    position: Tensor
    log_density: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Info:
    """What one step did.

    Attributes:
        acceptance: probability of taking the end point, (C, B).
        divergent: whether the energy error was beyond all measure, (C, B) bool.

    >>> Info(torch.ones(4, 1), torch.zeros(4, 1, dtype=torch.bool)).acceptance.mean()
    tensor(1.)
    """

    acceptance: Tensor
    divergent: Tensor


def differentiated(log_density: LogDensity, *, compiled: bool = False) -> Target:
    """A log density with its gradient.

    >>> density, gradient = differentiated(lambda z: -(z**2).sum(-1) / 2)(torch.ones(1, 1, 2))
    >>> density, gradient
    (tensor([[-1.]]), tensor([[[-1., -1.]]]))

    Args:
        compiled: as one compiled program. A function that has been compiled once is not
            compiled again for other values of the tensors in it.
    """
    return partial(_compiled() if compiled else _by_autograd, log_density)


def _by_autograd(log_density: LogDensity, position: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        z = position.detach().requires_grad_()
        value = log_density(z)
        (gradient,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), gradient


def _by_transform(log_density: LogDensity, position: Tensor) -> tuple[Tensor, Tensor]:
    """The same as a function that compiles in one piece; without compiling it is the
    slower one."""

    def total(z: Tensor) -> tuple[Tensor, Tensor]:
        value = log_density(z)
        return value.sum(), value

    gradient, value = torch.func.grad(total, has_aux=True)(position)
    return value.detach(), gradient.detach()


@cache
def _compiled() -> Callable[[LogDensity, Tensor], tuple[Tensor, Tensor]]:
    return torch.compile(_by_transform, recompile_limit=4096)  # type: ignore[call-overload]  # one for each set and shape


def init(target: Target, position: Tensor) -> State:
    """The state at ``position`` (C, B, D).

    >>> target = differentiated(lambda z: -(z**2).sum(-1) / 2)
    >>> init(target, torch.ones(1, 1, 2)).log_density
    tensor([[-1.]])
    """
    return State(position, *target(position))


def step(
    target: Target, state: State, *, step_size: Tensor, leapfrogs: int, variance: Tensor
) -> tuple[State, Info]:
    """One proposal, taken or not by each chain.

    >>> target = differentiated(lambda z: -(z**2).sum(-1) / 2)
    >>> state = init(target, torch.ones(1, 1, 2))
    >>> size, variance = torch.full((1, 1), 0.01), torch.ones(1, 1, 2)
    >>> state, info = step(target, state, step_size=size, leapfrogs=5, variance=variance)
    >>> round(info.acceptance.item(), 2)
    1.0

    Args:
        step_size: ε, broadcast to (C, B).
        leapfrogs: L.
        variance: v, broadcast to (C, B, D).
    """
    size = step_size.unsqueeze(-1)
    stride = size * variance
    momentum = noise.normal_like(state.position) * variance.rsqrt()
    end = state
    p = momentum + 0.5 * size * state.gradient
    for i in range(leapfrogs):
        end = init(target, torch.addcmul(end.position, stride, p))
        # Two halves that meet are one.
        p = p + (size if i + 1 < leapfrogs else 0.5 * size) * end.gradient
    after = _energy(end, p, variance)
    # −∞ where a chain begins outside its density's support.
    rise = after - _energy(state, momentum, variance)
    rise = torch.where(torch.isfinite(after) & ~rise.isnan(), rise, math.inf)
    acceptance = torch.exp(-rise.clamp(min=0.0))
    taken = noise.uniform_like(acceptance) < acceptance
    position = torch.where(taken.unsqueeze(-1), end.position, state.position)
    gradient = torch.where(taken.unsqueeze(-1), end.gradient, state.gradient)
    log_value = torch.where(taken, end.log_density, state.log_density)
    return State(position, log_value, gradient), Info(acceptance, rise > DIVERGENT_ENERGY)


@dataclass(frozen=True)
class StepSize:
    """Step sizes ε that learn from the acceptance a towards a*, by stochastic
    approximation and averaging:

        log ε_t = log ε_{t−1} + 2 t^−0.6 (a_t − a*),      what to settle on moves t^−0.75 of the way to log ε_t

    Attributes:
        log_size: of the next step, (C, B).
        log_average: what to settle on, (C, B).
        count: steps seen.

    >>> sizes = StepSize.start(0.1, torch.zeros(1, 1))
    >>> low = sizes.updated(torch.tensor([[0.2]]), target=0.85)
    >>> bool(low.log_size < sizes.log_size)  # too few proposals were taken
    True
    """

    log_size: Tensor
    log_average: Tensor
    count: int = 0

    @staticmethod
    def start(size: float, like: Tensor) -> StepSize:
        """Begin at ``size`` for every entry of ``like`` (C, B)."""
        at = torch.full_like(like, math.log(size))
        return StepSize(at, at)

    def updated(self, acceptance: Tensor, target: float) -> StepSize:
        count = self.count + 1
        log_size = self.log_size + 2 * count**-0.6 * (acceptance - target)
        log_average = self.log_average + count**-0.75 * (log_size - self.log_average)
        return StepSize(log_size, log_average, count)


@dataclass(frozen=True)
class HMC:
    """How long and how carefully to sample.

    >>> import counterpoint as cp
    >>> cp.HMC(chains=2, warmup=200).leapfrogs
    20

    Args:
        chains: independent chains for each target; where more draws are wanted than
            chains, there are as many chains as draws.
        warmup: steps that adapt and are thrown away.
        steps: steps of each chain after it; the last one is the draw.
        leapfrogs: most leapfrogs of a step; each step takes a random number from 1 to
            it.
        acceptance: mean probability of a proposal to be taken, which the step size aims
            at. 0.65 is the best for paths of a fixed length in many dimensions (Beskos
            et al. 2013, https://arxiv.org/abs/1001.4460); with a random number of
            leapfrogs in 2 to 16 dimensions, 0.85 gave 1.3 to 1.5 times as many
            effective draws of as many gradients.
        compile: compile the density and its gradient, which takes seconds to tens of
            seconds for every number of given modalities and every size of batch, and
            then halves the time. Threads take turns. Needs torch 2.13.

    Raises:
        ValueError: a number out of its range.
    """

    chains: int = 4
    warmup: int = 100
    steps: int = 50
    leapfrogs: int = 20
    acceptance: float = 0.85
    compile: bool = False

    def __post_init__(self) -> None:
        checks.record(self)
        for name, least in {"chains": 1, "warmup": 0, "steps": 1, "leapfrogs": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be {least} or more")
        if not 0 < self.acceptance < 1:
            raise ValueError(
                f"acceptance={self.acceptance} must lie between 0 and 1; 0.85 is usual"
            )


@dataclass(frozen=True)
class Chains:
    """What the chains drew, and how they fared.

    Attributes:
        draws: (N, C, B, D), after warm-up.
        acceptance: mean over the steps after warm-up, (C, B).
        divergent: share of steps after warm-up that diverged, (C, B).
        step_size: (C, B).

    >>> settings = HMC(warmup=10, steps=10, leapfrogs=5)
    >>> chains = sample(lambda z: -(z**2).sum(-1) / 2, torch.zeros(4, 1, 1), settings)
    >>> chains.draws.shape, bool(chains.divergent.any())
    (torch.Size([10, 4, 1, 1]), False)
    """

    draws: Tensor
    acceptance: Tensor
    divergent: Tensor
    step_size: Tensor


def sample(log_density: LogDensity, position: Tensor, settings: HMC) -> Chains:
    """Warm up from ``position`` (C, B, D), best drawn from something like the target,
    then draw ``settings.steps`` times.

    Random numbers come from :mod:`counterpoint.core.noise`.

    >>> settings = HMC(warmup=50, steps=10, leapfrogs=5)
    >>> chains = sample(lambda z: -((z - 3) ** 2).sum(-1) / 2, torch.zeros(64, 1, 1), settings)
    >>> round(chains.draws.mean().item())
    3
    """
    target = differentiated(log_density, compiled=settings.compile)
    with full_precision(
        position
    ):  # the gradients, too: autocast would halve products of matrices in a backward pass
        if not settings.compile:
            return _explored(target, init(target, position.contiguous()), settings)
        with _compiling:
            state = init(target, position.contiguous())
            with _unchecked():  # after the first call, nothing changes that must be checked for
                return _explored(target, state, settings)


@contextmanager
def _unchecked() -> Iterator[None]:
    """Call compiled functions without asking whether they hold.

    Garbage is collected later: torch would compile, and here refuse, the functions that
    other libraries call at every collection.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with torch.compiler.set_stance("default", skip_guard_eval_unsafe=True):
            yield
    finally:
        if collects:
            gc.enable()


def _explored(target: Target, state: State, settings: HMC) -> Chains:
    chains = len(state.position)
    # Acceptance at a fixed step size falls with D^¼.
    first = 0.5 * state.position.shape[-1] ** -0.25
    sizes = StepSize.start(first, state.log_density)
    variance = _variance(state.position) if chains >= 8 else torch.ones_like(state.position[0])
    visited: list[Tensor] = []
    for t in range(settings.warmup):
        state, info = _jittered(target, state, sizes.log_size.exp(), variance, settings)
        sizes = sizes.updated(info.acceptance, settings.acceptance)
        if settings.warmup // 4 <= t < settings.warmup // 2:
            visited.append(state.position)
        if t + 1 == settings.warmup // 2 and len(visited) * chains >= 20:
            variance = _variance(torch.cat(visited))
            sizes = StepSize.start(first, state.log_density)
    size = sizes.log_average.exp() if settings.warmup else sizes.log_size.exp()
    draws = []
    infos = []
    for _ in range(settings.steps):
        state, info = _jittered(target, state, size, variance, settings)
        draws.append(state.position)
        infos.append(info)
    acceptance = torch.stack([info.acceptance for info in infos]).mean(0)
    divergent = torch.stack([info.divergent for info in infos]).float().mean(0)
    return Chains(torch.stack(draws), acceptance, divergent, size)


def _jittered(
    target: Target, state: State, size: Tensor, variance: Tensor, settings: HMC
) -> tuple[State, Info]:
    leapfrogs = int(torch.randint(1, settings.leapfrogs + 1, (), generator=noise.generator()))
    return step(target, state, step_size=size, leapfrogs=leapfrogs, variance=variance)


def _energy(state: State, momentum: Tensor, variance: Tensor) -> Tensor:
    return 0.5 * (variance * momentum.square()).sum(-1) - state.log_density


def _variance(positions: Tensor) -> Tensor:
    """Variances (B, D) of positions (N, B, D), shrunk slightly towards 1e-3, as in
    Stan."""
    count = len(positions)
    return (count * positions.var(0) + 5e-3) / (count + 5)
