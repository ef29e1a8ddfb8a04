"""Initial weights follow the seed that the method is made with, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import counterpoint as cp
from counterpoint.cli import main

SMALL = {"shared_dim": 3, "networks": cp.NetworkOptions(kind="conv", width=4, hidden=(8,))}
FIT = {"max_steps": 2, "batch_size": 16, "progress": False, "loggers": ()}


@pytest.fixture(scope="module")
def digits() -> cp.data.Dataset:
    return cp.data.load("digits-quadrant", pairings=1)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return [*ours] == [*theirs] and all(torch.equal(v, theirs[k]) for k, v in ours.items())


@pytest.mark.parametrize("name", sorted(cp.METHODS))
def test_the_seed_decides_the_initial_weights_and_leaves_torchs_generator(
    name: str, digits: cp.data.Dataset
) -> None:
    kind = cp.METHODS[name]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = kind.for_data(digits, **SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, kind.for_data(digits, seed=0, **SMALL))
    assert same(first, kind.from_config(digits.modalities, first.config))
    assert not same(first, kind.for_data(digits, seed=1, **SMALL))


def test_two_runs_of_one_seed_are_bit_equal(digits: cp.data.Dataset) -> None:
    trained = []
    for seed in (0, 0, 5):
        torch.rand(3)  # whatever the caller draws in between
        trained.append(cp.IDMVAE.for_data(digits, seed=seed, private_dim=2, **SMALL))
        trained[-1].fit(digits.train, seed=seed, **FIT)
    assert same(trained[0], trained[1]) and not same(trained[0], trained[2])


def test_the_command_line_s_seed_is_that_of_both(digits: cp.data.Dataset, tmp_path: Path) -> None:
    command = (
        "fit mvae --data digits-quadrant --data.pairings 1 --max_steps 2 --batch_size 16 --seed 3 --fit.progress false"
        f" --shared_dim 3 --networks.kind conv --networks.width 4 --networks.hidden [8] --out {tmp_path}/run"
    )
    assert main(command.split()) == 0
    by_hand = cp.MVAE.for_data(digits, seed=3, **SMALL)
    by_hand.fit(digits.train, val=digits.val, seed=3, **FIT)
    assert same(cp.load(tmp_path / "run"), by_hand)


def test_loading_leaves_torchs_generator(digits: cp.data.Dataset, tmp_path: Path) -> None:
    model = cp.IDMVAE.for_data(digits, private_dim=2, **SMALL)
    model.model.add_fitted_priors("flow", 4)
    model.save_pretrained(tmp_path)
    before = torch.get_rng_state()
    assert same(cp.load(tmp_path), model)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None, 2**64])
def test_what_is_no_seed_is_refused(seed: object, digits: cp.data.Dataset) -> None:
    with pytest.raises(ValueError, match=r"^seed=.* must be a whole number of 0 or more"):
        cp.MVAE.for_data(digits, seed=seed, **SMALL)  # type: ignore[arg-type]


def test_a_seed_of_numpy_is_one(digits: cp.data.Dataset) -> None:
    assert same(
        cp.MVAE.for_data(digits, seed=np.int64(4), **SMALL),
        cp.MVAE.for_data(digits, seed=4, **SMALL),
    )  # type: ignore[arg-type]
