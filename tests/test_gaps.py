"""Entries that are missing within a row: what is there has its likelihood, and what is
not is read as usual and filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from linear_gaussian import Array, Gaussian, LinearGaussian
from scipy.stats import multivariate_normal

import counterpoint as cp
from counterpoint import inference
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.data import Dataset, Split, load
from counterpoint.inference import signals
from counterpoint.methods import METHODS, Method
from counterpoint.metrics import score_imputation
from counterpoint.model.likelihoods import likelihood
from counterpoint.model.model import Model
from counterpoint.model.rules import MoPoERule, ProductRule
from counterpoint.nn.running import MeanImputer

SIZES = {"a": 3, "b": 4}
MODALITIES = (
    Modality("image", (1, 8, 8)),
    Modality("words", (4,), "categorical", classes=6),
    Modality("vector", (5,), "normal", None, gaps=True),
)


# --- likelihoods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "modality",
    [
        Modality("m", (6,), "normal", 0.7),
        Modality("m", (6,), "normal", None),
        Modality("m", (6,), "laplace", 0.3),
        Modality("m", (6,), "laplace", None),
        Modality("m", (6,), "bernoulli", None),
        Modality("m", (6,), "beta", None),
        Modality("m", (1, 2, 3), "laplace", None),
    ],
    ids=lambda m: f"{m.likelihood}-{m.scale}-{len(m.shape)}",
)
def test_the_likelihood_of_what_is_there_is_that_of_a_modality_without_the_rest(
    modality: Modality,
) -> None:
    """Entries are independent given the latents: marginalising some out leaves the
    product over the others, whatever stands in their place."""
    torch.manual_seed(0)
    reads = likelihood(modality)
    scales = [p for p in reads.parameters()]
    with torch.no_grad():
        for p in scales:
            p.copy_(torch.linspace(-1, 1, p.numel()).view(p.shape))
    raw, x = torch.randn(2, 3, *modality.shape), torch.rand(3, *modality.shape)
    there = torch.rand(3, *modality.shape) < 0.6
    found = reads.log_prob(raw, x, there)
    torch.testing.assert_close(found, reads.log_prob(raw, x.masked_fill(~there, 0.123), there))
    for row in range(3):
        kept = there[row].flatten()
        alone = likelihood(
            Modality("m", (int(kept.sum()),), modality.likelihood, modality.scale, unbounded=False)
        )
        if scales:
            with torch.no_grad():
                next(iter(alone.parameters())).copy_(scales[0].flatten()[kept])
        if hasattr(alone, "unit"):
            alone.unit = modality.unit
        expected = alone.log_prob(
            raw[:, row].flatten(1)[:, kept].unsqueeze(1), x[row].flatten()[kept][None]
        )
        torch.testing.assert_close(found[:, row], expected[:, 0])
    torch.testing.assert_close(
        reads.log_prob(raw, x, torch.ones_like(there)), reads.log_prob(raw, x)
    )


# --- the oracle -------------------------------------------------------------------------------------------------------


def with_gaps(oracle: LinearGaussian, x: dict[str, Array], there: dict[str, Array]) -> Batch:
    batch = oracle.batch({n: np.where(there[n], v, 0.0) for n, v in x.items()})
    return replace(batch, entries={n: torch.as_tensor(v) for n, v in there.items()})


def gappy(oracle: LinearGaussian, rule: Any) -> Model:
    """The oracle's model whose modalities may have gaps, in which its encoders read the
    mean."""
    model = oracle.model(rule, experts="likelihood")
    for name in oracle.names:
        filler = MeanImputer(oracle.offset[name].shape).double()
        filler.mean.copy_(torch.as_tensor(oracle.offset[name]))
        model.decoder(name).filler = filler
    return model


@pytest.mark.parametrize("private_dim", [0, 1])
@pytest.mark.parametrize("rule", [ProductRule(prior_expert="always"), MoPoERule()])
def test_the_log_likelihood_of_partially_observed_rows_is_that_of_the_marginal(
    private_dim: int, rule: Any
) -> None:
    """By importance sampling from encoders that read the mean in the gaps, against the
    Gaussian of the entries that are there. Encoders are made less sure of themselves
    than if they had seen all, so that few draws do not weigh more than the rest."""
    oracle = LinearGaussian.make(SIZES, private_dim=private_dim)
    x, rng = oracle.draw(6), np.random.default_rng(5)
    there = {n: rng.random(v.shape) < 0.6 for n, v in x.items()}
    for mask in there.values():
        mask[:, 0] = True
    torch.manual_seed(1)
    model = gappy(oracle, rule)
    with torch.no_grad():
        for encoder in model.posterior.modules():
            if isinstance(encoder, Gaussian):
                encoder.log_scale += 0.8
        found = inference.log_likelihood(
            model, model.encode(with_gaps(oracle, x, there)), 60_000
        ).numpy()
    mean, covariance = oracle.marginal(oracle.names)
    values, kept = (np.concatenate([v[n] for n in oracle.names], 1) for v in (x, there))
    expected = [
        multivariate_normal(mean[k], covariance[np.ix_(k, k)]).logpdf(v[k])
        for v, k in zip(values, kept, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert (
        np.abs(
            found
            - oracle.log_prob({n: np.where(there[n], v, 0.0) for n, v in x.items()}, oracle.names)
        ).min()
        > 0.5
    )


def test_a_row_without_gaps_is_as_it_was() -> None:
    oracle = LinearGaussian.make(SIZES)
    x = oracle.draw(4)
    model, plain = (
        gappy(oracle, ProductRule(prior_expert="always")),
        oracle.model(ProductRule(prior_expert="always"), experts="likelihood"),
    )
    whole = with_gaps(oracle, x, {n: np.ones(v.shape, bool) for n, v in x.items()})
    q, p = (
        m.posterior.condition(m.encode(b), oracle.names)
        for m, b in ((model, whole), (plain, oracle.batch(x)))
    )
    assert torch.equal(q.point_estimate, p.point_estimate)
    raw = torch.randn(2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(
        model.log_prob("b", raw, whole), plain.log_prob("b", raw, oracle.batch(x))
    )


# --- methods ----------------------------------------------------------------------------------------------------------


def make(name: str, **options: Any) -> Method:
    torch.manual_seed(0)
    private = (
        {"private_dim": 3} if METHODS[name].from_config(MODALITIES, {}).model.private_dims else {}
    )
    return METHODS[name].from_config(
        MODALITIES,
        {"shared_dim": 4, "networks": {"width": 4, "hidden": [16]}, **private, **options},
    )


def values(rows: int = 10) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    vector = rng.normal(3, 1, size=(rows, 5)).astype(np.float32)
    vector[rng.random((rows, 5)) < 0.4] = np.nan
    vector[:, 0] = 2.0
    return {
        "image": rng.random((rows, 1, 8, 8), dtype=np.float32),
        "words": rng.integers(0, 6, (rows, 4)),
        "vector": vector,
    }


def batch(absent: Sequence[int] = (3,)) -> Batch:
    here = ~np.isin(np.arange(10), absent)
    return Batch.of(values(), {"vector": here}, modalities=MODALITIES)


@pytest.mark.parametrize("name", METHODS)
def test_what_stands_in_a_gap_changes_nothing(name: str) -> None:
    """Neither the losses nor the step; it is finite and moves every decoder, and what
    encoders read there is the mean of what is there."""
    found, states = [], []
    for filling in (0.0, 7.0):
        of, model = batch(), make(name)
        of.x["vector"].masked_fill_(~of.entries["vector"], filling)
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        torch.manual_seed(7)
        terms = model.losses(of)
        torch.stack([*terms.values()]).sum(0).mean().backward()
        optimiser.step()
        found.append(terms)
        states.append(model.state_dict())
    for key in found[0]:
        assert torch.equal(found[0][key], found[1][key]) and torch.isfinite(found[0][key]).all()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    there = batch().observed("vector")
    mean = (batch().x["vector"] * there).sum(0) / there.sum(0)
    torch.testing.assert_close(states[0]["model.decoders.vector.filler.mean"], mean)


def test_the_filler_is_the_mean_over_batches_and_is_saved(tmp_path: Path) -> None:
    model = make("mvae").train()
    of = batch(absent=())
    for part in (of[:3], of[3:4], of[4:]):
        model.model.observe(part)
    there = of.observed("vector")
    filler = model.model.decoder("vector").filler
    assert filler is not None and model.model.decoder("image").filler is None
    torch.testing.assert_close(filler.mean, (of.x["vector"] * there).sum(0) / there.sum(0))
    model.eval()
    model.model.observe(batch(absent=(0, 1, 2)))
    read = model.model.encode(of).batch.x["vector"]
    torch.testing.assert_close(read, torch.where(there, of.x["vector"], filler.mean))
    again = cp.load(model.save_pretrained(tmp_path))
    assert again.modalities[2].gaps and torch.equal(
        again.encode(of).shared, model.encode(of).shared
    )


def test_a_refiner_sees_no_error_in_a_gap() -> None:
    model = make("iterative", refiner={"steps": 2, "width": 8, "signal": "error"})
    a, b = batch(), batch()
    b.x["vector"].masked_fill_(~b.entries["vector"], 5.0)
    filler: Any = model.model.decoder("vector").filler
    first, second = (
        model.refine(of, generator=torch.Generator().manual_seed(0)).last.shared.point_estimate
        for of in (a, b)
    )
    filler.mean.fill_(9.0)
    fixed = make("iterative", refiner={"steps": 2, "width": 8, "signal": "error"})
    with torch.no_grad():
        errors = signals.errors
        given = model.model.names
        encoding = fixed.model.encode(a)
        parts = inference.approximation(fixed.model, encoding, given).parts
        seen = errors(fixed.model, encoding, parts, given, inference.refiner_of(fixed.model))
        moved = replace(
            encoding.batch,
            x={
                **encoding.batch.x,
                "vector": encoding.batch.x["vector"] + 4.0 * ~a.entries["vector"],
            },
        )
        encoding.batch = moved
        assert torch.equal(
            errors(fixed.model, encoding, parts, given, inference.refiner_of(fixed.model)),
            seen,
        )
    assert torch.equal(first, second)


def test_gaps_are_filled_and_the_rest_of_a_row_is_kept() -> None:
    model, of = make("mmvae+"), batch()
    found = model.impute(
        of, to=["vector"], n=40, samples=True, generator=torch.Generator().manual_seed(0)
    )
    there = of.observed("vector")
    assert (
        torch.equal(found.missing["vector"], ~there)
        and not there[3].any()
        and 0 < int((~there[0]).sum()) < 5
    )
    for filled in (
        found.mean["vector"],
        found.lower["vector"],
        found.upper["vector"],
        found.samples["vector"][7],
    ):
        assert torch.equal(filled[there], of.x["vector"][there])
    assert (found.lower["vector"] < found.upper["vector"])[~there].all()
    only = model.impute(of, ["image"], to=["vector"], n=40)
    assert only.missing["vector"].all(), "what is not given is filled whole"


def test_batches_with_gaps_are_cut_moved_and_narrowed() -> None:
    of = batch()
    rows = torch.tensor([4, 3])
    assert torch.equal(of[rows].entries["vector"], of.entries["vector"][rows]) and torch.equal(
        of[2:5].observed("vector"), of.observed("vector")[2:5]
    )
    assert torch.equal(of.to("cpu").entries["vector"], of.entries["vector"])
    assert (
        not of.only(["image"]).observed("vector").any()
        and of.only(["vector", "image"]).observed("vector").any()
    )
    assert (
        float(of.x["vector"].masked_select(~of.entries["vector"]).abs().sum()) == 0
        and "image" not in of.entries
    )


# --- data -------------------------------------------------------------------------------------------------------------


def holed(rows: int = 40) -> dict[str, Array]:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.3] = np.nan
    x[5], x[6] = np.nan, 1.0
    return {
        "x": x,
        "y": rng.normal(size=(rows, 2)).astype(np.float32),
        "ids": rng.integers(0, 3, (rows, 2)),
    }


def test_nan_is_a_mistake_unless_it_is_said_to_be_missing(tmp_path: Path) -> None:
    source = holed()
    with pytest.raises(
        ValueError,
        match=r"'x': row \d+ holds NaN or infinity; mark it absent in 'present' or clean it, or let it have gaps \(nan='missing'\)",
    ):
        load(source)
    np.savez(tmp_path / "x.npz", **source)
    (tmp_path / "folder").mkdir()
    for name, v in source.items():
        np.save(tmp_path / "folder" / f"{name}.npy", v)
    for data in (
        load(source, nan="missing"),
        load(tmp_path / "x.npz", nan="missing"),
        load(tmp_path / "folder", nan="missing"),
    ):
        assert {m.name: m.gaps for m in data.modalities} == {"x": True, "y": False, "ids": False}
        read = [split.batch(slice(None)) for split in data.splits().values()]
        assert sum(int((~of.observed("x")).sum()) for of in read) == int(
            np.isnan(source["x"]).sum()
        )
        assert sum(int((~of.present["x"]).sum()) for of in read) == int(
            np.isnan(source["x"]).all(1).sum()
        ), "a row of NaN alone is absent"
    plain = {**source, "x": np.nan_to_num(source["x"])}
    assert not any(m.gaps for m in load(plain, nan="missing").modalities)
    assert (
        load(plain, nan="missing").checksum()
        == load(plain).checksum()
        != load(source, nan="missing").checksum()
    )


def test_memory_maps_with_gaps_are_read_row_by_row(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        (tmp_path / part).mkdir()
        for name, v in holed().items():
            np.save(tmp_path / part / f"{name}.npy", v)
    data = load(tmp_path, nan="missing")
    assert isinstance(data.train.x["x"], np.memmap)
    of = data.train.batch(np.array([0, 7, 9]))
    np.testing.assert_array_equal(of.entries["x"].numpy(), ~np.isnan(holed()["x"][[0, 7, 9]]))
    np.testing.assert_array_equal(of.x["x"].numpy(), np.nan_to_num(holed()["x"][[0, 7, 9]]))


def test_hidden_entries_are_those_of_training_vectors(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    source = {
        "x": rng.normal(size=(2000, 5)).astype(np.float32),
        "mask": rng.random((2000, 3)) < 0.5,
        "ids": rng.integers(0, 3, (2000, 2)),
    }
    whole, data = load(source), load(source, missing=0.3, missing_how="entries")
    assert {m.name: m.gaps for m in data.modalities} == {"x": True, "mask": True, "ids": False}
    of = data.train.batch(slice(None))
    for name in ("x", "mask"):
        share = float((~of.observed(name)).float().mean())
        size = of.x[name].shape[1]
        assert (
            share == pytest.approx(0.3 - 0.3**size / size, abs=0.015)
            and of.observed(name).any(1).all()
        )
        there = of.observed(name)
        assert torch.equal(of.x[name][there], whole.train.batch(slice(None)).x[name][there])
    assert (
        data.test.batch(slice(None)).observed("x").all()
        and "entry of x, mask hidden" in data.notes["missing"]
    )
    assert (
        data.checksum() != whole.checksum()
        and load(source, missing=0.3, missing_how="entries").checksum() == data.checksum()
    )
    again = data.with_gaps(0.5, 1, ["x"])
    assert (np.isnan(again.train.x["x"]) >= np.isnan(data.train.x["x"])).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: Modality("m", (3,), "nb", gaps=True),
            "'m': counts can't have gaps; leave rows of which not all is known out",
        ),
        (
            lambda: Modality("m", (3,), "categorical", classes=3, gaps=True),
            "'m': word ids can't have gaps",
        ),
        (lambda: load(holed(), nan="drop"), "nan='drop' is unknown; choose one of error, missing"),
        (
            lambda: load("digits-quadrant", pairings=1, nan="missing"),
            "option 'nan' does not apply to digits-quadrant",
        ),
        (
            lambda: load("digits-quadrant", pairings=1, missing=0.1, missing_how="entries"),
            "no entries to hide: 'digits-quadrant' has no vector",
        ),
        (
            lambda: load(holed(), nan="missing").with_gaps(0.1, among=["ids"]),
            "entries of 'ids' can't be hidden; vectors that can have gaps are x, y",
        ),
        (
            lambda: load(holed(), nan="missing").with_gaps(1.1),
            r"fraction 1.1 of missing entries must lie in \[0, 1\]",
        ),
        (
            lambda: Split(
                {"m": np.array([[1.0, np.nan], [np.nan, np.nan]])},
                (Modality("m", (2,), "normal", gaps=True),),
            ),
            "'m': row 1 holds nothing but NaN; mark it absent in 'present'",
        ),
        (
            lambda: Split(
                {"m": np.array([[1.0, np.nan], [np.inf, np.nan]])},
                (Modality("m", (2,), "normal", gaps=True),),
            ),
            "'m': row 1 holds NaN or infinity; mark it absent in 'present' or clean it$",
        ),
        (
            lambda: Batch.of(
                {"m": np.array([[1.0, np.nan], [np.nan, np.nan]])},
                modalities=[Modality("m", (2,), "normal", gaps=True)],
            ),
            "'m': row 1 holds nothing but NaN; mark it absent in 'present'",
        ),
        (
            lambda: Batch.of(
                {"m": np.array([[1.0, np.inf], [np.nan, 1.0]])},
                modalities=[Modality("m", (2,), "normal", gaps=True)],
            ),
            "'m': row 0 holds NaN or infinity",
        ),
        (
            lambda: METHODS["mvae"].from_config(
                MODALITIES, {"denoiser": {"modalities": ["vector"]}}
            ),
            "denoiser: 'vector' has gaps, and diffusion takes values that are all there",
        ),
    ],
)
def test_what_cannot_have_gaps_is_refused(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


# --- held-out entries ---------------------------------------------------------------------------------------------------


def factors(rows: int, seed: int) -> Split:
    """Two vectors that load on one factor, with noise of a third of it, and 10 % of the
    entries of one missing."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 1))
    x = {
        n: (5 + z + 0.35 * rng.normal(size=(rows, size))).astype(np.float32)
        for n, size in (("a", 8), ("b", 3))
    }
    x["a"][rng.random(x["a"].shape) < 0.1] = np.nan
    return Split(
        x, (Modality("a", (8,), "normal", None, gaps=True), Modality("b", (3,), "normal", None))
    )


@pytest.mark.slow
def test_held_out_entries_are_filled_nearer_than_by_the_mean_and_covered() -> None:
    """A trained model: what is left of an entry is its noise and what the others leave
    open of the factor, .35 of 1.06."""
    splits = [factors(rows, seed) for seed, rows in enumerate((1500, 200, 600))]
    data = Dataset("factors", splits[0].modalities, *splits)
    torch.manual_seed(0)
    method = cp.JMVAE.for_data(data, shared_dim=2, networks=cp.NetworkOptions(hidden=(32,)))
    method.fit(
        data.train,
        data.val,
        max_epochs=40,
        batch_size=64,
        lr=1e-2,
        progress=False,
        loggers=(),
    )
    found = score_imputation(method, data.train, data.test, rows=None)
    assert (
        0.33 < found.metrics["impute/entries/nrmse/a"] < 0.45
        and 0.85 < found.metrics["impute/entries/coverage90/a"] < 0.95
    )
    assert found.metrics["impute/entries/rmse/a"] == pytest.approx(
        found.score("impute/entries/rmse/a").chance * found.metrics["impute/entries/nrmse/a"]
    )
    assert (
        "impute/entries/nrmse/b" not in found.metrics
        and 0.33 < found.metrics["impute/nrmse/a"] < 0.5
    )


def test_held_out_entries_are_those_that_were_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of them, of which the method sees nothing, and never all of a row; the
    truth is compared there alone."""
    split, seen = factors(300, 1), []
    method = cp.MVAE(split.modalities, shared_dim=2, networks=cp.NetworkOptions(hidden=(4,)))
    impute = method.impute

    def watched(of: Batch, *args: Any, **options: Any) -> Any:
        seen.append(of)
        found = impute(of, *args, **options)
        truth = torch.as_tensor(np.nan_to_num(split.x["a"]))
        return replace(found, mean={"a": truth}) if "a" in found.mean else found

    monkeypatch.setattr(method, "impute", watched)
    found = score_imputation(method, split, split, rows=None).metrics
    assert found["impute/entries/rmse/a"] == 0 and found[
        "impute/entries/correlation/a"
    ] == pytest.approx(1)
    whole = split.batch(slice(None))
    (of,) = [b for b in seen if not torch.equal(b.observed("a"), whole.observed("a"))]
    taken = whole.observed("a") & ~of.observed("a")
    assert float(taken.float().sum() / whole.observed("a").sum()) == pytest.approx(0.1, abs=0.02)
    assert of.observed("a").any(1).all() and float(of.x["a"][taken].abs().sum()) == 0


def test_other_metrics_and_training_run_with_gaps(tmp_path: Path) -> None:
    """NaN reaches no judge, probe or figure."""
    splits = [
        replace(factors(rows, seed), shared_labels={"half": np.arange(rows) % 2})
        for seed, rows in enumerate((80, 30, 60))
    ]
    data = Dataset("factors", splits[0].modalities, *splits)
    method = cp.MMVAEPlus.for_data(
        data, shared_dim=2, private_dim=2, networks=cp.NetworkOptions(hidden=(8,))
    )
    method.fit(
        data.train,
        data.val,
        out=tmp_path,
        max_epochs=1,
        batch_size=32,
        progress=False,
        loggers=(),
    )
    judge = cp.metrics.JudgeOptions(steps=20, width=4)
    found = cp.evaluate(
        method,
        data,
        samples=50,
        rows=50,
        likelihood_rows=4,
        likelihood_samples=5,
        judge=judge,
        progress=False,
    )
    assert {"fid/a", "judge/half/a", "loglik/joint", "impute/entries/coverage90/a"} <= {
        *found.metrics
    }
    assert all(np.isfinite(value) for value in found.metrics.values())


def test_a_file_with_gaps_is_filled_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from counterpoint.cli import main

    np.savez(
        tmp_path / "d.npz",
        **{
            f"{part}/{name}": v
            for part in ("train", "val", "test")
            for name, v in factors(40, 0).x.items()
        },
    )
    fit = [
        "fit",
        "mvae",
        "--data",
        str(tmp_path / "d.npz"),
        "--data.nan",
        "missing",
        "--max_steps",
        "2",
        "--batch_size",
        "16",
    ]
    assert (
        main(
            [
                *fit,
                "--fit.progress",
                "false",
                "--fit.loggers",
                "[]",
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    rows = factors(6, 3).x["a"]
    np.save(tmp_path / "a.npy", rows)
    assert (
        main(
            [
                "impute",
                str(tmp_path / "run"),
                "--given",
                f"a={tmp_path / 'a.npy'}",
                "--n",
                "19",
                "--out",
                str(tmp_path / "o.npz"),
            ]
        )
        == 0
    )
    filled = int(np.isnan(rows).any(1).sum())
    assert f"filled {filled} of 6 rows of a, 6 of 6 rows of b" in capsys.readouterr().out
    with np.load(tmp_path / "o.npz") as found:
        assert (found["missing/a"] == np.isnan(rows)).all() and (
            found["a"][~np.isnan(rows)] == rows[~np.isnan(rows)]
        ).all()
        assert np.isfinite(found["a"]).all()
