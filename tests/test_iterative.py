"""Refinement of posteriors: against closed forms on the linear-Gaussian oracle, its bad
inputs, and the refiner that is fitted afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from linear_gaussian import Array, LinearGaussian, gaussian_kl, perturbed
from torch import Tensor, nn

import counterpoint as cp
from counterpoint import inference
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.data import Dataset, Split
from counterpoint.inference import Refiner, RefinerOptions, Trace
from counterpoint.inference.signals import _gradients, signals_of
from counterpoint.methods import (
    DMVAE,
    JMVAE,
    JNF,
    MVAE,
    IterativeMVAE,
    Method,
    MMVAEPlus,
    MoPoE,
    load,
)
from counterpoint.metrics import score_posteriors, score_refinement
from counterpoint.metrics.means import posterior_means
from counterpoint.metrics.probes import probe
from counterpoint.model.rules import MixtureRule, MoPoERule, ProductRule, Rule
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.afterwards import RefinerLoss, _hidden
from counterpoint.objectives.matching import Alignment
from counterpoint.probability import distributions as dist

PLAIN = LinearGaussian.make(private_dim=0)
PRIVATE = LinearGaussian.make()
NAMES = PLAIN.names
SMALL = NetworkOptions(hidden=(4,))
BAD = 0.3  # how far the encoders are off


def method_on(
    oracle: LinearGaussian, kind: type[Method], rule: Rule, amount: float = BAD, **options: Any
) -> Method:
    """A method whose model is the exact one with its posterior moved away."""
    construct: Any = kind
    made = construct(oracle.modalities, shared_dim=oracle.dim, networks=SMALL, **options)
    refiner = made.model.refiner
    made.model = perturbed(
        oracle.model(
            rule,
            experts="likelihood" if isinstance(rule, ProductRule | MoPoERule) else "posterior",
        ),
        amount,
    )
    if refiner is not None:
        made.model.put_refiner(refiner)
    return made.float().eval()


def single(
    oracle: LinearGaussian, x: dict[str, Array], present: dict[str, Array] | None = None
) -> Batch:
    """A batch of the oracle in single precision, which training uses."""
    of = oracle.batch(x, present)
    return Batch({n: v.float() for n, v in of.x.items()}, of.present)


def split_of(oracle: LinearGaussian, rows: int = 4000) -> Split:
    return Split({n: v.astype(np.float32) for n, v in oracle.draw(rows).items()}, oracle.modalities)


def exact(oracle: LinearGaussian, x: dict[str, Array], given: tuple[str, ...]) -> dist.Normal:
    mean, std = oracle.posterior(x, given)
    return dist.Normal(
        torch.tensor(mean).float(), torch.tensor(np.broadcast_to(std, mean.shape)).float()
    )


def kls(trace: Trace, p: dist.Normal) -> list[float]:
    """Mean KL(q_t ‖ p) in nats at every step; of a mixture, the mean of its
    components'."""
    return [float(dist.kl(q.shared, p).mean()) for q in trace.steps]


@pytest.fixture(scope="module")
def fitted() -> Method:
    """A refiner fitted to a joint encoder that is far off."""
    method = method_on(PLAIN, JMVAE, PLAIN.joint_rule())
    method.fit_refiner(
        split_of(PLAIN), refiner=RefinerOptions(width=64), steps=500, lr=5e-3, progress=False
    )
    return method


# --- the oracle ---------------------------------------------------------------------------------------------------------


def test_refinement_reaches_the_exact_posterior_from_a_bad_start(fitted: Method) -> None:
    """KL ≤ 0.01 nats after T = 5 steps from tens of nats, and the bound rises at every
    step that has something to gain."""
    x = PLAIN.draw(500, seed=9)
    trace = fitted.refine(single(PLAIN, x), samples=200, generator=torch.Generator().manual_seed(0))
    found = kls(trace, exact(PLAIN, x, NAMES))
    assert found[0] > 5 and found[-1] <= 0.01
    assert trace.elbo is not None and trace.elbo.shape == (6, 500)
    gained = trace.elbo.mean(1).diff()
    assert (gained > -0.01).all() and gained[0] > 5
    evidence = float(PLAIN.log_prob(x, NAMES).mean())
    assert float(trace.elbo[-1].mean()) == pytest.approx(
        evidence, abs=0.05
    )  # the bound is tight where q is exact


@pytest.mark.parametrize("given", [("a",), ("a", "c")])
def test_refinement_serves_subsets_of_what_it_was_fitted_to(
    fitted: Method, given: tuple[str, ...]
) -> None:
    x = PLAIN.draw(500, seed=9)
    found = kls(fitted.refine(single(PLAIN, x).only(given), given), exact(PLAIN, x, given))
    assert found[-1] <= 0.02 < 0.1 * found[0]


def test_ascent_reaches_the_exact_posterior() -> None:
    x = PLAIN.draw(100)
    method = method_on(PLAIN, JMVAE, PLAIN.joint_rule(), 0.1)
    trace = method.refine(
        single(PLAIN, x),
        by="gradient",
        steps=300,
        lr=0.05,
        generator=torch.Generator().manual_seed(0),
    )
    found = kls(trace, exact(PLAIN, x, NAMES))
    assert found[0] > 1 and found[-1] <= 0.01


@pytest.mark.parametrize(
    ("kind", "rule", "options"),
    [
        (MMVAEPlus, MixtureRule(), {"private_dim": 1}),
        (DMVAE, ProductRule(prior_expert="always"), {"private_dim": 1}),
    ],
)
def test_private_latents_are_refined_too(
    kind: type[Method], rule: Rule, options: dict[str, Any]
) -> None:
    """Each component of a mixture comes to the posterior given everything, and each w
    to its own."""
    method = method_on(PRIVATE, kind, rule, **options)
    method.fit_refiner(
        split_of(PRIVATE),
        refiner=RefinerOptions(width=64, steps=3),
        steps=150,
        lr=8e-3,
        progress=False,
    )
    x = PRIVATE.draw(300, seed=9)
    trace = method.refine(single(PRIVATE, x))
    found = kls(trace, exact(PRIVATE, x, NAMES))
    assert found[-1] <= 0.05 and found[0] > 20 * found[-1]
    for n in NAMES:
        mean, std = PRIVATE.private_posterior(x, n)
        w = trace.last.private[n]
        assert gaussian_kl((w.loc.numpy(), w.scale.numpy()), (mean, std)).mean() <= 0.05


@pytest.mark.parametrize(
    ("kind", "rule"), [(MVAE, ProductRule(prior_expert="always")), (MoPoE, MoPoERule())]
)
def test_products_and_their_mixtures_are_refined(kind: type[Method], rule: Rule) -> None:
    method = method_on(PLAIN, kind, rule, 0.1)
    method.fit_refiner(
        split_of(PLAIN), refiner=RefinerOptions(width=64), steps=150, lr=6e-3, progress=False
    )
    x = PLAIN.draw(300, seed=9)
    found = kls(method.refine(single(PLAIN, x)), exact(PLAIN, x, NAMES))
    assert found[-1] <= 0.05 and found[0] > 10 * found[-1]


def test_a_refiner_is_fitted_by_random_rounds_too() -> None:
    method = method_on(PLAIN, JMVAE, PLAIN.joint_rule(), 0.1)
    method.fit_refiner(
        split_of(PLAIN),
        refiner=RefinerOptions(width=64, rounds=1),
        steps=120,
        lr=8e-3,
        progress=False,
    )
    x = PLAIN.draw(300, seed=9)
    found = kls(method.refine(single(PLAIN, x)), exact(PLAIN, x, NAMES))
    assert found[-1] <= 0.05 and found[0] > 10 * found[-1]


def test_errors_serve_as_signals() -> None:
    method = method_on(PLAIN, JMVAE, PLAIN.joint_rule())
    method.fit_refiner(
        split_of(PLAIN),
        refiner=RefinerOptions(width=64, signal="error"),
        steps=200,
        lr=8e-3,
        progress=False,
    )
    x = PLAIN.draw(300, seed=9)
    found = kls(method.refine(single(PLAIN, x)), exact(PLAIN, x, NAMES))
    assert found[-1] <= 0.5 and found[0] > 5


def test_the_bound_is_its_closed_form() -> None:
    """E_q[log p(x | z)] − β KL(q ‖ p), by many draws; with another β it is not."""
    x = PLAIN.draw(3)
    method = method_on(PLAIN, JMVAE, PLAIN.joint_rule(), 0.1)
    encoding = method.model.encode(single(PLAIN, x))
    q = inference.approximation(method.model, encoding, NAMES)
    z = (q.shared.point_estimate.detach().numpy(), q.parts["z"].scale[0, 0].detach().numpy())
    expected = sum(
        PLAIN.expected_log_likelihood(x[n], n, z, None) for n in NAMES
    ) - 0.7 * gaussian_kl(z)
    torch.manual_seed(0)
    found = torch.stack(
        [
            inference.elbo(method.model, encoding, [q], NAMES, samples=1, beta=0.7)[0]
            for _ in range(3000)
        ]
    ).detach()
    error = (found.mean(0) - torch.as_tensor(expected)).abs() / (found.std(0) / 3000**0.5)
    assert (error < 4).all()
    wrong = (
        found.mean(0) + 0.3 * torch.as_tensor(gaussian_kl(z)) - torch.as_tensor(expected)
    ).abs() / (found.std(0) / 3000**0.5)
    assert (wrong > 4).all()


def test_a_pair_has_no_noise_in_the_gradient_by_the_mean() -> None:
    """σ (m − μ) / s² of the exact posterior N(m, s²), whatever the signs; a draw by
    itself is off by as much as the latents vary."""
    x = PLAIN.draw(5)
    method = method_on(PLAIN, JMVAE, PLAIN.joint_rule())
    encoding = method.model.encode(single(PLAIN, x))
    q = inference.approximation(method.model, encoding, NAMES)
    p = exact(PLAIN, x, NAMES)
    part = q.parts["z"]
    expected = (part.scale[0] * (p.loc - part.loc[0]) / p.scale**2).detach()

    def found(draws: int) -> Tensor:
        refiner = Refiner(PLAIN.modalities, method.model.latents, RefinerOptions(draws=draws))
        logarithmic = _gradients(method.model, encoding, q, NAMES, refiner)["z"][0, :, :2]
        return logarithmic.sign() * logarithmic.abs().expm1()

    torch.testing.assert_close(found(2), expected, rtol=1e-3, atol=1e-3)
    assert ((found(1) - expected).abs() > 0.1).any()


def test_unrolled_training_has_the_same_value_and_another_gradient() -> None:
    """Between cut steps, nothing that a step did reaches back through the next one's
    signals and start."""
    method = method_on(PLAIN, IterativeMVAE, PLAIN.joint_rule())
    of, slopes, values = single(PLAIN, PLAIN.draw(20)), [], []
    for unroll in (False, True):
        torch.manual_seed(0)
        refiner = Refiner(
            PLAIN.modalities, method.model.latents, RefinerOptions(steps=3, width=8, unroll=unroll)
        )
        nn.init.normal_(next(refiner.heads.children()).weight, std=0.1)  # type: ignore[arg-type]
        method.model.put_refiner(refiner)
        encoding = method.model.encode(of)
        trace = inference.trace_of(method.model, encoding)
        last = trace.last.parts["z"].loc.square().sum()
        values.append(float(last.detach()))
        slopes.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(last, [*refiner.parameters()])])
        )
    assert values[0] == pytest.approx(values[1])
    assert not torch.allclose(slopes[0], slopes[1])
    assert slopes[1].isfinite().all()


@pytest.mark.parametrize("signal", ["gradient", "error"])
def test_what_w_sees_is_the_same_whatever_a_row_lacks(signal: Any) -> None:
    """Of a row that has one modality of three, given that one or all: its w answers to
    one bound, not to one for each component."""
    torch.manual_seed(0)
    method = method_on(PRIVATE, MMVAEPlus, MixtureRule(), private_dim=1)
    x = PRIVATE.draw(6)
    here = {n: np.full(6, n == "a") for n in NAMES}
    encoding = method.model.encode(single(PRIVATE, x, here))
    refiner = Refiner(
        PRIVATE.modalities,
        method.model.latents,
        RefinerOptions(signal=signal, draws=4000 if signal == "gradient" else 2, width=16),
    )
    seen = [
        signals_of(
            method.model,
            encoding,
            inference.approximation(method.model, encoding, given),
            given,
            refiner,
        )["w_a"][0].detach()
        for given in (("a",), NAMES)
    ]
    torch.testing.assert_close(seen[0], seen[1], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("signal", ["gradient", "error"])
def test_decoders_learn_from_the_bound_alone(signal: Any) -> None:
    """Where steps are cut, no gradient reaches a decoder through what the refiner sees."""
    torch.manual_seed(0)
    method = small(signal=signal)
    trace = inference.trace_of(method.model, method.model.encode(rows(8).batch(slice(0, 8))))
    slopes = torch.autograd.grad(
        trace.last.parts["z"].loc.sum(), [*method.model.decoders.parameters()], allow_unused=True
    )
    assert all(slope is None or not bool(slope.any()) for slope in slopes)


def test_unrolled_refiners_learn_in_every_stage_and_afterwards() -> None:
    of = rows(50)
    for staged in (False, True):
        method = small(unroll=True, staged=staged, private_dim=2)
        moved = set()
        for stage in method.stages:
            method.begin(stage)
            before = {n: p.detach().clone() for n, p in method.named_parameters()}
            optimiser = torch.optim.Adam(method.parameters(), 1e-2)
            torch.stack(list(method.losses(of.batch(slice(0, 20))).values())).sum(
                0
            ).mean().backward()
            optimiser.step()
            moved |= {n for n, p in method.named_parameters() if not torch.equal(p, before[n])}
        still = {n for n, _ in method.named_parameters()} - moved
        assert all("tokens" in n for n in still)
    method.begin(None)
    assert np.isfinite(
        method.fit_refiner(
            of, refiner=RefinerOptions(width=8, unroll=True), steps=2, progress=False
        )
    ).all()
    with pytest.raises(ValueError, match="can't differentiate twice"):
        method.compile_networks()


def test_some_rounds_estimate_the_mean_over_all() -> None:
    """Random steps of each row: their mean, over many choices, is the mean over all
    steps."""
    steps = tuple(
        inference.Approximation(
            dist.Normal(
                torch.full((4, 1), float(t)) + torch.arange(4.0)[:, None], torch.ones(4, 1)
            ),
            {},
        )
        for t in range(6)
    )
    trace = Trace(steps, torch.zeros(4, dtype=torch.bool))
    torch.manual_seed(0)
    chosen = torch.stack(
        [torch.stack([q.shared.point_estimate[:, 0] for q in trace.some(2)]) for _ in range(4000)]
    )  # (4000, 2, B)
    assert (chosen[:, 0] != chosen[:, 1]).all()
    torch.testing.assert_close(chosen.mean((0, 1)), 2.5 + torch.arange(4.0), atol=0.1, rtol=0)


@pytest.mark.parametrize("direction", ["forward", "reverse", "both"])
def test_alignment_is_its_closed_form_and_moves_unimodal_encoders_alone(direction: Any) -> None:
    method = method_on(PLAIN, IterativeMVAE, PLAIN.joint_rule(), 0.1)
    x = PLAIN.draw(4)
    here = {"a": np.array([True, True, False, True]), "b": np.ones(4, bool), "c": np.ones(4, bool)}
    encoding = method.model.encode(single(PLAIN, x, here))
    value = Alignment(direction).terms(method.model, encoding)["align"]
    last = inference.trace_of(method.model, encoding).last.shared
    q = (last.point_estimate.detach().numpy(), last.stddev.detach().numpy())
    expected = np.zeros(4)
    for n in NAMES:
        p = (
            encoding.shared[n].point_estimate.detach().numpy(),
            encoding.shared[n].scale.detach().numpy(),
        )  # type: ignore[union-attr]
        both = {
            "forward": gaussian_kl(q, p),
            "reverse": gaussian_kl(p, q),
            "both": 0.5 * (gaussian_kl(q, p) + gaussian_kl(p, q)),
        }
        expected += here[n] * both[direction]
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-4)
    value.sum().backward()
    touched = {
        name.split(".")[1]
        for name, p in method.model.named_parameters()
        if p.grad is not None and bool(p.grad.any())
    }
    assert touched == {"encoders"}


def test_refined_proposals_tighten_the_likelihood(fitted: Method) -> None:
    """From a posterior that is off, importance sampling of five draws misses nats; from
    the refined one next to nothing."""
    x = PLAIN.draw(200, seed=9)
    true = float(PLAIN.log_prob(x, NAMES).mean())
    batch, seed = single(PLAIN, x), torch.Generator().manual_seed(0)
    assert true - float(fitted.log_likelihood(batch, 5, generator=seed).mean()) > 0.5
    assert (
        abs(true - float(fitted.log_likelihood(batch, 5, refine=5, generator=seed).mean())) < 0.05
    )


def test_encode_and_translate_read_what_is_refined(fitted: Method) -> None:
    """Closer to the exact means than the encoders', and in what is generated from them."""
    x = PLAIN.draw(300, seed=9)
    mean = torch.as_tensor(PLAIN.posterior(x, ("a",))[0])
    off = [
        (fitted.encode(single(PLAIN, x), ["a"], refine=t).shared[0] - mean).square().mean()
        for t in (None, 5)
    ]
    assert off[1] < 0.05 * off[0]
    expected = mean.numpy() @ PLAIN.shared["b"].T + PLAIN.offset["b"]
    given = {"a": x["a"]}
    missed = [
        np.abs(
            fitted.translate(
                given, ["b"], 200, refine=t, generator=torch.Generator().manual_seed(0)
            )["b"]
            .mean(0)
            .numpy()
            - expected
        ).mean()
        for t in (None, 5)
    ]
    assert missed[1] < 0.3 * missed[0]


# --- metrics ------------------------------------------------------------------------------------------------------------


def evidence(x: dict[str, Array], sets: list[tuple[str, ...]]) -> float:
    """Mean of log p(x_S) over rows and sets."""
    return float(
        np.mean(
            [
                PLAIN.log_prob({n: v.astype(np.float64) for n, v in x.items()}, given).mean()
                for given in sets
            ]
        )
    )


def test_a_fitted_refiner_closes_all_that_there_is(fitted: Method) -> None:
    """It comes to log p(x), from a start that is too far off for a hundred steps of
    ascent; shares count what those gain."""
    split = split_of(PLAIN, 60)
    scores = score_refinement(fitted, split, rows=60)
    found = scores.metrics
    for label, sets in (("all", [NAMES]), ("given1", [(n,) for n in NAMES])):
        t0, t1, t5 = (found[f"refinement/elbo/{label}/t{step}"] for step in (0, 1, 5))
        ascent = found[f"refinement/ascent/{label}"]
        assert t0 < evidence(split.x, sets) - 1 and t5 == pytest.approx(
            evidence(split.x, sets), abs=0.1
        )
        assert found[f"refinement/closed/{label}/t1"] == pytest.approx((t1 - t0) / (ascent - t0))
        assert found[f"refinement/closed/{label}/t5"] == pytest.approx((t5 - t0) / (ascent - t0))
        assert found[f"refinement/closed/{label}/t5"] > 0.95
        assert f"refinement/closed/{label}/t0" not in found
    assert found["refinement/elbo/given1/t0"] == pytest.approx(
        np.mean([found[f"refinement/elbo/given1/t0/{n}"] for n in NAMES])
    )
    assert (
        scores.extra["refinement"] == {"rows": 60, "samples": 100, "unit": "nats"}
        and scores.left_out == {}
    )


def test_an_untrained_refiner_closes_nothing_of_what_ascent_does() -> None:
    """From nearby, ascent comes to log p(x). The numbers repeat, and leave torch's own
    generator alone."""
    method, split = method_on(PLAIN, JMVAE, PLAIN.joint_rule(), 0.05), split_of(PLAIN, 20)
    torch.manual_seed(0)
    method.model.put_refiner(
        Refiner(PLAIN.modalities, method.model.latents, RefinerOptions(steps=2, width=16))
    )
    state = torch.get_rng_state()
    found = score_refinement(method, split).metrics
    assert (
        torch.equal(state, torch.get_rng_state())
        and found == score_refinement(method, split).metrics
    )
    assert found["refinement/ascent/all"] == pytest.approx(evidence(split.x, [NAMES]), abs=0.05)
    assert found["refinement/ascent/given1"] == pytest.approx(
        evidence(split.x, [(n,) for n in NAMES]), abs=0.02
    )
    assert found["refinement/elbo/all/t0"] < evidence(split.x, [NAMES]) - 0.5
    for label in ("all", "given1"):
        assert found[f"refinement/closed/{label}/t2"] == pytest.approx(0, abs=0.02)


def test_what_cannot_be_refined_is_left_out_with_the_reason() -> None:
    flows = JNF(MODALITIES, shared_dim=3, networks=NetworkOptions(hidden=(16,)))
    assert "fit one by fit_refiner" in score_refinement(flows, rows(20)).left_out["refinement"]
    flows.fit_refiner(rows(100), refiner=RefinerOptions(steps=2, width=8), steps=2, progress=False)
    flows.train()
    scores = score_refinement(flows, rows(20), samples=5)
    assert flows.training and "is a Flowed" in scores.left_out["refinement/elbo/given1/a"]
    assert "refinement/elbo/all/t2" in scores.metrics and not any(
        "given1" in name for name in scores.metrics
    )
    never = replace(
        rows(4), present={"a": np.array([True, False] * 2), "b": np.array([False, True] * 2)}
    )
    assert score_refinement(flows, never).left_out == {"refinement": "no row has every modality"}
    one = cp.MVAE(MODALITIES[:1], shared_dim=2, networks=NetworkOptions(hidden=(8,)))
    alone = Split({"a": rows(20).x["a"]}, MODALITIES[:1])
    one.fit_refiner(alone, refiner=RefinerOptions(steps=1, width=8), steps=2, progress=False)
    assert not any("given1" in name for name in score_refinement(one, alone, samples=5).metrics)


def test_cosines_are_those_of_the_posterior_means(fitted: Method) -> None:
    """Unimodal means as the encoders say, and what all say as it is refined; in closed
    form, because a fitted refiner is exact."""
    split = split_of(PLAIN, 50)
    found = score_posteriors(fitted, split, rows=50, samples=5).metrics
    whole = torch.as_tensor(
        PLAIN.posterior({n: v.astype(np.float64) for n, v in split.x.items()}, NAMES)[0]
    ).float()
    batch = split.batch(slice(None))
    each = {
        n: float(
            nn.functional.cosine_similarity(
                fitted.encode(batch, [n]).shared[0], whole, dim=-1
            ).mean()
        )
        for n in NAMES
    }
    for n, expected in each.items():
        assert found[f"posterior/cosine/given1/{n}"] == pytest.approx(expected, abs=0.02)
    assert found["posterior/cosine/given1"] == pytest.approx(np.mean([*each.values()]), abs=0.02)


# --- a method that is trained with it ------------------------------------------------------------------------------------

MODALITIES = (Modality("a", (6,), "normal", scale=0.5), Modality("b", (4,), "normal", scale=0.5))


def small(*, private_dim: int = 0, staged: bool = False, **refiner: Any) -> IterativeMVAE:
    torch.manual_seed(0)
    options = RefinerOptions(width=16, **refiner)
    return IterativeMVAE(
        MODALITIES,
        shared_dim=3,
        private_dim=private_dim,
        staged=staged,
        networks=NetworkOptions(hidden=(16,)),
        refiner=options,
    )


def rows(count: int, seed: int = 0) -> Split:
    draw, weights = np.random.default_rng(seed), np.random.default_rng(9)
    z = draw.normal(size=(count, 2))
    x = {
        m.name: (
            z @ weights.normal(size=(2, *m.shape)) + 0.5 * draw.normal(size=(count, *m.shape))
        ).astype(np.float32)
        for m in MODALITIES
    }
    return Split(x, MODALITIES)


@pytest.mark.parametrize("staged", [False, True])
def test_unimodal_encoders_learn_what_everything_says(staged: bool) -> None:
    """Trained by refinement and alignment, each comes to say most of what all
    modalities say, at once or in a stage of its own."""
    method, train = small(staged=staged), rows(2000)
    before = method.encode(train.batch(slice(0, 500)), ["a"]).shared
    whole_before = method.encode(train.batch(slice(0, 500))).shared
    method.fit(
        train,
        rows(200, 1),
        max_epochs=5,
        batch_size=100,
        lr=8e-3,
        progress=False,
        loggers=(),
        accelerator="cpu",
    )
    held = rows(500, 2).batch(slice(0, 500))
    whole = method.encode(held, refine=5).shared
    for name in ("a", "b"):
        alone = method.encode(held, [name]).shared
        assert nn.functional.cosine_similarity(alone, whole, dim=-1).mean() > 0.8
    assert nn.functional.cosine_similarity(before, whole_before, dim=-1).mean() < 0.8


def test_a_refiner_is_saved_and_loaded_with_its_model(tmp_path: Path) -> None:
    """Also one that was fitted to a method which has none of its own, and one of other
    sizes than a method's own."""
    torch.manual_seed(0)
    plain = JMVAE(MODALITIES, shared_dim=3, networks=NetworkOptions(hidden=(16,)))
    for number, method in enumerate((plain, small())):
        method.fit_refiner(
            rows(200),
            refiner=RefinerOptions(steps=2, width=8, signal="error"),
            beta=0.5,
            steps=3,
            progress=False,
        )
        again = load(method.save_pretrained(tmp_path / str(number)))
        refiner = again.model.refiner
        assert (
            isinstance(refiner, Refiner)
            and refiner.options == RefinerOptions(steps=2, width=8, signal="error")
            and refiner.beta == 0.5
        )
        batch = rows(20).batch(slice(0, 20))
        torch.testing.assert_close(
            again.encode(batch, refine=2).shared, method.encode(batch, refine=2).shared
        )


# --- bad input ----------------------------------------------------------------------------------------------------------


class Unwell(nn.Module):
    """A decoder that is not finite for latents beyond a line, once it has been asked a
    few times."""

    def __init__(self, network: nn.Module, after: int) -> None:
        super().__init__()
        self.network, self.left = network, after

    def forward(self, u: Tensor) -> Tensor:
        self.left -= 1
        raw = self.network(u)
        return raw if self.left >= 0 else raw + torch.where(u[:, :1] > 1, torch.nan, 0.0)


@pytest.mark.parametrize("by", ["refiner", "gradient"])
def test_a_row_whose_gradient_is_not_finite_keeps_its_last_parameters(
    fitted: Method, by: Any
) -> None:
    x = PLAIN.draw(60, seed=9)
    batch, model = single(PLAIN, x), fitted.model
    steps = {"refiner": 4, "gradient": 10}[by]
    encoding = model.encode(batch)
    start = inference.approximation(model, encoding, NAMES)

    def trace() -> Trace:
        torch.manual_seed(0)
        if by == "refiner":
            return inference.refined(model, encoding, NAMES, start, steps)
        return inference.ascended(model, encoding, NAMES, start, steps=steps)

    well = trace()
    whole = model.decoders["b"].network
    model.decoders["b"].network = Unwell(whole, 2)  # type: ignore[assignment]
    try:
        found = trace()
    finally:
        model.decoders["b"].network = whole  # type: ignore[assignment]
    assert 0 < int(found.stopped.sum()) < 60 and not bool(well.stopped.any())
    for ours, theirs in zip(found.steps, well.steps, strict=True):
        assert ours.shared.point_estimate.isfinite().all()
        torch.testing.assert_close(
            ours.shared.point_estimate[~found.stopped], theirs.shared.point_estimate[~found.stopped]
        )
    centres = torch.stack([q.shared.point_estimate for q in found.steps])[:, found.stopped]
    still = (centres.diff(dim=0) == 0).all(-1)  # (T, rows)
    assert (
        still[-1].all() and not still[0].any()
    )  # the first two steps are taken, and from some step on none is
    assert (still[1:] >= still[:-1]).all()


def test_bad_numbers_of_steps_say_so(fitted: Method) -> None:
    batch = single(PLAIN, PLAIN.draw(3))
    for steps in (0, -1):
        with pytest.raises(ValueError, match=f"refine={steps} must be 1 or more"):
            fitted.encode(batch, refine=steps)
        with pytest.raises(ValueError, match=f"steps={steps} must be 1 or more"):
            RefinerOptions(steps=steps)
        with pytest.raises(ValueError, match=f"gradient ascent needs steps={steps} of 1 or more"):
            fitted.refine(batch, by="gradient", steps=steps)
    for options in ({"draws": 0}, {"width": 0}, {"rounds": 0}, {"rounds": 7}, {"signal": "hope"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}="):
            RefinerOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="by='magic' is unknown; choose 'refiner' or 'gradient'"):
        fitted.refine(batch, by="magic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps and batch_size of 1 or more"):
        fitted.fit_refiner(split_of(PLAIN, 10), steps=0)


def test_refining_without_a_refiner_or_with_another_models_says_so(fitted: Method) -> None:
    method = JMVAE(MODALITIES, shared_dim=3, networks=NetworkOptions(hidden=(16,)))
    batch = rows(4).batch(slice(0, 4))
    with pytest.raises(ValueError, match="this model has no refiner; fit one by fit_refiner"):
        method.encode(batch, refine=2)
    assert fitted.model.refiner is not None
    method.model.put_refiner(fitted.model.refiner)
    with pytest.raises(
        ValueError, match=r"this refiner is for latents \{'z': 2\}, and the model has \{'z': 3\}"
    ):
        method.encode(batch, refine=2)
    strange = Refiner(PLAIN.modalities, method.model.latents, RefinerOptions(signal="error"))
    method.model.put_refiner(strange)
    with pytest.raises(ValueError, match="reads errors of a, b, c, and the model has a, b"):
        method.encode(batch, refine=2)


def test_a_posterior_without_parameters_says_so() -> None:
    method = JNF(MODALITIES, shared_dim=3, networks=NetworkOptions(hidden=(16,)))
    method.fit_refiner(rows(100), refiner=RefinerOptions(width=8), steps=2, progress=False)
    batch = rows(4).batch(slice(0, 4))
    assert method.encode(batch, refine=2).shared.shape == (1, 4, 3)
    with pytest.raises(ValueError, match="is a Flowed, which has no means and scales to refine"):
        method.encode(batch, ["a"], refine=2)
    never = replace(
        rows(4), present={"a": np.array([True, False] * 2), "b": np.array([False, True] * 2)}
    )
    refiner = method.model.refiner
    method.train()
    with pytest.raises(ValueError, match="no row has every modality"):
        method.fit_refiner(never, steps=1, progress=False)
    assert method.model.refiner is refiner and method.training  # as it was


def test_a_fit_that_is_not_finite_says_so_and_changes_nothing(fitted: Method) -> None:
    refiner, whole = fitted.model.refiner, fitted.model.decoders["b"].network
    fitted.model.decoders["b"].network = Unwell(whole, 0)  # type: ignore[assignment]
    try:
        with pytest.raises(ValueError, match="loss term 'refine' is nan in step 0"):
            fitted.fit_refiner(split_of(PLAIN, 200), steps=2, progress=False)
    finally:
        fitted.model.decoders["b"].network = whole  # type: ignore[assignment]
    assert fitted.model.refiner is refiner


def test_errors_of_a_diffusion_decoder_are_refused() -> None:
    method = IterativeMVAE(
        MODALITIES,
        shared_dim=3,
        networks=NetworkOptions(hidden=(16,)),
        refiner=RefinerOptions(width=8, signal="error"),
        denoiser=cp.DenoiserOptions(modalities=("b",), width=4),
    )
    with pytest.raises(
        ValueError, match="has no mean to take an error from; use signal='gradient'"
    ):
        method.losses(rows(4).batch(slice(0, 4)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"align": -1.0}, "align=-1.0 must not be negative"),
        ({"teacher": "nobody"}, "teacher='nobody' is unknown"),
        ({"direction": "sideways"}, "direction='sideways' is unknown"),
        (
            {"direction": "reverse", "teacher": "joint"},
            "direction='reverse' is for teacher='refined'",
        ),
        ({"beta": -1.0}, "beta=-1.0 must not be negative"),
    ],
)
def test_bad_options_of_the_method_say_so(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IterativeMVAE(MODALITIES, **options)


def test_evaluation_of_refined_posteriors_needs_a_refiner_and_steps() -> None:
    method, data = (
        JMVAE(MODALITIES, shared_dim=3, networks=NetworkOptions(hidden=(16,))),
        Dataset("x", MODALITIES, rows(40), rows(9), rows(9)),
    )
    with pytest.raises(ValueError, match="this model has no refiner"):
        cp.evaluate(method, data, refine=2)
    with pytest.raises(ValueError, match="refine = 0 must be 1 or more"):
        cp.evaluate(method, data, refine=0)


def test_evaluation_reads_refined_posteriors(fitted: Method) -> None:
    """The means that probes read are the exact ones, from encoders that are far off;
    and the probes are those of these means."""
    x = PLAIN.draw(600, seed=4)
    sign = (PLAIN.posterior(x, NAMES)[0][:, 0] > 0).astype(np.int64)
    whole = Split(
        {n: v.astype(np.float32) for n, v in x.items()},
        PLAIN.modalities,
        shared_labels={"sign": sign},
    )
    data = Dataset(
        "oracle",
        PLAIN.modalities,
        whole.take(np.arange(300)),
        whole.take(np.arange(300, 310)),
        whole.take(np.arange(310, 600)),
    )
    found, raw = (posterior_means(fitted, data.train, refine=t).shared for t in (5, None))
    for n in NAMES:
        exact_mean = PLAIN.posterior({m: v[:300] for m, v in x.items()}, (n,))[0]
        assert np.square(found[n] - exact_mean).mean() < 0.1 * np.square(raw[n] - exact_mean).mean()
    evaluation = cp.evaluate(fitted, data, only=["probe"], refine=5, progress=False)
    train, test = (posterior_means(fitted, split, refine=5) for split in (data.train, data.test))
    hits = [
        probe(
            train.shared[n], train.labels[n]["sign"], test.shared[n], test.labels[n]["sign"]
        ).hits.mean()
        for n in NAMES
    ]
    assert (
        evaluation.metrics["probe/z/sign"] == pytest.approx(np.mean(hits), abs=0.02)
        and evaluation.meta["refine"] == 5
    )


@pytest.mark.parametrize("present", ["complete", "missing"])
def test_hidden_rows_keep_something_of_what_they_have(present: str) -> None:
    """Half of the rows stay whole, and in the others each modality stays half the time,
    but never none; what is hidden is blank."""
    torch.manual_seed(0)
    count = 20_000
    here = {
        n: np.ones(count, bool) if present == "complete" or n != "b" else np.arange(count) % 2 == 0
        for n in NAMES
    }
    of = single(PLAIN, PLAIN.draw(count), here)
    hidden = _hidden(of)
    had, kept = (torch.stack([*batch.present.values()]) for batch in (of, hidden))
    assert not bool((kept & ~had).any()) and bool(kept.any(0).all())
    many = had.sum(0)
    for size in set(many.tolist()):
        rows_of = many == size
        whole = 0.5 + 0.5 * 0.5**size  # left alone, or all of them kept by luck
        assert float((kept == had).all(0)[rows_of].float().mean()) == pytest.approx(whole, abs=0.02)
        stays = (
            0.5 + 0.5 * (0.5 * size + 0.5**size) / size
        )  # the one that is kept where none would be counts for one of them
        assert float(kept[:, rows_of].float().sum(0).mean() / size) == pytest.approx(
            stays, abs=0.02
        )
    for n in NAMES:
        assert not bool(hidden.x[n][~hidden.present[n]].any())
        torch.testing.assert_close(hidden.x[n][hidden.present[n]], of.x[n][hidden.present[n]])


def test_no_encoder_learns_from_the_refiners_loss() -> None:
    method = small()
    RefinerLoss().terms(method.model, method.model.encode(rows(30).batch(slice(0, 30))))[
        "refine"
    ].sum().backward()
    learning = {
        name.split(".")[0]
        for name, p in method.model.named_parameters()
        if p.grad is not None and bool(p.grad.any())
    }
    assert learning == {"decoders", "refiners"}
