"""How judges are trained and cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.core.files import in_turn, write
from counterpoint.metrics.intervals import Array

_CACHE_VERSION = 1  # raise it when a change makes cached judges invalid


@dataclass(frozen=True)
class JudgeOptions:
    """How judges are built and trained.

    >>> from counterpoint.metrics import JudgeOptions
    >>> JudgeOptions(steps=100).features
    64

    Args:
        width: channels of the first convolution.
        features: size of the penultimate layer.
        steps: most optimiser steps.
        check_every: steps between two checks of the validation loss.
        patience: training stops after so many checks without improvement.
        batch_size: rows of a step.
        lr: peak learning rate of a one-cycle schedule.
    """

    width: int = 16
    features: int = 64
    steps: int = 800
    check_every: int = 100
    patience: int = 3
    batch_size: int = 128
    lr: float = 4e-3


def optimise(
    judge: nn.Module,
    losses: Iterator[Tensor],
    held_loss: Callable[[], Tensor] | None,
    options: JudgeOptions,
) -> None:
    """Train with AdamW and one-cycle learning rates, one step on each loss.

    The weights with the lowest held-out loss are kept; without held-out rows, the last
    ones.

    Args:
        judge: the module to train.
        losses: one loss a step.
        held_loss: computes the held-out loss; None without held-out rows.
        options: steps, checks and learning rate.
    """
    optimizer = torch.optim.AdamW(judge.parameters(), lr=options.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, total_steps=options.steps, pct_start=0.2
    )
    best = float("inf")
    waited = 0
    weights = {key: value.clone() for key, value in judge.state_dict().items()}
    for step in range(1, options.steps + 1):
        judge.train()
        optimizer.zero_grad(set_to_none=True)
        next(losses).backward()
        optimizer.step()
        schedule.step()
        if step % options.check_every and step != options.steps:
            continue
        judge.eval()
        with torch.no_grad():
            loss = -float(step) if held_loss is None else float(held_loss())
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == 0:
            weights = {key: value.clone() for key, value in judge.state_dict().items()}
        elif waited >= options.patience:
            break
    judge.load_state_dict(weights)


def shuffled(rows: Array, size: int, rng: np.random.Generator) -> Iterator[Array]:
    """Draw endless batches of exactly ``min(size, len(rows))`` sorted rows.

    No batch is short, because batch normalisation needs several rows.
    """
    size = min(size, len(rows))
    while True:
        order = rng.permutation(rows)
        yield from (
            np.sort(order[start : start + size]) for start in range(0, len(rows) - size + 1, size)
        )


@contextmanager
def cached_weights(
    judge: nn.Module, cache: Path | None, kind: str, described: Mapping[str, Any]
) -> Iterator[bool]:
    """Load a judge's weights from the cache, or save them when the block ends.

    A damaged file counts as missing. The judge is frozen afterwards.

    Args:
        judge: the judge, or judge of pairs.
        cache: the folder; None for no cache.
        kind: what the file name begins with.
        described: all that the weights depend on, JSON-able.

    Yields:
        Whether the weights were loaded.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    key = hashlib.sha256(
        json.dumps({"version": _CACHE_VERSION, **described}, sort_keys=True).encode()
    ).hexdigest()[:32]
    path = None if cache is None else Path(cache) / f"{kind}-{key}.safetensors"
    # Of several runs on the same data one trains the judge, and the others wait for it.
    with nullcontext() if path is None or path.is_file() else in_turn(path):
        known = False
        if path is not None and path.is_file():
            with suppress(SafetensorError, RuntimeError):
                judge.load_state_dict(load(path.read_bytes()))
                known = True
        yield known
        if path is not None and not known:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = save(
                {k: v.detach().cpu().contiguous() for k, v in judge.state_dict().items()},
                {kind: json.dumps(described)},
            )
            write(path, content)
    judge.eval().requires_grad_(False)
