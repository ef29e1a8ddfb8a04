"""What is learned of data beside the weights (means in gaps, standardisation) is what
it is said to be, when it is trained with and when it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import counterpoint as cp
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.data import Split
from counterpoint.methods import IDMVAE, METHODS, MVTCAE, JNFShared, Method
from counterpoint.model.fitted_priors import DiffusionPrior, FlowPrior
from counterpoint.nn.running import Statistics
from counterpoint.objectives.afterwards import DiffusionPriorLoss
from counterpoint.training import FitOptions

GAPPY = (Modality("a", (6,), "normal", gaps=True), Modality("b", (5,), "normal", gaps=True))
NETWORKS = cp.NetworkOptions(hidden=(16,))


def rows(count: int = 64) -> dict[str, np.ndarray]:
    """Far from zero, a third of the entries missing."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(count, 3))
    x = {
        m.name: (
            5 + z @ rng.normal(size=(3, *m.shape)) + 0.1 * rng.normal(size=(count, *m.shape))
        ).astype(np.float32)
        for m in GAPPY
    }
    for values in x.values():
        values[(rng.random(values.shape) < 1 / 3) & (np.arange(values.shape[1]) > 0)] = np.nan
    return x


def made(name: str) -> Method:
    kind: Any = METHODS[name]
    return kind(GAPPY, shared_dim=2, networks=NETWORKS)


@pytest.mark.parametrize("name", METHODS)
def test_what_encoders_read_in_gaps_is_learned_in_the_first_stage_and_stays(name: str) -> None:
    method, batch = made(name), Batch.of(rows(), modalities=GAPPY)
    truth = {n: np.nanmean(v, 0) for n, v in rows().items()}
    for stage in method.stages:
        method.begin(stage)
        method.train()
        method.losses(batch)
        for n, mean in truth.items():
            filler = method.model.decoder(n).filler
            assert filler is not None
            np.testing.assert_allclose(filler.mean.numpy(), mean, rtol=1e-5)
        batch = Batch.of(
            {n: v + (stage is not None) for n, v in rows().items()}, modalities=GAPPY
        )  # others, which later stages leave out
    method.begin(None)
    method.eval().losses(batch)
    np.testing.assert_allclose(method.model.fillers[0].mean.numpy(), truth["a"], rtol=1e-5)


def test_projectors_agree_as_used_as_well_as_they_were_trained() -> None:
    """The contrast of JNF-Shared's projections at the end of their own stage, and after
    all stages."""
    torch.manual_seed(0)
    method, batch = (
        JNFShared(GAPPY, shared_dim=2, projection_dim=4, temperature=0.2, networks=NETWORKS),
        Batch.of(rows(), modalities=GAPPY),
    )
    aligned: list[float] = []
    for stage in method.stages:
        method.begin(stage)
        method.train()
        optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], 1e-2)
        for _ in range(200 if stage.name == "shared" else 2):
            optimiser.zero_grad()
            torch.stack([*method.losses(batch).values()]).sum(0).mean().backward()
            optimiser.step()
        loss, encoding = method.stages[0].losses[0][0], method.model.encode(batch)
        aligned.append(float(loss.terms(method.model, encoding)["align"].mean().detach()))
    assert aligned[0] < 4.2, "chance is log 127 = 4.84"
    assert aligned[1:] == pytest.approx(aligned[:1] * 2, rel=1e-5)


def test_a_single_modality_is_no_total_correlation() -> None:
    """ratio = 1 leaves it no loss; below, the loss is (1 − r) times the ELBO."""
    alone = (GAPPY[0],)
    with pytest.raises(ValueError, match="ratio=1 gives a single modality no loss"):
        MVTCAE(alone, ratio=1.0)
    batch = Batch.of({"a": rows()["a"]}, modalities=alone)
    totals = []
    for ratio in (0.0, 0.75):
        torch.manual_seed(0)
        method = MVTCAE(alone, shared_dim=2, networks=NETWORKS, ratio=ratio)
        torch.manual_seed(0)
        totals.append(torch.stack([*method.losses(batch).values()]).sum(0))
    torch.testing.assert_close(totals[1], 0.25 * totals[0])


# --- standardisation --------------------------------------------------------------------------------------------------


def test_running_statistics_are_those_of_all_batches_together() -> None:
    """Also where batches differ: means of −6 and 6, and a standard deviation of 1, are
    a variance of 37."""
    statistics, batches = Statistics(3), [torch.randn(50, 3) + 6 * (-1) ** i for i in range(100)]
    for batch in batches:
        statistics(batch)
    everything = torch.cat(batches)
    torch.testing.assert_close(statistics.mean, everything.mean(0), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        statistics.variance, everything.var(0, correction=0), rtol=1e-4, atol=0
    )
    for _ in range(1000):  # and when later batches count one in a hundred
        for i in range(2):
            statistics(torch.randn(50, 3) + 6 * (-1) ** i)
    torch.testing.assert_close(statistics.variance, torch.full((3,), 37.0), rtol=0.05, atol=0)


def test_a_prior_trained_along_standardises_by_the_spread_between_modalities() -> None:
    """z of a modality each at −6 and 6: what the prior learns has a standard deviation
    of 1."""
    method = IDMVAE(
        (Modality("a", (6,)), Modality("b", (6,))),
        shared_dim=2,
        private_dim=2,
        diffusion_width=8,
        networks=NETWORKS,
    )
    batch = Batch.of(
        {n: np.random.default_rng(0).normal(size=(256, 6)).astype(np.float32) for n in "ab"},
        modalities=method.modalities,
    )
    for sign, encoder in zip((-6.0, 6.0), method.model.posterior.encoders.values(), strict=True):
        head: Any = encoder
        torch.nn.init.constant_(head.shared_head.linear.bias, sign)
    loss, prior = DiffusionPriorLoss(), method.model.sampler("diffusion", "z")
    assert isinstance(prior, DiffusionPrior)
    for _ in range(50):
        loss.terms(method.model, method.model.encode(batch))
    with torch.no_grad():
        z = torch.cat([q.loc for q in method.model.encode(batch).shared.values()])  # type: ignore[union-attr]
    assert float(z.std()) > 5
    torch.testing.assert_close(prior.standardised(z).std(0), torch.ones(2), rtol=0.02, atol=0)


def test_a_fitted_prior_is_standardised_by_all_rows_throughout() -> None:
    """Latents of a long tail, of which batches of eight rows know little."""
    method = cp.MVAE((Modality("a", (6,), "normal"),), shared_dim=2, networks=NETWORKS)
    x = np.random.default_rng(0).lognormal(sigma=1.5, size=(200, 6)).astype(np.float32)
    method.fit_prior(
        Split({"a": x}, method.modalities),
        kind="flow",
        size=4,
        steps=3,
        batch_size=8,
        progress=False,
    )
    z = method.encode({"a": x}).shared[0]
    prior = method.model.sampler("flow", "z")
    assert isinstance(prior, FlowPrior)
    torch.testing.assert_close(prior.mean, z.mean(0))
    torch.testing.assert_close(prior.scale.square(), z.var(0, correction=0) + 1e-5)
    prior.train()
    prior.loss(
        10 + torch.randn(8, 2)
    )  # trained on: a batch counts one in a hundred, and does not take the place of all rows
    torch.testing.assert_close(prior.mean, z.mean(0) + 0.01 * (10 - z.mean(0)), rtol=0, atol=0.02)


def test_one_row_has_no_spread_to_standardise_by() -> None:
    prior = DiffusionPrior(2, width=4)
    prior.standardise_by(torch.ones(1, 2))
    assert torch.isfinite(prior.loss(torch.ones(1, 2))).all()


def test_norms_are_not_turned_into_others() -> None:
    with pytest.raises(ValueError, match="'sync_batchnorm' is not passed on"):
        FitOptions(trainer={"sync_batchnorm": True})
    from pytorch_lightning.plugins import TorchSyncBatchNorm

    with pytest.raises(ValueError, match="'plugins' holds a LayerSync: norms pass over"):
        made("mvae").fit(
            Split(rows(), GAPPY), max_steps=1, progress=False, plugins=[TorchSyncBatchNorm()]
        )
    kept: Tensor = torch.nn.SyncBatchNorm.convert_sync_batchnorm(Statistics(2)).mean
    assert kept.shape == (2,)
