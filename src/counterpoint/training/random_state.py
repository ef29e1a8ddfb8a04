"""States of torch's random generators, and seeds that are unrelated to each other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mixed_seed(*numbers: int) -> int:
    """Mix numbers into one seed, such that neighbours give unrelated seeds.

    >>> mixed_seed(0, 1) != mixed_seed(1, 0)
    True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Read the states of the generators that a run on ``device`` draws from."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def restore_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Set the states of the generators that a run on ``device`` draws from."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
