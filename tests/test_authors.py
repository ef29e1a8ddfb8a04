"""What follows the authors' code of IDMVAE and DMVAE: the scale of the priors, and how
the loss of the diffusion priors is reduced."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import counterpoint as cp
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.model.fitted_priors import DiffusionPrior
from counterpoint.objectives.bound import Bound

MODALITIES = (Modality("a", (5,)), Modality("b", (3,)), Modality("c", (4,)))
LN2 = math.log(2)


def idmvae(**options: float) -> cp.IDMVAE:
    networks = cp.NetworkOptions(hidden=(8,))
    return cp.IDMVAE.from_config(
        MODALITIES,
        {"shared_dim": 3, "private_dim": 2, "networks": networks, "diffusion_width": 8, **options},
    )


def batch(rows: int = 6) -> Batch:
    rng = np.random.default_rng(0)
    return Batch.of(
        {m.name: rng.normal(size=(rows, *m.shape)).astype(np.float32) for m in MODALITIES},
        modalities=MODALITIES,
    )


@pytest.mark.parametrize(
    ("options", "std"), [({}, LN2), ({"prior_std": 1.0}, 1.0), ({"prior_std": 2.5}, 2.5)]
)
def test_the_priors_have_their_standard_deviation_in_the_bound_and_in_samples(
    options: dict[str, float], std: float
) -> None:
    """One draw of z against N(0, std²) by its density, and w in closed form: log(std/σ)
    + (σ² + μ²)/(2 std²) − ½ for each dimension."""
    method = idmvae(beta=1.0, **options)
    model, of = method.model, batch()
    encoding = model.encode(of)
    bound = next(loss for loss, _ in method.stage.losses if isinstance(loss, Bound))
    ask = bound(model, encoding)
    found = ask.answered(model, None)["kl"]
    expected = torch.zeros(len(of))
    for name, draw in zip(model.names, ask.draws, strict=True):
        z, w = draw.latents.shared[0], encoding.private[name]
        mixture = torch.stack([q.log_prob(z) for q in encoding.shared.values()]).logsumexp(
            0
        ) - math.log(3)
        prior = -0.5 * (z / std).square().sum(-1) - 3 * math.log(std * math.sqrt(2 * math.pi))
        private = (std / w.scale).log() + (w.scale.square() + w.loc.square()) / (2 * std**2) - 0.5
        expected += (mixture - prior + private.sum(-1)) / 3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.manual_seed(0)
    for key in model.latents:
        drawn = model.draw_prior(key, (40_000,))
        assert float(drawn.detach().std()) == pytest.approx(std, rel=0.02)
    for auxiliary in model.auxiliary_priors.values():
        assert (
            auxiliary().scale.tolist() == pytest.approx([std] * 2, rel=1e-5)
            and auxiliary.log_scale.requires_grad
        )  # type: ignore[operator]


@pytest.mark.parametrize("std", [0.0, -1.0, math.inf, math.nan])
def test_a_standard_deviation_that_is_none_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match=rf"^prior_std={std} must be (positive and|a) finite"):
        idmvae(prior_std=std)


@pytest.mark.parametrize("dim", [2, 8])
def test_the_loss_of_a_diffusion_prior_sums_over_dimensions(dim: int) -> None:
    """A network that says v = 0 takes α x_t for x_0: the error is σ² x_0 − α σ ε, whose
    square is σ⁴ x_0² + α² σ² in the mean, for each dimension."""
    torch.manual_seed(0)
    prior, x0 = DiffusionPrior(dim, width=8).eval(), torch.full((60_000, dim), 1.5)
    prior.velocity = torch.nn.Module()
    prior.velocity.forward = lambda x, t: torch.zeros_like(x)  # type: ignore[method-assign]
    snr = prior.process.log_snrs.double().exp()
    noise = 1 / (1 + snr)
    each = snr.clamp(1, 100) * (noise.square() * 1.5**2 + noise * (1 - noise))
    assert float(prior.loss(x0).mean()) == pytest.approx(dim * float(each.mean()), rel=0.03)


def test_a_saved_model_that_leaves_out_an_option_is_not_misread(tmp_path: Path) -> None:
    """Its default may be another than the one that the weights were trained with."""
    idmvae().save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    del record["config"]["prior_std"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"does not say 'prior_std', so it is of another version"):
        cp.load(tmp_path)
