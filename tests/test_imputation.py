"""Imputation against the linear-Gaussian oracle, where the predictive distribution of
what is missing is known in closed form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from linear_gaussian import Array, LinearGaussian
from scipy.stats import norm
from torch import Tensor, nn

import counterpoint as cp
from counterpoint import inference
from counterpoint.core import noise
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.data import Split
from counterpoint.inference import Imputation, imputation, imputed, interval
from counterpoint.inference.imputation import POOL, Pool
from counterpoint.methods import DMVAE, Method
from counterpoint.metrics import score_imputation
from counterpoint.model.model import Model
from counterpoint.model.rules import ProductRule

ORACLE = LinearGaussian.make()
MODALITIES = (
    Modality("image", (1, 8, 8)),
    Modality("words", (3,), "categorical", classes=5),
    Modality("vector", (4,), "normal", 0.5),
)


def predictive(
    oracle: LinearGaussian, x: dict[str, Array], given: tuple[str, ...], name: str
) -> tuple[Array, Array]:
    """p(x_m | x_S): mean (B, n_m) and standard deviation (n_m,), by conditioning the
    joint Gaussian."""
    mean, covariance = oracle.marginal((*given, name))
    size = len(oracle.offset[name])
    cross, known = covariance[-size:, :-size], covariance[:-size, :-size]
    gain = np.linalg.solve(known, cross.T).T
    seen = np.concatenate([x[n] for n in given], 1)
    return mean[-size:] + (seen - mean[:-size]) @ gain.T, np.sqrt(
        np.diag(covariance[-size:, -size:] - gain @ cross.T)
    )


def exact() -> Model:
    return ORACLE.model(ProductRule(prior_expert="always"), experts="likelihood")


def fill(
    model: Model, batch: Batch, given: tuple[str, ...] = ORACLE.names, **options: Any
) -> Imputation:
    torch.manual_seed(4)
    settings = {"targets": ORACLE.names, "n": 100, "level": 0.9, "prior": "standard", **options}
    with torch.no_grad():
        return imputed(model, batch.only(given), given, **settings)


def covered(found: Imputation, name: str, truth: Array) -> float:
    return float(
        ((found.lower[name].numpy() <= truth) & (truth <= found.upper[name].numpy())).mean()
    )


# --- the predictive distribution ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [("a",), ("a", "b")])
def test_moments_and_intervals_are_those_of_the_predictive_distribution(
    given: tuple[str, ...],
) -> None:
    """By 20,000 draws: mean to .03 standard deviations, ends of the interval to .06;
    the noise of the likelihood and of w are in them."""
    x = ORACLE.draw(3)
    found = fill(exact(), ORACLE.batch(x), given, n=20_000)
    mean, std = predictive(ORACLE, x, given, "c")
    np.testing.assert_allclose((found.mean["c"].numpy() - mean) / std, 0, atol=0.03)
    for end, p in ((found.lower["c"], 0.05), (found.upper["c"], 0.95)):
        np.testing.assert_allclose((end.numpy() - mean) / std, norm.ppf(p), atol=0.06)


def test_intervals_cover_as_often_as_they_say_when_the_model_is_right_and_not_when_its_scale_is_off() -> (
    None
):
    """4,000 rows of three values: .90 within four standard errors, which four given
    rows hardly correlate; with σ off by half, what the closed form says."""
    x = ORACLE.draw(4000, seed=8)
    batch, given = ORACLE.batch(x), ("a", "b")
    error = 4 * np.sqrt(0.9 * 0.1 / 4000)
    for level in (0.5, 0.9):
        assert covered(fill(exact(), batch, given, level=level), "c", x["c"]) == pytest.approx(
            level, abs=error
        )
    for factor in (0.5, 2.0):
        wrong = exact()
        with torch.no_grad():
            wrong.likelihood("c").log_scale += np.log(factor)
        std = predictive(ORACLE, x, given, "c")[1]
        off = np.sqrt(
            std**2 + (factor**2 - 1) * ORACLE.noise["c"] ** 2
        )  # the standard deviation that the model believes
        expected = (2 * norm.cdf(1.645 * off / std) - 1).mean()
        got = covered(fill(wrong, batch, given), "c", x["c"])
        assert got == pytest.approx(expected, abs=0.015) and abs(got - 0.9) > 2 * error


def test_few_draws_cover_as_often_as_many() -> None:
    """Nineteen, the fewest for 90 %, whose interval is from the least to the largest;
    numpy's quantiles of them cover .82."""
    draws, truth = torch.randn(19, 20_000), torch.randn(20_000)
    lower, upper = interval(draws, 0.9)
    assert torch.equal(lower, draws.min(0).values) and torch.equal(upper, draws.max(0).values)
    assert float(((lower <= truth) & (truth <= upper)).float().mean()) == pytest.approx(
        0.9, abs=0.009
    )
    low, high = np.quantile(draws.numpy(), [0.05, 0.95], axis=0)
    assert ((low <= truth.numpy()) & (truth.numpy() <= high)).mean() < 0.83
    lower, upper = interval(torch.arange(1.0, 100.0)[:, None], 0.9)  # 1 .. 99: (n + 1) p = 5 and 95
    assert (float(lower), float(upper)) == pytest.approx((5.0, 95.0))


def test_what_is_there_is_kept_and_each_row_goes_by_what_it_has() -> None:
    x = ORACLE.draw(6)
    present = {
        "a": np.array([1, 1, 1, 1, 0, 0], bool),
        "b": np.array([1, 1, 0, 0, 1, 1], bool),
        "c": np.zeros(6, bool),
    }
    present["c"][:3] = True
    found = fill(exact(), ORACLE.batch(x, present), n=4000, samples=True)
    for name in ORACLE.names:
        here = present[name]
        assert (found.missing[name].numpy() == ~here[:, None]).all() and (
            found.filled(name).numpy() == ~here
        ).all()
        for values in (
            found.mean[name],
            found.lower[name],
            found.upper[name],
            *found.samples[name][:3],
        ):
            assert (values[here].numpy() == x[name][here]).all()
        assert (found.lower[name][~here] < found.mean[name][~here]).all() and (
            found.mean[name][~here] < found.upper[name][~here]
        ).all()
    assert found.samples["c"].shape == (4000, 6, 3) and not torch.equal(
        found.samples["c"][0, 4], found.samples["c"][1, 4]
    )
    for row, given in ((3, ("a",)), (4, ("b",))):
        mean, std = predictive(ORACLE, {n: v[[row]] for n, v in x.items()}, given, "c")
        np.testing.assert_allclose((found.mean["c"][row].numpy() - mean[0]) / std, 0, atol=0.06)


def test_chunks_of_rows_and_draws_change_the_noise_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x = ORACLE.draw(7)
    whole = fill(exact(), ORACLE.batch(x), ("a",), n=3000)
    seen = []
    decode = Model.decode

    def watched(model: Model, draws: Any, covariates: Tensor) -> Any:
        seen.append(draws[0].latents.shared.shape[:2])
        return decode(model, draws, covariates)

    monkeypatch.setattr(imputation, "VALUES", 3000 * 5 * 2)
    monkeypatch.setattr(Model, "decode", watched)
    done: list[int] = []
    cut = fill(exact(), ORACLE.batch(x), ("a",), n=3000, progress=done.append)
    assert done == [2, 2, 2, 1]
    assert max(k * b for k, b in seen) * 3 <= 3000 * 5 * 2 and {b for _, b in seen} == {1, 2}
    for name in ("b", "c"):
        torch.testing.assert_close(cut.mean[name], whole.mean[name], rtol=0, atol=0.12)
        torch.testing.assert_close(cut.upper[name], whole.upper[name], rtol=0, atol=0.4)


# --- methods ----------------------------------------------------------------------------------------------------------


def make(name: str = "mmvae+", **options: Any) -> Method:
    torch.manual_seed(0)
    return cp.METHODS[name].from_config(
        MODALITIES,
        {
            "shared_dim": 3,
            "networks": {"width": 4, "hidden": [8]},
            **({"private_dim": 2} if name == "mmvae+" else {}),
            **options,
        },
    )


def rows(count: int = 5) -> Batch:
    rng = np.random.default_rng(2)
    x = {
        "image": rng.random((count, 1, 8, 8), dtype=np.float32),
        "words": rng.integers(0, 5, (count, 3)),
        "vector": rng.normal(size=(count, 4)),
    }
    here = {
        "image": np.arange(count) != 1,
        "words": np.arange(count) != 2,
        "vector": np.arange(count) % 2 == 0,
    }
    return Batch.of(x, here, modalities=MODALITIES)


def pictures() -> Batch:
    """Rows that have an image, and nothing else."""
    return rows()[torch.tensor([0, 2, 3])].only(["image"])


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_words_are_the_likeliest_ids_and_say_how_probable_they_are() -> None:
    """The probabilities are the mean of the decoder's over the same draws of z; what is
    there is certain; there are no intervals."""
    method, of = make(private_dim=2), rows()
    found = method.impute(of, to=["words"], n=50, generator=seed(), samples=True)
    assert list(found.mean) == ["words"] and found.lower == {} and found.upper == {}
    assert (found.probability["words"][[0, 1, 3, 4]] == 1).all() and torch.equal(
        found.mean["words"][0], of.x["words"][0]
    )
    with torch.no_grad(), noise.seeded(seed()):
        model = method.model
        latents = inference.posterior_latents(model, model.encode(of), model.names, 50)
        latents = inference.completed(model, latents, ["words"], of.present, model.draw_prior)
        expected = method.decode(latents, ["words"])["words"][:, 2].mean(0)
    torch.testing.assert_close(found.probability["words"][2], expected.max(-1).values)
    assert torch.equal(found.mean["words"][2], expected.argmax(-1))
    drawn = found.samples["words"][:, 2]
    assert drawn.dtype == torch.int64 and drawn.shape == (50, 3) and len(drawn.unique()) > 1
    assert found.samples["words"].float()[:, 0].std(0).max() == 0


def test_given_names_what_counts_as_there_and_a_generator_fixes_the_draws() -> None:
    method, of = make(), rows()[torch.tensor([0, 2, 3])]
    state = torch.random.get_rng_state()
    one, two, other = (method.impute(of, ["image"], n=19, generator=seed(s)) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (
        not one.missing["image"].any()
        and one.missing["vector"].all()
        and one.missing["words"].all()
    )
    assert not torch.equal(one.mean["vector"][0], of.x["vector"][0]), "it is there, but not given"
    assert torch.equal(one.mean["vector"], two.mean["vector"]) and not torch.equal(
        one.mean["vector"], other.mean["vector"]
    )
    alone = method.impute({"image": of.x["image"]}, n=19, generator=seed(1))
    assert torch.equal(one.mean["vector"], alone.mean["vector"])
    kept = method.impute({"vector": of.x["vector"]}, to=["vector"], n=19, samples=True)
    assert torch.equal(kept.mean["vector"], of.x["vector"]) and torch.equal(
        kept.samples["vector"][7], of.x["vector"]
    )


def test_a_learned_sampler_of_private_latents_is_drawn_from_once() -> None:
    """What is filled follows it, "standard" does not ask it, and it is asked for no
    more than a pool, in which the draws of a row are distinct."""
    method, of = make(), pictures()
    method.model.add_fitted_priors("gmm", 1)
    asked: list[int] = []

    class Counting(nn.Module):
        def sample(self, n: int) -> Tensor:
            asked.append(n)
            return 5 + torch.arange(n)[:, None].expand(n, 2) / n

    method.model.fitted_priors["gmm"]["w_vector"] = Counting()
    moved = method.impute(of, to=["vector"], n=600, generator=seed())
    assert asked == [POOL]
    with torch.no_grad():
        z = method.encode(of, samples=600, generator=seed()).shared
        expected = method.decode(
            cp.Latents(z, {"vector": torch.full((600, 3, 2), 5.5)}), ["vector"]
        )["vector"].mean(0)
    torch.testing.assert_close(moved.mean["vector"], expected, rtol=0, atol=0.05)
    standard = method.impute(of, to=["vector"], n=600, prior="standard", generator=seed())
    assert asked == [POOL] and not torch.allclose(
        standard.mean["vector"], moved.mean["vector"], atol=0.2
    )
    method.impute(of, to=["vector"], n=50)
    assert asked == [POOL, 150], "no more than are wanted"
    pool = Pool(method.model, "gmm", 64)
    drawn = pool("w_vector", (64, 5))
    assert drawn.shape == (64, 5, 2) and all(len(row.unique()) == 64 for row in drawn[..., 0].T)
    assert not torch.equal(drawn[:, 0], drawn[:, 1]) and torch.equal(
        drawn[:, 0].sort(0).values, drawn[:, 1].sort(0).values
    )


def test_a_diffusion_decoder_is_asked_once_for_each_draw() -> None:
    """Its means are draws, so that the mean is theirs."""
    method = make(denoiser={"modalities": ["vector"], "width": 1, "solver_steps": 2})
    of = pictures()
    calls = []
    mean = method.model.likelihood("vector").mean
    method.model.likelihood("vector").mean = lambda raw: (
        calls.append(raw.shape[:2].numel()) or mean(raw)
    )  # type: ignore[method-assign]
    found = method.impute(of, to=["vector"], n=30, samples=True, generator=seed())
    assert sum(calls) == 3 * 30
    torch.testing.assert_close(found.mean["vector"], found.samples["vector"].mean(0))


def test_counts_are_filled_at_the_totals_that_are_known() -> None:
    """Means sum to the row's total, and where there is none to that of a usual row;
    intervals are of counts."""
    modalities = (Modality("vector", (4,), "normal", 0.5), Modality("genes", (6,), "nb"))
    torch.manual_seed(0)
    method = cp.MMVAE(modalities, shared_dim=3, networks=cp.NetworkOptions(hidden=(8,)))
    usual: Any = method.model.likelihood("genes")
    usual.totals.mean.fill_(np.log(50.0))
    found = method.impute(
        {"vector": torch.randn(3, 4)},
        totals={"genes": torch.tensor([200.0, 0.0, 1000.0])},
        generator=seed(),
    )
    torch.testing.assert_close(found.mean["genes"].sum(1), torch.tensor([200.0, 50.0, 1000.0]))
    assert (found.lower["genes"] >= 0).all() and (
        found.upper["genes"][2] > 2 * found.upper["genes"][0]
    ).all()
    plain = method.impute({"vector": torch.randn(3, 4)}, generator=seed(), samples=True)
    torch.testing.assert_close(plain.mean["genes"].sum(1), torch.full((3,), 50.0))
    assert torch.equal(plain.samples["genes"], plain.samples["genes"].round())
    for totals, says in (
        (
            {"vector": torch.ones(3)},
            "totals name 'vector', which are no counts; the modalities of counts are genes",
        ),
        ({"genes": torch.ones(2)}, "totals of 'genes' must be 3 numbers that are not negative"),
        ({"genes": -torch.ones(3)}, "must be 3 numbers that are not negative"),
    ):
        with pytest.raises(ValueError, match=says):
            method.impute({"vector": torch.randn(3, 4)}, totals=totals)


def test_what_is_filled_has_the_covariates_of_its_row_or_those_that_are_asked_for() -> None:
    """A decoder that adds ten times the covariate."""
    modalities = (
        Modality("a", (2,), "normal", 0.1, covariates=("batch",)),
        Modality("b", (2,), "normal", 0.1, covariates=("batch",)),
    )
    torch.manual_seed(0)
    method = cp.MMVAE(modalities, shared_dim=2, networks=cp.NetworkOptions(hidden=(4,)))
    decoder: Any = method.model.decoders["b"]
    decoder.network = nn.Linear(3, 2)
    with torch.no_grad():
        decoder.network.weight.zero_()[:, 2] = 10.0
        decoder.network.bias.zero_()
    of = Batch.of(
        {"a": torch.randn(3, 2)},
        modalities=modalities,
        covariates={"batch": torch.tensor([0.0, 1.0, 2.0])},
    )
    own, other = method.impute(of).mean["b"], method.impute(of, covariates={"batch": 3.0}).mean["b"]
    torch.testing.assert_close(own, torch.tensor([[0.0], [10.0], [20.0]]).expand(3, 2))
    torch.testing.assert_close(other, torch.full((3, 2), 30.0))


@pytest.mark.parametrize("name", cp.METHODS)
def test_every_method_imputes(name: str) -> None:
    """All that is filled is finite and lies where the modality's means may."""
    chains = {"hmc": {"warmup": 60, "steps": 8, "leapfrogs": 3}} if name.startswith("jnf") else {}
    method, of = make(name, **chains), rows()
    found = method.impute(of, n=19, generator=seed())
    for m in MODALITIES:
        assert bool(torch.isfinite(found.mean[m.name].double()).all()) and bool(
            found.missing[m.name].any()
        )
    assert 0 <= float(found.mean["image"].min()) <= float(found.mean["image"].max()) <= 1
    assert int(found.mean["words"].max()) < 5 and 0 < float(found.probability["words"].min()) < 1


# --- the metric -----------------------------------------------------------------------------------------------------


def oracle_method(scale: float = 1.0) -> Method:
    """The exact model in single precision; the noise of every decoder multiplied by a
    factor."""
    made = DMVAE(
        ORACLE.modalities, shared_dim=2, private_dim=1, networks=cp.NetworkOptions(hidden=(4,))
    )
    made.model = exact()
    with torch.no_grad():
        for name in ORACLE.names:
            made.model.likelihood(name).log_scale += np.log(scale)
    return made.float().eval()


def oracle_split(rows: int, seed: int) -> Split:
    return Split(
        {n: v.astype(np.float32) for n, v in ORACLE.draw(rows, seed).items()}, ORACLE.modalities
    )


def test_errors_and_coverage_are_those_of_the_exact_predictive_distribution() -> None:
    """Each modality given the others: RMSE, and correlation by feature, follow from the
    predictive variances; .90 is covered."""
    split = oracle_split(3000, 5)
    found = score_imputation(oracle_method(), oracle_split(3000, 6), split, rows=None)
    for name in ORACLE.names:
        others = tuple(n for n in ORACLE.names if n != name)
        left = predictive(ORACLE, split.x, others, name)[1] ** 2
        whole = np.diag(ORACLE.marginal([name])[1])
        expected = {
            "rmse": np.sqrt(left.mean()),
            "nrmse": np.sqrt(left.mean() / whole.mean()),
            "correlation": np.sqrt(1 - left / whole).mean(),
        }
        for kind, value in expected.items():
            assert found.metrics[f"impute/{kind}/{name}"] == pytest.approx(value, rel=0.04), (
                kind,
                name,
            )
        assert found.score(f"impute/rmse/{name}").chance == pytest.approx(
            np.sqrt(whole.mean()), rel=0.03
        )
        low, high = found.score(f"impute/coverage90/{name}").interval
        assert low < 0.9 < high and high - low < 0.03
    for kind in ("nrmse", "correlation", "coverage90"):
        assert found.metrics[f"impute/{kind}"] == pytest.approx(
            np.mean([found.metrics[f"impute/{kind}/{n}"] for n in ORACLE.names])
        )
    assert "impute/rmse" not in found.metrics and found.left_out == {}


@pytest.mark.parametrize(("scale", "at_most", "at_least"), [(0.5, 0.82, 0.7), (2.0, 1.0, 0.96)])
def test_a_wrong_scale_is_seen_in_the_coverage_alone(
    scale: float, at_most: float, at_least: float
) -> None:
    """A decoder that is too sure of itself covers too little, one that doubts too much;
    the means are the same."""
    split, train = oracle_split(600, 5), oracle_split(600, 6)
    right, off = (
        score_imputation(oracle_method(s), train, split, rows=None).metrics for s in (1.0, scale)
    )
    assert at_least < off["impute/coverage90"] < at_most
    assert off["impute/nrmse"] == pytest.approx(right["impute/nrmse"], rel=0.02)


@pytest.mark.parametrize("at_once", [37, 800])
def test_hidden_counts_are_covered_at_their_totals_and_compared_without_them(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that knows the shares: counts are negative binomial at each row's total,
    and errors do not grow with it, however many are drawn at once."""
    monkeypatch.setattr("counterpoint.metrics.imputation.VALUES", at_once * 40 * 100)
    rng = np.random.default_rng(3)
    modalities = (Modality("side", (1,), "normal", 1.0), Modality("genes", (40,), "nb"))
    totals, shares, theta = rng.integers(300, 5000, 800), rng.dirichlet(np.ones(40)), 3.0
    genes = rng.negative_binomial(theta, theta / (theta + totals[:, None] * shares))
    split = Split(
        {"side": rng.normal(size=(800, 1)).astype(np.float32), "genes": genes}, modalities
    )
    method = cp.MMVAE(modalities, shared_dim=2, networks=cp.NetworkOptions(hidden=(4,)))
    decoder: Any = method.model.decoders["genes"]
    decoder.network = nn.Sequential(nn.Linear(2, 40))
    with torch.no_grad():
        decoder.network[0].weight.zero_()
        decoder.network[0].bias.copy_(torch.as_tensor(np.log(shares)))
        decoder.likelihood.log_dispersion.fill_(np.log(theta))
    found = score_imputation(method, split, split, rows=None).metrics
    assert found["impute/coverage90/genes"] == pytest.approx(0.9, abs=0.01), (
        "by rank, since an interval between counts covers more"
    )
    assert (
        found["impute/nrmse/genes"] == pytest.approx(1, abs=0.06)
        and found["impute/rmse/genes"] < 1.5
    )


def test_imputation_is_measured_on_rows_that_have_something_to_go_by() -> None:
    split = oracle_split(60, 5)
    here = np.arange(60) < 20
    only_a = replace(
        split, present={"a": np.ones(60, bool), "b": here, "c": here & (np.arange(60) < 10)}
    )
    asked: list[int] = []
    method = oracle_method()
    impute = method.impute
    method.impute = lambda x, *args, **options: asked.append(len(x)) or impute(x, *args, **options)  # type: ignore[method-assign, func-returns-value]
    found = score_imputation(method, split, only_a, rows=15)
    assert asked == [15, 15, 10] and found.left_out == {}
    never = replace(split, present={"a": here, "b": ~here, "c": np.zeros(60, bool)})
    assert set(score_imputation(method, split, never).left_out) == {
        "impute/a",
        "impute/b",
        "impute/c",
    }
    alone = Split({"a": split.x["a"]}, ORACLE.modalities[:1])
    assert score_imputation(method, alone, alone).left_out == {
        "impute/a": "no row has it and another modality"
    }


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"level": 1.0}, r"level=1.0 must lie between 0 and 1, such as 0.9"),
        ({"level": 0.0}, r"level=0.0 must lie between 0 and 1"),
        ({"n": 18}, r"n=18 draws bound no 90 % interval; give 19 or more"),
        ({"n": 100, "level": 0.99}, r"n=100 draws bound no 99 % interval; give 199 or more"),
        ({"n": 0}, r"n=0 draws bound no 90 % interval"),
        ({"to": ["sound"]}, r"unknown modality 'sound'; choose from image, words, vector"),
        ({"to": "words"}, r"to='words' must be a list of names"),
        ({"given": []}, r"no modality given"),
        ({"prior": "flow"}, r"this model has no prior 'flow'"),
        ({"refine": 2}, r"this model has no refiner"),
        ({"rule": "sum"}, r"rule='sum' is unknown"),
    ],
)
def test_what_cannot_be_imputed_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make().impute(rows(), **options)
