"""On a GPU: methods answer, train, go on and are measured there as on the processor.
Skipped where there is none."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import counterpoint as cp
from counterpoint.data import Dataset
from counterpoint.methods import METHODS, Method, load
from counterpoint.metrics import evaluate
from counterpoint.model.fitted_priors import FITTED_PRIORS

GPU = "cuda"
QUIET: dict[str, Any] = {
    "max_epochs": -1,
    "batch_size": 32,
    "progress": False,
    "loggers": (),
}
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.filterwarnings("ignore:.*TF32"),  # torch's advice to trade accuracy for speed
]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """No TF32, which rounds what convolutions multiply to ten bits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def make(name: str, data: Dataset) -> Method:
    networks = cp.NetworkOptions(width=4, hidden=(32,))
    kind: Any = METHODS[name]
    options = {"private_dim": 4} if "private_dim" in signature(kind).parameters else {}
    torch.manual_seed(0)
    return kind(data.modalities, shared_dim=6, networks=networks, **options)


def assert_close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-3) -> None:
    """Equal up to what another order of summation does."""
    torch.testing.assert_close(b.cpu(), a, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_answers_are_those_of_the_processor(name: str, digits: Dataset) -> None:
    here = make(name, digits).eval()
    there = copy.deepcopy(here).to(GPU)
    x, first = digits.test.batch(slice(0, 16)).x, digits.modalities[0].name
    a, b = here.encode(x, [first]), there.encode(x, [first])
    assert_close(a.shared, b.shared)
    for modality, w in a.private.items():
        assert_close(w, b.private[modality])
    moved = cp.Latents(a.shared.to(GPU), {modality: w.to(GPU) for modality, w in a.private.items()})
    if first not in here.model.surrogates:  # a diffusion decoder draws
        assert_close(here.decode(a, [first])[first], there.decode(moved, [first])[first])
    for values in [
        *there.encode(x).private.values(),
        *there.translate({first: x[first]}).values(),
        *there.sample(8).values(),
    ]:
        assert values.device.type == torch.device(GPU).type
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("name", ["idmvae", "mopoe", "jnf", "jnf-shared", "iterative"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_comes_to_the_loss_of_the_processor(
    name: str, precision: str, digits: Dataset
) -> None:
    losses = {}
    for device in ("cpu", GPU):
        method = make(name, digits)
        metrics = method.fit(
            digits.train_split.with_missing(0.2),
            digits.val,
            max_steps=60,
            lr=2e-3,
            accelerator=device,
            precision=precision,
            **QUIET,
        ).metrics
        losses[device] = metrics["train/loss"]
    assert losses[GPU] == pytest.approx(losses["cpu"], rel=0.1)


def test_a_resumed_run_ends_with_the_weights_of_one_that_went_through(
    tmp_path: Path, digits: Dataset
) -> None:
    ends = []
    for name, steps in (("through", (12,)), ("resumed", (5, 12))):
        for most in steps:
            method, out = make("mopoe", digits), tmp_path / name
            method.fit(
                digits.train_split,
                max_steps=most,
                accelerator=GPU,
                out=out,
                resume=out.exists(),
                checkpoint_seconds=0,
                **QUIET,
            )
        ends.append(method.state_dict())
    for key, value in ends[0].items():
        assert_close(value, ends[1][key], 1e-5)


@pytest.mark.parametrize("name", ["mmvae+", "jmvae"])
def test_measures_are_those_of_the_processor(name: str, digits: Dataset, tmp_path: Path) -> None:
    here = make(name, digits)
    here.fit(digits.train_split, max_steps=100, lr=2e-3, accelerator="cpu", **QUIET)
    found = [
        evaluate(
            method,
            digits,
            samples=64,
            rows=64,
            likelihood_rows=8,
            likelihood_samples=20,
            cache=tmp_path,
            progress=False,
        ).metrics
        for method in (here, copy.deepcopy(here).to(GPU))
    ]
    assert found[0].keys() == found[1].keys()
    near = [key for key in found[0] if key.startswith(("probe/z", "hsic", "judge"))]
    assert len(near) > 5
    for key in near:
        assert found[1][key] == pytest.approx(found[0][key], abs=0.06), key
    for key in (key for key in found[0] if key.startswith("loglik")):
        assert found[1][key] == pytest.approx(found[0][key], rel=0.05), key


@pytest.mark.parametrize("kind", [*FITTED_PRIORS])
def test_priors_are_fitted_there(kind: str, digits: Dataset) -> None:
    """What is drawn has the means and the covariance of the latents."""
    method = make("mopoe", digits)
    method.fit(digits.train_split, max_steps=60, lr=2e-3, accelerator=GPU, **QUIET)
    method.to(GPU)
    method.fit_prior(
        digits.train_split, kind=kind, size=3 if kind == "gmm" else 64, steps=300, progress=False
    )
    z = method.encode(digits.train_split.batch(slice(None), GPU)).shared[0]
    with torch.no_grad():
        drawn = method.model.fitted_prior(kind, "z").sample(500)
    assert drawn.device.type == torch.device(GPU).type
    assert (
        float((drawn.mean(0) - z.mean(0)).abs().max()) < 0.1
    )  # the means of N(0, I) are off by 1.6
    apart = torch.linalg.matrix_norm(drawn.T.cov() - z.T.cov()) / torch.linalg.matrix_norm(
        z.T.cov()
    )
    assert float(apart) < 0.8  # that of N(0, I) is 450
    assert all(torch.isfinite(values).all() for values in method.sample(8).values())


def test_refiner_and_decoder_are_fitted_there_and_opened_again(
    digits: Dataset, tmp_path: Path
) -> None:
    method = make("mopoe", digits)
    method.fit(digits.train_split, max_steps=60, lr=2e-3, accelerator=GPU, **QUIET)
    method.to(GPU)
    method.fit_refiner(
        digits.train_split, refiner=cp.RefinerOptions(steps=2, width=32), steps=100, progress=False
    )
    x = digits.test.batch(slice(0, 64), GPU)
    bounds = method.refine(x, generator=torch.Generator().manual_seed(0)).elbo
    assert bounds is not None
    assert float(bounds[-1].mean()) > float(bounds[0].mean())
    first, second = (m.name for m in digits.modalities[:2])
    denoiser = cp.DenoiserOptions(modalities=(first,), width=8, solver_steps=4)
    method.fit_decoder(
        digits.train_split, denoiser=denoiser, max_steps=20, accelerator=GPU, **QUIET
    )
    method.to(GPU).save_pretrained(tmp_path / "kept")
    drawn = [
        m.translate({second: x.x[second]}, [first], generator=torch.Generator().manual_seed(1))[
            first
        ]
        for m in (method, load(tmp_path / "kept").to(GPU))
    ]
    np.testing.assert_allclose(drawn[0].cpu().numpy(), drawn[1].cpu().numpy(), atol=1e-3)
