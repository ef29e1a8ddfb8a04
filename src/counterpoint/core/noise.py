"""Where random numbers come from: torch's own generators or, inside ``seeded``, a
stream of the caller's.

The stream belongs to a thread. Answers that are asked for in several threads at once
therefore draw the same numbers as one after the other, and torch's own generators stay
untouched.

Everything that the library draws passes ``generator(device)`` to torch, or calls a
function of this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_Stream = tuple[int, dict[torch.device, torch.Generator]]
"""A seed, and the generators that were made from it, one for each device."""

_stream: ContextVar[_Stream | None] = ContextVar("stream", default=None)


@contextmanager
def seeded(source: torch.Generator | int | None) -> Iterator[None]:
    """Let this thread draw from a stream of its own; with None, change nothing.

    Args:
        source: a seed, or a generator that gives one, so that the next call draws anew.

    >>> from counterpoint.core.noise import normal_like, seeded
    >>> with seeded(0):
    ...     a = normal_like(torch.zeros(2))
    >>> with seeded(0):
    ...     bool((a == normal_like(a)).all())
    True
    """
    if source is None:
        yield
        return
    seed = source if isinstance(source, int) else _seed(source)
    token = _stream.set((seed, {}))
    try:
        yield
    finally:
        _stream.reset(token)


def generator(device: torch.device | str = "cpu") -> torch.Generator | None:
    """The generator that this thread draws from on a device; None for torch's own.

    >>> generator() is None  # torch's own
    True
    """
    if (stream := _stream.get()) is None:
        return None
    seed, made = stream
    device = torch.device(device)
    if device not in made:
        made[device] = torch.Generator(device).manual_seed(seed)
    return made[device]


def fresh_seed() -> int:
    """A random seed.

    >>> fresh_seed() != fresh_seed()
    True
    """
    return _seed(generator())


def normal_like(x: Tensor) -> Tensor:
    """Standard normal numbers of the shape, dtype and device of ``x``.

    >>> draws = normal_like(torch.zeros(10_000))
    >>> round(float(draws.std()), 1)
    1.0
    """
    return torch.empty_like(x).normal_(generator=generator(x.device))


def uniform_like(x: Tensor) -> Tensor:
    """Numbers from [0, 1) of the shape, dtype and device of ``x``.

    >>> draws = uniform_like(torch.zeros(10_000))
    >>> round(float(draws.mean()), 1), bool(draws.max() < 1)
    (0.5, True)
    """
    return torch.empty_like(x).uniform_(generator=generator(x.device))


def laplace_like(x: Tensor) -> Tensor:
    """Laplace numbers of location 0 and scale 1, of the shape, dtype and device of
    ``x``.

    >>> draws = laplace_like(torch.zeros(10_000))
    >>> round(float(draws.abs().mean()), 1)  # the scale
    1.0
    """
    least = torch.finfo(x.dtype).eps - 1
    u = torch.empty_like(x).uniform_(least, 1, generator=generator(x.device))
    return -u.sign() * torch.log1p(-u.abs())


def bernoulli(probability: Tensor) -> Tensor:
    """1 with the given probability, else 0.

    >>> bernoulli(torch.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    return torch.bernoulli(probability, generator=generator(probability.device))


def poisson(rate: Tensor) -> Tensor:
    """Draws of a Poisson distribution.

    >>> poisson(torch.full((10_000,), 3.0)).mean().round()
    tensor(3.)
    """
    return torch.poisson(rate, generator=generator(rate.device))


def choices(weights: Tensor, shape: Sequence[int]) -> Tensor:
    """Draws of one of S choices for each row, (*shape, B), with weights (B, S) that
    need not sum to 1.

    >>> choices(torch.tensor([[0.0, 2.0], [1.0, 0.0]]), (3,))
    tensor([[1, 0],
            [1, 0],
            [1, 0]])
    """
    count = max(torch.Size(shape).numel(), 1)
    drawn = torch.multinomial(weights, count, replacement=True, generator=generator(weights.device))
    return drawn.T.reshape(*shape, -1)


def gamma(concentration: Tensor) -> Tensor:
    """Draws of a gamma distribution of rate 1.

    >>> gamma(torch.full((10_000,), 4.0)).mean().round()
    tensor(4.)
    """
    return torch._standard_gamma(concentration, generator=generator(concentration.device))


def beta(a: Tensor, b: Tensor) -> Tensor:
    """Draws of a beta distribution.

    >>> a = torch.full((10_000,), 2.0)
    >>> round(float(beta(a, 3 * a).mean()), 2)
    0.25
    """
    both = torch.stack([a, b], -1)
    return torch._sample_dirichlet(both, generator=generator(both.device))[..., 0]


def _seed(source: torch.Generator | None) -> int:
    device = "cpu" if source is None else source.device
    return int(torch.randint(2**62, (), generator=source, device=device))
