"""What every method must do, looped over all of them, and the options of IDMVAE."""

from __future__ import annotations

import copy
import errno
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import counterpoint as cp
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.diffusion import GaussianDiffusion
from counterpoint.methods import METHODS, Method, Ramp, Stage, method_named
from counterpoint.model import fitted_priors as priors
from counterpoint.nn.conv import ConvGenerator, enlarged_conv
from counterpoint.nn.resnet import ResidualBlock
from counterpoint.objectives.contrast import nt_xent
from counterpoint.objectives.matching import PosteriorMatch
from counterpoint.probability.mcmc import HMC

MODALITIES = (
    Modality("image", (1, 8, 8), "laplace"),
    Modality("words", (4,), "categorical", classes=6, weight=2.0),
    Modality("vector", (5,), "normal", scale=None),
)
NAMES = tuple(m.name for m in MODALITIES)
COVARIATES = ("batch=a", "batch=b", "age")
OMICS = (
    Modality("rna", (6,), "nb", covariates=COVARIATES),
    Modality("protein", (5,), "zinb", weight=2.0, covariates=COVARIATES),
    Modality("methylation", (4,), "beta"),
)
ROWS = 10
COMPLETENESS = ("complete", "missing")
every_method = pytest.mark.parametrize("name", METHODS)
with_and_without_missing = pytest.mark.parametrize("data", COMPLETENESS)
every_kind_of_data = pytest.mark.parametrize("data", (*COMPLETENESS, "omics", "omics missing"))


def kind_of(data: str) -> tuple[Modality, ...]:
    return OMICS if "omics" in data else MODALITIES


def covariates(data: str, rows: int = ROWS, seed: int = 6) -> Tensor | None:
    """A batch and an age for each row, of data that have them."""
    if kind_of(data) is MODALITIES:
        return None
    rng = np.random.default_rng(seed)
    batch = rng.random((rows, 1)) < 0.5
    return torch.as_tensor(
        np.concatenate([batch, ~batch, rng.normal(size=(rows, 1))], 1), dtype=torch.float32
    )


@cache
def has_private_latents(name: str) -> bool:
    kind: Any = METHODS[name]
    return bool(
        kind(MODALITIES, networks=cp.NetworkOptions(width=4, hidden=(16,))).model.private_dims
    )


def make(
    name: str, modalities: tuple[Modality, ...] = MODALITIES, *, norm: str = "none", **options: Any
) -> Method:
    networks = cp.NetworkOptions(width=4, hidden=(16,), norm=norm)  # type: ignore[arg-type]
    kind: Any = METHODS[name]  # a concrete method, whose constructor takes modalities and options
    if has_private_latents(name):
        options = {"private_dim": 3, **options}
    if name.startswith("jnf"):
        options = {
            "hmc": HMC(warmup=10, steps=8, leapfrogs=5),
            **options,
        }  # long enough to be the same or not
    torch.manual_seed(0)
    return kind(modalities, shared_dim=4, networks=networks, **options)


def presence(data: str, rows: int = ROWS) -> dict[str, np.ndarray]:
    """Nothing missing, or 30 % of the values: every modality somewhere, no row empty."""
    rng = np.random.default_rng(4)
    here = np.ones((rows, 3), bool)
    if "missing" in data:
        here = rng.random((rows, 3)) > 0.3
        here[~here.any(1), 0] = True
        assert here.any(0).all() and 0.5 < here.mean() < 0.9
    return dict(zip((m.name for m in kind_of(data)), here.T, strict=True))


def values(rows: int = ROWS, seed: int = 1, data: str = "complete") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    if kind_of(data) is OMICS:
        depth = rng.integers(1, 50, (rows, 1))
        counts = {
            "rna": rng.poisson(depth * rng.random((rows, 6))),
            "protein": rng.poisson(rng.random((rows, 5))),
        }
        return {**counts, "methylation": rng.random((rows, 4)).round(1).astype(np.float32)}
    return {
        "image": rng.random((rows, 1, 8, 8), dtype=np.float32),
        "words": rng.integers(0, 6, (rows, 4)),
        "vector": rng.normal(size=(rows, 5)).astype(np.float32),
    }


def batch(data: str = "complete", rows: int = ROWS) -> Batch:
    return Batch.of(
        values(rows, data=data),
        presence(data, rows),
        modalities=kind_of(data),
        covariates=covariates(data, rows),
    )


def losses(model: Method, of: Batch, step: int = 0, seed: int = 7) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return model.losses(of, step)


def train_step(model: Method, of: Batch, step: int = 0) -> dict[str, Tensor]:
    """One step of Adam, which moves a parameter if and only if it has a gradient."""
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    terms = losses(model, of, step)
    torch.stack(list(terms.values())).sum(0).mean().backward()
    optimiser.step()
    return terms


def unmoved(model: Method, of: Batch, step: int = 0) -> set[str]:
    """Parameters that one step leaves as they were."""
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    train_step(model, of, step)
    return {n for n, p in model.named_parameters() if torch.equal(p, before[n])}


# --- training -----------------------------------------------------------------------------------------------------------


@every_method
@every_kind_of_data
def test_one_step_changes_every_parameter(name: str, data: str) -> None:
    """Of what the stage trains, and nothing else. Vectors that stand for absent
    modalities learn where a modality is absent."""
    model = make(name, kind_of(data))
    idle = {n for n, _ in model.named_parameters()}
    for stage in model.stages:
        model.begin(stage)
        learning = {id(p) for module in stage.trains or [model] for p in module.parameters()}
        still = {
            n
            for n, p in model.named_parameters()
            if id(p) not in learning or ("missing" not in data and "tokens" in n)
        }
        assert unmoved(model, batch(data)) == still
        idle &= still
    assert all("tokens" in n for n in idle)


def test_a_stage_freezes_what_it_does_not_train() -> None:
    """No gradient, and evaluation mode, which batch normalisation heeds, whatever
    Lightning asks for meanwhile."""
    model = make("jnf", norm="batch")
    model.begin(model.stages[1])
    model.eval().train()
    frozen = [*model.model.posterior.rule.modules(), *model.model.decoders.modules()]
    assert not any(m.training for m in frozen) and all(
        m.training for m in model.model.posterior.encoders.modules()
    )
    assert {p.requires_grad for m in frozen for p in m.parameters()} == {False}
    before = copy.deepcopy(model.state_dict())
    train_step(model, batch())
    moved = {
        key.split(".")[2]
        for key, value in model.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert moved == {"encoders"} and any("running_mean" in key for key in before)
    model.begin(None)
    assert all(m.training for m in model.modules()) and all(
        p.requires_grad for p in model.parameters()
    )


@every_method
@every_kind_of_data
def test_losses_are_finite_and_one_per_example(name: str, data: str) -> None:
    model, of = make(name, kind_of(data)), batch(data)
    terms = losses(model, of)
    assert terms
    for value in terms.values():
        assert value.shape == (ROWS,) and torch.isfinite(value).all() and value.requires_grad


class Foreseen(nn.Module):
    """The best there is to predict of v where latents are some of a few points (N, D):
    v = (α x − E[x_0 | x]) / σ."""

    def __init__(self, process: GaussianDiffusion, points: Tensor) -> None:
        super().__init__()
        self.process, self.points = process, points

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.process.rates(t, x)
        distance = (x[:, None] - alpha[..., None] * self.points).square().sum(-1)
        return (alpha * x - (-0.5 * distance / sigma**2).softmax(-1) @ self.points) / sigma


@every_method
def test_training_lowers_the_loss(name: str) -> None:
    """By 30 % of what there is to lower: most of v is noise where standardised latents
    are nearly normal, but all other losses may fall to 0."""
    model, of = make(name), batch()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)

    def loss() -> Tensor:
        return torch.stack(list(model.losses(of).values())).sum(0).mean()

    def expected() -> float:
        """Over the same noise and the same random routes whenever it is asked."""
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            return float(torch.stack([loss() for _ in range(32)]).mean())

    def least() -> float:
        """By the exact predictor of v, or by gradient ascent in a refiner's place."""
        if stage.name == "subsets":
            bound = model.refine(of, by="gradient", steps=200, lr=0.05).elbo
            assert bound is not None
            return before - float((bound[-1] - bound[0]).mean())
        score = model.model.fitted_prior("score", "z")
        network, encoding = score.network, model.model.encode(of)
        latents = torch.cat(
            [q.point_estimate for q, _ in model.model.posterior.aggregated(encoding)]
        )
        score.network = Foreseen(score.process, (latents - score.mean) / score.scale)
        found, score.network = expected(), network
        return found

    for stage in model.stages:
        model.begin(stage)
        expected()  # running statistics settle
        before = expected()
        learnable = before - least() if stage.name in ("prior", "subsets") else abs(before)
        for _ in range(30):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()
        assert expected() < before - min(1.0, 0.3 * learnable)
        assert stage.name != "prior" or least() < expected(), "nothing foresees more than the best"


def counted(modules: dict[str, nn.Module]) -> Counter[str]:
    """How often each module runs, counted from now on."""
    calls: Counter[str] = Counter()
    for key, module in modules.items():
        module.register_forward_hook(lambda *_, key=key: calls.update([key]))
    return calls


@every_method
@with_and_without_missing
@pytest.mark.parametrize("augment", [False, True])
def test_a_step_runs_every_encoder_and_decoder_once(name: str, data: str, augment: bool) -> None:
    """At most, and over all stages each. GenAug alone encodes again, once, and
    refinement decodes once more a step, of which it takes five."""
    if name != "idmvae" and augment:
        return
    options = {"genaug": 20.0 * augment} if name == "idmvae" else {}
    model = make(name, decoder_batch_size=10_000, **options)
    encoders = dict(model.model.posterior.encoders.items())
    networks = {f"decoder {n}": d for n, d in model.model.decoders.items()} | {
        f"encoder {n}": e for n, e in encoders.items()
    }
    towers = {
        f"{t} {n}": getattr(e, f"{t}_trunk", None)
        for n, e in encoders.items()
        for t in ("shared", "private")
    }
    calls = counted({**networks, **{k: t for k, t in towers.items() if t is not None}})
    run: set[str] = set()
    for stage in model.stages:
        model.begin(stage)
        calls.clear()
        losses(model, batch(data))
        for key, count in calls.items():
            again = 5 * (name == "iterative") if key.startswith("decoder") else int(augment)
            assert count == 1 + again, key
        run |= set(calls)
    assert set(networks) <= run
    assert (len(run) == 12) == bool(model.model.private_dims)


@pytest.mark.parametrize(
    ("options", "runs"), [({"genaug": 0.0}, 1), ({}, 2), ({"partner": "prior"}, 3)]
)
def test_shared_towers_run_their_one_trunk_once(options: dict[str, Any], runs: int) -> None:
    """And once for each augmentation: one serves both terms of GenAug, unless partners
    come from a prior."""
    model = make("idmvae", towers="shared", **{"genaug": 20.0, **options})
    calls = counted(
        {n: e.get_submodule("shared_trunk") for n, e in model.model.posterior.encoders.items()}
    )
    losses(model, batch())
    assert calls == dict.fromkeys(NAMES, runs)


@every_method
def test_cutting_decoder_calls_changes_nothing_else(name: str) -> None:
    whole, cut = make(name), make(name, decoder_batch_size=7)
    cut.load_state_dict(whole.state_dict())
    calls = counted(dict(cut.model.decoders.items()))
    for stage, same in zip(whole.stages, cut.stages, strict=True):
        whole.begin(stage)
        cut.begin(same)
        a, b = losses(whole, batch()), losses(cut, batch())
        for key in a:
            if key != "nll" or not whole.model.surrogates:  # their noise is another for other cuts
                torch.testing.assert_close(a[key], b[key])
    assert min(calls.values()) > 1


def test_activation_checkpointing_keeps_nothing_of_the_decoders() -> None:
    """What autograd keeps for the backward pass, less the decoders' own activations,
    which are most of it at K = 20."""
    kept = {}
    for activation_checkpointing in (False, True):
        method = make("mmvae+", samples=20, estimator="dreg")
        method.model.activation_checkpointing = activation_checkpointing
        held: dict[int, int] = {}

        def keep(saved: Tensor, held: dict[int, int] = held) -> Tensor:
            held[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
            return saved

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            losses = method.losses(batch(), 0)
        kept[activation_checkpointing] = sum(held.values())
        assert losses
    assert kept[True] < 0.6 * kept[False]


# --- missing values -----------------------------------------------------------------------------------------------------

GARBAGE: dict[str, Callable[[Any], Any]] = {
    "large": lambda v: 10**9 if v.dtype.kind == "i" else 1e30,
    "nan": lambda v: -(10**9) if v.dtype.kind == "i" else np.nan,
}


@every_method
@pytest.mark.parametrize("data", ["missing", "omics missing"])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_what_fills_an_absent_row_changes_nothing(
    name: str, data: str, garbage: Callable[[Any], Any], norm: str
) -> None:
    here, found, states = presence(data), [], []
    for fill in (None, garbage):
        x = values(data=data)
        if fill is not None:
            for n, v in x.items():
                v[~here[n]] = fill(v)
        model = make(name, kind_of(data), norm=norm)
        found.append(
            train_step(
                model, Batch.of(x, here, modalities=kind_of(data), covariates=covariates(data))
            )
        )
        states.append(model.state_dict())
    for key in found[0]:
        assert torch.equal(found[0][key], found[1][key])
    for key in states[
        0
    ]:  # weights after the step, and the running statistics of batch normalisation
        assert torch.equal(states[0][key], states[1][key]), key
    assert (norm == "batch") == any("trunk" in key and "running_mean" in key for key in states[0])


@every_method
@pytest.mark.parametrize("data", ["missing", "omics missing"])
def test_absent_rows_reach_no_network(name: str, data: str) -> None:
    """Even past the batch's own zeros: values put into absent rows afterwards are not
    read."""
    clean = batch(data)
    dirty = replace(clean, x={n: v.clone() for n, v in clean.x.items()})
    for n, v in dirty.x.items():
        v[~clean.present[n]] = 3
    model = make(name, kind_of(data), norm="batch")
    fresh = copy.deepcopy(model)
    a, b = losses(model, clean), losses(fresh, dirty)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=0)
    for (key, u), v in zip(model.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert torch.equal(u, v), key


@every_method
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_modality_that_hardly_any_row_has(name: str, count: int, norm: str) -> None:
    """No row of a batch, or one only, has the words: the step runs and moves no running
    statistic of theirs when none has."""
    here = {n: np.ones(ROWS, bool) for n in NAMES} | {
        "words": np.arange(ROWS) < count,
        "vector": np.arange(ROWS) < count,
    }
    model = make(name, norm=norm)
    before = copy.deepcopy(model.state_dict())
    terms = train_step(model, Batch.of(values(), here, modalities=MODALITIES))
    assert all(bool(torch.isfinite(t).all()) for t in terms.values())
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    for key, value in model.state_dict().items():
        if "encoders.vector" in key and "running" in key:
            assert torch.equal(value, before[key]), key


@every_method
def test_incomplete_rows_do_not_disturb_complete_ones(name: str) -> None:
    """The posterior of a row is the same whatever else the batch holds."""
    model = make(name)
    mixed, whole = model.encode(batch("missing")), model.encode(batch())
    complete = np.all(list(presence("missing").values()), 0)
    assert 0 < complete.sum() < ROWS
    torch.testing.assert_close(mixed.shared[:, complete], whole.shared[:, complete])
    assert not torch.allclose(mixed.shared[:, ~complete], whole.shared[:, ~complete])


# --- covariates ---------------------------------------------------------------------------------------------------------


@every_method
def test_covariates_reach_decoders_alone_and_those_that_read_them(name: str) -> None:
    """Other covariates, the same latents: what decoders say that read them is another
    thing, and what the others say is not. What is generated without covariates has the
    average of the training rows."""
    model, of = make(name, OMICS), batch("omics")
    train_step(model, of)
    other = replace(of, covariates=covariates("omics", seed=7))
    a, b = (model.encode(x) for x in (of, other))
    torch.testing.assert_close(a.shared, b.shared, rtol=0, atol=0)
    usual = {n: model.model.decoder(n).mean_covariates for n in ("rna", "protein")}
    assert all(
        torch.allclose(u.mean, of.covariates.mean(0)) for u in usual.values() if u is not None
    )
    assert model.model.decoder("methylation").mean_covariates is None
    own, others, average = (
        model.decode(a, covariates=c) for c in (of.covariates, other.covariates, None)
    )
    for n in ("rna", "protein"):
        rows = (own[n] != others[n]).any(-1)[0]
        assert torch.equal(rows, (of.covariates != other.covariates).any(1))
        torch.testing.assert_close(average[n], model.decode(a, covariates=of.covariates.mean(0))[n])
    torch.testing.assert_close(own["methylation"], others["methylation"], rtol=0, atol=0)
    nothing = Batch(of.x, of.present)
    with pytest.raises(
        ValueError, match="the batch has no covariates, and decoders read batch=a, batch=b, age"
    ):
        model.losses(nothing)

    def drawn(x: Batch, **options: Any) -> Tensor:
        return model.translate(
            x, to=["rna"], prior="standard", generator=torch.Generator().manual_seed(0), **options
        )["rna"]

    torch.testing.assert_close(drawn(of, covariates=other.covariates), drawn(other))
    torch.testing.assert_close(drawn(nothing), drawn(of, covariates=of.covariates.mean(0)))
    assert not torch.equal(drawn(of), drawn(other))
    reconstructed, others_ = (model.reconstruct(x)["rna"] for x in (of, other))
    assert not torch.equal(reconstructed, others_)
    samples = [
        model.sample(4, prior="standard", covariates=c, generator=torch.Generator().manual_seed(0))[
            "rna"
        ]
        for c in (
            None,
            of.covariates.mean(0),
            {"batch=a": 1},
            [1, 0, 0],
            {"batch=a": [1.0] * 4, "age": 0},
        )
    ]
    torch.testing.assert_close(samples[0], samples[1])
    assert (
        torch.equal(samples[2], samples[3])
        and torch.equal(samples[2], samples[4])
        and not torch.equal(samples[0], samples[2])
    )
    if not name.startswith("jnf"):  # whose chains take long
        assert not torch.equal(
            *(
                model.log_likelihood(x, 5, generator=torch.Generator().manual_seed(0))
                for x in (of, other)
            )
        )


@pytest.mark.parametrize("partner", ["posterior", "prior"])
def test_augmentations_keep_the_covariates_of_their_row(partner: str) -> None:
    """Of the row whose z they carry."""
    model, of = make("idmvae", OMICS, partner=partner, cross_mi=0.0, diffusion=0.0), batch("omics")
    seen: list[Tensor] = []
    model.model.decoder("rna").register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0][:, -3:])
    )
    losses(model, of)
    assert len(seen) == 1 and len(seen[0]) == ROWS * (3 + (1 if partner == "posterior" else 2))
    assert torch.equal(seen[0], of.covariates.repeat(len(seen[0]) // ROWS, 1))


# --- order --------------------------------------------------------------------------------------------------------------


@every_method
@with_and_without_missing
def test_the_order_of_modalities_changes_nothing(name: str, data: str) -> None:
    model = make(name)
    backwards = make(name, MODALITIES[::-1])
    state = model.state_dict()
    if name in (
        "jmvae",
        "jnf",
        "jnf-shared",
        "iterative",
    ):  # the joint head reads the concatenated features: its columns follow the order
        rule: Any = model.model.posterior.rule
        sizes = [t.features for t in rule.encoder.trunks.values()]
        key = "model.posterior.rule.encoder.layers.0.weight"
        state = {**state, key: torch.cat(state[key].split(sizes, 1)[::-1], 1)}
    backwards.load_state_dict(state)
    assert backwards.model.names == NAMES[::-1]
    x, here = values(), presence(data)
    if name.startswith(
        "jnf"
    ):  # chains start from the experts in order: only rows without chains are the same
        rows = np.all(list(here.values()), 0)
        x, here = {n: v[rows] for n, v in x.items()}, {n: v[rows] for n, v in here.items()}
    straight = Batch.of(x, here, modalities=MODALITIES)
    reverse = Batch.of({n: x[n] for n in NAMES[::-1]}, here, modalities=MODALITIES[::-1])
    for a, b in (
        (model.encode(straight), backwards.encode(reverse)),
        (model.encode(reverse), model.encode(straight)),
    ):
        torch.testing.assert_close(a.shared, b.shared)
        assert a.private.keys() == b.private.keys()
        for n in a.private:
            torch.testing.assert_close(a.private[n], b.private[n])
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    found, expected = (
        backwards.reconstruct(reverse, generator=seeds[0]),
        model.reconstruct(straight, generator=seeds[1]),
    )
    for n in NAMES:
        torch.testing.assert_close(found[n], expected[n])


# --- inference ----------------------------------------------------------------------------------------------------------


@every_method
@with_and_without_missing
def test_answers_have_their_shapes(name: str, data: str) -> None:
    model, of = make(name), batch(data)
    private = model.model.private_dims
    shapes = {m.name: (*m.shape, m.classes) if m.classes else m.shape for m in MODALITIES}
    for samples, k in ((None, 1), (3, 3)):
        latents = model.encode(of, samples=samples)
        assert latents.shared.shape == (k, ROWS, 4)
        assert {n: w.shape for n, w in latents.private.items()} == {
            n: (k, ROWS, 3) for n in private
        }
        decoded = model.decode(latents)
        assert {n: y.shape for n, y in decoded.items()} == {
            n: (k, ROWS, *s) for n, s in shapes.items()
        }
    assert {n: y.shape for n, y in model.reconstruct(of).items()} == {
        n: (ROWS, *s) for n, s in shapes.items()
    }
    assert {n: y.shape for n, y in model.sample(5).items()} == {
        n: (5, *s) for n, s in shapes.items()
    }
    there = model.translate({"image": values()["image"]}, to=["words", "image"], n=2)
    assert {n: y.shape for n, y in there.items()} == {
        n: (2, ROWS, *shapes[n]) for n in ("words", "image")
    }
    torch.testing.assert_close(there["words"].sum(-1), torch.ones(2, ROWS, 4))
    assert float(there["image"].min()) >= 0 and float(there["image"].max()) <= 1
    if model.model.surrogates:
        with pytest.raises(ValueError, match="the decoder of 'image' has no exact density"):
            model.log_likelihood(of, samples=20)
    else:
        likelihood = model.log_likelihood(of, samples=20)
        assert likelihood.shape == (ROWS,) and torch.isfinite(likelihood).all()
    if private:
        assert {n: y.shape for n, y in model.recombine(batch(), of).items()} == {
            n: (ROWS, *s) for n, s in shapes.items()
        }
    else:
        with pytest.raises(ValueError, match=f"{name} has no private latents to recombine"):
            model.recombine(of, of)


@every_method
def test_answers_leave_mode_gradient_and_random_state_alone(name: str) -> None:
    model, of = make(name), batch()
    model.train()
    state = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(5)
    first = model.translate(of.only(["image"]), n=2, generator=generator)
    sampled = model.sample(3, generator=generator)
    assert torch.equal(torch.random.get_rng_state(), state), (
        "a generator's draws must not use torch's own stream"
    )
    again = model.translate(of.only(["image"]), n=2, generator=torch.Generator().manual_seed(5))
    for n in NAMES:
        assert torch.equal(first[n], again[n]) and not first[n].requires_grad
        assert not torch.equal(first[n][0], first[n][1]), "draws must differ"
    assert model.training and all(m.training for m in model.modules())
    model.eval()
    model.sample(2)
    assert not model.training and sampled["vector"].shape == (3, 5)


@every_method
def test_given_modalities_alone_decide(name: str) -> None:
    model, of = make(name), batch()
    alone = model.encode(of, given=["vector"])
    torch.testing.assert_close(alone.shared, model.encode({"vector": values()["vector"]}).shared)
    changed = Batch.of({**values(), "image": values(seed=2)["image"]}, modalities=MODALITIES)
    torch.testing.assert_close(alone.shared, model.encode(changed, given=["vector"]).shared)
    assert not torch.allclose(model.encode(of).shared, model.encode(changed).shared)
    assert set(alone.private) <= {"vector"}


@pytest.mark.parametrize("name", ["idmvae", "mmvae+", "dmvae"])
def test_a_target_that_is_given_keeps_its_own_private_latent(name: str) -> None:
    """With posteriors made narrow, a given target is reproduced, and one that is not
    given varies with the prior of its w."""
    model, of = make(name), batch()
    for key, bias in model.model.posterior.encoders.named_parameters():
        if key.endswith("head.linear.bias"):
            nn.init.constant_(bias.detach()[len(bias) // 2 :], -20.0)
    latents = model.encode(of, given=["image"])
    assert set(latents.private) == {"image"}
    draws = model.translate(of.only(["image"]), n=3, to=["image", "vector"], prior="standard")
    torch.testing.assert_close(
        draws["image"],
        model.decode(latents, to=["image"])["image"].expand(3, -1, -1, -1, -1),
        atol=1e-3,
        rtol=0,
    )
    assert float(draws["vector"].std(0).min()) > 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m.encode(batch(), given=["sound"]),
            "unknown modality 'sound'; choose from image, words, vector",
        ),
        (lambda m: m.encode(batch(), given=[]), "no modality given; choose from"),
        (lambda m: m.translate(batch(), to=["sound"]), "unknown modality 'sound'; choose from"),
        (lambda m: m.translate(batch(), to=[]), "no target modality; choose from"),
        (
            lambda m: m.sample(2, prior="flow"),
            "this model has no prior 'flow'; it has standard, or 'auto'",
        ),
        (
            lambda m: m.sample(2, prior="diffusion"),
            "this model has no prior 'diffusion'; it has standard",
        ),
        (lambda m: m.log_likelihood(batch(), samples=0), "samples=0 must be 1 or more"),
        (
            lambda m: m.encode({"sound": np.zeros((2, 2))}),
            "unknown modality 'sound'; this model knows image",
        ),
    ],
)
def test_an_impossible_question_is_refused_in_one_line(
    call: Callable[[Method], object], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        call(make("mvae"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_likelihood_is_refused_without_an_exact_density() -> None:
    model = make("mvae")
    model.model.likelihood("image").exact = False
    with pytest.raises(ValueError, match="the decoder of 'image' has no exact density"):
        model.log_likelihood(batch())


# --- saving -------------------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("kind", ["", "omics "])
def test_a_saved_method_is_the_same_method(name: str, kind: str, tmp_path: Path) -> None:
    model = make(name, kind_of(kind), norm="batch")
    train_step(model, batch(kind))
    model.save_pretrained(tmp_path / "run" / "model")
    assert sorted(p.name for p in (tmp_path / "run" / "model").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    for folder in (tmp_path / "run" / "model", tmp_path / "run"):
        again = cp.load(folder)
        assert (
            type(again) is type(model)
            and again.config == model.config
            and again.modalities == model.modalities
        )
        assert not again.training
        state = again.state_dict()
        assert state.keys() == model.state_dict().keys()
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
        of = batch(f"{kind}missing")
        torch.testing.assert_close(again.encode(of).shared, model.encode(of).shared, rtol=0, atol=0)
        seeds = [torch.Generator().manual_seed(3) for _ in range(6)]
        for a, b in (
            (again.reconstruct(of, generator=seeds[0]), model.reconstruct(of, generator=seeds[1])),
            (again.sample(3, generator=seeds[2]), model.sample(3, generator=seeds[3])),
        ):
            assert all(torch.equal(a[n], b[n]) for n in model.model.names)
        if not model.model.surrogates:
            assert torch.equal(
                again.log_likelihood(of, 5, generator=seeds[4]),
                model.log_likelihood(of, 5, generator=seeds[5]),
            )


@every_method
def test_a_copy_is_independent(name: str) -> None:
    model = make(name)
    twin = copy.deepcopy(model)
    assert twin.config == model.config
    train_step(twin, batch())
    kept, moved = model.state_dict(), twin.state_dict()
    assert any(not torch.equal(kept[k], moved[k]) for k in kept)
    assert all(torch.equal(v, kept[k]) for k, v in make(name).state_dict().items())


@every_method
def test_the_configuration_is_complete_json(name: str) -> None:
    model = make(name, beta=1.25)
    config = json.loads(json.dumps(model.config))
    assert (
        config["beta"] == 1.25
        and config["networks"]["hidden"] == [16]
        and config["shared_dim"] == 4
    )
    again = METHODS[name].from_config(MODALITIES, config)
    assert again.config == model.config
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


def saved(folder: Path) -> Path:
    return make("mvae").save_pretrained(folder / "model")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((folder / "config.json").read_text())
    change(record)
    (folder / "config.json").write_text(json.dumps(record))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no json": (lambda f: (f / "config.json").write_text("{'"), "config.json is damaged"),
    "no text": (
        lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
        "config.json is damaged",
    ),
    "no modalities": (
        lambda f: edit(f, lambda r: r.pop("modalities")),
        r"config.json is damaged \('modalities'\)",
    ),
    "no object": (lambda f: (f / "config.json").write_text("[1]"), "config.json is damaged"),
    "unknown field": (
        lambda f: edit(f, lambda r: r["modalities"][0].update(colour=1)),
        "config.json is damaged .*colour",
    ),
    "unknown key": (
        lambda f: edit(f, lambda r: r["config"].update(gamma=1)),
        "mvae has no option 'gamma'; its options are shared_dim",
    ),
    "unknown method": (
        lambda f: edit(f, lambda r: r.update(method="gan")),
        "unknown method 'gan'; choose one of idmvae",
    ),
    "truncated weights": (
        lambda f: cut_in_half(f / "model.safetensors"),
        "model.safetensors is damaged, of another model",
    ),
    "empty weights": (
        lambda f: (f / "model.safetensors").write_bytes(b""),
        "model.safetensors is damaged, of another model",
    ),
    "text for weights": (
        lambda f: (f / "model.safetensors").write_text("weights " * 50),
        "model.safetensors is damaged, of another model",
    ),
    "other weights": (
        lambda f: edit(f, lambda r: r["config"].update(shared_dim=9)),
        "of another model or of another version .*size mismatch for model",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_model_is_refused_in_one_line(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    folder = saved(tmp_path)
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        cp.load(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"nowhere holds no config\.json; give a run folder"
    ):
        cp.load(tmp_path / "nowhere")
    folder = saved(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        cp.load(tmp_path)


@pytest.mark.parametrize("full_at", ["weights", "config"])
def test_a_full_disk_leaves_the_former_files(
    full_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    folder = saved(tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    model = make("mvae")
    train_step(model, batch())
    write_text = Path.write_text

    def full(path: Path) -> None:
        write_text(path, "half a fi")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    if full_at == "weights":
        monkeypatch.setattr(safetensors.torch, "save_file", lambda tensors, path: full(Path(path)))
    else:
        monkeypatch.setattr(Path, "write_text", lambda self, text: full(self))
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    model.save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]


# --- construction -------------------------------------------------------------------------------------------------------


@every_method
def test_bad_sizes_and_names_are_refused(name: str) -> None:
    kind: Any = METHODS[name]
    for modalities, options, message in (
        ([], {}, "distinct names"),
        ([MODALITIES[0], MODALITIES[0]], {}, "distinct names, got"),
        (MODALITIES, {"shared_dim": 0}, "shared_dim=0 must be 1 or more"),
        (MODALITIES, {"beta": -1.0}, "must not be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            kind(modalities, **options)
    with pytest.raises(ValueError, match=f"{name.replace('+', '.')} has no option 'gamma'"):
        kind.from_config(MODALITIES, {"gamma": 3})


def test_methods_are_found_by_name() -> None:
    assert set(METHODS) == {
        "idmvae",
        "mmvae",
        "mmvae+",
        "mvae",
        "mopoe",
        "mvtcae",
        "jmvae",
        "jnf",
        "jnf-shared",
        "dmvae",
        "diff-mvae",
        "iterative",
    }
    assert method_named("mmvae+") is cp.MMVAEPlus
    with pytest.raises(ValueError, match="unknown method 'vae'; choose one of idmvae"):
        method_named("vae")
    for kind in METHODS.values():
        assert "https://" in kind.title


@every_method
def test_one_modality_is_enough_where_the_method_allows(name: str) -> None:
    if name in ("idmvae", "jnf-shared"):
        with pytest.raises(ValueError, match="it needs two or more, got 1"):
            make(name, MODALITIES[2:])
        return
    of = Batch.of({"vector": values()["vector"]}, modalities=MODALITIES[2:])
    assert all(
        bool(torch.isfinite(t).all()) for t in make(name, MODALITIES[2:]).losses(of).values()
    )


# --- IDMVAE -------------------------------------------------------------------------------------------------------------

IDMVAE_OPTIONS: dict[str, dict[str, Any]] = {
    "published": {},
    "shared towers": {"towers": "shared"},
    "iwae": {"estimator": "iwae", "samples": 3},
    "dreg": {"estimator": "dreg", "samples": 3},
    "one cross target": {"cross_targets": 1},
    "partner from the prior": {"partner": "prior"},
    "partner from diffusion": {"partner": "diffusion"},
    "l2": {"match": "l2"},
    "detached diffusion": {"detach_diffusion": True},
    "no diffusion": {"diffusion": 0.0},
    "no contrast": {"cross_mi": 0.0},
    "no augmentation": {"genaug": 0.0},
    "batch norm": {"norm": "batch"},
    "temperature": {"temperature": 0.1},
    "everything at once": {
        "towers": "shared",
        "estimator": "dreg",
        "samples": 3,
        "cross_targets": 2,
        "partner": "diffusion",
        "match": "l2",
    },
}


@pytest.mark.parametrize("options", IDMVAE_OPTIONS.values(), ids=IDMVAE_OPTIONS)
@with_and_without_missing
def test_every_option_of_idmvae_takes_a_step(options: dict[str, Any], data: str) -> None:
    model = make("idmvae", **options)
    left = unmoved(model, batch(data))
    if (
        options.get("norm") == "batch"
    ):  # a bias before a batch normalisation is taken out again by it: its gradient is rounding error
        left = {n for n in left if not n.endswith("bias")}
    assert left == set()
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    names = {"bound"} if "estimator" in options else {"nll", "kl"}
    names |= {n for n in ("cross_mi", "genaug", "diffusion") if options.get(n, 1.0)}
    assert set(losses(model, batch(data))) == names
    assert model.priors == (
        ("standard",) if options.get("diffusion") == 0 else ("standard", "diffusion")
    )
    assert all(bool(torch.isfinite(x).all()) for x in model.sample(3).values())


def test_detached_diffusion_keeps_its_gradient_out_of_the_encoders() -> None:
    for detach in (False, True):
        model = make("idmvae", detach_diffusion=detach)
        losses(model, batch())["diffusion"].mean().backward()
        touched = [
            n
            for n, p in model.model.posterior.named_parameters()
            if p.grad is not None and bool((p.grad != 0).any())
        ]
        assert bool(touched) != detach
        assert all(p.grad is not None for p in model.model.fitted_priors["diffusion"].parameters())


def test_terms_carry_their_weights() -> None:
    plain = losses(make("idmvae", cross_mi=1.0, genaug=1.0, diffusion=1.0), batch())
    heavy = losses(make("idmvae", cross_mi=80.0, genaug=20.0, diffusion=0.5), batch())
    for name, factor in (
        ("cross_mi", 80.0),
        ("genaug", 20.0),
        ("diffusion", 0.5),
        ("nll", 1.0),
        ("kl", 1.0),
    ):
        torch.testing.assert_close(heavy[name], factor * plain[name])


def test_contrast_comes_first_and_augmentation_warms_up() -> None:
    model, of = (
        make("idmvae", contrast_first=3, augment_after=2, augment_warmup=4, genaug=20.0),
        batch(),
    )
    for step in (0, 2):
        assert set(losses(model, of, step)) == {"cross_mi"}
    sizes = []
    assert all("genaug" not in losses(model, of, step) for step in (3, 4))
    for step in range(5, 11):
        terms = losses(model, of, step)
        assert set(terms) == {"nll", "kl", "cross_mi", "genaug", "diffusion"}
        sizes.append(float(terms["genaug"].detach().mean()))
    np.testing.assert_allclose(np.array(sizes) / sizes[-1], [0.2, 0.4, 0.6, 0.8, 1, 1], rtol=1e-4)


def test_ramps() -> None:
    assert [Ramp(2.0)(s) for s in (0, 5)] == [2.0, 2.0]
    assert [Ramp(1.0, 2, 2)(s) for s in (0, 1, 2, 9)] == [0, 0, 1, 1]
    assert [Ramp(3.0, 1, 3)(s) for s in range(5)] == [0, 1, 2, 3, 3]
    for bad in ((-1.0, 0, 0), (1.0, 3, 2), (1.0, -1, 2)):
        with pytest.raises(ValueError, match="a ramp needs value >= 0 and 0 <= start <= end"):
            Ramp(*bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"private_dim": 0}, "idmvae needs private latents, got private_dim=0; give 1 or more"),
        (
            {"partner": "diffusion", "diffusion": 0.0},
            "partner='diffusion' needs the diffusion priors; give diffusion > 0",
        ),
        ({"towers": "tall"}, "towers='tall' is unknown; choose one of separate, shared"),
        ({"estimator": "vimco"}, "estimator='vimco' is unknown"),
        ({"match": "l1"}, "match='l1' is unknown"),
        ({"cross_mi": -1.0}, "cross_mi=-1.0 must not be negative"),
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"decoder_batch_size": 0}, "decoder_batch_size=0 must be 1 or more"),
    ],
)
def test_bad_options_of_idmvae_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("idmvae", **options)


@pytest.mark.parametrize("count", [0, 3])
def test_an_impossible_number_of_cross_targets_is_refused(count: int) -> None:
    with pytest.raises(
        ValueError, match=rf"cross_targets={count} must lie in 1\.\.2 for 3 modalities"
    ):
        make("idmvae", cross_targets=count).losses(batch())


def test_a_batch_of_one_has_no_negatives() -> None:
    with pytest.raises(ValueError, match="at least two rows in a batch, got one; raise batch_size"):
        make("idmvae").losses(batch(rows=1))


def test_the_diffusion_prior_is_drawn_from_when_asked() -> None:
    model = make("idmvae")
    draws = {
        p: model.sample(50, prior=p, generator=torch.Generator().manual_seed(0))
        for p in ("auto", "diffusion", "standard")
    }
    assert all(torch.equal(draws["auto"][n], draws["diffusion"][n]) for n in NAMES)
    assert all(not torch.equal(draws["auto"][n], draws["standard"][n]) for n in NAMES)
    translated = [
        model.translate(batch().only(["image"]), to=["vector"], prior=p)["vector"]
        for p in ("standard", "diffusion")
    ]
    assert all(bool(torch.isfinite(t).all()) for t in translated)


@every_method
def test_ratio_and_private_sizes_are_checked(name: str) -> None:
    if name == "mvtcae":
        with pytest.raises(ValueError, match=r"ratio=1.5 must lie in \[0, 1\]"):
            make(name, ratio=1.5)
    if name == "mmvae+":
        with pytest.raises(ValueError, match=r"mmvae\+ needs private latents"):
            make(name, private_dim=0)
    if name == "mopoe":
        assert make(name, private_dim=2).model.private_dims == dict.fromkeys(NAMES, 2)


# --- what a user may get wrong, and the hub ------------------------------------------------------------------------------


def test_decoding_needs_the_private_latents_of_its_targets() -> None:
    model = make("idmvae")
    latents = model.encode(batch(), given=["image"])
    assert list(model.decode(latents)) == ["image"]
    with pytest.raises(ValueError, match="decoding 'words' needs its private latent"):
        model.decode(latents, to=["words"])


def test_recombination_pairs_rows() -> None:
    with pytest.raises(ValueError, match="shared has 3 and private 2"):
        make("mmvae+").recombine(batch()[:3], batch()[:2])


def test_contrast_alone_needs_contrast() -> None:
    with pytest.raises(ValueError, match="contrast_first trains by CrossMI alone"):
        make("idmvae", cross_mi=0.0, contrast_first=5)


def test_parts_that_name_a_term_alike_add_up() -> None:
    model = make("mvtcae")
    match = next(part for part in model.parts if isinstance(part, PosteriorMatch))
    once = model.losses(batch())["match"]
    model.begin(Stage([*model.stage.losses, (match, Ramp(1.0))]))
    torch.testing.assert_close(model.losses(batch())["match"], 2 * once)


def test_pushing_uploads_what_loads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = make("mopoe"), {}

    class Hub:
        def __init__(self, token: str | None) -> None:
            seen["token"] = token

        def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
            seen["made"] = (repository, private, exist_ok)

        def upload_folder(self, *, repo_id: str, folder_path: str) -> str:
            seen["model"] = cp.load(folder_path)
            return f"commit of {repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert model.push_to_hub("me/a", token="t", private=True) == "commit of me/a"
    assert seen["token"] == "t" and seen["made"] == ("me/a", True, True)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            model.state_dict().values(), seen["model"].state_dict().values(), strict=True
        )
    )


@pytest.mark.parametrize(
    ("kind", "size", "tolerance"),
    [("diffusion", 32, 0.25), ("score-ode", 64, 0.25), ("flow", 16, 0.15), ("gmm", 3, 0.1)],
)
def test_fitted_priors_follow_their_seed_and_are_saved(
    kind: Any, size: int, tolerance: float, tmp_path: Path
) -> None:
    """The sampler of a method that has none has the mean and spread of the aggregate
    posterior, and loads again."""
    data = cp.data.load(
        {
            "a": np.random.default_rng(0).normal(size=(600, 3)),
            "b": np.random.default_rng(1).normal(size=(600, 2)),
        }
    )
    model = cp.MVAE.for_data(data, shared_dim=2)
    assert model.priors == ("standard",)
    before = torch.get_rng_state()
    options = {"kind": kind, "size": size, "steps": 300, "lr": 3e-3, "seed": 1}
    history = model.fit_prior(data.train, **options)
    assert torch.equal(before, torch.get_rng_state()) and history == model.fit_prior(
        data.train, **options
    )
    assert history[-1] < history[0] or kind == "gmm"
    with torch.no_grad():
        encoding = model.model.encode(data.train.batch(np.arange(480)))
        means = model.model.posterior.condition(encoding, model.model.names).point_estimate
        drawn = model.model.draw_prior("z", (4000,), prior=kind)
    assert bool(((drawn.mean(0) - means.mean(0)).abs() < tolerance * means.std(0)).all())
    assert bool(((drawn.std(0) / means.std(0) - 1).abs() < tolerance).all())
    loaded = cp.load(model.save_pretrained(tmp_path))
    assert loaded.priors == ("standard", kind)
    a, b = (m.sample(4, generator=torch.Generator().manual_seed(0)) for m in (model, loaded))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_priors_that_predicted_x0_are_refused(tmp_path: Path) -> None:
    """Read as predicting v, their weights would fit and draw nonsense."""
    from safetensors.torch import load_file, save_file

    model = cp.MVAE((Modality("a", (3,)),), shared_dim=2, networks=cp.NetworkOptions(hidden=(4,)))
    model.model.add_fitted_priors("diffusion", 8)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert sum("velocity" in key for key in weights) > 4
    save_file(
        {key.replace("velocity", "network"): value for key, value in weights.items()},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(ValueError, match="is damaged, of another model or of another version"):
        cp.load(tmp_path)


def test_options_of_options_are_checked() -> None:
    modalities = (Modality("a", (3,)), Modality("b", (2,)))
    with pytest.raises(
        TypeError,
        match=r"flow='nsf' must be FlowOptions\(...\), whose options are kind, transforms, hidden",
    ):
        cp.JNF(modalities, flow="nsf")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"jnf.hmc has no option 'chain'; its options are chains, warmup"
    ):
        cp.JNF.from_config(modalities, {"hmc": {"chain": 3}})
    with pytest.raises(ValueError, match="hidden=128 must be a list, each entry a whole number"):
        cp.FlowOptions(hidden=128)  # type: ignore[arg-type]


def test_linear_networks_are_a_factor_analysis() -> None:
    """With no hidden layer and normal likelihoods of the data's own noise, a product of
    experts reaches the density the data came from."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(9, 2))
    x = (rng.normal(size=(2600, 2)) @ loadings.T + rng.normal(size=(2600, 9))).astype(np.float32)
    data = cp.data.load({"a": x[:, :5], "b": x[:, 5:]}, likelihood="normal", scale=1.0)
    torch.manual_seed(0)
    model = cp.MVAE.for_data(data, shared_dim=2, networks=cp.NetworkOptions(hidden=()))
    model.fit(
        data.train,
        max_steps=600,
        max_epochs=-1,
        batch_size=256,
        lr=1e-2,
        cooldown=200,
        progress=False,
    )
    covariance = loadings @ loadings.T + np.eye(9)
    held = np.concatenate([data.test.x["a"], data.test.x["b"]], 1).astype(np.float64)
    exact = (
        -0.5
        * (
            (held @ np.linalg.inv(covariance) * held).sum(1)
            + np.linalg.slogdet(2 * np.pi * covariance)[1]
        ).mean()
    )
    assert float(model.log_likelihood(data.test.batch(slice(None))).mean()) == pytest.approx(
        exact, abs=0.1
    )


@pytest.mark.parametrize(
    "make", [lambda m, n: cp.MVAE(m, networks=n), lambda m, n: cp.JNFShared(m[:2], networks=n)]
)
def test_networks_that_need_a_hidden_layer_say_so(make: Callable[..., Method]) -> None:
    modalities = (Modality("a", (3,)), Modality("b", (2,)), Modality("image", (1, 8, 8)))
    with pytest.raises(
        ValueError,
        match=r"hidden=\(\) makes vectors' networks linear; images, and the flows of jnf-shared, need a width",
    ):
        make(modalities, cp.NetworkOptions(hidden=()))


def test_samplers_of_a_joint_encoder_learn_from_what_incomplete_rows_say() -> None:
    """Without a place for gaps in its joint encoder, JMVAE reads an incomplete row by
    its unimodal posteriors, and so does the aggregate."""
    rng = np.random.default_rng(0)
    here = np.arange(6) < 3
    x = {
        "a": rng.normal(size=(6, 3)).astype(np.float32),
        "b": rng.normal(size=(6, 2)).astype(np.float32),
    }
    split = cp.data.Split(x, (Modality("a", (3,)), Modality("b", (2,))), {"b": here})
    for kind in (cp.JMVAE, cp.JNF):
        torch.manual_seed(0)
        model = kind(split.modalities, shared_dim=2).eval()
        batch = split.batch(np.arange(6))
        with torch.no_grad():
            ((q, rows),) = model.model.posterior.aggregated(model.model.encode(batch))
        assert bool(rows.all())
        if kind is cp.JMVAE:
            torch.testing.assert_close(q.point_estimate, model.encode(batch).shared[0])
        assert float(q.point_estimate[3:].abs().min()) > 1e-3, "no row is the unit distribution"


def test_generation_draws_from_the_sampler_fitted_last() -> None:
    data = cp.data.load(
        {
            "a": np.random.default_rng(0).normal(size=(200, 3)),
            "b": np.random.default_rng(1).normal(size=(200, 2)),
        }
    )
    model = cp.MVAE.for_data(data, shared_dim=2)
    for kind, there in (("gmm", ("gmm",)), ("flow", ("gmm", "flow")), ("gmm", ("flow", "gmm"))):
        model.fit_prior(data.train, kind=kind, steps=1)  # type: ignore[arg-type]
        assert model.priors == ("standard", *there)
    samples = {
        p: model.sample(5, prior=p, generator=torch.Generator().manual_seed(0))["a"]
        for p in ("auto", "gmm", "flow")
    }
    assert torch.equal(samples["auto"], samples["gmm"]) and not torch.equal(
        samples["auto"], samples["flow"]
    )


def test_samplers_learn_what_the_method_mixes_or_multiplies() -> None:
    """A mixture's experts each by itself; a product's whole; samples spread wider than
    means."""
    from counterpoint.training.afterwards.prior import _posteriors

    rng = np.random.default_rng(0)
    data = cp.data.load({"a": rng.normal(size=(200, 3)), "b": rng.normal(size=(200, 2))})
    count = len(data.train)
    mixed, multiplied, joint = (
        cp.METHODS[name].for_data(data, shared_dim=2) for name in ("mmvae", "mvae", "jnf")
    )
    assert [len(_posteriors(m, data.train, "means")["z"]) for m in (mixed, multiplied, joint)] == [
        2 * count,
        count,
        count,
    ]
    means, samples = (_posteriors(joint, data.train, of)["z"] for of in ("means", "samples"))
    with torch.no_grad():
        q = joint.model.encode(data.train.batch(np.arange(count))).joint
    torch.testing.assert_close(means, q.loc)
    assert float(((samples - q.loc) / q.scale).square().mean()) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kind": "vae"},
            "unknown fitted prior 'vae'; choose one of diffusion, score, score-ode, flow, gmm",
        ),
        ({"kind": "gmm", "size": 0}, "the size of gmm priors must be 1 or more, got 0"),
        ({"kind": "gmm", "size": 500}, "rows are too few for a mixture of 500"),
        ({"fit_to": "modes"}, "fit_to='modes' is unknown"),
        ({"steps": 0}, "steps and batch_size of 1 or more"),
    ],
)
def test_bad_fits_of_a_prior(options: dict[str, Any], message: str) -> None:
    data = cp.data.load({"a": np.zeros((50, 3)), "b": np.zeros((50, 2))})
    with pytest.raises(ValueError, match=message):
        cp.MVAE.for_data(data, shared_dim=2).fit_prior(data.train, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mvae", {"subsets": -1}, "subsets=-1 must be 0 or more"),
        ("jmvae", {"alpha": -0.1}, "alpha=-0.1 must not be negative"),
        ("idmvae", {"genaug": -1.0}, "genaug=-1.0 must not be negative"),
        ("idmvae", {"diffusion": -1.0}, "diffusion=-1.0 must not be negative"),
        (
            "idmvae",
            {"contrast_first": 3, "augment_after": -2},
            "augment_after=-2 must not be negative",
        ),
    ],
)
def test_negative_numbers_are_refused_by_name(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **options)


@pytest.mark.parametrize("kind", ["resnet", "text"])
def test_normalisation_that_a_network_does_not_have_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=f"kind='{kind}' has no normalisation"):
        cp.NetworkOptions(kind=kind, norm="batch")  # type: ignore[arg-type]


# --- normalisation, precision and the size of calls -----------------------------------------------------------------------


def test_augmentations_leave_the_running_statistics_to_the_data() -> None:
    """With GenAug and without it, batch normalisation has seen the same rows."""
    plain, augmented = (
        make("idmvae", norm="batch", genaug=0.0),
        make("idmvae", norm="batch", genaug=20.0),
    )
    augmented.load_state_dict(plain.state_dict())
    before = {k: v.clone() for k, v in plain.named_buffers() if "encoders" in k and "running" in k}
    for model in (plain, augmented):
        assert "genaug" in losses(model, batch()) or model is plain
    after = dict(augmented.named_buffers())
    assert before and not any(torch.equal(v, after[k]) for k, v in before.items())
    assert all(torch.equal(v, after[k]) for k, v in plain.named_buffers() if k in before)


def test_contrast_keeps_full_precision_under_autocast() -> None:
    """Cosines that differ by 1e-3 are one number in bfloat16."""
    base = torch.randn(1, 16, 8)
    a, b = (base + 0.03 * torch.randn(1, 16, 8) + 5 for _ in range(2))
    valid = torch.ones(1, 16, dtype=torch.bool)
    full = nt_xent(a, b, valid, temperature=0.01)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(nt_xent(a, b, valid, temperature=0.01), full)
        rough = (
            torch.nn.functional.normalize(a, dim=-1)
            @ torch.nn.functional.normalize(b, dim=-1).transpose(1, 2)
        ).float()
    exact = torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(
        b, dim=-1
    ).transpose(1, 2)
    assert float((rough - exact).abs().max()) > 1e-3  # what the guard is for


@pytest.mark.parametrize(("rows", "calls"), [(256, 1), (257, 2)])
def test_a_cpu_decodes_256_rows_at_once_unless_told_otherwise(rows: int, calls: int) -> None:
    model = make("mopoe")
    seen = counted(dict(model.model.decoders.items()))
    losses(model, batch(rows=rows))
    assert seen == dict.fromkeys(NAMES, calls)


def test_the_convolution_of_an_enlarged_map_is_one_transposed_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, 1, 1).double()
    for height, width in ((1, 1), (4, 7)):
        x = torch.randn(2, 3, height, width, dtype=torch.float64, generator=generator)
        plain = convolution(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
        torch.testing.assert_close(enlarged_conv(x, convolution), plain, rtol=1e-12, atol=1e-12)
        gradients = [
            torch.autograd.grad(y.square().sum(), convolution.weight)[0]
            for y in (enlarged_conv(x, convolution), plain)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_a_residual_block_enlarges_first() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(6, 4, enlarge=True).double()
    plain = ResidualBlock(6, 4).double()
    plain.load_state_dict(block.state_dict())
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(
        block(x), plain(nn.functional.interpolate(x, scale_factor=2)), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("shape", [(3, 3, 3), (3, 16, 16), (3, 28, 28), (3, 9, 40)])
def test_a_conv_decoder_adds_its_detail_to_a_coarse_image(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = ConvGenerator(5, shape, width=2, hidden=4)
    colour = torch.tensor([0.5, -1.0, 50.0])
    u = torch.randn(2, 5)
    with torch.no_grad():
        network.coarse.weight.zero_()
        network.coarse.bias.zero_()
        detail = network(u)
        network.coarse.bias.copy_(colour.repeat_interleave(network.coarse.out_features // 3))
        expected = (
            torch.tensor([3 * np.tanh(0.5 / 3), -3 * np.tanh(1 / 3), 3.0])
            .view(1, 3, 1, 1)
            .expand(2, *shape)
            .float()
        )
        torch.testing.assert_close(network(u) - detail, expected, atol=1e-5, rtol=1e-5)
    assert float(detail.std()) > 0


def test_a_conv_decoder_stays_channels_last() -> None:
    network = ConvGenerator(5, (3, 16, 16), width=4, hidden=8).to(memory_format=torch.channels_last)
    assert network(torch.randn(2, 5)).is_contiguous(memory_format=torch.channels_last)


def test_a_mixture_is_fitted_to_some_rows_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """One component has the mean of the rows it saw: of a thousand random ones, within
    five standard errors, and not of all ten thousand."""
    monkeypatch.setattr(priors, "MAX_MIXTURE_ROWS", 1000)
    rows = 3 + torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
    sampler = priors.GaussianMixture(2, components=1)
    sampler.fit(rows, seed=0)
    off = (sampler.means[0] - rows.mean(0)).abs()
    assert (off < 5 / 1000**0.5).all() and (off > 1e-4).all()
