"""Schedules, losses and DDIM against closed forms; a diffusion prior on two modes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from linear_gaussian import assert_mean
from torch import Tensor

from counterpoint.diffusion import GaussianDiffusion, Schedule, TimeMLP, alpha_bars
from counterpoint.priors import DiffusionPrior, Prior

SCHEDULES: tuple[Schedule, ...] = ("linear", "sigmoid")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_fall_from_signal_to_noise(schedule: Schedule) -> None:
    bars = alpha_bars(1000, schedule)
    assert bars.shape == (1000,)
    assert (bars.diff() < 0).all()
    assert float(bars[0]) > 0.999 and 0 < float(bars[-1]) < 1e-4


def test_linear_schedule_is_that_of_ddpm() -> None:
    bars = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(alpha_bars(1000, "linear").numpy(), bars, rtol=1e-5)
    assert float(alpha_bars(1000, "linear")[-1]) == pytest.approx(4.036e-5, rel=1e-3)  # the figure known of DDPM
    assert float(alpha_bars(100, "linear")[-1]) < 1e-4, "fewer steps must still end in noise"


def test_sigmoid_schedule_is_the_published_formula() -> None:
    def gamma(t: float) -> float:
        start, end = (1 / (1 + math.exp(-v)) for v in (-3.0, 3.0))
        return (end - 1 / (1 + math.exp(-(6 * t - 3)))) / (end - start)

    bars = alpha_bars(1000, "sigmoid").numpy()
    np.testing.assert_allclose(bars[:-1], [gamma(t / 1000) for t in range(1, 1000)], rtol=1e-4, atol=1e-7)
    assert bars[499] == pytest.approx(0.5, abs=1e-5)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown noise schedule 'cosine'; choose 'linear' or 'sigmoid'"):
        alpha_bars(10, "cosine")  # type: ignore[arg-type]


def test_noised_values_have_their_moments() -> None:
    process = GaussianDiffusion()
    t, noise = torch.full((20_000,), 400), torch.randn(20_000, 1)
    x = process.noised(torch.full((20_000, 1), 2.0), t, noise).numpy()
    bar = float(process.alpha_bar[400])
    assert_mean(x[:, 0], 2 * bar**0.5)
    assert_mean((x[:, 0] - 2 * bar**0.5) ** 2, 1 - bar)


def test_loss_weight_is_the_clamped_signal_to_noise_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    process = GaussianDiffusion()
    times = torch.tensor([0, 100, 400, 500, 999])
    monkeypatch.setattr(torch, "randint", lambda high, size, device=None: times)
    losses = process.loss(lambda x, t: torch.zeros_like(x), torch.full((5, 2), 3.0))  # an error of 9 in every entry
    snr = (process.alpha_bar / (1 - process.alpha_bar))[times]
    expected = [100.0, float(snr[1]), float(snr[2]), 1.0, 1.0]
    assert 1 < expected[2] < expected[1] < 100 and float(snr[0]) > 100 and float(snr[4]) < 1, "both clamps must take part"
    torch.testing.assert_close(losses / 9, torch.tensor(expected), rtol=1e-4, atol=0.001)


def test_loss_is_zero_for_a_perfect_network_and_sees_the_noised_value() -> None:
    process, x0 = GaussianDiffusion(), torch.randn(64, 3)
    assert float(process.loss(lambda x, t: x0, x0).abs().max()) == 0
    seen: dict[str, Tensor] = {}

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.update(x=x, t=t)
        return x

    process.loss(network, x0)
    bar = process.alpha_bar[seen["t"]].unsqueeze(-1)
    noise = (seen["x"] - bar.sqrt() * x0) / (1 - bar).sqrt()
    assert_mean(noise.flatten().numpy() ** 2, 1.0)
    assert len(seen["t"].unique()) > 50


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_with_the_exact_denoiser_recovers_a_gaussian(schedule: Schedule) -> None:
    """For x_0 ~ N(m, s²), E[x_0 | x_t] = m + s²√ᾱ (x_t − √ᾱ m) / (ᾱ s² + 1 − ᾱ)."""
    process = GaussianDiffusion(schedule=schedule)
    mean, std = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 1.5])

    def exact(x: Tensor, t: Tensor) -> Tensor:
        bar = process.alpha_bar[t].unsqueeze(-1)
        return mean + std**2 * bar.sqrt() * (x - bar.sqrt() * mean) / (bar * std**2 + 1 - bar)

    samples = process.ddim(exact, torch.randn(20_000, 2), steps=100)
    assert samples.mean(0).tolist() == pytest.approx(mean.tolist(), abs=0.03)
    assert (samples.std(0) / std).tolist() == pytest.approx([1, 1], abs=0.03)
    one = process.ddim(exact, torch.zeros(1, 2), steps=1)
    assert one[0].tolist() == pytest.approx(mean.tolist(), abs=0.05)  # one step returns the mean of everything


def test_ddim_refuses_impossible_steps() -> None:
    for steps in (0, 1001):
        with pytest.raises(ValueError, match=f"DDIM takes 1 to 1000 steps, got {steps}"):
            GaussianDiffusion().ddim(lambda x, t: x, torch.zeros(1, 1), steps=steps)


def test_ddim_is_deterministic_and_visits_falling_times() -> None:
    times: list[int] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        times.append(int(t[0]))
        return 0.5 * x

    process, noise = GaussianDiffusion(), torch.randn(3, 2)
    first = process.ddim(network, noise, steps=10)
    assert times[0] == 999 and times[-1] == 0 and len(times) == 10 and sorted(times, reverse=True) == times
    assert torch.equal(first, process.ddim(network, noise, steps=10))


def test_time_reaches_the_network() -> None:
    network, x = TimeMLP(2, 16), torch.randn(2, 2)
    outputs = [network(x, torch.full((2,), t)) for t in (0, 10, 999)]
    assert not torch.allclose(outputs[0], outputs[1]) and not torch.allclose(outputs[1], outputs[2])


def test_diffusion_prior_learns_two_modes() -> None:
    """Modes at ±(3, −2) with spread 0.3, far from unit variance: at least 90 % of the samples lie within 3 spreads of one."""
    prior, centre = DiffusionPrior(2, width=64), torch.tensor([3.0, -2.0])
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
    assert 0.6 < float((distances[0] < distances[1]).float().mean()) < 0.8, "the modes keep their shares"


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
    torch.testing.assert_close(prior.scale, latents.std(0), rtol=1e-3, atol=1e-3)
    assert prior.sample(9).shape == (9, 2)


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
