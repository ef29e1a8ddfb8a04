"""Schedules, losses and DDIM against closed forms; a diffusion prior on two modes."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from linear_gaussian import assert_mean
from torch import Tensor

from counterpoint.diffusion import (
    SOLVERS,
    GaussianDiffusion,
    Network,
    Prediction,
    Schedule,
    TimeMLP,
    alpha_bars,
    sample,
)
from counterpoint.model.fitted_priors import DiffusionPrior, ScorePrior
from counterpoint.model.priors import Prior
from counterpoint.nn.running import RunningMoments

SCHEDULES: tuple[Schedule, ...] = ("linear", "cosine", "sigmoid")
PREDICTIONS: tuple[Prediction, ...] = ("x0", "eps", "v")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_fall_from_signal_to_noise(schedule: Schedule) -> None:
    bars = alpha_bars(1000, schedule)
    assert bars.shape == (1000,)
    assert (bars.diff() < 0).all()
    assert float(bars[0]) > 0.999 and 0 < float(bars[-1]) < 1e-4


def test_linear_schedule_is_that_of_ddpm() -> None:
    bars = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(alpha_bars(1000, "linear").numpy(), bars, rtol=1e-5)
    assert float(alpha_bars(1000, "linear")[-1]) == pytest.approx(
        4.036e-5, rel=1e-3
    )  # the figure known of DDPM
    assert float(alpha_bars(100, "linear")[-1]) < 1e-4, "fewer steps must still end in noise"


def test_sigmoid_schedule_is_the_published_formula() -> None:
    def gamma(t: float) -> float:
        start, end = (1 / (1 + math.exp(-v)) for v in (-3.0, 3.0))
        return (end - 1 / (1 + math.exp(-(6 * t - 3)))) / (end - start)

    bars = alpha_bars(1000, "sigmoid").numpy()
    np.testing.assert_allclose(
        bars[:-1], [gamma(t / 1000) for t in range(1, 1000)], rtol=1e-4, atol=1e-7
    )
    assert bars[499] == pytest.approx(0.5, abs=1e-5)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match="unknown noise schedule 'quadratic'; choose one of linear, cosine, sigmoid",
    ):
        alpha_bars(10, "quadratic")  # type: ignore[arg-type]


def test_noised_values_have_their_moments() -> None:
    process = GaussianDiffusion()
    t, noise = torch.full((20_000,), 400), torch.randn(20_000, 1)
    x = process.noised(torch.full((20_000, 1), 2.0), t, noise).numpy()
    bar = float(alpha_bars(1000, "sigmoid")[400])
    assert_mean(x[:, 0], 2 * bar**0.5)
    assert_mean((x[:, 0] - 2 * bar**0.5) ** 2, 1 - bar)


def test_loss_weight_is_the_clamped_signal_to_noise_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    process = GaussianDiffusion()
    times = torch.tensor([0, 100, 400, 500, 999])
    monkeypatch.setattr(torch, "randint", lambda high, size, generator=None, device=None: times)
    losses = process.loss(
        lambda x, t: torch.zeros_like(x), torch.full((5, 2), 3.0)
    )  # an error of 9 in every entry
    snr = process.log_snr(times).exp()
    expected = [100.0, float(snr[1]), float(snr[2]), 1.0, 1.0]
    assert 1 < expected[2] < expected[1] < 100 and float(snr[0]) > 100 and float(snr[4]) < 1, (
        "both clamps must take part"
    )
    torch.testing.assert_close(losses / 9, torch.tensor(expected), rtol=1e-4, atol=0.001)


def test_loss_is_zero_for_a_perfect_network_and_sees_the_noised_value() -> None:
    process, x0 = GaussianDiffusion(), torch.randn(64, 3)
    assert float(process.loss(lambda x, t: x0, x0).abs().max()) == 0
    seen: dict[str, Tensor] = {}

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.update(x=x, t=t)
        return x

    process.loss(network, x0)
    bar = torch.sigmoid(process.log_snr(seen["t"])).unsqueeze(-1)
    noise = (seen["x"] - bar.sqrt() * x0) / (1 - bar).sqrt()
    assert_mean(noise.flatten().numpy() ** 2, 1.0)
    assert len(seen["t"].unique()) > 50


# --- Gaussian data, whose best denoiser is known: E[x_0 | x_t] = m + s²α (x_t − α m) / (α² s² + σ²) -------------------------

MEAN, STD = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.6, 1.5, 0.8])


def exact(process: GaussianDiffusion) -> Network:
    """The best network for N(MEAN, STD²), of whatever it is to predict."""

    def network(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = process.rates(t, x)
        x0 = MEAN + STD**2 * alpha * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)
        eps = (x - alpha * x0) / sigma
        return {"x0": x0, "eps": eps, "v": alpha * eps - sigma * x0}[process.prediction_type]

    return network


def drawn(process: GaussianDiffusion, solver: str, steps: int, count: int = 60_000) -> Tensor:
    """From noise whose moments are exact, so that chance plays no part in what solvers
    make of it."""
    torch.manual_seed(0)
    noise = torch.randn(count, 3)
    noise = (noise - noise.mean(0)) / noise.std(0)
    return sample(process, exact(process), noise, steps=steps, solver=solver)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("solver", "steps"), [("ancestral", 1000), ("ddim", 1000), ("heun", 100), ("dpm++", 50)]
)
def test_samplers_recover_a_gaussian(schedule: Schedule, solver: str, steps: int) -> None:
    """Means within 2 % of a standard deviation, covariances within 2 %."""
    found = drawn(GaussianDiffusion(schedule=schedule), solver, steps)
    assert float(((found.mean(0) - MEAN) / STD).abs().max()) < 0.02
    assert float((torch.cov((found / STD).T) - torch.eye(3)).abs().max()) < 0.02


@pytest.mark.parametrize("std", [0.5, 1.0])
def test_predictor_and_corrector_recover_a_gaussian(
    std: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One as wide in every direction, as standardised latents are: Langevin's step is
    as long in all of them."""
    monkeypatch.setitem(globals(), "STD", torch.full((3,), std))
    found = drawn(GaussianDiffusion(schedule="linear"), "pc", 1000)
    assert float(((found.mean(0) - MEAN) / std).abs().max()) < 0.02
    assert float((torch.cov(found.T) / std**2 - torch.eye(3)).abs().max()) < 0.02


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_twenty_steps_of_a_solver_are_as_good_as_a_thousand_ancestral_ones(
    prediction_type: Prediction,
) -> None:
    """Within 5 % of their standard deviations, and DDIM with as few is not."""
    process = GaussianDiffusion(
        schedule="linear", prediction_type=prediction_type, weighting="plain"
    )
    many = drawn(process, "ancestral", 1000)
    errors = {}
    for solver in ("dpm++", "ddim"):
        few = drawn(process, solver, 20)  # type: ignore[arg-type]
        errors[solver] = max(
            float(((few.mean(0) - many.mean(0)) / STD).abs().max()),
            float((few.std(0) / many.std(0) - 1).abs().max()),
        )
    assert errors["dpm++"] < 0.05 < errors["ddim"]


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_what_is_predicted_makes_no_difference(prediction_type: Prediction) -> None:
    """The same x̂_0 from each, and the error of each is that of x_0 times its factor."""
    process, by_x0 = (
        GaussianDiffusion(prediction_type=prediction_type, weighting="min-snr"),
        GaussianDiffusion(weighting="min-snr"),
    )
    x0, times, noise = (
        torch.randn(6, 3),
        torch.tensor([0, 10, 300, 500, 800, 950]),
        torch.randn(6, 3),
    )
    x = process.noised(x0, times, noise)
    torch.testing.assert_close(
        process.denoised(exact(process), x, times), exact(by_x0)(x, times), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        process.denoised(lambda x, t: process.target(x0, t, noise), x, times),
        x0,
        rtol=1e-3,
        atol=5e-3,
    )


def test_weights_are_those_of_the_error_of_x0(monkeypatch: pytest.MonkeyPatch) -> None:
    times = torch.tensor([20, 300, 500, 800])
    monkeypatch.setattr(torch, "randint", lambda *_, generator=None, device=None: times)
    found: dict[tuple[str, str], Tensor] = {}
    for prediction_type in PREDICTIONS:
        for weight in ("plain", "min-snr", "clamped"):
            if (prediction_type, weight) == ("eps", "clamped"):
                continue
            process = GaussianDiffusion(prediction_type=prediction_type, weighting=weight)  # type: ignore[arg-type]
            torch.manual_seed(0)
            found[prediction_type, weight] = process.loss(
                exact(process), MEAN + STD * torch.randn(4, 3)
            )
    snr = process.log_snr(times).exp()
    for weight in ("min-snr", "clamped"):
        for prediction_type in ("eps", "v") if weight == "min-snr" else ("v",):
            torch.testing.assert_close(
                found[prediction_type, weight], found["x0", weight], rtol=1e-3, atol=1e-6
            )
    torch.testing.assert_close(
        found["eps", "plain"], snr * found["x0", "plain"], rtol=1e-3, atol=1e-6
    )
    torch.testing.assert_close(
        found["v", "plain"], (snr + 1) * found["x0", "plain"], rtol=1e-3, atol=1e-6
    )
    torch.testing.assert_close(
        found["x0", "min-snr"], snr.clamp(max=5) * found["x0", "plain"], rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize(
    ("schedule", "steps"), [("linear", 1000), ("cosine", 100), ("sigmoid", 10)]
)
def test_the_bound_is_that_of_its_closed_form(schedule: Schedule, steps: int) -> None:
    """E ‖x̂_0 − x_0‖² = Σ s² / (1 + s² SNR) for the best network."""
    process = GaussianDiffusion(timesteps=steps, schedule=schedule, prediction_type="v")
    alpha, sigma = (
        rate.squeeze(1).double()
        for rate in process.rates(torch.arange(steps), torch.zeros(steps, 1))
    )
    snr, variance = (alpha / sigma) ** 2, (STD**2).double()
    prior = (
        0.5
        * (
            alpha[-1] ** 2 * (variance + MEAN**2) + sigma[-1] ** 2 - 1 - (sigma[-1] ** 2).log()
        ).sum()
    )
    first = 3 * (0.5 * math.log(2 * math.pi * math.e) + (sigma[0] / alpha[0]).log())
    error = (variance / (1 + variance * snr.unsqueeze(1))).sum(1)
    expected = float(prior + first + 0.5 * ((snr[:-1] - snr[1:]) * error[1:]).sum())
    torch.manual_seed(0)
    found = process.bound(exact(process), MEAN + STD * torch.randn(20_000, 3), times=20)
    assert_mean(found.numpy(), expected)
    assert expected > float((0.5 * (2 * math.pi * math.e * variance).log()).sum())  # the entropy


def test_between_two_times_the_noise_is_between() -> None:
    process = GaussianDiffusion(timesteps=4)
    whole = process.log_snr(torch.arange(4))
    torch.testing.assert_close(process.log_snr(torch.tensor([0.0, 1.0, 2.0, 3.0])), whole)
    torch.testing.assert_close(
        process.log_snr(torch.tensor([0.25, 2.5])),
        torch.stack([0.75 * whole[0] + 0.25 * whole[1], whole[2:].mean()]),
    )


@pytest.mark.parametrize("solver", [*SOLVERS])
def test_a_walk_visits_falling_times_and_may_have_one_step(solver: str) -> None:
    times: list[float] = []
    process = GaussianDiffusion(schedule="linear", timesteps=100)

    def network(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t[0]))
        return exact(process)(x, t)

    sample(process, network, torch.randn(5, 3), steps=10, solver=solver)
    assert (
        times[0] == 99
        and times[-1] == 0
        and sorted(times, reverse=True) == times
        and len(set(times)) == 10
    )
    assert len(times) == {"heun": 18, "pc": 19}.get(solver, 10)
    one = sample(process, network, torch.zeros(1, 3), steps=1, solver=solver)
    assert one[0].tolist() == pytest.approx(MEAN.tolist(), abs=0.05)  # the mean of everything


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("solver", ["ancestral", "ddim", "dpm++"])
def test_two_steps_are_finite_and_not_far_off(schedule: Schedule, solver: str) -> None:
    for steps in (50, 1000):
        found = drawn(GaussianDiffusion(schedule=schedule, timesteps=steps), solver, 2, count=2000)
        assert (
            float(((found.mean(0) - MEAN) / STD).abs().max()) < 0.5
            and float((found.std(0) / STD).max()) < 1.5
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_even_steps_do_not_crowd_at_the_end(schedule: Schedule) -> None:
    """Of twenty, no two lie between two neighbouring times of the noisy half."""
    times: list[float] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t[0]))
        return x

    sample(
        GaussianDiffusion(schedule=schedule), network, torch.randn(2, 3), steps=20, solver="dpm++"
    )
    noisy = [t for t in times if t > 500]
    assert (
        len(noisy) > 4
        and max(b - a for a, b in zip(noisy[1:], noisy, strict=False)) > 1
        and min(-np.diff(noisy)) > 0.5
    )


def test_impossible_samplers_and_processes_are_refused() -> None:
    for steps in (0, 1001):
        with pytest.raises(ValueError, match=f"ddim takes 1 to 1000 steps, got {steps}"):
            sample(GaussianDiffusion(), lambda x, t: x, torch.zeros(1, 1), steps=steps)
    with pytest.raises(
        ValueError, match="unknown solver 'euler'; choose one of ancestral, ddim, heun, dpm"
    ):
        sample(GaussianDiffusion(), lambda x, t: x, torch.zeros(1, 1), solver="euler")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="unknown prediction 'noise' of a diffusion; choose one of x0, eps, v"
    ):
        GaussianDiffusion(prediction_type="noise")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="weighting='clamped' would multiply the error of eps by millions"
    ):
        GaussianDiffusion(prediction_type="eps", weighting="clamped")
    with pytest.raises(ValueError, match="a schedule needs 1 step or more, got 0"):
        GaussianDiffusion(timesteps=0)


def test_time_reaches_the_network() -> None:
    network, x = TimeMLP(2, 16), torch.randn(2, 2)
    outputs = [network(x, torch.full((2,), t)) for t in (0, 10, 999)]
    assert not torch.allclose(outputs[0], outputs[1]) and not torch.allclose(outputs[1], outputs[2])


@pytest.mark.parametrize("kind", [DiffusionPrior, ScorePrior, partial(ScorePrior, equation=True)])
def test_diffusion_priors_learn_two_modes(kind: Any) -> None:
    """Modes at ±(3, −2) with spread 0.3, far from unit variance: at least 90 % of the
    samples lie within 3 spreads of one."""
    torch.manual_seed(0)
    prior, centre = kind(2, width=64), torch.tensor([3.0, -2.0])
    optimiser = torch.optim.Adam(prior.parameters(), 3e-3)
    for step in range(900):
        sign = torch.where(torch.rand(256, 1) < 0.7, 1.0, -1.0)
        loss = prior.loss(sign * centre + 0.3 * torch.randn(256, 2)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step == 600:
            for group in optimiser.param_groups:
                group["lr"] = 5e-4
    prior.eval()
    with torch.no_grad():
        samples = prior.sample(1000)
    distances = torch.stack([(samples - s * centre).norm(dim=1) for s in (1, -1)])
    assert float((distances.min(0).values < 0.9).float().mean()) >= 0.9
    assert 0.6 < float((distances[0] < distances[1]).float().mean()) < 0.8, (
        "the modes keep their shares"
    )


def test_diffusion_prior_standardises_in_training_only() -> None:
    prior = DiffusionPrior(2, width=8)
    latents = torch.randn(64, 2) * 5 + 7
    prior.eval()
    prior.loss(latents)
    assert prior.mean.tolist() == [0, 0]
    prior.train()
    for _ in range(1000):
        prior.loss(latents)
    torch.testing.assert_close(prior.mean, latents.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(prior.scale, latents.std(0, correction=0), rtol=1e-3, atol=1e-3)
    assert prior.sample(9).shape == (9, 2)


def test_statistics_count_the_first_batches_alike_and_follow_later() -> None:
    statistics, rng = RunningMoments(2), torch.Generator().manual_seed(0)
    batches = [4 + 3 * torch.randn(32, 2, generator=rng) for _ in range(40)]
    for x in batches:
        statistics(x.bfloat16())
    torch.testing.assert_close(
        statistics.mean, torch.stack([x.mean(0) for x in batches]).mean(0), rtol=1e-2, atol=0
    )
    torch.testing.assert_close(
        statistics.variance, torch.cat(batches).var(0, correction=0), rtol=1e-2, atol=0
    )
    for _ in range(1000):
        statistics(torch.randn(32, 2, generator=rng))
    assert float(statistics.mean.abs().max()) < 0.2 and float(statistics.variance.max()) < 1.3
    before = statistics.mean.clone()
    statistics(torch.full((1, 2), 9.0))
    statistics.eval()
    statistics(torch.full((8, 2), 9.0))
    assert torch.equal(statistics.mean, before)


def test_diffusion_loss_reaches_the_latents() -> None:
    latents = torch.randn(8, 2, requires_grad=True)
    DiffusionPrior(2, width=8).loss(latents).sum().backward()
    assert latents.grad is not None and bool((latents.grad != 0).all())


@pytest.mark.parametrize("name", ["normal", "laplace"])
def test_a_prior_is_centred_with_unit_or_learned_scale(name: str) -> None:
    fixed, learned = Prior(3, name), Prior(3, name, learned_scale=True)
    assert not list(fixed.parameters()) and not fixed.state_dict()
    with torch.no_grad():
        learned.log_scale.fill_(math.log(2.0))
    value = torch.randn(5, 3)
    plain = {"normal": torch.distributions.Normal, "laplace": torch.distributions.Laplace}[name]
    torch.testing.assert_close(fixed().log_prob(value), plain(0.0, 1.0).log_prob(value).sum(-1))
    torch.testing.assert_close(learned().log_prob(value), plain(0.0, 2.0).log_prob(value).sum(-1))
    learned().log_prob(value).sum().backward()
    assert bool((learned.log_scale.grad != 0).all())  # type: ignore[union-attr]
