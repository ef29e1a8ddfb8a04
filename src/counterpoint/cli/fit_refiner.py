"""``counterpoint fit-refiner``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.cli.afterwards import fitting, record
from counterpoint.cli.runs import extending
from counterpoint.inference import RefinerOptions
from counterpoint.methods import Method
from counterpoint.training import fit_refiner

if TYPE_CHECKING:
    from counterpoint.data import Split

GAIN_ROWS = 256
"""Validation rows on which the gain of a refiner is measured."""


def run(words: Sequence[str]) -> None:
    """Fit a network that refines the posteriors of a trained run."""
    wanted = fitting(words, "fit-refiner", fit_refiner, {"refiner": RefinerOptions()})
    with extending(wanted.run) as (method, data):
        method.fit_refiner(data.train, **wanted.options)
        record(method, "fit-refiner", wanted)
        print(f"{wanted.run}: {_gain(method, data.val, wanted.options['seed'])}")
        print(f"next: counterpoint evaluate {shlex.quote(str(wanted.run))}")


def _gain(method: Method, val: Split, seed: int) -> str:
    """How refinement raises the bound of complete validation rows, in words."""
    rows = np.random.default_rng(seed).permutation(val.complete)[:GAIN_ROWS]
    if not len(rows):
        return "a refiner is fitted; no validation row has every modality to measure it on"
    generator = torch.Generator().manual_seed(seed)
    bound = method.refine(val.batch(rows, method.device), generator=generator).elbo
    if bound is None:
        return "a refiner is fitted"
    return f"a bound of {bound[0].mean():.4g} nats before and {bound[-1].mean():.4g} after {len(bound) - 1} steps on {len(rows)} validation rows"
