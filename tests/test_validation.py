"""Validation measures one function of the weights, whatever the step: the objective
with the final weight of every term."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import counterpoint as cp
from counterpoint.core.modality import Modality
from counterpoint.data import Dataset, Split
from counterpoint.inference import RefinerOptions
from counterpoint.methods import IterativeMVAE, Ramp
from counterpoint.studies import tune

MODALITIES = (Modality("a", (5,), "normal", 0.5), Modality("b", (3,), "normal", 0.5))
FIT: dict[str, Any] = {"batch_size": 32, "lr": 1e-2, "loggers": (), "progress": False}
EPOCH = 3
"""Steps of a pass over 96 rows."""
NETWORKS = cp.NetworkOptions(hidden=(8,))


def split(rows: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 1))
    return Split(
        {
            m.name: (z + 0.3 * rng.normal(size=(rows, *m.shape))).astype(np.float32)
            for m in MODALITIES
        },
        MODALITIES,
    )


DATA = Dataset("toy", MODALITIES, split(96, 0), split(32, 1), split(32, 2))


def idmvae(**options: Any) -> cp.IDMVAE:
    return cp.IDMVAE.for_data(
        DATA, shared_dim=2, private_dim=2, networks=NETWORKS, diffusion_width=8, **options
    )


def test_a_ramp_without_a_step_is_at_its_end() -> None:
    assert Ramp(3.0, 5, 9)(None) == 3.0 and Ramp(3.0, 5, 9)(0) == 0.0


def validated(method: Any, **options: Any) -> dict[str, list[float]]:
    """What validations measured, by term."""
    history = method.fit(DATA.train, DATA.val, **{**FIT, **options}).history
    return {
        k: [v for v in values if not np.isnan(v)]
        for k, values in history.items()
        if k.startswith("val/")
    }


@pytest.mark.parametrize("method", ["idmvae", "aligned later"])
def test_the_same_weights_are_worth_the_same_at_every_step(method: str) -> None:
    """A learning rate of next to nothing leaves the weights as they are, while
    contrasts end and weights rise."""
    if method == "idmvae":
        made: Any = idmvae(
            contrast_first=EPOCH, augment_after=EPOCH, augment_warmup=2 * EPOCH, diffusion=0.0
        )
        terms = {"val/nll", "val/kl", "val/cross_mi", "val/genaug"}
    else:
        refiner = RefinerOptions(steps=1, width=4)
        made = IterativeMVAE.for_data(
            DATA,
            shared_dim=2,
            networks=NETWORKS,
            refiner=refiner,
            subsets=False,
            align_warmup=4 * EPOCH,
        )
        terms = {"val/nll", "val/kl", "val/align"}
    found = validated(made, lr=1e-20, max_epochs=5)
    assert terms <= set(found)
    for term in terms | {"val/loss"}:
        assert len(found[term]) == 5 and found[term] == pytest.approx(
            [found[term][0]] * 5, rel=1e-6
        ), term


@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_best_weights_are_of_a_step_at_which_decoders_have_learned(ema: float | None) -> None:
    """The loss of the contrast that comes first is far below the whole objective, and
    used to win."""
    method = idmvae(contrast_first=2 * EPOCH, augment_after=EPOCH, augment_warmup=EPOCH)
    before = {k: v.clone() for k, v in method.model.decoders.named_parameters()}
    result = method.fit(DATA.train, DATA.val, keep="best", ema_decay=ema, max_epochs=8, **FIT)
    rows = [
        (s, v)
        for s, v in zip(result.history["step"], result.history["val/loss"], strict=True)
        if not np.isnan(v)
    ]
    step, loss = min(rows, key=lambda row: row[1])
    assert step > 2 * EPOCH and loss == result.best
    assert not any(torch.equal(v, before[k]) for k, v in method.model.decoders.named_parameters())


def test_a_search_does_not_prefer_decoders_that_never_learn(tmp_path: Path) -> None:
    """By the loss of validation, a run of contrast alone would win over any other."""
    found = tune(
        "idmvae",
        DATA,
        {"model.contrast_first": [0, 1000]},
        out=tmp_path,
        trials=4,
        prune="none",
        progress=False,
        model={"shared_dim": 2, "private_dim": 2, "diffusion": 0.0, "networks": NETWORKS},
        fit={**FIT, "max_epochs": 4},
    )
    assert {trial.values["model.contrast_first"] for trial in found.trials} == {0, 1000}
    assert found.best is not None and found.best.values["model.contrast_first"] == 0


@pytest.mark.parametrize(
    ("space", "options", "warned"),
    [
        (
            {"model.beta": [0.1, 1.0]},
            {},
            "model.beta change what val/loss measures, .*give a metric of the evaluation and prune='none'",
        ),
        (
            {"model.cross_mi": {"low": 1, "high": 9}},
            {"metric": "probe/z/digit", "direction": "maximize"},
            "model.cross_mi change .*give prune=",
        ),
        (
            {"model.beta": [0.1, 1.0]},
            {"metric": "probe/z/digit", "direction": "maximize", "prune": "none"},
            None,
        ),
        (
            {
                "model.shared_dim": [2, 3],
                "model.contrast_first": [0, 9],
                "fit.lr": [0.1, 1.0],
                "model.genaug": [1.0],
            },
            {},
            None,
        ),
    ],
)
def test_a_search_says_that_losses_of_other_objectives_do_not_compare(
    space: dict[str, Any],
    options: dict[str, Any],
    warned: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("counterpoint.studies.tuning._Work.begin_again", _enough)
    model = {"private_dim": 2, "diffusion_width": 8, "networks": NETWORKS}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(LookupError, match="begun"):
            tune(
                "idmvae", DATA, space, out=tmp_path, progress=False, model=model, fit=FIT, **options
            )
    found = [str(w.message) for w in said if "val/loss" in str(w.message)]
    assert (
        (found == [])
        if warned is None
        else (len(found) == 1 and re.search(warned, found[0]) is not None)
    )


def _enough(*_: Any) -> None:
    raise LookupError("the search has begun")


def test_where_no_validation_ran_the_last_weights_are_kept() -> None:
    method = idmvae()
    with pytest.warns(
        UserWarning,
        match=r"no validation ran in 2 steps \(val_every=10\), so the last weights are kept",
    ):
        method.fit(DATA.train, DATA.val, keep="best", val_every=10, max_steps=2, **FIT)
    steady = idmvae()
    steady.fit(DATA.train, max_steps=2, **FIT)
    assert all(
        torch.equal(a, b)
        for a, b in zip(method.state_dict().values(), steady.state_dict().values(), strict=True)
    )
