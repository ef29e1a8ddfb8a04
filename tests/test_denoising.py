"""Diffusion decoders: what they learn against closed forms, in every method, and what
they refuse."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.diffusion import DiT, TimeMLP, UNet, UNet2D
from counterpoint.methods import METHODS
from counterpoint.model.denoising import DenoiserOptions, Denoising
from counterpoint.objectives.afterwards import DiffusionPriorLoss

IMAGE, VECTOR = (
    Modality("image", (1, 8, 8), "normal", scale=0.5),
    Modality("vector", (3,), "normal", scale=0.5),
)
NETWORKS = cp.NetworkOptions(width=4, hidden=(16,))
SMALL = DenoiserOptions(("image",), width=8, solver_steps=5)
NOISE = 1e-3
"""What is larger is not rounding."""


def batch(rows: int = 6) -> Batch:
    rng = np.random.default_rng(0)
    x = {
        "image": rng.random((rows, 1, 8, 8), dtype=np.float32),
        "vector": rng.normal(size=(rows, 3)).astype(np.float32),
    }
    return Batch.of(x, modalities=(IMAGE, VECTOR))


def test_a_decoder_of_vectors_learns_what_latents_say() -> None:
    """x = (u + e, −u + e', e'') with spreads of 0.4, 0.4 and 1: means and spreads given
    u by twenty steps of the solver."""
    torch.manual_seed(0)
    reads = Denoising(VECTOR, 1, DenoiserOptions(width=4))
    optimiser = torch.optim.Adam(reads.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 1200)
    direction, spread = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([0.4, 0.4, 1.0])
    for _ in range(1200):
        u = torch.randn(512, 1)
        loss = -reads.log_prob(u[None], u * direction + spread * torch.randn(512, 3)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    reads.eval()
    with torch.no_grad():
        for value in (-1.0, 0.5):
            x = reads.mean(torch.full((1, 4000, 1), value))[0]
            torch.testing.assert_close(x.mean(0), value * direction, atol=0.12, rtol=0)
            torch.testing.assert_close(x.std(0), spread, atol=0, rtol=0.12)


def test_the_surrogate_is_the_denoising_error() -> None:
    """λ times the squared error of ε, summed over entries, of each draw by itself; for
    a network that always says nought it is λ · size."""
    torch.manual_seed(0)
    reads = Denoising(IMAGE, 2, DenoiserOptions(width=8, loss_weight=0.5, prediction_type="eps"))
    for weight in reads.network.last[-1].parameters():  # type: ignore[union-attr,index]
        torch.nn.init.zeros_(weight)
    with torch.no_grad():
        surrogate = reads.log_prob(torch.randn(50, 40, 2), torch.rand(40, 1, 8, 8))
    assert surrogate.shape == (50, 40) and not reads.exact
    error = surrogate.flatten().double().numpy()
    assert abs(error.mean() + 0.5 * 64) < 4 * error.std() / len(error) ** 0.5


KINDS = [
    (n, c)
    for n in ("unet", "unet2d", "dit")
    for c in ("embed", "film", "concat")
    if (n, c) != ("dit", "film")
]


@pytest.mark.parametrize(("network", "condition"), KINDS)
def test_latents_reach_images_and_gradients_reach_latents(network: Any, condition: Any) -> None:
    """The surrogate and, where gradients are wanted, the few steps of a sample; values
    lie in [0, 1]."""
    torch.manual_seed(0)
    reads = Denoising(
        IMAGE,
        5,
        DenoiserOptions(network=network, width=8, condition=condition, loss_solver_steps=3),
    )
    raw = torch.randn(2, 4, *reads.output_shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(reads.log_prob(raw, torch.rand(4, 1, 8, 8)).sum(), raw)
    assert float(gradient.flatten(2).abs().amax(-1).min()) > NOISE
    seen: list[int] = []
    hook = reads.network.register_forward_hook(lambda *_: seen.append(1))
    image = reads.draft(raw)
    hook.remove()
    assert (
        len(seen) == 3
        and image.shape == (2, 4, 1, 8, 8)
        and 0 <= float(image.detach().min()) < float(image.detach().max()) <= 1
    )
    (gradient,) = torch.autograd.grad(image.sum(), raw)
    assert float(gradient.abs().max()) > NOISE


def test_the_draft_of_concat_is_trained_by_its_own_likelihood() -> None:
    torch.manual_seed(0)
    reads = Denoising(IMAGE, 5, DenoiserOptions(width=8, condition="concat", loss_weight=1e-9))
    raw, x = torch.randn(2, 4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    assert reads.coarse is not None
    torch.testing.assert_close(
        reads.log_prob(raw, x), reads.coarse.log_prob(raw, x), atol=1e-4, rtol=1e-5
    )


def test_guidance_exaggerates_what_latents_say() -> None:
    torch.manual_seed(0)
    options = DenoiserOptions(width=8, condition_dropout=0.5, guidance=3.0)
    reads = Denoising(IMAGE, 2, options)
    x, u, t = torch.randn(4, 1, 8, 8), torch.randn(4, 2), torch.tensor([300])
    told, untold = reads._predicted(u, x, t), reads._predicted(torch.zeros_like(u), x, t)
    assert float((told - untold).detach().abs().max()) > 0.01
    torch.testing.assert_close(reads._guided(u, x, t), 3 * told - 2 * untold, atol=1e-5, rtol=1e-4)


def test_dropped_rows_see_nothing_of_the_latents() -> None:
    """Their share is as asked, in training only."""
    torch.manual_seed(0)
    reads = Denoising(VECTOR, 2, DenoiserOptions(width=1, condition_dropout=0.25))
    seen: list[Tensor] = []
    reads.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    raw, x = torch.ones(1, 4000, 2), torch.randn(4000, 3)
    reads.log_prob(raw, x)
    reads.eval()
    reads.log_prob(raw, x)
    assert abs(float((seen[0] == 0).all(-1).float().mean()) - 0.25) < 0.03
    assert bool((seen[1] == 1).all())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_a_diffusion_decoder(name: str) -> None:
    """The same option everywhere: its network learns, samples are finite, and what
    needs a density says so."""
    kind: Any = METHODS[name]
    options = {"estimator": "elbo", "samples": 1} if name == "mmvae" else {}
    torch.manual_seed(0)
    method = kind((IMAGE, VECTOR), shared_dim=3, networks=NETWORKS, denoiser=SMALL, **options)
    assert method.model.surrogates == ["image"]
    again = kind.from_config((IMAGE, VECTOR), method.config)
    assert again.model.likelihood("image").options == SMALL
    learned: list[float] = []
    for stage in method.stages:
        method.begin(stage)
        method.zero_grad()
        torch.stack([*method.losses(batch(), 100).values()]).sum(0).mean().backward()
        learned += [
            float(p.grad.abs().max())
            for p in method.model.decoders["image"].parameters()
            if p.requires_grad
        ]
    assert len(learned) > 20 and min(learned) > 1e-6
    method.begin(None)
    given = {"vector": batch().x["vector"]}
    image = method.translate(given, ["image"], n=2, generator=torch.Generator().manual_seed(0))[
        "image"
    ]
    assert image.shape == (2, 6, 1, 8, 8) and bool(torch.isfinite(image).all())
    assert not torch.equal(image[0], image[1])
    with pytest.raises(ValueError, match="the decoder of 'image' has no exact density"):
        method.log_likelihood(batch())


def test_what_weighs_draws_needs_a_density() -> None:
    with pytest.raises(
        ValueError,
        match="estimator='dreg' weighs draws by their density, and the decoder of 'image' has none",
    ):
        cp.MMVAEPlus(
            (IMAGE, VECTOR),
            shared_dim=3,
            private_dim=2,
            estimator="dreg",
            samples=2,
            networks=NETWORKS,
            denoiser=SMALL,
        )
    with pytest.raises(ValueError, match="samplers of kind 'gmm' don't learn by gradient"):
        DiffusionPriorLoss("gmm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="denoiser names image, but decoder='feed-forward'"):
        cp.DiffMVAE((IMAGE, VECTOR), decoder="feed-forward", denoiser=SMALL)


def test_binary_vectors_stay_between_0_and_1() -> None:
    torch.manual_seed(0)
    reads = Denoising(Modality("attributes", (5,), "bernoulli"), 2, DenoiserOptions(width=1))
    with torch.no_grad():
        x = reads.mean(torch.randn(1, 50, 2))
    assert float(x.min()) >= 0 and float(x.max()) <= 1 and float(x.std()) > 0.1


@pytest.mark.parametrize("rows", [None, 5])
def test_denoisers_see_no_more_rows_than_decoders_may(rows: int | None) -> None:
    torch.manual_seed(0)
    method = cp.MVTCAE(
        (IMAGE, VECTOR), shared_dim=3, networks=NETWORKS, denoiser=SMALL, decoder_batch_size=rows
    )
    seen: list[int] = []
    method.model.likelihood("image").network.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )  # type: ignore[union-attr]
    losses = method.losses(batch(12))
    assert seen == ([12] if rows is None else [5, 5, 2]) and all(
        v.shape == (12,) for v in losses.values()
    )


@pytest.mark.parametrize("absent", [range(2, 9), range(12)])
def test_denoisers_do_not_see_what_is_absent(absent: range) -> None:
    """Rows without an image cost the denoiser nothing and count 0; so it may be with
    all rows."""
    torch.manual_seed(0)
    method = cp.MoPoE((IMAGE, VECTOR), shared_dim=3, networks=NETWORKS, denoiser=SMALL)
    seen: list[int] = []
    method.model.likelihood("image").network.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )  # type: ignore[union-attr]
    full = batch(12)
    there = torch.tensor([row not in absent for row in range(12)])
    encoding = method.model.encode(
        Batch(
            {**full.x, "image": full.x["image"] * there.view(-1, 1, 1, 1)},
            {**full.present, "image": there},
        )
    )
    raw = torch.randn(2, 12, 3)
    found = method.model.log_prob("image", raw, encoding.batch)
    assert sum(seen) == 2 * int(there.sum())
    assert bool((found[:, ~there] == 0).all()) and bool((found[:, there] < 0).all())
    assert all(bool(torch.isfinite(v).all()) for v in method.losses(encoding.batch).values())


WORDS = Modality("words", (4,), "categorical", classes=6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"modalities": ("photo",)},
            "there is no modality 'photo'; the modalities are image, vector, words",
        ),
        ({"modalities": ("words",)}, "'words' is a sequence of words, which diffusion can't draw"),
        (
            {"modalities": ("vector",), "condition": "film"},
            "'vector' of shape \\(3,\\) is no image; vectors take condition='embed'",
        ),
        (
            {"guidance": 2.0},
            "guidance=2.0 needs a network that has learned to do without latents; train with condition_dropout=0.1",
        ),
        (
            {"modalities": ("vector",), "network": "dit"},
            "'vector' of shape \\(3,\\) is no image; .* and network='unet', and have an MLP",
        ),
        (
            {"modalities": ("image",), "network": "unet2d", "width": 1},
            "width=1 of the network 'unet2d' must be 2 or more",
        ),
        (
            {"network": "dit", "condition": "film"},
            "network='dit' are scaled and shifted anyhow; give condition='embed' or 'concat'",
        ),
        (
            {"network": "transformer"},
            "network='transformer' is unknown; choose one of unet, unet2d, dit",
        ),
        ({"condition": "cross"}, "condition='cross' is unknown; choose one of embed, film, concat"),
        (
            {"schedule": "quadratic"},
            "schedule='quadratic' is unknown; choose one of linear, cosine, sigmoid",
        ),
        (
            {"solver_steps": 2000},
            "solver_steps=2000 and loss_solver_steps=2 must lie between 1 and timesteps=1000",
        ),
        ({"solver_steps": 5.5}, "solver_steps=5.5 must be a whole number"),
        (
            {"solver": "heun", "solver_steps": 5},
            "'heun' goes wrong in 5 steps; give it 20 or more, or take 'dpm\\+\\+'",
        ),
        (
            {"prediction_type": "eps", "weighting": "clamped"},
            "weighting='clamped' goes wrong with prediction_type='eps'",
        ),
        ({"guidance": -1.0, "condition_dropout": 0.1}, "guidance=-1.0 must be 0 or more"),
        ({"condition_dropout": 1.0}, "condition_dropout=1.0 must lie in \\[0, 1\\)"),
        ({"width": 0}, "width=0 and timesteps=1000 must be 1 or more"),
    ],
)
def test_impossible_decoders_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cp.MoPoE(
            (IMAGE, VECTOR, WORDS),
            shared_dim=3,
            networks=NETWORKS,
            denoiser=DenoiserOptions(**options),
        )


@pytest.mark.parametrize("network", [UNet, UNet2D])
def test_a_unet_refuses_what_it_cannot_halve(network: Any) -> None:
    with pytest.raises(
        ValueError, match="can't halve images of 30×30 down to 8; pad or resize them"
    ):
        network((3, 30, 30))
    with pytest.raises(ValueError, match="a UNet reads images of shape"):
        network((7,))
    with pytest.raises(
        ValueError, match="conditioning='concat' is unknown; choose one of embed, film"
    ):
        UNet((3, 32, 32), conditioning="concat")  # type: ignore[arg-type]


def test_a_transformer_refuses_what_it_cannot_cut() -> None:
    assert [
        DiT((1, height, width)).patch
        for height, width in ((8, 8), (16, 12), (28, 28), (32, 32), (64, 64), (30, 12))
    ] == [
        1,
        1,
        2,
        2,
        4,
        2,
    ]
    with pytest.raises(
        ValueError,
        match="a DiT can't cut images of 37×37 into 16 patches a side or fewer, of 8×8 or less; pad or resize",
    ):
        DiT((3, 37, 37))
    with pytest.raises(ValueError, match="a DiT reads images of shape"):
        DiT((7,))


def test_a_transformer_puts_patches_where_they_were() -> None:
    """With every block silent and the last layer the first one's inverse, each pixel
    comes back in its place."""
    torch.manual_seed(0)
    network = DiT((2, 8, 64), width=8)  # a patch has as many numbers as the network has features
    assert network.patch == 4 and network.last.out_features == 32 == network.last.in_features
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    network.first.register_buffer("pos_embed", torch.zeros_like(network.first.pos_embed))
    network.first.proj.weight.data = torch.eye(32).view(32, 2, 4, 4)
    network.last.weight.data = torch.eye(32)
    network.norm.norm = torch.nn.Identity()
    x = torch.randn(3, 2, 8, 64)
    torch.testing.assert_close(network(x, torch.tensor([1])), x)


IMAGE_NETWORKS = [
    partial(UNet, (2, 12, 20), 4),
    partial(UNet, (2, 12, 20), 8),
    partial(UNet2D, (2, 12, 20), 8),
    partial(DiT, (2, 12, 20), 8),
]


@pytest.mark.parametrize("network", [*IMAGE_NETWORKS, partial(TimeMLP, 6, 16)])
def test_rows_and_conditions_do_not_mix(network: Any) -> None:
    """Each row sees itself, its time and its condition; one time for all rows is the
    same as that time for each."""
    torch.manual_seed(0)
    module = network(context=3)
    shape = (6,) if isinstance(module, TimeMLP) else (2, 12, 20)
    x, t, c = torch.randn(4, *shape), torch.tensor([10, 500, 500, 900]), torch.randn(4, 3)
    out = module(x, t, c)
    assert out.shape == x.shape
    torch.testing.assert_close(module(x[2:3], t[2:3], c[2:3]), out[2:3], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        module(x[1:3], torch.tensor([500]), c[1:3]), out[1:3], atol=1e-5, rtol=1e-4
    )
    for other in (module(x, t, -c), module(x, t + 50, c)):
        assert float((other - out).detach().flatten(1).abs().amax(1).min()) > 0.01


@pytest.mark.parametrize("network", IMAGE_NETWORKS[2:])
def test_broken_times_lie_between_whole_ones(network: Any) -> None:
    torch.manual_seed(0)
    module, x, c = network(context=3), torch.randn(4, 2, 12, 20), torch.randn(4, 3)
    with torch.no_grad():
        before, between, after = (module(x, torch.tensor([t]), c) for t in (500, 500.5, 501))
    for end in (before, after):
        assert 0.25 < float((between - end).norm() / (after - before).norm()) < 0.75


@pytest.mark.parametrize(
    ("network", "condition"), [("unet2d", "embed"), ("unet2d", "film"), ("dit", "embed")]
)
def test_a_larger_network_learns_an_image_for_each_latent(network: Any, condition: Any) -> None:
    """Two latents, a dark image and a bright one: after some steps what is drawn is
    near the right one."""
    torch.manual_seed(0)
    reads = Denoising(
        IMAGE, 2, DenoiserOptions(network=network, condition=condition, width=8, solver_steps=5)
    )
    optimiser = torch.optim.Adam(reads.parameters(), 3e-3)
    images, u = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1).expand(2, 1, 8, 8), torch.eye(2)
    rows = torch.arange(32) % 2
    for _ in range(80):
        loss = -reads.log_prob(u[rows][None], images[rows]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    reads.eval()
    with torch.no_grad():
        drawn = reads.mean(u.repeat(8, 1)[None])[0].mean((1, 2, 3))
    assert float(drawn[::2].max()) < 0.4 < 0.6 < float(drawn[1::2].min())


@pytest.mark.parametrize("network", ["unet2d", "dit"])
def test_a_larger_network_is_averaged_and_saved_like_any(network: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = cp.data.load(
        {
            "image": np.random.default_rng(0).random((20, 1, 8, 8), np.float32),
            "vector": np.zeros((20, 3), np.float32),
        }
    )
    method = cp.DiffMVAE.for_data(
        data, shared_dim=3, networks=NETWORKS, denoiser=replace(SMALL, network=network)
    )
    method.fit(data.train, max_steps=3, batch_size=4, ema_decay=0.9, progress=False)
    method.save_pretrained(tmp_path)
    draw = [
        m.sample(4, generator=torch.Generator().manual_seed(0))["image"]
        for m in (method, cp.load(tmp_path))
    ]
    assert torch.equal(*draw) and float(draw[0].std()) > NOISE


@pytest.mark.parametrize("network", [UNet2D, DiT])
def test_a_larger_network_compiles_in_one_piece(network: Any) -> None:
    torch.manual_seed(0)
    module = network((1, 8, 8), 8, context=2)
    x, t, c = torch.randn(3, 1, 8, 8), torch.tensor([1, 500, 900]), torch.randn(3, 2)
    plain = module(x, t, c)
    module.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(module(x, t, c), plain)


@pytest.mark.parametrize("network", ["unet2d", "dit"])
def test_without_diffusers_the_extra_is_named(
    network: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    words = [
        "fit",
        "diff-mvae",
        "--data",
        "circles-squares",
        "--denoiser.network",
        network,
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(words) == 2 and not (tmp_path / "run").exists()
    assert capsys.readouterr().err == (
        "counterpoint: error: this needs diffusers, which is not installed; run: pip install 'counterpoint[diffusion]'\n"
    )
